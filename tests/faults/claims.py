"""What must hold of a coordinator's rounds, whatever was killed; read from its database alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmarks.participants import Vector
from federation.adapter_spec import parameters_from_bytes, parameters_hash, parameters_to_bytes
from federation.coordinator import federations, populations, versions
from federation.coordinator.records import read_statement
from federation.invitation import Stage
from federation.optimiser import OptimiserState, step
from privacy.budget import Step
from privacy.encoding import decode
from privacy.ledger_records import Result, RoundFacts, unseal
from privacy.receipts import survivors_hash
from privacy.verification import verify
from privacy.verification_report import Code
from storage.coordinator_tables import Message, Outgoing, Round
from tests.faults.wards import Ward

Find = Callable[[str, str], Vector]
"""The vector that an identity has masked in a round, uint32, shape (d,)."""


def check_at_rest(place: Ward) -> None:
    """What holds at every moment, in what one snapshot of the database shows.

    A round is charged exactly from UNMASKING on, a slot by one round; there is a version exactly
    for each round that the ledger says is released; what ended says how, and keeps nothing.
    """
    with place.authority.database.read() as session:
        rounds = session.scalars(select(Round).order_by(Round.number)).all()
        facts = ledger(place, session)
        paid = [
            round_.slot
            for round_ in rounds
            if round_.stage == Stage.UNMASKING
            or (round_.ended_at is not None and facts[round_.id].charged)
        ]
        budget = populations.budget(session, place.plan.population)
        charged = budget.rounds(place.plan.hash, Step.CHARGED)
        slots = [federations.slot_name(place.plan.hash, slot) for slot in paid]
        assert sorted(slots) == sorted(charged), "what is charged is not what was opened"
        over = {round_.id: Stage(round_.stage) for round_ in rounds if round_.ended_at is not None}
        assert over.keys() == facts.keys(), "the ledger has other rounds than those that ended"
        for round_ in rounds:
            assert Stage(round_.stage).is_over == (round_.ended_at is not None)
            if round_.stage == Stage.FAILED:
                assert round_.reason and facts[round_.id].result is Result.ABORTED
        released = [name for name, stage in over.items() if stage is Stage.RELEASED]
        made = [
            versions.get(session, place.plan.federation, number + 1).parameters_hash
            for number in range(place_newest(place, session))
        ]
        assert made == [facts[name].model_out for name in released], "a round is half released"
        for table in (Outgoing, Message):
            kept = select(func.count()).select_from(table).where(table.round_id.in_(over))
            if table is Message:
                kept = kept.where(Message.payload.is_not(None))
            assert session.scalar(kept) == 0, "something of a round that is over was kept"


def check_finished(place: Ward, find: Find) -> None:
    """Every round of the plan was paid for, those released are exact, and nothing is left over."""
    check_at_rest(place)
    assert place.is_finished()
    with place.authority.database.read() as session:
        ended = list(ledger(place, session).values())
    assert sum(one.charged for one in ended) == place.plan.privacy.rounds
    assert any(one.result is Result.RELEASED for one in ended)
    check_sums(place, find)
    check_acknowledged(place)
    check_files(place)
    check_ledger(place)


def check_sums(place: Ward, find: Find) -> None:
    """Every version is the optimiser's step by the sum of what its survivors have sent."""
    plan = place.plan
    with place.authority.database.read() as session:
        released = session.scalars(
            select(Round).where(Round.stage == Stage.RELEASED).order_by(Round.number)
        ).all()
        first = versions.get(session, plan.federation, 0, whole=True)
        parameters = parameters_from_bytes(first.parameters, plan.adapter)
        moments = OptimiserState.zero(parameters.size)
        for number, round_ in enumerate(released, 1):
            survivors = survivors_of(session, round_)
            total = sum((find(one, round_.id) for one in survivors), np.zeros((), np.uint32))
            mean = decode(np.asarray(total, np.uint32), plan.privacy)
            update = -mean if plan.rows_are_gradients else mean
            parameters, moments = step(plan.optimiser, moments, parameters, update)
            made = versions.get(session, plan.federation, number).parameters_hash
            expected = parameters_hash(parameters_to_bytes(parameters))
            assert made == expected, f"round {round_.id} released another sum"


def survivors_of(session: Session, round_: Round) -> list[str]:
    """The identities in the sum of a round, by the statement that they have countersigned."""
    evidence = select(Message.identity).where(
        Message.round_id == round_.id, Message.stage == Stage.MASKED, Message.payload.is_(None)
    )
    found = sorted(session.scalars(evidence))
    assert round_.statement is not None
    assert survivors_hash(found) == read_statement(round_.statement).statement.survivors_hash
    return found


def check_acknowledged(place: Ward) -> None:
    """What was acknowledged is there."""
    with place.authority.database.read() as session:
        query = select(Message.identity, Message.round_id).where(Message.stage == Stage.MASKED)
        stored = {(row[0], row[1]) for row in session.execute(query)}
    assert place.masked <= stored


def check_files(place: Ward) -> None:
    """No masked vector outlives its round."""
    assert list(place.home.vectors.iterdir()) == []


def check_ledger(
    place: Ward, expected: frozenset[Code] = frozenset(), receipts: Sequence[bytes] = ()
) -> None:
    """An auditor with every receipt of the participants, and these, finds only what is expected.

    After a restore that is the tail that the backup did not have; its rounds are accounted for.
    """
    with place.authority.database.read() as session:
        file = b"".join(populations.lines(session, place.plan.population))
    given = [*receipts, *(receipt for one in place.participants for receipt in one.receipts)]
    report = verify(io.BytesIO(file), [place.here.identity], given)
    assert expected.issuperset(one.code for one in report.findings), report.findings


def check_log(place: Ward) -> None:
    """No request failed inside the coordinator."""
    log = place.log.read_text()
    assert "request failed" not in log and "Traceback" not in log, log[-4_000:]


def ledger(place: Ward, session: Session) -> dict[str, RoundFacts]:
    """What the ledger says of each round that has ended."""
    lines = populations.lines(session, place.plan.population)
    found = [record.round.facts for line in lines if (record := unseal(line).record).round]
    assert len({one.round_id for one in found}) == len(found)
    return {one.round_id: one for one in found}


def place_newest(place: Ward, session: Session) -> int:
    """Number of the newest version."""
    return versions.newest(session, place.plan.federation).number


def remembered(place: Ward) -> Find:
    """Vectors as the participants that never die remember them."""
    by_identity = {one.identity: one for one in place.participants}

    def find(identity: str, round_id: str) -> Vector:
        vector = by_identity[identity].entered[round_id].vector
        assert vector is not None
        return vector

    return find
