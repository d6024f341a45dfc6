"""`alcove coordinator key`: keys of admins and auditors."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli.coordinator.options import Place, at_coordinator
from cli.options import AsJson
from cli.output import say, show, show_json, show_table, when

app = typer.Typer(help="Make, list and revoke keys of staff.", no_args_is_help=True)


class KeyRole(StrEnum):
    ADMIN = "admin"
    AUDITOR = "auditor"


@app.command()
@at_coordinator
def create(
    place: Place,
    role: Annotated[KeyRole, typer.Option(help="admin: manages; auditor: reads.")],
    label: Annotated[str, typer.Option(help="Whose key it is.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, which is done this once."""
    with place.client() as client:
        made = client.post("/v1/admin/keys", json={"label": label, "role": role.value}).json()
    if as_json:
        show_json(made)
        return
    say(f"The key {made['id']} is shown this once:")
    show(made["key"])


@app.command("list")
@at_coordinator
def list_keys(place: Place, as_json: AsJson = False) -> None:
    """List all keys, revoked ones too."""
    with place.client() as client:
        found = client.get("/v1/admin/keys").json()
    if as_json:
        show_json(found)
        return
    rows = [
        (k["id"], k["label"], k["role"], when(k["created_at"]), when(k["revoked_at"]))
        for k in found["data"]
    ]
    show_table(("id", "label", "role", "created", "revoked"), rows)


@app.command()
@at_coordinator
def revoke(
    place: Place,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as listed.")],
    as_json: AsJson = False,
) -> None:
    """End a key at once."""
    from cli.client import quoted

    with place.client() as client:
        client.delete(f"/v1/admin/keys/{quoted(key_id)}")
    if as_json:
        show_json({"revoked": key_id})
        return
    show(f"The key {key_id} is revoked.")
