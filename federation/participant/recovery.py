"""A node's debits from what its coordinators hold: before anything else at every start.

A node that was restored from a backup has an odometer that is too low, and nothing in it tells.
The coordinators' copies of the node's own signatures do: no round is entered until each of them
has answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from federation.invitation import Stage
from federation.messages import MessageHeader
from federation.odometer_file import OdometerFile
from federation.participant.coordinator_client import CoordinatorError, Evidence, MaskedEvidence
from federation.plan import FederationPlan
from privacy.signing import BadSignatureError


def recover(
    odometer: OdometerFile,
    evidence: Evidence,
    identities: Iterable[str],
    coordinator: str,
    plan_of: Callable[[str], FederationPlan],
) -> frozenset[str]:
    """Debits every round that the evidence proves and the odometer lacks.

    Args:
        evidence: from the coordinator with the public key `coordinator`.
        identities: the node's public keys, former ones included, hexadecimal.
        plan_of: the verified plan of a federation.

    Returns:
        The ids of all rounds that the evidence proves, debited before or now.

    Raises:
        CoordinatorError: something is not signed by this node, or names an unknown plan; the
            coordinator would otherwise be able to use the limit up.
    """
    own = frozenset(identities)
    proved = [(item.federation, item.plan_hash, item.round_id) for item in evidence.masked]
    for item in evidence.masked:
        _check(item, own)
    for receipt in evidence.receipts:
        statement = receipt.signed.statement
        if receipt.participant not in own or receipt.signed.coordinator != coordinator:
            raise CoordinatorError(f"a receipt of round {statement.round_id} is not this node's")
        proved.append((statement.federation, statement.plan_hash, statement.round_id))
    for federation, plan_hash, round_id in proved:
        plan = plan_of(federation)
        if plan.hash != plan_hash:
            raise CoordinatorError(f"round {round_id} belongs to another plan of {federation}")
        odometer.recover(plan.run, round_id)
    return frozenset(round_id for _, _, round_id in proved)


def _check(item: MaskedEvidence, own: frozenset[str]) -> None:
    if item.identity not in own:
        raise CoordinatorError(f"a message of round {item.round_id} is not this node's")
    header = MessageHeader(item.federation, item.round_id, Stage.MASKED, item.payload_hash)
    try:
        header.verify(item.identity, item.signature)
    except BadSignatureError as error:
        raise CoordinatorError(f"a message of round {item.round_id}: {error}") from error
