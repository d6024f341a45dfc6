"""`alcove ingest`: files and folders into an assistant, repeatable and safe to interrupt."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import FAILED, INTERRUPTED, readable_settings_errors
from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home
from cli.output import message_console, say, show, show_json

if TYPE_CHECKING:
    from cli.uploads import Outcome, Uploads


def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", exists=True, show_default=False,
            help="Files, and folders with all that is in them but hidden files.",
        ),
    ],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Give documents to an assistant.

    A document is known by its path, from the given folder's name on: repeating the command skips
    what is stored already and replaces what has changed.
    """
    from cli.client import node_client
    from cli.uploads import Limits, Uploads, collect
    from storage.settings import NodeSettings

    files = collect(paths)
    with readable_settings_errors(home):
        settings = NodeSettings(home=home)
    limits = Limits(settings.max_file_bytes, settings.max_files_per_upload)
    interrupted = False
    with node_client(home) as client:
        uploads = Uploads(client, assistant, files, limits)
        try:
            _run(uploads)
        except KeyboardInterrupt:
            interrupted = True
            say("Interrupted; stopping after the file at hand ...")
    _report(assistant, uploads, interrupted, as_json)
    if interrupted:
        say("What was sent is kept. Give the same command again to go on.")
        raise typer.Exit(INTERRUPTED)
    if any(outcome.state == "failed" for outcome in uploads.outcomes):
        raise typer.Exit(FAILED)


def _run(uploads: Uploads) -> None:
    """Send all, with a bar for all files and one for each open job."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    console = message_console()
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn())
    bars: dict[str, TaskID] = {}
    numbers = itertools.count(1)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        overall = progress.add_task("files", total=uploads.total)
        while not uploads.finished:
            for outcome in uploads.step():
                if outcome.state == "failed":
                    reason = (outcome.error or "").partition("\n")[0]
                    say(f"failed: {outcome.file.external_id}: {reason}")
            done = float(len(uploads.outcomes))
            for job_id, job in uploads.open_jobs.items():
                if job_id not in bars:
                    name = f"job {next(numbers)}"
                    bars[job_id] = progress.add_task(name, total=len(job.files))
                own = job.progress * len(job.files)
                progress.update(bars[job_id], completed=int(own))
                done += own
            for job_id in bars.keys() - uploads.open_jobs.keys():
                progress.remove_task(bars.pop(job_id))
            progress.update(overall, completed=int(done))
            uploads.pause()


def _report(assistant: str, uploads: Uploads, interrupted: bool, as_json: bool) -> None:
    states = [outcome.state for outcome in uploads.outcomes]
    counts = {
        "stored": states.count("done"),
        "duplicates": states.count("duplicate"),
        "failed": states.count("failed"),
        "left": uploads.total - len(states),
    }
    if as_json:
        files = [_as_json(outcome) for outcome in uploads.outcomes]
        show_json({"assistant": assistant, **counts, "interrupted": interrupted, "files": files})
        return
    left = f", {counts['left']} left" if counts["left"] else ""
    show(
        f"{counts['stored']} stored, {counts['duplicates']} there already, "
        f"{counts['failed']} failed{left}"
    )


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "path": str(outcome.file.path),
        "external_id": outcome.file.external_id,
        "state": outcome.state,
        "document_id": outcome.document_id,
        "passages": outcome.passages,
        "code": outcome.code,
        "error": outcome.error,
    }
