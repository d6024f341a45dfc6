"""Messages of participants: checked, stored once, and left for the round to be read.

Any worker accepts them; nothing but the database and the vectors' folder is changed. What a message
says is for secure aggregation to judge when the stage ends.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import and_, bindparam, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from federation.coordinator import enrolment, federations, records
from federation.coordinator.authority import Authority
from federation.coordinator.refused import conflict, forbidden, invalid, unknown
from federation.coordinator.sessions import Caller
from federation.invitation import Stage
from federation.messages import MessageHeader
from federation.secagg import Reason
from federation.secagg.messages import (
    INDEX_BYTES,
    SEALED_BYTES,
    Abort,
    Advertisement,
    KeyEntry,
    MaskedInput,
    ReleasedShares,
    SealedShares,
    SurvivorSignature,
    encode,
    is_abort,
)
from federation.secagg.shamir import SHARE_BYTES
from privacy.receipts import Receipt, ReceiptError
from privacy.signing import BadSignatureError
from storage.coordinator_tables import (
    Federation,
    Message,
    Outgoing,
    Participant,
    ParticipantState,
    Round,
)
from storage.coordinator_tables import Receipt as ReceiptRow
from storage.files import sync

LARGEST_RECEIPTS = 1 << 20
"""Bytes of all the receipts of one node."""
_ROUND = bytes(32)
ABORT_BYTES = len(encode(Abort(0, Reason.CLOSED, bytes(64)), _ROUND))
_MASKED = len(encode(MaskedInput(0, b""), _ROUND))
_SIZES: dict[Stage, tuple[int, int]] = {
    Stage.KEYS: (
        len(encode(Advertisement(0, KeyEntry(bytes(32), bytes(32), bytes(64))), _ROUND)),
        0,
    ),
    Stage.SHARES: (len(encode(SealedShares(0, bytes(32), {}), _ROUND)), INDEX_BYTES + SEALED_BYTES),
    Stage.MASKED: (ABORT_BYTES, 0),
    Stage.SURVIVORS: (len(encode(SurvivorSignature(0, bytes(64)), _ROUND)), 0),
    Stage.UNMASKING: (len(encode(ReleasedShares(0, {}), _ROUND)), INDEX_BYTES + 1 + SHARE_BYTES),
}
"""Bytes of each message without its entries, and of one entry; a peer has one at most."""


@dataclass(frozen=True, slots=True)
class MaskedUpload:
    """Where a participant's masked vector may be written meanwhile, and the bytes that it has."""

    folder: Path
    length: int
    participant: int


def accept(
    authority: Authority, caller: Caller, round_id: str, stage: Stage, body: bytes, signature: str
) -> None:
    """Store a message of any stage; of MASKED only an Abort, since vectors come as files.

    Args:
        signature: of `MessageHeader.of(federation, round_id, stage, body)`, hexadecimal.

    Raises:
        RefusedError: unknown_round; not_invited; wrong_stage, also when it is late; wrong_size;
            bad_signature; bad_receipt, receipt_missing; receipts_wanted, of every round and not of
            the newest ones alone; other_message, another one is stored.
    """
    payload_hash = hashlib.sha256(body).hexdigest()

    def store() -> None:
        with authority.database.write() as session:
            standing = _standing(session, caller, round_id, stage)
            if standing.holds(payload_hash):
                return
            standing.check_open()
            _check_size(standing, body)
            standing.check_signature(caller, payload_hash, signature)
            if stage is Stage.ENLISTING and body:
                _check_receipts(session, authority, caller, body)
            if stage is Stage.SURVIVORS and standing.receipt is None and not is_abort(body):
                raise conflict("receipt_missing", "send the receipt of this round first")
            session.add(standing.message(caller, payload_hash, signature, body))

    _once(store)


def expect_masked(authority: Authority, caller: Caller, round_id: str) -> MaskedUpload:
    """What `accept_masked` would take now, before a byte of it is read.

    Raises:
        RefusedError: unknown_round, not_invited, wrong_stage.
    """
    with authority.database.read() as session:
        standing = _standing(session, caller, round_id, Stage.MASKED, lock=False)
        federation = session.get_one(Federation, standing.federation)
    if standing.stored is None:
        standing.check_open()
    dimension = federations.plan_of(federation, authority).adapter.dimension
    return MaskedUpload(authority.home.round_vectors(round_id), _MASKED + 4 * dimension, caller.id)


def accept_masked(
    authority: Authority,
    caller: Caller,
    round_id: str,
    upload: Path,
    payload_hash: str,
    signature: str,
) -> None:
    """Take a masked vector that was written, whole and durably, to a file in its round's folder.

    Args:
        upload: the file; it is moved if the message is taken.
        payload_hash: its SHA-256.

    Raises:
        RefusedError: as `accept`.
    """

    def store() -> None:
        with authority.database.write() as session:
            standing = _standing(session, caller, round_id, Stage.MASKED)
            if standing.holds(payload_hash):
                return
            standing.check_open()
            standing.check_signature(caller, payload_hash, signature)
            session.add(standing.message(caller, payload_hash, signature, None))
            # The row's key decides between two uploads; its file is there before it is.
            session.flush()
            upload.replace(upload.with_name(str(caller.id)))
            sync(upload.parent)

    _once(store)


def accept_receipt(authority: Authority, caller: Caller, round_id: str, body: bytes) -> None:
    """Keep a survivor's receipt of this round; the same again is no error.

    Raises:
        RefusedError: unknown_round; not_invited; wrong_stage; bad_receipt.
    """

    def store() -> None:
        with authority.database.write() as session:
            standing = _standing(session, caller, round_id, Stage.SURVIVORS)
            if standing.receipt == body:
                return
            standing.check_open()
            receipt = check_receipt(session, authority, caller, body)
            if standing.statement is None or receipt.participant != caller.identity:
                raise invalid("bad_receipt", "it is not signed by this participant's identity")
            if receipt.signed != records.read_statement(standing.statement):
                raise invalid("bad_receipt", "it is not about this round")
            session.add(ReceiptRow(round_id=round_id, participant_id=caller.id, receipt=body))

    _once(store)


def check_receipt(session: Session, authority: Authority, caller: Caller, body: bytes) -> Receipt:
    """A valid receipt of the caller's population, by any identity it has had.

    Raises:
        RefusedError: bad_receipt.
    """
    try:
        receipt = Receipt.from_bytes(body)
    except ReceiptError as error:
        raise invalid("bad_receipt", str(error)) from error
    if receipt.signed.coordinator != authority.identity:
        raise invalid("bad_receipt", "another coordinator has signed it")
    if receipt.signed.statement.population != caller.population:
        raise invalid("bad_receipt", "it is of another population")
    if receipt.participant not in enrolment.identities(session, caller.id):
        raise invalid("bad_receipt", "it is another participant's")
    return receipt


def _check_receipts(session: Session, authority: Authority, caller: Caller, body: bytes) -> None:
    """What may be sent when enlisting: receipts with newlines between them, the newest of each
    plan, or all of them with another newline at the end.

    A newest receipt of a round that is unknown here tells that this coordinator was restored from a
    backup. How many rounds it has lost only all the receipts can tell.

    Raises:
        RefusedError: bad_receipt; receipts_wanted.
    """
    held = [check_receipt(session, authority, caller, line) for line in body.splitlines()]
    if body.endswith(b"\n"):
        return
    rounds = {receipt.signed.statement.round_id for receipt in held}
    known = session.scalars(select(Round.id).where(Round.id.in_(rounds)))
    if rounds - set(known):
        raise conflict("receipts_wanted", "this coordinator has lost rounds: send every receipt")


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a participant stands in a stage of a round, read at once.

    Attributes:
        stage: that a message is for; `current` is the round's.
        stored: hash of the message of this stage that is stored; `receipt` likewise.
        is_expected: whether the participant was sent what is answered in this stage.
    """

    round_id: str
    stage: Stage
    federation: str
    current: str
    deadline: float
    joined: int | None
    statement: bytes | None
    state: ParticipantState
    is_expected: bool
    stored: str | None
    receipt: bytes | None

    def holds(self, payload_hash: str) -> bool:
        """Whether this very message is stored. Raises RefusedError: other_message."""
        if self.stored not in (None, payload_hash):
            raise conflict("other_message", f"another message of stage {self.stage} is stored")
        return self.stored is not None

    def check_open(self) -> None:
        """Refuse what is not due from this participant now."""
        if self.current != self.stage or self.deadline <= time.time():
            raise conflict("wrong_stage", f"{self.stage} is not open: the round is {self.current}")
        if self.state is not ParticipantState.APPROVED:
            raise forbidden("revoked", "this participant was revoked")
        if self.stage is not Stage.ENLISTING and not self.is_expected:
            raise forbidden("not_invited", f"nothing is expected of you in stage {self.stage}")

    def check_signature(self, caller: Caller, payload_hash: str, signature: str) -> None:
        """Refuse what the caller has not signed for this round and stage."""
        header = MessageHeader(self.federation, self.round_id, self.stage, payload_hash)
        try:
            header.verify(caller.identity, signature)
        except BadSignatureError as error:
            raise forbidden("bad_signature", str(error)) from error

    def message(
        self, caller: Caller, payload_hash: str, signature: str, payload: bytes | None
    ) -> Message:
        """The row to store."""
        return Message(
            round_id=self.round_id,
            stage=self.stage.value,
            participant_id=caller.id,
            identity=caller.identity,
            payload_hash=payload_hash,
            signature=signature,
            payload=payload,
        )


def _standing(
    session: Session, caller: Caller, round_id: str, stage: Stage, *, lock: bool = True
) -> _Standing:
    """Read it and, to write by it, hold the round where it is until this transaction ends."""
    if stage.is_over:
        raise invalid("wrong_stage", f"no messages are sent in stage {stage}")
    given = {"round": round_id, "stage": stage.value, "participant": caller.id}
    row = session.execute(_STANDING_LOCKED if lock else _STANDING, given).one_or_none()
    if row is None:
        raise unknown("unknown_round", f"there is no round {round_id!r} for this participant")
    return _Standing(round_id, stage, *row)


def _once(store: Callable[[], None]) -> None:
    """Store; where the very same came at the same moment, find it stored."""
    try:
        store()
    except IntegrityError:
        store()


_IN_STAGE = and_(
    Outgoing.round_id == Round.id,
    Outgoing.stage == bindparam("stage"),
    Outgoing.participant_id == Participant.id,
)
# Run for every message: made once.
_STANDING = (
    select(
        Round.federation,
        Round.stage,
        Round.deadline,
        Round.joined,
        Round.statement,
        Participant.state,
        exists().where(_IN_STAGE).correlate(Round, Participant),
        Message.payload_hash,
        ReceiptRow.receipt,
    )
    .join(Federation, Federation.name == Round.federation)
    .join(Participant, Participant.population == Federation.population)
    .outerjoin(
        Message,
        and_(
            Message.round_id == Round.id,
            Message.stage == bindparam("stage"),
            Message.participant_id == Participant.id,
        ),
    )
    .outerjoin(
        ReceiptRow,
        and_(ReceiptRow.round_id == Round.id, ReceiptRow.participant_id == Participant.id),
    )
    .where(Round.id == bindparam("round"), Participant.id == bindparam("participant"))
)
_STANDING_LOCKED = _STANDING.with_for_update(read=True, of=Round)


def _check_size(standing: _Standing, body: bytes) -> None:
    stage = standing.stage
    if stage is Stage.ENLISTING:
        if len(body) > LARGEST_RECEIPTS:
            raise invalid("wrong_size", f"at most {LARGEST_RECEIPTS} bytes of receipts are taken")
        return
    if is_abort(body) and len(body) == ABORT_BYTES:
        return
    fixed, entry = _SIZES[stage]
    entries, rest = divmod(len(body) - fixed, entry) if entry else (0, len(body) - fixed)
    if rest != 0 or not 0 <= entries <= (standing.joined or 0):
        raise invalid("wrong_size", f"{len(body)} bytes are no message of stage {stage}")
