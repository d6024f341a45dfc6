"""A plan that three nodes can follow in seconds, and the public files that it names."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np

from federation.adapter_spec import (
    AdapterKind,
    AdapterSpec,
    Block,
    parameters_hash,
    parameters_to_bytes,
)
from federation.participant.identity import FederationHome
from federation.plan import FORMAT, FederationPlan, Optimiser, OptimiserName, Timing
from federation.signed import Signed
from federation.versions import SignedVersion, Version
from privacy.ledger_records import ThreatModel
from privacy.plan import Mode, PrivacyPlan
from retrieval.query_map import basis_to_bytes, random_basis
from retrieval.training_terms import MapTerms
from storage.database import Database
from storage.files import write_private
from storage.membership_tables import KnownPlan, Membership

DIMENSION, RANK = 384, 2
SIZE = DIMENSION * RANK
BASIS = basis_to_bytes(random_basis(DIMENSION, RANK, seed=1))
PUBLIC_TEXTS = ("A recipe for bread.", "The history of a bridge.", "How a canal lock works.")
PUBLIC = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in PUBLIC_TEXTS)
COORDINATOR = "c0" * 32

PRIVACY = PrivacyPlan(
    mode=Mode.DOCUMENT,
    dimension=SIZE,
    clip_norm=1.0,
    grid=1 / (100 * math.sqrt(SIZE)),
    noise_multiplier=1.5,
    cohort=3,
    min_survivors=3,
    colluders=0,
    rounds=2,
    max_participations=2,
    delta=1e-3,
    sampling_rate=0.5,
    row_cap=60,
    planned_rows=60,
)


def make_plan(base_model: str = "embedder", **given: Any) -> FederationPlan:
    """`given` replaces fields of the plan; `privacy` may be a dict of changed fields."""
    privacy = replace(PRIVACY, **given.pop("privacy", {}))
    fields: dict[str, Any] = {
        "format": FORMAT,
        "population": "clinics",
        "federation": "questions",
        "coordinator": COORDINATOR,
        "adapter": AdapterSpec(
            kind=AdapterKind.RETRIEVER,
            base_model=base_model,
            rank=RANK,
            scale=1.0,
            basis_hash=hashlib.sha256(BASIS).hexdigest(),
            blocks=(Block("weights", RANK, DIMENSION),),
        ),
        "privacy": privacy,
        "threat_model": ThreatModel.HONEST_BUT_CURIOUS,
        "timing": Timing(2.0, 5.0, 3.0, 0.0),
        "optimiser": Optimiser(OptimiserName.FEDAVG, 0.1),
        "map_terms": MapTerms(),
        "generator_terms": None,
        "public_hash": hashlib.sha256(PUBLIC).hexdigest(),
        "initial_hash": parameters_hash(parameters_to_bytes(np.zeros(SIZE, np.float32))),
    }
    return FederationPlan(**(fields | given))


def signed_version(plan: FederationPlan, number: int) -> SignedVersion:
    """A version of the plan; the signature is nobody's."""
    record = Version(
        plan.federation, plan.hash, number, plan.adapter.hash, plan.adapter.base_model, "ab" * 32,
        "round", "cd" * 32,
    )  # fmt: skip
    return Signed(record, COORDINATOR, "")


def know(database: Database, home: FederationHome, plan: FederationPlan, basis: bytes) -> None:
    """Store the plan as one of a federation that the node has joined."""
    home.create()
    write_private(home.files / plan.adapter.basis_hash, basis)
    with database.write() as session:
        session.add(
            Membership(
                id="m", url="https://c", coordinator=COORDINATOR, name="n", identity="1d" * 32
            )
        )
        session.flush()
        session.add(
            KnownPlan(
                plan_hash=plan.hash, membership_id="m", federation=plan.federation,
                plan=Signed(plan, COORDINATOR, "").to_bytes(),
            )
        )  # fmt: skip
