"""`alcove assistant`: make, list, set and delete assistants."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.options import DEFAULT_HOME, AsJson, Home, Yes, confirm
from cli.output import show, show_json, show_table, when

app = typer.Typer(help="Make, list, set and delete assistants.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The assistant's name.")]


@app.command()
def create(
    name: Name,
    home: Home = DEFAULT_HOME,
    description: Annotated[str, typer.Option(help="What it knows.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make an assistant without documents."""
    from cli.client import node_client

    with node_client(home) as client:
        new = {"name": name, "description": description}
        made = client.post("/v1/assistants", json=new).json()
    if as_json:
        show_json(made)
        return
    show(f"There is an assistant called {name}.")


@app.command("list")
def list_assistants(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the assistants and what they hold."""
    from cli.client import node_client

    with node_client(home) as client:
        found = client.get("/v1/assistants").json()
    if as_json:
        show_json(found)
        return
    columns = ("name", "documents", "passages", "created", "description")
    show_table(columns, [_row(assistant) for assistant in found["data"]])


@app.command("set")
def set_assistant(
    name: Name,
    home: Home = DEFAULT_HOME,
    instructions: Annotated[
        str | None,
        typer.Option(help="What stands in every prompt: language, tone, length, role."),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            "--keep-conversations", metavar="DAYS", min=1, help="Keep them for so many days."
        ),
    ] = None,
    no_conversations: Annotated[
        bool, typer.Option("--no-conversations", help="Keep none, and erase those that were kept.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Set standing instructions, or whether conversations are kept."""
    from cli.client import assistant_path, node_client

    if no_conversations and days is not None:
        raise typer.BadParameter("--keep-conversations and --no-conversations exclude each other")
    change: dict[str, Any] = {}
    if instructions is not None:
        change["instructions"] = instructions
    if no_conversations or days is not None:
        change["conversation_days"] = days
    if not change:
        raise typer.BadParameter("say what to set: see --help")
    with node_client(home) as client:
        found = client.patch(assistant_path(name), json=change).json()
    if as_json:
        show_json(found)
        return
    kept = found["conversation_days"]
    show(f"instructions: {found['instructions'] or 'none'}")
    show(f"conversations: {'not kept' if kept is None else f'kept for {kept} days'}")


@app.command()
def delete(
    name: Name, home: Home = DEFAULT_HOME, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Erase an assistant with all its documents."""
    from cli.client import assistant_path, node_client

    path = assistant_path(name)
    with node_client(home) as client:
        found = client.get(path).json()
        confirm(f"Erase {name} with its {found['documents']} documents?", yes)
        client.delete(path)
    if as_json:
        show_json({"deleted": name, "documents": found["documents"]})
        return
    show(f"{name} is deleted with its {found['documents']} documents.")


def _row(assistant: dict[str, Any]) -> tuple[object, ...]:
    created = when(assistant["created_at"])
    counts = assistant["documents"], assistant["passages"]
    return assistant["name"], *counts, created, assistant["description"]
