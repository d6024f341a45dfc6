"""`alcove key`: make, list, set and revoke keys."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_HOME, AsJson, Home, given
from cli.output import say, show, show_json, show_table, when

app = typer.Typer(help="Make, list, set and revoke keys.", no_args_is_help=True)


KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as listed.")]


class KeyScope(StrEnum):
    OWNER = "owner"
    USER = "user"


@app.command()
def create(
    home: Home = DEFAULT_HOME,
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    scope: Annotated[
        KeyScope, typer.Option(help="user: asks and searches; owner: manages documents too.")
    ] = KeyScope.USER,
    assistant: Annotated[
        list[str] | None,
        typer.Option(
            "--assistant", metavar="NAME", show_default="default",
            help="An assistant that the key may see; may be repeated.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--every-assistant", help="All assistants, those to come too.")
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make a key and print it, which is done this once."""
    from cli.client import Need, node_client

    if every and assistant:
        raise typer.BadParameter("--assistant and --every-assistant exclude each other")
    names = None if every else assistant or ["default"]
    with node_client(home, Need.NOTHING if every else Need.ASSISTANTS) as client:
        new = {"label": label, "scope": scope.value, "assistants": names}
        made = client.post("/v1/keys", json=new).json()
    if as_json:
        show_json(made)
        return
    say(f"The key {made['id']} is shown this once:")
    show(made["key"])


@app.command("list")
def list_keys(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List all keys, revoked ones too. Their secrets are not kept."""
    from cli.client import Need, node_client

    with node_client(home, Need.NOTHING) as client:
        found = client.get("/v1/keys").json()
    if as_json:
        show_json(found)
        return
    columns = ("id", "label", "scope", "assistants", "created", "revoked")
    show_table(columns, [_row(key) for key in found["data"]])


@app.command("set")
def set_key(
    key_id: KeyId,
    home: Home = DEFAULT_HOME,
    instructions: Annotated[
        str | None, typer.Option(help="What stands in every prompt of this key.")
    ] = None,
    approved: Annotated[
        bool | None,
        typer.Option(
            "--approve-feedback/--no-approve-feedback",
            help="Take its feedback for approved.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set a key's standing instructions, or whether its feedback is trusted."""
    from cli.client import Need, node_client, quoted

    change = given(instructions=instructions, feedback_is_approved=approved)
    if not change:
        raise typer.BadParameter("say what to set: see --help")
    with node_client(home, Need.NOTHING) as client:
        found = client.patch(f"/v1/keys/{quoted(key_id)}", json=change).json()
    if as_json:
        show_json(found)
        return
    show(f"instructions: {found['instructions'] or 'none'}")
    show(f"feedback: {'approved unseen' if found['feedback_is_approved'] else 'to be approved'}")


@app.command()
def revoke(
    key_id: KeyId,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """End a key at once."""
    from cli.client import Need, node_client, quoted

    with node_client(home, Need.NOTHING) as client:
        client.delete(f"/v1/keys/{quoted(key_id)}")
    if as_json:
        show_json({"revoked": key_id})
        return
    show(f"The key {key_id} is revoked.")


def _row(key: dict[str, Any]) -> tuple[object, ...]:
    names = "every one" if key["assistants"] is None else ", ".join(key["assistants"])
    times = when(key["created_at"]), when(key["revoked_at"])
    return key["id"], key["label"], key["scope"], names, *times
