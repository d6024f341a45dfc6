"""`alcove conversation`: what was asked and answered, where the owner has it kept."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home, Yes, confirm, given
from cli.output import show, show_json, show_table, when

app = typer.Typer(help="List and erase conversations that are kept.", no_args_is_help=True)

Chat = Annotated[str | None, typer.Option("--chat", metavar="ID", help="Only this conversation.")]


@app.command("list")
def list_conversations(
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    chat: Chat = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many to show.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List questions and answers, newest first."""
    from cli.client import Need, assistant_path, node_client

    wanted = given(chat_id=chat, limit=limit, after=after)
    with node_client(home, Need.ASSISTANTS) as client:
        found = client.get(assistant_path(assistant, "/conversations"), params=wanted).json()
    if as_json:
        show_json(found)
        return
    rows = [
        (one["id"], when(one["created_at"]), one["chat_id"], one["question"], one["answer"])
        for one in found["data"]
    ]
    show_table(("id", "asked", "chat", "question", "answer"), rows)


@app.command()
def erase(
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    chat: Chat = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase one conversation, or all of an assistant."""
    from cli.client import Need, assistant_path, node_client

    confirm(f"Erase {'all conversations' if chat is None else chat} of {assistant}?", yes)
    with node_client(home, Need.ASSISTANTS) as client:
        path = assistant_path(assistant, "/conversations")
        removed = client.delete(path, params=given(chat_id=chat)).json()["removed"]
    if as_json:
        show_json({"removed": removed})
        return
    show(f"Answers erased: {removed}.")
