"""What a node keeps of its rounds: a row of each for good, and its secrets until it is over."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select

from federation.invitation import Announcement
from federation.secagg import Snapshot
from privacy.receipts import Receipt, SignedStatement
from storage.database import Database
from storage.declarative import now
from storage.files import write_private
from storage.membership_tables import Contribution, FormerIdentity, KnownPlan, Outcome


class RoundRecord:
    """The rounds of all memberships, in the node's database and a folder for their secrets."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def get(self, round_id: str) -> Contribution | None:
        """A round that the node has entered."""
        with self._database.read() as session:
            return session.get(Contribution, round_id)

    def newest_number(self, plan_hash: str) -> int | None:
        """The largest number of a round of this plan that the node has entered."""
        with self._database.read() as session:
            return session.scalar(
                select(func.max(Contribution.number)).where(Contribution.plan_hash == plan_hash)
            )

    def enter(self, announcement: Announcement) -> list[str]:
        """Note a round durably; what is left of earlier ones of the plan is over: their ids."""
        with self._database.write() as session:
            earlier = session.scalars(
                select(Contribution).where(
                    Contribution.plan_hash == announcement.plan_hash,
                    Contribution.outcome.in_((Outcome.ENLISTED, Outcome.SENT)),
                )
            ).all()
            for one in earlier:
                if one.outcome is Outcome.ENLISTED:
                    one.outcome = Outcome.LEFT
                    one.reason = "the round ended before the node's turn"
            session.add(
                Contribution(
                    round_id=announcement.round_id,
                    plan_hash=announcement.plan_hash,
                    federation=announcement.federation,
                    number=announcement.round_number,
                    seen_at=time.time(),
                )
            )
        over = [one.round_id for one in earlier]
        for round_id in over:
            self._unlink(round_id)
        return over

    def note_sent(self, round_id: str, message: bytes) -> None:
        """The masked message is about to leave."""
        with self._database.write() as session:
            own = session.get_one(Contribution, round_id)
            own.outcome = Outcome.SENT
            own.sent_at = now()
            own.sent_bytes = len(message)
            own.sent_hash = hashlib.sha256(message).hexdigest()

    def end(self, round_id: str, outcome: Outcome, reason: str | None = None) -> None:
        """Unlink a round's secrets; its number stays, so that it is not entered again."""
        with self._database.write() as session:
            own = session.get(Contribution, round_id)
            if own is not None:
                own.outcome, own.reason = outcome, reason
        self._unlink(round_id)

    def countersign(
        self, round_id: str, signed: SignedStatement, identity: Ed25519PrivateKey
    ) -> Receipt:
        """The receipt of a round, kept from now on; the first one, whatever it was for."""
        with self._database.write() as session:
            own = session.get_one(Contribution, round_id)
            if own.receipt is None:
                own.receipt = Receipt.countersign(signed, identity).to_bytes()
            return Receipt.from_bytes(own.receipt)

    def receipts(self, membership_id: str, identity: str) -> list[Receipt]:
        """All of a membership, the newest last; one of an earlier membership is another's.

        Args:
            identity: the membership's public key now, hexadecimal.
        """
        with self._database.read() as session:
            former = select(FormerIdentity.identity).where(
                FormerIdentity.membership_id == membership_id
            )
            own = {identity, *session.scalars(former)}
            receipts = session.scalars(
                select(Contribution.receipt)
                .join(KnownPlan, KnownPlan.plan_hash == Contribution.plan_hash)
                .where(
                    KnownPlan.membership_id == membership_id,
                    Contribution.receipt.is_not(None),
                )
                .order_by(Contribution.number)
            ).all()
        read = [Receipt.from_bytes(data) for data in receipts if data is not None]
        return [receipt for receipt in read if receipt.participant in own]

    def keep(self, round_id: str, snapshot: Snapshot) -> None:
        """Store the state of a round durably, before the message in it leaves."""
        write_private(self._state_file(round_id), snapshot.data)
        write_private(self._stage_file(round_id), b"%d" % snapshot.stage)

    def kept(self, round_id: str) -> tuple[bytes, int] | None:
        """The state that was stored last and the newest stage; None for a new round.

        Raises:
            OSError, ValueError: one of the two is missing or damaged.
        """
        stage_file, state_file = self._stage_file(round_id), self._state_file(round_id)
        if not (stage_file.exists() or state_file.exists()):
            return None
        return state_file.read_bytes(), int(stage_file.read_bytes())

    def newest_stage(self, round_id: str) -> int | None:
        """The stage that was stored last, if one was. Raises ValueError if it is damaged."""
        file = self._stage_file(round_id)
        return int(file.read_bytes()) if file.exists() else None

    def _unlink(self, round_id: str) -> None:
        self._state_file(round_id).unlink(missing_ok=True)
        self._stage_file(round_id).unlink(missing_ok=True)

    def _state_file(self, round_id: str) -> Path:
        return self._folder / f"{round_id}.state"

    def _stage_file(self, round_id: str) -> Path:
        return self._folder / f"{round_id}.stage"
