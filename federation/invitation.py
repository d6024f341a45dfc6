"""One round as the coordinator announces it, and the secure aggregation that follows from it.

Coordinator and nodes make the `RoundConfig` from the same signed bytes with the same function, so
that its hash, which every key and mask is bound to, covers plan, model, roster and round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from federation.plan import FederationPlan
from federation.secagg import RoundConfig
from federation.signed import Signed, record_hash
from privacy.plan import PrivacyPlan
from privacy.signing import Domain, check_hash, from_hex

NOISE_DEVIATIONS = 12
"""Standard deviations of the summed noise that an honest sum stays within."""


class Stage(StrEnum):
    """Where a round is. Nodes send a message in each stage from ENLISTING to UNMASKING."""

    ENLISTING = "enlisting"
    KEYS = "keys"
    SHARES = "shares"
    MASKED = "masked"
    SURVIVORS = "survivors"
    UNMASKING = "unmasking"
    RELEASED = "released"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether nothing can change any more."""
        return self in (Stage.RELEASED, Stage.FAILED)


@dataclass(frozen=True, slots=True)
class Announcement:
    """A round for which nodes may enlist; signed by the coordinator.

    Attributes:
        federation: its name.
        plan_hash: of the signed plan.
        round_number: grows within a plan and is never used twice; at least the time in seconds
            since the epoch, so that a coordinator restored from a backup repeats none.
        model_hash: `parameters_hash` of the vector that nodes train from.
        roster_hash: of the population's signed roster that is in force.
    """

    federation: str
    plan_hash: str
    round_number: int
    model_hash: str
    roster_hash: str

    def __post_init__(self) -> None:
        for value in (self.plan_hash, self.model_hash, self.roster_hash):
            check_hash(value)
        if not 0 <= self.round_number < 2**32:
            raise ValueError("round_number must lie in [0, 2^32)")

    @property
    def round_id(self) -> str:
        """Names the round everywhere: in messages, odometers, budgets and the ledger."""
        return record_hash(self, Domain.INVITATION)[:32]


@dataclass(frozen=True, slots=True)
class Invitation:
    """Who takes part: sent to those that enlisted and were chosen; signed by the coordinator.

    Attributes:
        announcement: the round.
        members: identities (Ed25519, hexadecimal) in ascending order; a place in it is a client's
            index in secure aggregation.
    """

    announcement: Announcement
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        for member in self.members:
            check_hash(member)
        if list(self.members) != sorted(set(self.members)):
            raise ValueError("members must be ascending and different")


SignedAnnouncement = Signed[Announcement]
SignedInvitation = Signed[Invitation]


def round_config(plan: FederationPlan, invitation: Invitation) -> RoundConfig:
    """Secure aggregation of an invited round.

    Raises:
        ValueError: the invitation belongs to another plan, or invites more than its cohort.
        Refusal: UNSAFE_PARAMETERS, the threat model cannot be promised to so few.
    """
    announcement = invitation.announcement
    if announcement.plan_hash != plan.hash or announcement.federation != plan.federation:
        raise ValueError("the invitation belongs to another plan")
    if len(invitation.members) > plan.privacy.cohort:
        raise ValueError(f"more than the cohort of {plan.privacy.cohort} nodes are invited")
    return RoundConfig(
        session=bytes.fromhex(record_hash(invitation, Domain.INVITATION)),
        round_number=announcement.round_number,
        plan_hash=bytes.fromhex(plan.hash),
        model_hash=bytes.fromhex(announcement.model_hash),
        dimension=plan.adapter.dimension,
        max_sum_norm=largest_sum_norm(plan.privacy),
        roster=tuple(from_hex(member, 32) for member in invitation.members),
        threat_model=plan.aggregation(len(invitation.members)),
    )


def largest_sum_norm(plan: PrivacyPlan) -> int:
    """Largest L2 norm of an honest sum of a whole cohort, in grid units.

    All rows of all nodes at their sensitivity, and noise that stays within `NOISE_DEVIATIONS`
    standard deviations in every coordinate.
    """
    noise = NOISE_DEVIATIONS * plan.share_sigma * math.sqrt(plan.cohort * plan.dimension)
    return math.ceil(plan.cohort * plan.rows_per_node * plan.sensitivity + noise)
