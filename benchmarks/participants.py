"""Participants that speak the whole protocol over HTTP and train nothing.

They hold no odometer and no policy: what a node decides is not their subject.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from federation.enrolment import Enrolment, EnrolmentToken, SessionProof
from federation.invitation import Announcement, Invitation, Stage, round_config
from federation.messages import MessageHeader, every_receipt, newest_receipts
from federation.plan import FederationPlan, read_plan
from federation.roster import Roster
from federation.secagg import Client
from federation.signed import Signed
from privacy.canonical import parse_canonical
from privacy.receipts import Receipt, SignedStatement
from privacy.records import from_json
from privacy.signing import Domain, public_key_hex

Vector = NDArray[np.uint32]
MakeVector = Callable[[FederationPlan], Vector]


@dataclass
class Entered:
    """A round that a participant has a part in."""

    plan: FederationPlan
    client: Client
    vector: Vector | None = None


@dataclass
class Participant:
    """One enrolled identity and its connection.

    Attributes:
        http: its base URL is the coordinator's.
        coordinator: public key that signs everything it is sent.
        make_vector: called once a round for the encoded vector, uint32, shape (d,).
    """

    http: httpx.Client
    coordinator: str
    make_vector: MakeVector
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate, repr=False)
    receipts: list[bytes] = field(default_factory=list)
    entered: dict[str, Entered] = field(default_factory=dict)
    plans: dict[str, FederationPlan] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return public_key_hex(self.key)

    def enrol(self, token: EnrolmentToken, name: str) -> httpx.Response:
        """Ask to be let in."""
        token_hash = hashlib.sha256(token.secret.encode()).hexdigest()
        record = Enrolment(self.coordinator, token_hash, self.identity, name)
        signed = Signed.issue(record, Domain.ENROLMENT, self.key)
        enrolment = parse_canonical(signed.to_bytes())
        return self.http.post(
            "/v1/enrolments", json={"secret": token.secret, "enrolment": enrolment}
        )

    def prove(self) -> bytes:
        """A signed challenge."""
        asked = self.http.post("/v1/participant/challenges", json={"identity": self.identity})
        proof = SessionProof(self.coordinator, self.identity, asked.json()["challenge"])
        return Signed.issue(proof, Domain.SESSION, self.key).to_bytes()

    def open_session(self) -> None:
        """Use a session from now on."""
        opened = self.http.post("/v1/participant/sessions", content=self.prove())
        opened.raise_for_status()
        self.http.headers["Authorization"] = f"Bearer {opened.json()['token']}"

    def work(self, wait: float = 0.0) -> list[dict[str, Any]]:
        """What may be sent now."""
        answer = self.http.get("/v1/participant/work", params={"wait": wait}, timeout=wait + 30)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    def answer_all(self) -> list[Stage]:
        """Send whatever may be sent now; the stages that were answered."""
        answered = []
        for one in self.work():
            stage = Stage(one["stage"])
            self.answer(one["federation"], one["round_id"], stage).raise_for_status()
            answered.append(stage)
        return answered

    def answer(self, federation: str, round_id: str, stage: Stage) -> httpx.Response:
        """Make and send the message of a stage."""
        if stage is Stage.SURVIVORS:
            self.countersign(round_id).raise_for_status()
        sent = self.send(federation, round_id, stage, self.message(federation, round_id, stage))
        if sent.status_code == 409 and sent.json()["error"]["code"] == "receipts_wanted":
            return self.send(federation, round_id, stage, every_receipt(self._kept()))
        return sent

    def message(self, federation: str, round_id: str, stage: Stage) -> bytes:
        """The body of the message of a stage."""
        if stage is Stage.ENLISTING:
            self.check_announcement(federation, round_id)
            return newest_receipts(self._kept())
        if stage is Stage.KEYS:
            return self._enter(federation, round_id).client.message
        entered = self.entered[round_id]
        request = self.get(f"rounds/{round_id}/outgoing/{stage}")
        if stage is Stage.MASKED:
            if entered.vector is None:
                entered.vector = self.make_vector(entered.plan)
            return entered.client.mask(request, entered.vector)
        step = {
            Stage.SHARES: entered.client.share,
            Stage.SURVIVORS: entered.client.sign,
            Stage.UNMASKING: entered.client.release,
        }[stage]
        return step(request)

    def send(
        self, federation: str, round_id: str, stage: Stage, body: bytes, signature: str = ""
    ) -> httpx.Response:
        """Send a body as the message of a stage, signed unless a signature is given."""
        header = MessageHeader.of(federation, round_id, stage, body)
        return self.http.post(
            f"/v1/participant/rounds/{round_id}/messages/{stage}",
            content=body,
            headers={"Alcove-Signature": signature or header.sign(self.key)},
        )

    def countersign(self, round_id: str) -> httpx.Response:
        """Keep a receipt of the round and send it."""
        statement = self.get(f"rounds/{round_id}/statement")
        signed = from_json(SignedStatement, parse_canonical(statement))
        receipt = Receipt.countersign(signed, self.key).to_bytes()
        self.receipts.append(receipt)
        return self.send_receipt(round_id, receipt)

    def send_receipt(self, round_id: str, receipt: bytes) -> httpx.Response:
        return self.http.post(f"/v1/participant/rounds/{round_id}/receipt", content=receipt)

    def check_announcement(self, federation: str, round_id: str) -> Announcement:
        """The announcement, verified against the plan and the roster."""
        data = self.get(f"rounds/{round_id}/announcement")
        announced = Signed.from_bytes(
            data, Announcement, Domain.INVITATION, self.coordinator
        ).record
        roster = Signed.from_bytes(
            self.get("roster"), Roster, Domain.ROSTER, self.coordinator
        ).record
        assert announced.plan_hash == self.plan(federation).hash
        assert announced.round_id == round_id
        assert announced.roster_hash == roster.hash
        assert self.identity in {member.identity for member in roster.members}
        return announced

    def plan(self, federation: str) -> FederationPlan:
        if federation not in self.plans:
            data = self.get(f"federations/{federation}/plan")
            self.plans[federation] = read_plan(data, self.coordinator).record
        return self.plans[federation]

    def get(self, path: str) -> bytes:
        answer = self.http.get(f"/v1/participant/{path}")
        answer.raise_for_status()
        return answer.content

    def _kept(self) -> list[Receipt]:
        return [Receipt.from_bytes(data) for data in self.receipts]

    def _enter(self, federation: str, round_id: str) -> Entered:
        if round_id not in self.entered:
            data = self.get(f"rounds/{round_id}/invitation")
            invitation = Signed.from_bytes(
                data, Invitation, Domain.INVITATION, self.coordinator
            ).record
            config = round_config(self.plan(federation), invitation)
            client = Client.start(config, self.key, lambda _snapshot: None)
            self.entered[round_id] = Entered(self.plan(federation), client)
        return self.entered[round_id]
