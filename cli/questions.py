"""`alcove question`: what an assistant can learn from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home, Yes, confirm, given
from cli.output import show, show_json, show_table, show_withdrawn

app = typer.Typer(help="Add, list, edit and delete questions to learn from.", no_args_is_help=True)


class Origin(StrEnum):
    UPLOAD = "upload"
    FEEDBACK = "feedback"
    HEADING = "heading"


@app.command()
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="JSON lines.")
    ],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:
    """Add lines {"question", "relevant": [ids], "not_relevant"?: [ids], "answer"?, "subject"?};
    they stay on the node."""
    from cli.client import Need, assistant_path, node_client

    path = assistant_path(assistant, "/questions")
    with node_client(home, Need.ASSISTANTS) as client:
        made = client.post(path, content=file.read_bytes()).json()
    if as_json:
        show_json(made)
        return
    show(f"{made['stored']} questions are stored.")
    show_withdrawn(made["personal"])


@app.command("list")
def list_questions(
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    origin: Annotated[
        Origin | None,
        typer.Option(help="Only those that you gave, that feedback or that headings make."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many to show.")] = 200,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what an assistant can learn from."""
    from cli.client import Need, assistant_path, node_client

    wanted = given(origin=origin and origin.value, limit=limit, after=after)
    with node_client(home, Need.ASSISTANTS) as client:
        found = client.get(assistant_path(assistant, "/questions"), params=wanted).json()
    if as_json:
        show_json(found)
        return
    rows = [
        (one["id"], one["origin"], one["question"], ", ".join(one["relevant"]),
         ", ".join(one["not_relevant"]), one["answer"], one["subject"])
        for one in found["data"]
    ]  # fmt: skip
    columns = ("id", "origin", "question", "relevant", "not relevant", "answer", "subject")
    show_table(columns, rows)


@app.command()
def edit(
    question_id: Annotated[int, typer.Argument(metavar="ID", help="A labelled question.")],
    question: Annotated[str, typer.Option(help="What is asked.")],
    relevant: Annotated[
        list[str], typer.Option(metavar="ID", help="What answers it; may be repeated.")
    ],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    not_relevant: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="What does not; may be repeated.")
    ] = None,
    answer: Annotated[str | None, typer.Option(help="The answer.")] = None,
    subject: Annotated[str | None, typer.Option(help="Whom it is about.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replace a labelled question; what is left out is not there any more."""
    from cli.client import Need, assistant_path, node_client

    edited = {
        "question": question, "relevant": relevant, "not_relevant": not_relevant or [],
        "answer": answer, "subject": subject,
    }  # fmt: skip
    path = assistant_path(assistant, f"/questions/{question_id}")
    with node_client(home, Need.ASSISTANTS) as client:
        found = client.put(path, json=edited).json()
    if as_json:
        show_json(found)
        return
    show(f"Question {question_id} is replaced.")
    show_withdrawn(found["personal"])


@app.command()
def delete(
    question_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="One question; all without it.")
    ] = None,
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    subject: Annotated[str | None, typer.Option(help="All of this subject.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete a question, those of a subject, or all that are labelled. One that a heading makes is
    made no more."""
    from cli.client import Need, assistant_path, node_client, quoted

    if question_id is not None and subject is not None:
        raise typer.BadParameter("an ID and --subject exclude each other")
    path = assistant_path(assistant, "/questions")
    with node_client(home, Need.ASSISTANTS) as client:
        if question_id is not None:
            erased = client.delete(f"{path}/{quoted(question_id)}").json()
        else:
            confirm("Delete all labelled questions" + (f" of {subject}?" if subject else "?"), yes)
            erased = client.delete(path, params=given(subject=subject)).json()
    if as_json:
        show_json(erased)
        return
    show(f"{erased['removed']} questions are deleted.")
    show_withdrawn(erased["personal"])
