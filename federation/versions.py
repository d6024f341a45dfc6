"""Released versions of a federation's parameters, signed, each naming the round that made it."""

from __future__ import annotations

from dataclasses import dataclass

from federation.signed import Signed
from privacy.signing import check_hash


@dataclass(frozen=True, slots=True)
class Version:
    """One released vector.

    Attributes:
        federation, plan_hash: under which plan it was trained.
        number: counts from 0, the vector that the first round starts from.
        spec_hash: `AdapterSpec.hash`.
        base_model: of the spec, repeated for whoever has only this record.
        parameters_hash: of the vector's bytes.
        round_id: that released it; None for number 0.
        previous: `parameters_hash` of the vector that it was trained from; None for number 0.
    """

    federation: str
    plan_hash: str
    number: int
    spec_hash: str
    base_model: str
    parameters_hash: str
    round_id: str | None
    previous: str | None

    def __post_init__(self) -> None:
        for value in (self.plan_hash, self.spec_hash, self.parameters_hash):
            check_hash(value)
        if (self.number == 0) != (self.round_id is None) or self.number < 0:
            raise ValueError("every version but the first was released by a round")
        if (self.round_id is None) != (self.previous is None):
            raise ValueError("a version of a round was trained from another one")


SignedVersion = Signed[Version]
