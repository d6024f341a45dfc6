"""`alcove coordinator token`: what lets one node enrol, once."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.coordinator.options import Place, Population, at_coordinator
from cli.options import AsJson
from cli.output import say, show, show_json, show_table, when

app = typer.Typer(help="Make and list enrolment tokens.", no_args_is_help=True)

DAY = 86_400


@app.command()
@at_coordinator
def create(
    place: Place,
    population: Annotated[str, typer.Argument(help="The population that the node joins.")],
    label: Annotated[str, typer.Option(help="Whose token it is.")] = "",
    days: Annotated[float, typer.Option(help="How long it holds.", min=0.001, max=90)] = 7,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, which is done this once."""
    new = {"population": population, "label": label, "expires_in": max(60, round(days * DAY))}
    with place.client() as client:
        made = client.post("/v1/admin/tokens", json=new).json()
    if as_json:
        show_json(made)
        return
    say("The token is shown this once. The node's owner runs `alcove node join` with it:")
    show(made["token"])
    say(f"This coordinator's fingerprint, for the owner to compare: {made['fingerprint']}")


@app.command("list")
@at_coordinator
def list_tokens(place: Place, population: Population = None, as_json: AsJson = False) -> None:
    """List tokens, used ones too. Their secrets are not kept."""
    only = {} if population is None else {"population": population}
    with place.client() as client:
        found = client.get("/v1/admin/tokens", params=only).json()
    if as_json:
        show_json(found)
        return
    rows = [
        (t["population"], t["label"], when(t["created_at"]), when(t["expires_at"]),
         t["participant_id"])
        for t in found["data"]
    ]  # fmt: skip
    show_table(("population", "label", "created", "expires", "used by"), rows)
