"""Messages of participants: checked, stored once, and left for the round to be read.

Any worker accepts them; nothing but the database and the vectors' folder is changed. What a message
says is for secure aggregation to judge when the stage ends.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
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
from storage.home import sync_folder

LARGEST_RECEIPT = 8_192
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
    """Where a masked vector may be written meanwhile, and the bytes that it has."""

    folder: Path
    length: int


def accept(
    authority: Authority, caller: Caller, round_id: str, stage: Stage, body: bytes, signature: str
) -> None:
    """Store a message of any stage; of MASKED only an Abort, since vectors come as files.

    Args:
        signature: of `MessageHeader.of(federation, round_id, stage, body)`, hexadecimal.

    Raises:
        RefusedError: unknown_round; not_invited; wrong_stage, also when it is late; wrong_size;
            bad_signature; bad_receipt, receipt_missing; other_message, another one is stored.
    """
    payload_hash = hashlib.sha256(body).hexdigest()
    with authority.database.write() as session:
        round_, federation = _find(session, caller, round_id, lock=True)
        if _is_stored(session, caller, round_id, stage, payload_hash):
            return
        _check_open(session, caller, round_, stage)
        _check_size(round_, stage, body)
        _check_signature(caller, federation, round_id, stage, payload_hash, signature)
        if stage is Stage.ENLISTING and body:
            check_receipt(session, authority, caller, body)
        if stage is Stage.SURVIVORS and not is_abort(body):
            _require_receipt(session, caller, round_id)
        session.add(_message(caller, round_id, stage, payload_hash, signature, body))


def expect_masked(authority: Authority, caller: Caller, round_id: str) -> MaskedUpload:
    """What `accept_masked` would take now, before a byte of it is read.

    Raises:
        RefusedError: unknown_round, not_invited, wrong_stage.
    """
    with authority.database.read() as session:
        round_, federation = _find(session, caller, round_id)
        stored = session.get(Message, (round_id, Stage.MASKED.value, caller.id))
        if stored is None:
            _check_open(session, caller, round_, Stage.MASKED)
        plan = federations.plan_of(federation, authority)
    folder = authority.home.round_vectors(round_id)
    return MaskedUpload(folder, _MASKED + 4 * plan.adapter.dimension)


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
    stage = Stage.MASKED
    with authority.database.write() as session:
        round_, federation = _find(session, caller, round_id, lock=True)
        if _is_stored(session, caller, round_id, stage, payload_hash):
            return
        _check_open(session, caller, round_, stage)
        _check_signature(caller, federation, round_id, stage, payload_hash, signature)
        session.add(_message(caller, round_id, stage, payload_hash, signature, None))
        # The row's key decides between two uploads; its file is there before it is.
        session.flush()
        upload.replace(upload.with_name(str(caller.id)))
        sync_folder(upload.parent)


def accept_receipt(authority: Authority, caller: Caller, round_id: str, body: bytes) -> None:
    """Keep a survivor's receipt of this round; the same again is no error.

    Raises:
        RefusedError: unknown_round; not_invited; wrong_stage; bad_receipt.
    """
    with authority.database.write() as session:
        round_, _ = _find(session, caller, round_id, lock=True)
        stored = session.get(ReceiptRow, (round_id, caller.id))
        if stored is not None and stored.receipt == body:
            return
        _check_open(session, caller, round_, Stage.SURVIVORS)
        receipt = check_receipt(session, authority, caller, body)
        if round_.statement is None or receipt.participant != caller.identity:
            raise invalid("bad_receipt", "it is not signed by this participant's identity")
        if receipt.signed != records.read_statement(round_.statement):
            raise invalid("bad_receipt", "it is not about this round")
        session.add(ReceiptRow(round_id=round_id, participant_id=caller.id, receipt=body))


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


def _find(
    session: Session, caller: Caller, round_id: str, *, lock: bool = False
) -> tuple[Round, Federation]:
    """The round, locked against the end of its stage, and its federation."""
    query = select(Round).where(Round.id == round_id)
    round_ = session.scalars(query.with_for_update(read=True) if lock else query).one_or_none()
    federation = None if round_ is None else session.get_one(Federation, round_.federation)
    if round_ is None or federation is None or federation.population != caller.population:
        raise unknown("unknown_round", f"there is no round {round_id!r} for this participant")
    return round_, federation


def _is_stored(
    session: Session, caller: Caller, round_id: str, stage: Stage, payload_hash: str
) -> bool:
    if stage.is_over:
        raise invalid("wrong_stage", f"no messages are sent in stage {stage}")
    stored = session.get(Message, (round_id, stage.value, caller.id))
    if stored is not None and stored.payload_hash != payload_hash:
        raise conflict("other_message", f"another message of stage {stage} is stored")
    return stored is not None


def _check_open(session: Session, caller: Caller, round_: Round, stage: Stage) -> None:
    """Refuse what is not due from this participant now."""
    if round_.stage != stage or round_.deadline <= time.time():
        raise conflict("wrong_stage", f"stage {stage} is not open: the round is {round_.stage}")
    state = session.scalar(select(Participant.state).where(Participant.id == caller.id))
    if state is not ParticipantState.APPROVED:
        raise forbidden("revoked", "this participant was revoked")
    if stage is not Stage.ENLISTING:
        expected = select(Outgoing.participant_id).where(
            Outgoing.round_id == round_.id,
            Outgoing.stage == stage.value,
            Outgoing.participant_id == caller.id,
        )
        if session.scalar(expected) is None:
            raise forbidden("not_invited", f"nothing is expected of you in stage {stage}")


def _check_size(round_: Round, stage: Stage, body: bytes) -> None:
    if stage is Stage.ENLISTING:
        if len(body) > LARGEST_RECEIPT:
            raise invalid("wrong_size", f"a receipt has at most {LARGEST_RECEIPT} bytes")
        return
    if is_abort(body) and len(body) == ABORT_BYTES:
        return
    fixed, entry = _SIZES[stage]
    entries, rest = divmod(len(body) - fixed, entry) if entry else (0, len(body) - fixed)
    if rest != 0 or not 0 <= entries <= (round_.joined or 0):
        raise invalid("wrong_size", f"{len(body)} bytes are no message of stage {stage}")


def _check_signature(
    caller: Caller,
    federation: Federation,
    round_id: str,
    stage: Stage,
    payload_hash: str,
    signature: str,
) -> None:
    header = MessageHeader(federation.name, round_id, stage, payload_hash)
    try:
        header.verify(caller.identity, signature)
    except BadSignatureError as error:
        raise forbidden("bad_signature", str(error)) from error


def _require_receipt(session: Session, caller: Caller, round_id: str) -> None:
    held = select(ReceiptRow.round_id).where(
        ReceiptRow.round_id == round_id, ReceiptRow.participant_id == caller.id
    )
    if session.scalar(held) is None:
        raise conflict("receipt_missing", "send the receipt of this round first")


def _message(
    caller: Caller,
    round_id: str,
    stage: Stage,
    payload_hash: str,
    signature: str,
    payload: bytes | None,
) -> Message:
    return Message(
        round_id=round_id,
        stage=stage.value,
        participant_id=caller.id,
        identity=caller.identity,
        payload_hash=payload_hash,
        signature=signature,
        payload=payload,
    )
