"""`alcove coordinator federation`: preview, make and run federations."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.coordinator.options import Place, Population, at_coordinator
from cli.coordinator.populations import number
from cli.options import AsJson, Yes, confirm, given
from cli.output import say, show, show_json, show_table, when

app = typer.Typer(help="Preview, make and run federations.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The federation.")]
Why = Annotated[str, typer.Option("--reason", help="Why; auditors may read it.")]
PlanFile = Annotated[
    Path,
    typer.Argument(
        metavar="PLAN", exists=True, dir_okay=False, help="The plan, TOML or JSON (.json)."
    ),
]


class PlanMode(StrEnum):
    CLIENT = "client"
    DOCUMENT = "document"
    LOCAL = "local"


Federation = Annotated[str | None, typer.Option("--federation", help="Its name.")]
OfPopulation = Annotated[str | None, typer.Option("--population", help="Whose budget pays.")]
Mode = Annotated[PlanMode | None, typer.Option("--mode", help="Who is protected.")]
Epsilon = Annotated[float | None, typer.Option("--epsilon", help="Of all rounds together.")]
Rounds = Annotated[int | None, typer.Option("--rounds", help="Rounds of the plan.")]
Cohort = Annotated[int | None, typer.Option("--cohort", help="Nodes invited to a round.")]


@app.command()
@at_coordinator
def preview(
    place: Place,
    plan: PlanFile,
    federation: Federation = None,
    population: OfPopulation = None,
    mode: Mode = None,
    epsilon: Epsilon = None,
    rounds: Rounds = None,
    cohort: Cohort = None,
    as_json: AsJson = False,
) -> None:
    """Show what a plan would mean; nothing is stored. Options go before what the file says."""
    request = _request(plan, federation, population, mode, epsilon, rounds, cohort)
    with place.client() as client:
        found = client.post("/v1/admin/federations/preview", json=request).json()
    if as_json:
        show_json(found)
        return
    show_preview(found)


@app.command()
@at_coordinator
def create(
    place: Place,
    plan: PlanFile,
    federation: Federation = None,
    population: OfPopulation = None,
    mode: Mode = None,
    epsilon: Epsilon = None,
    rounds: Rounds = None,
    cohort: Cohort = None,
    as_json: AsJson = False,
) -> None:
    """Sign a plan and set its rounds aside in the budget. Options go before what the file says."""
    request = _request(plan, federation, population, mode, epsilon, rounds, cohort)
    with place.client() as client:
        made = client.post("/v1/admin/federations", json=request).json()
    if as_json:
        show_json(made)
        return
    show(f"{made['name']} is {made['state']}; the hash of its plan is {made['plan_hash']}.")


@app.command("list")
@at_coordinator
def list_federations(place: Place, population: Population = None, as_json: AsJson = False) -> None:
    """List federations."""
    only = {} if population is None else {"population": population}
    with place.client() as client:
        found = client.get("/v1/admin/federations", params=only).json()
    if as_json:
        show_json(found)
        return
    columns = ("name", "population", "mode", "rounds", "state", "promoted", "reason")
    show_table(columns, [tuple(one[column] for column in columns) for one in found["data"]])


@app.command("show")
@at_coordinator
def show_plan(place: Place, name: Name) -> None:
    """Print a federation with its signed plan, as JSON."""
    from cli.client import quoted

    with place.client() as client:
        show_json(client.get(f"/v1/admin/federations/{quoted(name)}").json())


@app.command()
@at_coordinator
def start(place: Place, name: Name, as_json: AsJson = False) -> None:
    """Run rounds from now on."""
    _move("start", name, None, place, as_json)


@app.command()
@at_coordinator
def pause(place: Place, name: Name, reason: Why = "", as_json: AsJson = False) -> None:
    """Open no more rounds; one that has begun goes on."""
    _move("pause", name, reason, place, as_json)


@app.command()
@at_coordinator
def resume(place: Place, name: Name, as_json: AsJson = False) -> None:
    """Go on after a pause."""
    _move("resume", name, None, place, as_json)


@app.command()
@at_coordinator
def stop(
    place: Place,
    name: Name,
    reason: Why = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End a federation for ever; what it has not spent is given back."""
    confirm(f"Stop {name} for ever?", yes)
    _move("stop", name, reason, place, as_json)


@app.command()
@at_coordinator
def rounds(
    place: Place,
    name: Name,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List rounds with their stages and reasons."""
    from cli.client import quoted

    with place.client() as client:
        path = f"/v1/admin/federations/{quoted(name)}/rounds"
        found = client.get(path, params={"limit": limit}).json()
    if as_json:
        show_json(found)
        return
    rows = [
        (one["id"], one["slot"], one["stage"], one["joined"], one["survivors"],
         when(int(one["started_at"])), one["reason"])
        for one in found["data"]
    ]  # fmt: skip
    show_table(("round", "slot", "stage", "joined", "survivors", "started", "reason"), rows)


def _request(
    plan: Path,
    federation: str | None,
    population: str | None,
    mode: PlanMode | None,
    epsilon: float | None,
    rounds: int | None,
    cohort: int | None,
) -> dict[str, Any]:
    from cli.coordinator.plan_file import read_plan_file

    return read_plan_file(plan) | given(
        federation=federation,
        population=population,
        mode=None if mode is None else mode.value,
        epsilon=epsilon,
        rounds=rounds,
        cohort=cohort,
    )


def _move(action: str, name: str, reason: str | None, place: Place, as_json: bool) -> None:
    from cli.client import quoted

    body = None if reason is None else {"reason": reason}
    with place.client() as client:
        moved = client.post(f"/v1/admin/federations/{quoted(name)}/{action}", json=body).json()
    if as_json:
        show_json(moved)
        return
    show(f"{moved['name']} is {moved['state']}.")


def show_preview(found: dict[str, Any]) -> None:
    for scope, title in (("per_round", "one round"), ("total", "all rounds")):
        for one in found[scope].values():
            twice = one["two_nodes"]
            two = "" if one["mode"] == "client" else f" ({number(twice)} if on two nodes)"
            show(
                f"{title}: {one['name']} {number(one['epsilon'])}{two} at delta "
                f"{one['delta']:.3g}; mode {one['mode']}, unit {one['unit']}, adjacency "
                f"{one['adjacency']}; assumes that {one['trust']}"
            )
    show(f"parameters: {found['parameters']}")
    show(f"noise-to-signal: {found['noise_to_signal']:.3g}")
    show(
        f"bytes of a node in a round: {found['bytes_up']:,} up, {found['bytes_down']:,} down, "
        "beside HTTP"
    )
    show(
        f"seconds of a round: {found['seconds_expected']:g} expected, "
        f"{found['seconds_longest']:g} at the most; all rounds: {found['seconds_all_rounds']:g}"
    )
    if fit := found["budget"]:
        show(
            f"budget: epsilon {number(fit['epsilon_committed'])} committed, "
            f"{number(fit['epsilon_after'])} with this plan, of {number(fit['epsilon_limit'])} at "
            f"delta {fit['delta']:.3g}; mode {fit['mode']}, unit {fit['unit']}, adjacency "
            f"{fit['adjacency']}, kept at Renyi order {fit['order']}; assumes that {fit['trust']}"
        )
    for warning in found["warnings"]:
        say(f"warning: {warning}")
    if found["refusal"]:
        say(f"it would be refused: {found['refusal']}")
