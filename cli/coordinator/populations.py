"""`alcove coordinator population`: limits, budgets and rosters."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.coordinator.options import Place, at_coordinator
from cli.options import AsJson, Yes, confirm
from cli.output import show, show_json, show_table

app = typer.Typer(help="Make populations, set their limits.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The population.")]


class LimitUnit(StrEnum):
    NODE = "node"
    SUBJECT = "subject"


@app.command()
@at_coordinator
def create(
    place: Place,
    name: Name,
    unit: Annotated[LimitUnit, typer.Option(help="Whom the limit protects.")],
    epsilon: Annotated[float, typer.Option(help="The most that all federations may spend.")],
    delta: Annotated[float, typer.Option(help="At most one over the number of protected units.")],
    order: Annotated[
        int | None, typer.Option(help="The Renyi order at which the limit is kept, for ever.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False,
            help="Take the order at which this plan fits most often; nothing is created of it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make a population with a limit, of which only epsilon can be changed later."""
    from cli.coordinator.plan_file import read_plan_file

    new: dict[str, Any] = {
        "name": name, "unit": unit.value, "epsilon": epsilon, "delta": delta, "order": order,
        "plan": None if plan is None else {"population": name, **read_plan_file(plan)},
    }  # fmt: skip
    with place.client() as client:
        made = client.post("/v1/admin/populations", json=new).json()
    _shown(made, as_json)


@app.command("list")
@at_coordinator
def list_populations(place: Place, as_json: AsJson = False) -> None:
    """List populations with what is spent, reserved and left."""
    with place.client() as client:
        found = client.get("/v1/admin/populations").json()
    if as_json:
        show_json(found)
        return
    show_budgets(found["data"])


@app.command()
@at_coordinator
def limit(
    place: Place,
    name: Name,
    epsilon: Annotated[float, typer.Option(help="The new epsilon.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Lower the limit, or raise it, which is a new promise; the ledger says so for ever."""
    from cli.client import quoted

    confirm(f"Change the limit of {name} to epsilon {epsilon}?", yes)
    with place.client() as client:
        path = f"/v1/admin/populations/{quoted(name)}"
        changed = client.patch(path, json={"epsilon": epsilon}).json()
    _shown(changed, as_json)


@app.command()
@at_coordinator
def roster(place: Place, name: Name, as_json: AsJson = False) -> None:
    """Show the approved participants, for owners to compare fingerprints."""
    from cli.client import quoted

    with place.client() as client:
        found = client.get(f"/v1/admin/populations/{quoted(name)}/roster").json()
    if as_json:
        show_json(found)
        return
    show_table(("name", "fingerprint"), [(m["name"], m["fingerprint"]) for m in found["members"]])


def show_budgets(budgets: list[dict[str, Any]]) -> None:
    """Print budgets with all that their numbers mean."""
    for budget in budgets:
        show(
            f"{budget['population']}: epsilon spent {number(budget['epsilon_spent'])}, reserved "
            f"{number(budget['epsilon_reserved'])}, left {number(budget['epsilon_left'])} of "
            f"{number(budget['epsilon_limit'])} at delta {budget['delta']:.3g}; unit "
            f"{budget['unit']}, adjacency {budget['adjacency']}, kept at Renyi order "
            f"{budget['order']}; assumes {budget['trust']}"
        )
        for one in budget["federations"]:
            show(
                f"  {one['federation']} ({one['state']}): {one['charged']} of {one['rounds']} "
                f"rounds charged, {one['reserved']} reserved; epsilon spent "
                f"{number(one['epsilon_spent'])} at delta {one['delta']:.3g}; mode {one['mode']}, "
                f"unit {one['unit']}, adjacency {one['adjacency']}; assumes that {one['trust']}"
            )


def number(epsilon: float | None) -> str:
    """An epsilon for people."""
    return "unbounded" if epsilon is None else f"{epsilon:.4g}"


def _shown(population: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(population)
        return
    show_budgets([population])
