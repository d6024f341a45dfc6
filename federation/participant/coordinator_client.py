"""What a node asks of a coordinator, and says to it; it believes signatures only.

Everything that comes back is checked against the coordinator's public key, which the enrolment
token carried, or against a hash that was signed with it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.adapter_spec import blob_hash, parameters_hash
from federation.enrolment import Enrolment, EnrolmentToken, Rotation
from federation.invitation import Announcement, Invitation, Stage
from federation.messages import MessageHeader
from federation.participant.coordinator_line import (
    READ_SECONDS,
    CoordinatorError,
    CoordinatorLine,
    RefusedError,
    UnreachableError,
    check_url,
    json_object,
)
from federation.plan import SignedPlan, read_plan
from federation.roster import Roster
from federation.signed import Signed, SignedError
from federation.versions import SignedVersion, Version
from privacy.canonical import canonical_bytes, parse_canonical
from privacy.receipts import Receipt, SignedStatement
from privacy.records import RecordError, from_json
from privacy.signing import BadSignatureError, Domain, public_key_hex

__all__ = [
    "CoordinatorClient",
    "CoordinatorError",
    "Evidence",
    "Listing",
    "MaskedEvidence",
    "RefusedError",
    "UnreachableError",
    "Work",
    "check_url",
]

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Listing:
    """A federation of the node's population, as listed; only its plan is binding."""

    name: str
    state: str
    plan_hash: str
    promoted: int


@dataclass(frozen=True, slots=True)
class Work:
    """A message that the node may send now."""

    federation: str
    round_id: str
    stage: Stage
    seconds_left: float


@dataclass(frozen=True, slots=True)
class WorkList:
    """What may be sent, and a text that changes with the roster, the federations and what they
    promote."""

    works: list[Work]
    listing: str


@dataclass(frozen=True, slots=True)
class MaskedEvidence:
    """That this node once sent a masked message, by its own signature."""

    federation: str
    round_id: str
    plan_hash: str
    payload_hash: str
    identity: str
    signature: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the coordinator holds of a node that proves a debit; not yet verified."""

    receipts: tuple[Receipt, ...]
    masked: tuple[MaskedEvidence, ...]


class CoordinatorClient:
    """One node's line to one coordinator; for one thread at a time.

    Every method raises UnreachableError, RefusedError, or CoordinatorError where a signature or a
    hash does not hold.
    """

    def __init__(
        self,
        url: str,
        coordinator: str,
        identity: Ed25519PrivateKey,
        closing: threading.Event | None = None,
    ) -> None:
        """`coordinator` is its public key; `closing` ends waiting between attempts."""
        self.coordinator = coordinator
        self._line = CoordinatorLine(url, coordinator, identity, closing)

    @property
    def identity(self) -> str:
        """The node's public key, hexadecimal."""
        return self._line.identity

    def close(self) -> None:
        self._line.close()

    def enrol(self, token: EnrolmentToken, name: str) -> str:
        """Ask to become a participant called `name`; returns the state, "pending" at first."""
        enrolment = Enrolment(
            coordinator=self.coordinator,
            token_hash=hashlib.sha256(token.secret.encode()).hexdigest(),
            identity=self.identity,
            name=name,
        )
        signed = Signed.issue(enrolment, Domain.ENROLMENT, self._line.key)
        body = {"secret": token.secret, "enrolment": parse_canonical(signed.to_bytes())}
        data = self._line.send("POST", "/v1/enrolments", _dump(body))
        return str(json_object(data)["state"])

    def rotate(self, new: Ed25519PrivateKey) -> None:
        """Replace the identity by another, by a signature of both."""
        rotation = Rotation(self.coordinator, self.identity, public_key_hex(new))
        both = {
            "old": parse_canonical(
                Signed.issue(rotation, Domain.ROTATION, self._line.key).to_bytes()
            ),
            "new": parse_canonical(Signed.issue(rotation, Domain.ROTATION, new).to_bytes()),
        }
        try:
            self._line.request("POST", "/v1/participant/identity", _dump(both))
        except RefusedError:
            # The old key is refused, too, if it is an answer that was lost: then the new one holds.
            if not self._line.knows(new):
                raise
        self._line.change_key(new)

    def roster(self) -> tuple[Roster, bytes]:
        """The population's roster, and the signed bytes of it."""
        data = self._line.request("GET", "/v1/participant/roster")
        return self._signed(data, Roster, Domain.ROSTER), data

    def federations(self) -> list[Listing]:
        """The federations of the node's population."""
        data = json_object(self._line.request("GET", "/v1/participant/federations"))
        return [_record(Listing, item) for item in _list(data)]

    def plan(self, federation: str) -> SignedPlan:
        """A federation's plan."""
        data = self._line.request("GET", f"/v1/participant/federations/{_part(federation)}/plan")
        try:
            return read_plan(data, self.coordinator)
        except SignedError as error:
            raise CoordinatorError(str(error)) from error

    def version(self, federation: str, number: int) -> SignedVersion | None:
        """The record of a released version; None if there is none of this number."""
        path = f"/v1/participant/federations/{_part(federation)}/versions/{number}"
        data = self._line.find(path)
        if data is None:
            return None
        record = self._signed(data, Version, Domain.VERSION)
        if (record.federation, record.number) != (federation, number):
            raise CoordinatorError("another version than the one that was asked for")
        return Signed.from_bytes(data, Version, Domain.VERSION, self.coordinator)

    def parameters(self, version: Version) -> bytes:
        """The vector of a version, verified by its hash."""
        path = f"/v1/participant/federations/{_part(version.federation)}/versions/{version.number}"
        data = self._line.request("GET", f"{path}/parameters")
        if parameters_hash(data) != version.parameters_hash:
            raise CoordinatorError(
                f"the parameters of version {version.number} do not have the hash that was signed"
            )
        return data

    def blob(self, sha256: str) -> bytes:
        """A public file that a plan names, verified by its hash."""
        data = self._line.request("GET", f"/v1/participant/blobs/{_part(sha256)}")
        if blob_hash(data) != sha256:
            raise CoordinatorError(f"the file {sha256} does not have that hash")
        return data

    def work(self, wait: float, listing: str | None = None) -> WorkList:
        """What the node may send now; waits up to `wait` seconds for something.

        Args:
            listing: of an earlier answer; with another one there it does not wait.
        """
        asked = {"wait": f"{wait:g}", **({} if listing is None else {"listing": listing})}
        path = f"/v1/participant/work?{urlencode(asked)}"
        data = json_object(self._line.request("GET", path, seconds=wait + READ_SECONDS))
        listing = data.get("listing")
        if not isinstance(listing, str):
            raise CoordinatorError("the answer says nothing of what is listed")
        return WorkList([_record(Work, item) for item in _list(data)], listing)

    def announcement(self, round_id: str) -> Announcement:
        """The round, whose contents have that id."""
        data = self._line.request("GET", f"{_round(round_id)}/announcement")
        announcement = self._signed(data, Announcement, Domain.INVITATION)
        if announcement.round_id != round_id:
            raise CoordinatorError("the announcement is of another round")
        return announcement

    def invitation(self, round_id: str) -> Invitation | None:
        """Who takes part; None if this node was not chosen."""
        data = self._line.find(f"{_round(round_id)}/invitation")
        if data is None:
            return None
        invitation = self._signed(data, Invitation, Domain.INVITATION)
        if invitation.announcement.round_id != round_id:
            raise CoordinatorError("the invitation is to another round")
        return invitation

    def outgoing(self, round_id: str, stage: Stage) -> bytes:
        """The server's message that is answered in this stage."""
        return self._line.request("GET", f"{_round(round_id)}/outgoing/{stage}")

    def statement(self, round_id: str) -> SignedStatement:
        """The coordinator's statement of a round; whether it is true is for the caller to see."""
        data = self._line.request("GET", f"{_round(round_id)}/statement")
        try:
            signed = from_json(SignedStatement, parse_canonical(data))
            signed.check()
        except (ValueError, BadSignatureError) as error:
            raise CoordinatorError(f"not a signed statement: {error}") from error
        if signed.coordinator != self.coordinator or signed.statement.round_id != round_id:
            raise CoordinatorError("the statement is of another coordinator or round")
        return signed

    def send(self, federation: str, round_id: str, stage: Stage, body: bytes) -> None:
        """Send the node's message of a stage; the very same may be sent again."""
        signature = MessageHeader.of(federation, round_id, stage, body).sign(self._line.key)
        path = f"{_round(round_id)}/messages/{stage}"
        self._line.request("POST", path, body, headers={"Alcove-Signature": signature})

    def send_receipt(self, round_id: str, receipt: Receipt) -> None:
        """Give the coordinator the countersigned statement."""
        self._line.request("POST", f"{_round(round_id)}/receipt", receipt.to_bytes())

    def evidence(self) -> Evidence:
        """What the coordinator holds of this node's debits."""
        data = json_object(self._line.request("GET", "/v1/participant/evidence"))
        try:
            receipts = tuple(Receipt.from_bytes(canonical_bytes(item)) for item in data["receipts"])
            masked = tuple(_record(MaskedEvidence, item) for item in data["masked"])
        except (KeyError, TypeError, ValueError) as error:
            raise CoordinatorError(f"the evidence cannot be read: {error}") from error
        return Evidence(receipts, masked)

    def _signed(self, data: bytes, kind: type[Record], domain: Domain) -> Record:
        try:
            return Signed.from_bytes(data, kind, domain, self.coordinator).record
        except SignedError as error:
            raise CoordinatorError(str(error)) from error


def _list(value: dict[str, Any]) -> list[Any]:
    items = value.get("data")
    if not isinstance(items, list):
        raise CoordinatorError("an answer has no list 'data'")
    return items


def _record(kind: type[Record], value: Any) -> Record:
    try:
        return from_json(kind, value)
    except RecordError as error:
        raise CoordinatorError(f"an answer cannot be read: {error}") from error


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _part(name: str) -> str:
    return quote(name, safe="")


def _round(round_id: str) -> str:
    return f"/v1/participant/rounds/{_part(round_id)}"
