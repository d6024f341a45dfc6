"""The demo's second half: three nodes learn a shared retriever adapter together.

One coordinator and a node for each workshop, all real processes on loopback. The demo asserts that
the mechanism works and never that quality rose: what came out is printed as it is.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from examples.processes import (
    ALCOVE,
    DemoError,
    alcove_json,
    checked,
    console,
    serve,
    step,
    wait,
)
from examples.workshops import WORKSHOPS, Card, Workshop, cards, public_passages

POPULATION = "workshops"
EPSILON, DELTA, ROUNDS = 8.0, 1e-4, 6
FEDERATION_SECONDS, ADOPTION_SECONDS = 180, 240


@dataclass(frozen=True, slots=True)
class Member:
    """A running node with its workshop."""

    workshop: Workshop
    home: Path
    owner: httpx.Client


def run(folder: Path, *, generator: bool) -> None:
    """Every step; anything that does not hold raises DemoError."""
    with ExitStack() as running:
        step("A federation: one coordinator, three nodes, each with its own documents")
        members = list(running.enter_context(_nodes(folder)))
        coordinator = folder / "coordinator"
        alcove_json("coordinator", "init", "--home", str(coordinator))
        _, url = running.enter_context(serve(coordinator, "coordinator"))
        with ThreadPoolExecutor(len(members)) as pool:
            for line in pool.map(_fill, members):
                console.print(line)
        adapters = ["retriever", *(["generator"] if generator else [])]
        plans = {kind: _plan_file(folder, kind, members[0]) for kind in adapters}
        _found(coordinator, plans["retriever"])
        _join(coordinator, url, members)
        for kind, plan in plans.items():
            name = _train(coordinator, kind, plan)
            _show_adoption(coordinator, name, members)
        _audit(folder, coordinator, members)


@contextmanager
def _nodes(folder: Path) -> Iterator[Iterator[Member]]:
    with ExitStack() as running:
        started = []
        for workshop in WORKSHOPS:
            home = folder / workshop.name
            key = alcove_json("node", "init", "--home", str(home))["key"]
            started.append((workshop, home, key))
        # They load their models at the same time.
        with ThreadPoolExecutor(len(started)) as pool:
            serving = list(
                pool.map(lambda one: running.enter_context(serve(one[1], "node")), started)
            )
            members = []
            for (workshop, home, key), (_, url) in zip(started, serving, strict=True):
                client = httpx.Client(
                    base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120
                )
                members.append(Member(workshop, home, running.enter_context(client)))
        yield iter(members)


def _fill(member: Member) -> str:
    """Give a node its documents and its labelled questions."""
    own = list(cards(member.workshop))
    _upload(member.owner, own)
    lines = [
        json.dumps({"question": one.text, "relevant": [card.external_id], "answer": one.answer})
        for card in own
        for one in card.questions
    ]
    questions = checked(
        member.owner.post("/v1/assistants/default/questions", content="\n".join(lines))
    )
    policy = {
        "largest_epsilon": EPSILON, "largest_delta": DELTA, "smallest_cohort": 3,
        "smallest_min_survivors": 3, "lifetime_epsilon": 2 * EPSILON, "lifetime_delta": DELTA,
    }  # fmt: skip
    checked(member.owner.put("/v1/federation/policy", json=policy))
    return (
        f"{member.workshop.title}: {len(own)} documents, {questions['stored']} labelled questions; "
        f"consents to epsilon {EPSILON:g} a plan"
    )


def _upload(owner: httpx.Client, own: list[Card]) -> None:
    parts: list[Any] = [("external_id", (None, card.external_id)) for card in own]
    parts += [("file", (f"{card.external_id}.md", card.text.encode())) for card in own]
    job = checked(owner.post("/v1/assistants/default/documents", files=parts))
    wait(owner, job)


def _plan_file(folder: Path, kind: str, member: Member) -> Path:
    """What the admin wants to train, as a file for `alcove coordinator federation create`."""
    models = checked(member.owner.get("/v1/federation/models"))["data"]
    model = next(one for one in models if one["kind"] == kind)
    subjects = sum(1 for workshop in WORKSHOPS for _ in cards(workshop))
    plan: dict[str, Any] = {
        "population": POPULATION,
        "federation": f"{kind}-one",
        "adapter": {"kind": kind, "base_model": model["identity"], "rank": 4, "seed": 7},
        "mode": "document",
        "delta": DELTA,
        "cohort": len(WORKSHOPS),
        "min_survivors": len(WORKSHOPS),
        "colluders": 0,
        "planned_rows": subjects,
        "threat_model": "active",
        "timing": {"enlist_seconds": 30, "phase_seconds": 60, "interval_seconds": 0},
        "optimiser": {"name": "fedavg", "learning_rate": 3.0, "beta1": 0.9},
        "public_passages": public_passages(),
    }
    if kind == "retriever":
        plan |= {
            "epsilon": EPSILON, "rounds": ROUNDS, "sampling_rate": 1.0,
            "map_terms": {"temperature": 0.1},
        }  # fmt: skip
        plan["adapter"]["dimension"] = model["dimension"]
        plan["timing"]["training_seconds"] = 4
    else:
        # A row takes a second or two of one core, after some twenty to load the model.
        plan |= {
            "epsilon": EPSILON / 2, "rounds": 1, "sampling_rate": 0.04,
            "generator_terms": {
                "max_prompt_tokens": 160, "max_answer_tokens": 32, "max_examples_per_subject": 1,
            },
        }  # fmt: skip
        plan["adapter"]["modules"] = model["modules"]
        plan["timing"]["training_seconds"] = 75
        # So little data under so much noise teaches nothing; a small step does little harm.
        plan["optimiser"]["learning_rate"] = 0.01
    path = folder / f"{kind}.json"
    path.write_text(json.dumps(plan))
    return path


def _found(coordinator: Path, plan: Path) -> None:
    """A population with a budget; the order of its filter suits the plan."""
    alcove_json(
        "coordinator", "population", "create", POPULATION, "--unit", "subject",
        "--epsilon", str(2 * EPSILON), "--delta", str(DELTA), "--plan", str(plan),
        "--home", str(coordinator),
    )  # fmt: skip


def _join(coordinator: Path, url: str, members: list[Member]) -> None:
    """Tokens, enrolment, the admin's approval, and the owners' comparison of fingerprints."""
    step("Joining: token, identity key, approval, fingerprints compared by the owners")
    for member in members:
        made = alcove_json("coordinator", "token", "create", POPULATION, "--home", str(coordinator))
        joined = alcove_json(
            "node", "join", url, made["token"], "--name", member.workshop.name,
            "--home", str(member.home),
        )  # fmt: skip
        console.print(f"{member.workshop.name}: {joined['fingerprint']}", highlight=False)
    listed = alcove_json("coordinator", "participant", "list", "--home", str(coordinator))
    for participant in listed["data"]:
        alcove_json(
            "coordinator", "participant", "approve", str(participant["id"]),
            "--home", str(coordinator),
        )  # fmt: skip
    heard = {
        member.workshop.name: checked(member.owner.get("/v1/federation/memberships"))["data"][0]
        for member in members
    }
    for member in members:
        own = heard[member.workshop.name]["id"]
        for name, membership in heard.items():
            if name != member.workshop.name:
                _confirm(member.owner, own, membership["fingerprint"])
    console.print(
        "Each owner confirmed the two others: the active threat model holds. With three nodes it "
        "tolerates no drop-out: a round in which one is lost fails, and nothing is opened."
    )


def _confirm(owner: httpx.Client, membership: str, fingerprint: str) -> None:
    """Say that a peer's owner read out a fingerprint, once the roster has the peer."""
    deadline = time.monotonic() + 60
    path = f"/v1/federation/memberships/{membership}/peers"
    while True:
        response = owner.put(path, json={"fingerprint": fingerprint})
        if response.status_code not in (404, 503) or time.monotonic() > deadline:
            checked(response)
            return
        time.sleep(0.3)


def _train(coordinator: Path, kind: str, plan: Path) -> str:
    """Preview, create, start, and wait for the last round; returns the federation's name."""
    step(f"Training the shared {kind} adapter in mode document")
    at = ("--home", str(coordinator))
    subprocess.run([*ALCOVE, "coordinator", "federation", "preview", str(plan), *at], check=True)
    made = alcove_json("coordinator", "federation", "create", str(plan), *at)
    name: str = made["name"]
    alcove_json("coordinator", "federation", "start", name, *at)
    wanted = json.loads(plan.read_text())["rounds"]
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn())
    deadline = time.monotonic() + FEDERATION_SECONDS
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("rounds", total=wanted)
        while True:
            rounds = alcove_json("coordinator", "federation", "rounds", name, *at)["data"]
            released = sum(one["stage"] == "released" for one in rounds)
            progress.update(bar, completed=released)
            if released == wanted:
                break
            if time.monotonic() > deadline:
                raise DemoError(f"{released} of {wanted} rounds after {FEDERATION_SECONDS} s")
            time.sleep(0.5)
    failed = [one["reason"] for one in rounds if one["stage"] == "failed"]
    if failed:
        console.print(f"rounds that failed and were repeated: {failed}")
    alcove_json("coordinator", "version", "promote", name, str(wanted), *at)
    return name


def _show_adoption(coordinator: Path, federation: str, members: list[Member]) -> None:
    """What each node made of the promoted version, on questions that it held back."""
    table = Table("node", "held back", "measure", "before", "after", "state")
    for member in members:
        version = _tried(member.owner, federation)
        before, after = version["before"], version["after"]
        is_loss = version["adapter"] == "generator"
        table.add_row(
            member.workshop.name, str(version["examples"]), "mean loss" if is_loss else "MRR@10",
            _score(before), _score(after), version["state"],
        )  # fmt: skip
        if version["state"] == "served" and (after > before if is_loss else after < before):
            raise DemoError(f"{member.workshop.name} serves a version that hurts it")
    console.print(table)
    console.print(
        "Each node decides for itself by its own questions and tells nobody. So few questions a "
        "node say little: differences of a few hundredths are chance."
    )


def _tried(owner: httpx.Client, federation: str) -> dict[str, Any]:
    deadline = time.monotonic() + ADOPTION_SECONDS
    while time.monotonic() < deadline:
        found = checked(owner.get("/v1/federation/versions"))["data"]
        own = [
            one for one in found if one["federation"] == federation and one["state"] != "retired"
        ]
        if own:
            newest: dict[str, Any] = max(own, key=lambda one: one["number"])
            return newest
        time.sleep(0.5)
    raise DemoError("a node did not try the promoted version")


def _audit(folder: Path, coordinator: Path, members: list[Member]) -> None:
    """The auditor's part: what was spent, and the ledger verified offline with receipts."""
    step("The audit: budgets, and the ledger verified offline with the nodes' receipts")
    at = ("--home", str(coordinator))
    subprocess.run([*ALCOVE, "audit", "budgets", *at], check=True)
    for member in members:
        spent = checked(member.owner.get("/v1/federation/odometer"))
        console.print(
            f"{member.workshop.name}: odometer at epsilon {spent['epsilon_spent']:.3g} of "
            f"{spent['epsilon_limit']:g} (unit subject, delta {spent['delta']:g}), "
            f"{spent['debits']} debits"
        )
        alcove_json(
            "federation", "receipts", str(folder / f"receipts-{member.workshop.name}"),
            "--home", str(member.home),
        )  # fmt: skip
    ledger = folder / "ledger.jsonl"
    subprocess.run(
        [*ALCOVE, "audit", "export", POPULATION, "--output", str(ledger), *at], check=True
    )
    key = alcove_json("coordinator", "status", *at)["fingerprint"]
    receipts = [f"--receipts={folder / f'receipts-{one.workshop.name}'}" for one in members]
    subprocess.run([*ALCOVE, "audit", "verify", str(ledger), "--keys", key, *receipts], check=True)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
