"""Adapters as they stand in a node's folder when they are served, drawn instead of trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.adapter_spec import AdapterKind, AdapterSpec, Block, parameters_to_bytes
from federation.participant.base_models import generator_identity
from federation.plan import FederationPlan
from federation.signed import Signed
from generation.adapter_files import Lora
from generation.adapter_training import describe_modules
from generation.ffa_lora import AdaptedModule, FfaLora, as_lora, random_basis
from generation.training_terms import GeneratorTerms
from retrieval.embedding import Vectors
from retrieval.query_map import basis_from_bytes
from storage.database import Database
from storage.example_tables import PersonalKind, PersonalState, PersonalVersion
from storage.files import write_private
from storage.membership_tables import KnownPlan, Membership, SharedVersion, VersionState
from storage.node_tables import Assistant
from tests.federation.participant.plans import BASIS, DIMENSION, RANK, make_plan


@dataclass(frozen=True)
class Pair:
    """A generator's adapter, and W of a query map on `BASIS`."""

    lora: Lora
    weights: Vectors


@dataclass(frozen=True)
class Planted:
    """The shared pair, and each assistant's own by its name."""

    embedder: str
    shared: Pair
    personal: Mapping[str, Pair]


def plant(home: Path, generator: str, assistants: Sequence[str]) -> Planted:
    """Into a node that is not served: a shared pair, and one for each of these assistants."""
    drawn = np.random.default_rng(2)
    modules = describe_modules(generator, ["q_proj", "v_proj"])
    with closing(Database(home / "node.db")) as database, database.write() as session:
        rows = session.scalars(select(Assistant).where(Assistant.name.in_(assistants))).all()
        session.add(
            Membership(id="m", url="https://c", coordinator="c0" * 32, name="n", identity="1d")
        )
        session.flush()
        lora, answers = _add_shared_lora(session, home, generator, modules, drawn)
        weights, questions = _add_shared_map(session, home, rows[0].embedder, drawn)
        personal = {}
        for row in rows:
            own = personal[row.name] = Pair(_lora(lora.base_model, modules, drawn), _weights(drawn))
            _add_personal(
                session, row, PersonalKind.GENERATOR, f"{answers.hash}/1", own.lora.tensors(),
                {"model": lora.base_model, "adapter_config": own.lora.config()},
            )  # fmt: skip
            _add_personal(
                session, row, PersonalKind.RETRIEVER, f"{questions.hash}/1",
                save({"basis": basis_from_bytes(BASIS), "weights": own.weights}),
                {"model": row.embedder, "strength": 1.0},
            )  # fmt: skip
        return Planted(rows[0].embedder, Pair(lora, weights), personal)


def _add_shared_lora(
    session: Session,
    home: Path,
    generator: str,
    modules: tuple[AdaptedModule, ...],
    drawn: np.random.Generator,
) -> tuple[Lora, FederationPlan]:
    basis = random_basis(modules, 2, seed=4)
    spec = FfaLora(generator_identity(generator), modules, 2, 4)
    vector = drawn.standard_normal(spec.dimension).astype(np.float32)
    adapter = AdapterSpec(
        AdapterKind.GENERATOR, spec.base_model, 2, 2.0, hashlib.sha256(basis).hexdigest(),
        tuple(Block(module.name, module.outputs, 2) for module in modules),
    )  # fmt: skip
    plan = make_plan(
        adapter=adapter, map_terms=None, generator_terms=GeneratorTerms(),
        privacy={"dimension": spec.dimension}, federation="answers",
    )  # fmt: skip
    _add_shared(session, home, plan, basis, parameters_to_bytes(vector))
    return as_lora(spec, basis, vector), plan


def _add_shared_map(
    session: Session, home: Path, embedder: str, drawn: np.random.Generator
) -> tuple[Vectors, FederationPlan]:
    weights, plan = _weights(drawn), make_plan(embedder)
    _add_shared(session, home, plan, BASIS, parameters_to_bytes(weights.ravel()))
    return weights, plan


def _add_shared(
    session: Session, home: Path, plan: FederationPlan, basis: bytes, parameters: bytes
) -> None:
    files = home / "federation" / "files"
    files.mkdir(parents=True, exist_ok=True)
    write_private(files / hashlib.sha256(basis).hexdigest(), basis)
    session.add(
        KnownPlan(
            plan_hash=plan.hash, membership_id="m", federation=plan.federation,
            plan=Signed(plan, plan.coordinator, "").to_bytes(),
        )
    )  # fmt: skip
    session.flush()
    session.add(
        SharedVersion(
            plan_hash=plan.hash, number=1, record=b"", parameters=parameters,
            state=VersionState.SERVED,
        )
    )  # fmt: skip


def _add_personal(
    session: Session,
    assistant: Assistant,
    kind: PersonalKind,
    shared: str,
    parameters: bytes,
    config: dict[str, object],
) -> None:
    session.add(
        PersonalVersion(
            assistant_id=assistant.id, kind=kind, state=PersonalState.SERVED, shared=shared,
            config=config, parameters=parameters, examples=9,
        )
    )  # fmt: skip


def _lora(base_model: str, modules: tuple[AdaptedModule, ...], drawn: np.random.Generator) -> Lora:
    """An update as large as the weights."""
    factors = {
        module.name: (
            drawn.standard_normal((8, module.inputs)).astype(np.float32),
            drawn.standard_normal((module.outputs, 8)).astype(np.float32),
        )
        for module in modules
    }
    return Lora(base_model, 8, 16, factors)


def _weights(drawn: np.random.Generator) -> Vectors:
    return drawn.standard_normal((RANK, DIMENSION)).astype(np.float32)
