"""`alcove coordinator participant`: who waits, who is in, who is out."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.coordinator.options import DEFAULT_HOME, Certificate, Home, Key, Population, Url
from cli.options import AsJson, Yes, confirm
from cli.output import show, show_json, show_table, when

app = typer.Typer(help="List, approve and revoke participants.", no_args_is_help=True)

ParticipantId = Annotated[int, typer.Argument(metavar="ID", help="As listed.", min=1)]


@app.command("list")
def list_participants(
    population: Population = None,
    home: Home = DEFAULT_HOME,
    url: Url = None,
    key: Key = None,
    certificate: Certificate = None,
    as_json: AsJson = False,
) -> None:
    """List participants with their fingerprints."""
    from cli.coordinator.client import coordinator_client

    only = {} if population is None else {"population": population}
    with coordinator_client(home, url, key, certificate) as client:
        found = client.get("/v1/admin/participants", params=only).json()
    if as_json:
        show_json(found)
        return
    columns = ("id", "name", "population", "state", "last seen", "fingerprint")
    show_table(columns, [_row(participant) for participant in found["data"]])


@app.command()
def approve(
    participant: ParticipantId,
    home: Home = DEFAULT_HOME,
    url: Url = None,
    key: Key = None,
    certificate: Certificate = None,
    as_json: AsJson = False,
) -> None:
    """Let a participant in, once its fingerprint was compared with its owner's."""
    from cli.coordinator.client import coordinator_client

    with coordinator_client(home, url, key, certificate) as client:
        found = client.post(f"/v1/admin/participants/{participant}/approve").json()
    _shown(found, as_json)


@app.command()
def revoke(
    participant: ParticipantId,
    yes: Yes = False,
    home: Home = DEFAULT_HOME,
    url: Url = None,
    key: Key = None,
    certificate: Certificate = None,
    as_json: AsJson = False,
) -> None:
    """Shut a participant out at once and for ever."""
    from cli.coordinator.client import coordinator_client

    confirm(f"Revoke participant {participant} for ever?", yes)
    with coordinator_client(home, url, key, certificate) as client:
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
