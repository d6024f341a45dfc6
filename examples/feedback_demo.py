"""The demo's feedback: thumbs from a user, the owner's approval, and what the assistant learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from examples.processes import DemoError, checked, console, step, wait

LOOKED_AT = 20
CUT = 10


def run(owner: httpx.Client, user: httpx.Client, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """A user rates what half of the questions found; the others show what came of it."""
    step(f"{name} learns from feedback")
    rated, others = rows[::2], rows[1::2]
    before = [_quality(user, name, part) for part in (rated, others)]
    given = [_rate(user, name, row) for row in rated]
    approved = [
        checked(owner.post(f"/v1/assistants/{name}/feedback/{number}/approve"))
        for number in given
        if number is not None
    ]
    console.print(
        f"a user rated what {len(rated)} questions found; the owner approved {len(approved)}"
    )
    job = checked(owner.post(f"/v1/assistants/{name}/personal", json={"adapters": ["retriever"]}))
    with console.status("training the personal adapter in a process of its own ..."):
        wait(owner, job)
    version = checked(owner.get(f"/v1/assistants/{name}/personal"))["data"][0]
    after = [_quality(user, name, part) for part in (rated, others)]
    console.print(
        f"on its held-back examples: MRR@10 {version['before']:.3f} -> {version['after']:.3f}, so "
        f"that it is {'in use' if version['state'] == 'served' else 'not used'}"
    )
    for what, old, new in zip(("that were rated", "that nobody rated"), before, after, strict=True):
        console.print(f"questions {what}: MRR@10 {old:.3f} -> {new:.3f}")
    if version["state"] != "served" and before != after:
        raise DemoError("an adapter that was worse changed the search")


def _found(user: httpx.Client, name: str, row: dict[str, Any]) -> list[tuple[dict[str, Any], bool]]:
    """What a question finds by its meaning, and whether it holds the answer."""
    search = {"assistant": name, "query": row["question"], "limit": LOOKED_AT, "mode": "dense"}
    hits = checked(user.post("/v1/search", json=search))["data"]
    return [(hit, row["answer"] in " ".join(hit["text"].split())) for hit in hits]


def _quality(user: httpx.Client, name: str, rows: Sequence[dict[str, Any]]) -> float:
    """MRR@10."""
    total = 0.0
    for row in rows:
        ranks = [rank for rank, (_, holds) in enumerate(_found(user, name, row), 1) if holds]
        total += 1 / ranks[0] if ranks and ranks[0] <= CUT else 0.0
    return total / len(rows)


def _rate(user: httpx.Client, name: str, row: dict[str, Any]) -> int | None:
    """Thumbs up for the passage that answers, down for one that stood above it."""
    found = _found(user, name, row)
    right = next((place for place, (_, holds) in enumerate(found) if holds), None)
    if right is None:
        return None
    ratings = [{"chunk_id": found[right][0]["chunk_id"], "rating": 1}]
    if right > 0:
        ratings.append({"chunk_id": found[0][0]["chunk_id"], "rating": -1})
    feedback = {"model": name, "question": row["question"], "rating": 0, "passages": ratings}
    number: int = checked(user.post("/v1/feedback", json=feedback))["id"]
    return number
