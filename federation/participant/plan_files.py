"""The public files that plans name, fetched once, and what training by a plan needs of them."""

from __future__ import annotations

import json

from safetensors import SafetensorError

from federation.adapter_spec import AdapterKind
from federation.participant.base_models import BaseModel, BaseModels
from federation.participant.coordinator_client import CoordinatorClient, CoordinatorError
from federation.participant.identity import FederationHome
from federation.participant.trainer import TrainingTask
from federation.plan import FederationPlan
from federation.rows import ffa_lora
from generation.ffa_lora import read_basis
from retrieval.query_map import basis_from_bytes
from storage.files import write_private

MOST_PUBLIC_TEXTS = 10_000


class PlanFiles:
    """The files of one coordinator's plans. For one thread."""

    def __init__(self, client: CoordinatorClient, home: FederationHome, models: BaseModels) -> None:
        self._client = client
        self._home = home
        self._models = models

    def fetch(self, plan: FederationPlan) -> tuple[bytes, bytes]:
        """The plan's basis and its public passages, which are here from now on."""
        return self._file(plan.adapter.basis_hash), self._file(plan.public_hash)

    def task(self, plan: FederationPlan) -> TrainingTask:
        """What a process for an accepted plan needs.

        Raises:
            CoordinatorError: the files do not fit the plan and the model of this node.
        """
        basis, public = self.fetch(plan)
        model = self._models.get(plan.adapter.kind)
        if model is None:
            raise CoordinatorError(f"this node trains no {plan.adapter.kind}")
        _check_basis(plan, basis, model)
        return TrainingTask(plan, basis, _texts(public), model.source)

    def _file(self, sha256: str) -> bytes:
        path = self._home.files / sha256
        if not path.exists():
            write_private(path, self._client.blob(sha256))
        return path.read_bytes()


def _check_basis(plan: FederationPlan, basis: bytes, model: BaseModel) -> None:
    """Raises CoordinatorError unless the file with the fixed factor fits plan and model."""
    try:
        if plan.adapter.kind is AdapterKind.GENERATOR:
            read_basis(basis, ffa_lora(plan.adapter, basis))
        elif basis_from_bytes(basis).shape != (model.dimension, plan.adapter.rank):
            raise ValueError("it has another shape")
    except (ValueError, SafetensorError) as error:
        raise CoordinatorError(f"the plan's basis cannot be used: {error}") from error


def _texts(data: bytes) -> tuple[str, ...]:
    """The texts of a file of public passages. Raises CoordinatorError for another file."""
    try:
        texts = tuple(json.loads(line)["text"] for line in data.splitlines() if line.strip())
    except (ValueError, KeyError, TypeError) as error:
        raise CoordinatorError(f"the plan's public passages cannot be read: {error}") from error
    if len(texts) > MOST_PUBLIC_TEXTS or not all(isinstance(text, str) for text in texts):
        raise CoordinatorError("the plan's public passages are too many, or no texts")
    return texts
