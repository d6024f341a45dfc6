"""Requests that make plans, for tests to start from."""

from __future__ import annotations

from typing import Any

from federation.plan import FederationPlan
from federation.plan_request import ResolvedPlan, read_request, resolve
from privacy.signing import public_key_hex
from tests.privacy.ledger_factory import key

COORDINATOR = public_key_hex(key("coordinator"))
RETRIEVER: dict[str, Any] = {
    "kind": "retriever", "base_model": "tiny@0/float32", "dimension": 32, "rank": 4,
}  # fmt: skip
GENERATOR: dict[str, Any] = {
    "kind": "generator",
    "base_model": "tiny-lm",
    "rank": 2,
    "modules": [
        {"name": "layers.1.q_proj", "inputs": 16, "outputs": 8},
        {"name": "layers.0.q_proj", "inputs": 16, "outputs": 24},
    ],
}


def document_request(**changes: Any) -> dict[str, Any]:
    """Mode document among ten nodes; None takes a field away."""
    base: dict[str, Any] = {
        "population": "clinics",
        "federation": "triage",
        "adapter": RETRIEVER,
        "mode": "document",
        "epsilon": 4.0,
        "planned_rows": 2000,
        "sampling_rate": 0.05,
        "cohort": 10,
    }
    return {name: value for name, value in (base | changes).items() if value is not None}


def client_request(**changes: Any) -> dict[str, Any]:
    """Mode client among a hundred nodes."""
    base: dict[str, Any] = {"mode": "client", "cohort": 100, "max_participations": 5}
    return document_request(**{**base, "planned_rows": None, "sampling_rate": None, **changes})


def resolved(request: dict[str, Any]) -> ResolvedPlan:
    return resolve(read_request(request), COORDINATOR)


def document_plan(**changes: Any) -> FederationPlan:
    return resolved(document_request(**changes)).plan


def client_plan(**changes: Any) -> FederationPlan:
    return resolved(client_request(**changes)).plan
