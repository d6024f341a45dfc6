"""`alcove question`: labelled questions, from which the node trains what it shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home, Yes, confirm
from cli.output import show, show_json, show_table

app = typer.Typer(help="Add, list and delete labelled questions.", no_args_is_help=True)


@app.command()
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="JSON lines.")
    ],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:
    """Add lines {"question", "relevant": [ids], "answer"?, "subject"?}; they stay on the node."""
    from cli.client import Need, node_client, quoted

    with node_client(home, Need.ASSISTANTS) as client:
        path = f"/v1/assistants/{quoted(assistant)}/questions"
        made = client.post(path, content=file.read_bytes()).json()
    if as_json:
        show_json(made)
        return
    show(f"{made['stored']} questions are stored.")


@app.command("list")
def list_questions(
    home: Home = DEFAULT_HOME, assistant: AssistantName = "default", as_json: AsJson = False
) -> None:
    """List the labelled questions of an assistant."""
    from cli.client import Need, node_client, quoted

    with node_client(home, Need.ASSISTANTS) as client:
        found = client.get(f"/v1/assistants/{quoted(assistant)}/questions").json()
    if as_json:
        show_json(found)
        return
    rows = [
        (one["id"], one["question"], ", ".join(one["relevant"]), one["subject"])
        for one in found["data"]
    ]
    show_table(("id", "question", "relevant", "subject"), rows)


@app.command()
def delete(
    question_id: Annotated[
        int | None, typer.Argument(metavar="ID", help="One question; all without it.")
    ] = None,
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    subject: Annotated[str | None, typer.Option(help="All of this subject.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete a question, those of a subject, or all."""
    from cli.client import Need, node_client, quoted

    if question_id is not None and subject is not None:
        raise typer.BadParameter("an ID and --subject exclude each other")
    with node_client(home, Need.ASSISTANTS) as client:
        path = f"/v1/assistants/{quoted(assistant)}/questions"
        if question_id is not None:
            client.delete(f"{path}/{question_id}")
            removed = 1
        else:
            confirm("Delete all questions" + (f" of {subject}?" if subject else "?"), yes)
            given = {} if subject is None else {"subject": subject}
            removed = client.delete(path, params=given).json()["removed"]
    if as_json:
        show_json({"removed": removed})
        return
    show(f"{removed} questions are deleted.")
