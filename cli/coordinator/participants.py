"""`alcove coordinator participant`: who waits, who is in, who is out."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.coordinator.options import Place, Population, at_coordinator
from cli.options import AsJson, Yes, confirm
from cli.output import show, show_json, show_table, when

app = typer.Typer(help="List, approve and revoke participants.", no_args_is_help=True)

ParticipantId = Annotated[int, typer.Argument(metavar="ID", help="As listed.", min=1)]


@app.command("list")
@at_coordinator
def list_participants(place: Place, population: Population = None, as_json: AsJson = False) -> None:
    """List participants with their fingerprints."""
    only = {} if population is None else {"population": population}
    with place.client() as client:
        found = client.get("/v1/admin/participants", params=only).json()
    if as_json:
        show_json(found)
        return
    columns = ("id", "name", "population", "state", "last seen", "fingerprint")
    show_table(columns, [_row(participant) for participant in found["data"]])


@app.command()
@at_coordinator
def approve(place: Place, participant: ParticipantId, as_json: AsJson = False) -> None:
    """Let a participant in, once its fingerprint was compared with its owner's."""
    with place.client() as client:
        found = client.post(f"/v1/admin/participants/{participant}/approve").json()
    _shown(found, as_json)


@app.command()
@at_coordinator
def revoke(
    place: Place,
    participant: ParticipantId,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Shut a participant out at once and for ever."""
    confirm(f"Revoke participant {participant} for ever?", yes)
    with place.client() as client:
        found = client.post(f"/v1/admin/participants/{participant}/revoke").json()
    _shown(found, as_json)


def _shown(participant: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(participant)
        return
    show(f"{participant['name']} is {participant['state']}.")


def _row(participant: dict[str, Any]) -> tuple[object, ...]:
    names = (participant[name] for name in ("id", "name", "population", "state"))
    return *names, when(participant["last_seen_at"]), participant["fingerprint"]
