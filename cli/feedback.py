"""`alcove feedback`: what people thought of answers, and what becomes an example of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home, Yes, confirm, given
from cli.output import show, show_json, show_table, show_withdrawn, when

app = typer.Typer(help="Look through feedback, approve it, erase it.", no_args_is_help=True)

FeedbackId = Annotated[int, typer.Argument(metavar="ID", help="As listed.")]


class State(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


@app.command("list")
def list_feedback(
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    state: Annotated[State | None, typer.Option(help="Only what is in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many to show.")] = 50,
    after: Annotated[int | None, typer.Option(metavar="ID", help="Go on after this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List feedback, newest first."""
    from cli.client import Need, assistant_path, node_client

    wanted = given(state=state and state.value, limit=limit, after=after)
    with node_client(home, Need.ASSISTANTS) as client:
        found = client.get(assistant_path(assistant, "/feedback"), params=wanted).json()
    if as_json:
        show_json(found)
        return
    columns = ("id", "given", "state", "rating", "question", "answer", "reason", "example")
    show_table(columns, [_row(one) for one in found["data"]])


@app.command()
def approve(
    feedback_id: FeedbackId,
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:
    """Make an example of feedback."""
    _decide(home, assistant, feedback_id, "approve", as_json)


@app.command()
def reject(
    feedback_id: FeedbackId,
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:
    """Learn nothing from feedback; an example that was made of it is erased."""
    _decide(home, assistant, feedback_id, "reject", as_json)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, for JSON lines.")],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:
    """Write all feedback of an assistant to a file that only you may read."""
    from cli.client import Need, assistant_path, node_client
    from storage.files import new_private

    count = 0
    with (
        node_client(home, Need.ASSISTANTS) as client,
        client.stream("GET", assistant_path(assistant, "/feedback/export")) as response,
        new_private(file) as target,
    ):
        for line in response.iter_lines():
            target.write(line.encode() + b"\n")
            count += 1
    if as_json:
        show_json({"exported": count})
        return
    show(f"{count} entries are in {file}.")


@app.command()
def erase(
    feedback_id: Annotated[
        int | None, typer.Argument(metavar="ID", help="One; all without it.")
    ] = None,
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase feedback, with the examples that were made of it."""
    from cli.client import Need, assistant_path, node_client

    with node_client(home, Need.ASSISTANTS) as client:
        if feedback_id is not None:
            path = assistant_path(assistant, f"/feedback/{feedback_id}")
        else:
            confirm(f"Erase all feedback to {assistant}?", yes)
            path = assistant_path(assistant, "/feedback")
        erased = client.delete(path).json()
    if as_json:
        show_json(erased)
        return
    show(f"Entries erased: {erased['removed']}.")
    show_withdrawn(erased["personal"])


def _decide(home: Path, assistant: str, feedback_id: int, what: str, as_json: bool) -> None:
    from cli.client import Need, assistant_path, node_client

    path = assistant_path(assistant, f"/feedback/{feedback_id}/{what}")
    with node_client(home, Need.ASSISTANTS) as client:
        found = client.post(path).json()
    if as_json:
        show_json(found)
        return
    number = found["question_id"]
    made = "" if number is None else f"; question {number} was made of it"
    show(f"Feedback {feedback_id} is {found['state']}{made}.")
    show_withdrawn(found.get("personal", []))


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    given = when(one["created_at"])
    texts = one["question"], one["answer"], one["reason"]
    return one["id"], given, one["state"], one["rating"], *texts, one["question_id"]
