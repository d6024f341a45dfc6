"""Outcomes kept by what they follow from, so that a repeated simulation is answered at once."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import federation
import generation
import privacy
import retrieval
from federation.plan_request import ResolvedPlan
from federation.simulation.population import Population
from federation.simulation.run import Costs, Outcome, Point
from federation.simulation.scoring import Scores
from privacy.canonical import canonical_bytes

DIGEST_BYTES = hashlib.sha256().digest_size
SCORES = ("zero_shot", "federated", "without_noise", "alone", "pooled")


class Results:
    """A folder of outcomes, one file each: a SHA-256, and the npz archive that it is of."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def get(self, key: str) -> Outcome | None:
        """What `put` stored under a key; None where the file is not as it was written."""
        file = self._folder / key
        if not file.is_file():
            return None
        data = file.read_bytes()
        digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            groups = stored["groups"]
            scores: dict[str, Any] = {
                name: Scores(stored[name], groups) if name in stored else None for name in SCORES
            }
            facts = json.loads(str(stored["facts"]))
            vector = stored["vector"]
        for name in ("history", "history_without_noise"):
            facts[name] = tuple(Point(**one) for one in facts[name])
        if facts["costs"] is not None:
            facts["costs"] = Costs(**facts["costs"])
        return Outcome(**facts, **scores, vector=vector)

    def put(self, key: str, outcome: Outcome) -> None:
        """Store; a file is there as a whole or not at all."""
        arrays: dict[str, Any] = {"groups": outcome.zero_shot.groups, "vector": outcome.vector}
        for name in SCORES:
            scores: Scores | None = getattr(outcome, name)
            if scores is not None:
                arrays[name] = scores.values
        facts = {
            "metric": outcome.metric,
            "nodes": outcome.nodes,
            "seed": outcome.seed,
            "costs": outcome.costs and asdict(outcome.costs),
            "history": [asdict(point) for point in outcome.history],
            "history_without_noise": [asdict(point) for point in outcome.history_without_noise],
        }
        content = io.BytesIO()
        np.savez_compressed(content, facts=json.dumps(facts), **arrays)
        partial = self._folder / f"{os.getpid()}.part"
        partial.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())
        partial.replace(self._folder / key)


def outcome_key(
    population: Population,
    resolved: ResolvedPlan,
    *,
    private: bool,
    drop: float,
    secure: bool,
    seed: int,
) -> str:
    """Names the outcome of `simulate` with these arguments, under the code as it is now."""
    return hash_of(
        {
            "plan": resolved.plan.hash,
            "population": population.hash,
            "private": private,
            "drop": drop,
            "secure": secure,
            "seed": seed,
        }
    )


def hash_of(inputs: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values and of the code, for what follows from them."""
    return hashlib.sha256(canonical_bytes({**inputs, "code": code_hash()})).hexdigest()


def code_hash() -> str:
    """SHA-256 over the packages that a simulation's outcome follows from."""
    digest = hashlib.sha256()
    for package in (federation, generation, privacy, retrieval):
        root = Path(package.__path__[0])
        for file in sorted(root.rglob("*.py")):
            digest.update(file.relative_to(root.parent).as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()
