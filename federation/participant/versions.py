"""The released vectors of one federation, as the node needs them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from federation.adapter_spec import parameters_from_bytes
from federation.participant.coordinator_client import CoordinatorClient, CoordinatorError
from federation.plan import FederationPlan
from federation.versions import SignedVersion, Version


class VersionSource:
    """Fetches versions and checks each against the plan. For one thread."""

    def __init__(self, client: CoordinatorClient, plan: FederationPlan) -> None:
        self._client = client
        self._plan = plan
        self._known: dict[str, Version] = {}
        self._count = 0

    def fetch(self, number: int) -> tuple[SignedVersion, bytes]:
        """The signed record of a version and its parameters.

        Raises:
            CoordinatorError: there is none, or it is not one of this plan.
        """
        signed = self._client.version(self._plan.federation, number)
        if signed is None:
            raise CoordinatorError(f"there is no version {number} of {self._plan.federation}")
        self._check(signed.record)
        return signed, self._client.parameters(signed.record)

    def vector(self, model_hash: str) -> NDArray[np.float32]:
        """The vector with this `parameters_hash`, float32, shape (d,).

        Raises:
            CoordinatorError: no released version has it, or it is not d finite numbers.
        """
        while model_hash not in self._known:
            signed = self._client.version(self._plan.federation, self._count)
            if signed is None:
                raise CoordinatorError("the round starts from a vector that was never released")
            self._check(signed.record)
            self._known[signed.record.parameters_hash] = signed.record
            self._count += 1
        data = self._client.parameters(self._known[model_hash])
        try:
            return parameters_from_bytes(data, self._plan.adapter)
        except ValueError as error:
            raise CoordinatorError(str(error)) from error

    def _check(self, version: Version) -> None:
        """Whether a version belongs to the plan: spec, base model, the vector that it began with.

        Raises:
            CoordinatorError: it does not.
        """
        plan = self._plan
        said = version.plan_hash, version.spec_hash, version.base_model
        if said != (plan.hash, plan.adapter.hash, plan.adapter.base_model):
            raise CoordinatorError(f"version {version.number} is not one of the plan")
        if version.number == 0 and version.parameters_hash != plan.initial_hash:
            raise CoordinatorError("version 0 is not the vector that the plan names")
