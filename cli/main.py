"""The `alcove` command."""

from __future__ import annotations

import gc
import os
import sys
from io import TextIOWrapper

import typer

from cli import (
    adapter_files,
    assistants,
    audit,
    conversations,
    coordinator,
    documents,
    federation,
    feedback,
    keys,
    node,
    personal,
    questions,
)
from cli.ask import ask
from cli.errors import FAILED, os_error_message
from cli.evaluate import evaluate
from cli.ingest import ingest
from cli.output import say
from cli.plan import plan
from cli.search import search
from cli.simulate import simulate

app = typer.Typer(
    name="alcove",
    help="Private assistants that answer from your own documents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(node.app, name="node")
for command in (federation.join, federation.leave, federation.pause, federation.resume):
    node.app.command()(command)
app.command()(ingest)
app.command()(ask)
app.command()(search)
app.add_typer(assistants.app, name="assistant")
app.add_typer(documents.app, name="document")
app.add_typer(keys.app, name="key")
app.add_typer(questions.app, name="question")
personal.app.command("export")(adapter_files.export_adapter)
personal.app.command("import")(adapter_files.import_adapter)
app.add_typer(personal.app, name="personal")
app.add_typer(feedback.app, name="feedback")
app.add_typer(conversations.app, name="conversation")
app.add_typer(federation.app, name="federation")
app.command()(evaluate)
app.command()(plan)
app.command()(simulate)
app.add_typer(coordinator.app, name="coordinator")
app.add_typer(audit.app, name="audit")


def main() -> None:
    """Run the command line and leave with its exit code."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            # Whoever started it closed this; no other file must get its number.
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, os.fdopen(number, "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = _run()
    try:
        sys.stdout.flush()
    except OSError:
        # It was reported; what could not be written must not be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if "cli.server" in sys.modules and sys.modules["cli.server"].is_abandoned():
        # A thread that is loading a model would hold the interpreter's end up, or crash in it.
        os._exit(code)
    # Python searches all that is left for garbage before it ends: seconds, where torch was loaded.
    gc.freeze()
    sys.exit(code)


def _run() -> int:
    try:
        code = app(prog_name="alcove", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        for line in error.format_message().splitlines():
            say(f"alcove: {line}")
        return error.exit_code
    except typer.Abort:
        say("alcove: nothing was done")
        return FAILED
    except BrokenPipeError:
        return FAILED  # whoever read the output has enough
    except OSError as error:
        say(f"alcove: {os_error_message(error)}")
        return FAILED
    return int(code or 0)


if __name__ == "__main__":
    main()
