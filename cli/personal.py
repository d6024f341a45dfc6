"""`alcove personal`: an assistant's own adapters, which stay on the node."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import FAILED
from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home, Yes, confirm
from cli.output import say, show, show_json, show_table, stage_bars, when

if TYPE_CHECKING:
    import httpx

app = typer.Typer(help="Train, list, serve and reset personal adapters.", no_args_is_help=True)

POLL_SECONDS = 0.5


@app.command()
def train(
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="retriever or generator; may be repeated. Both where possible."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train on the assistant's examples and wait; what is better than before is served."""
    from cli.client import assistant_path, node_client

    with node_client(home) as client:
        job = client.post(assistant_path(assistant, "/personal"), json={"adapters": adapter}).json()
        job = _follow(client, job)
    if as_json:
        show_json(job)
    else:
        for made in job["result"]["versions"]:
            show(_line(made))
    for item in job["items"]:
        if item["error"] is not None:
            say(f"failed: {item['name']}: {item['error']['message']}")
    if any(item["error"] is not None for item in job["items"]):
        raise typer.Exit(FAILED)


@app.command("list")
def list_versions(
    home: Home = DEFAULT_HOME, assistant: AssistantName = "default", as_json: AsJson = False
) -> None:
    """List the versions, newest first, with what their evaluation said."""
    from cli.client import Need, assistant_path, node_client

    with node_client(home, Need.ASSISTANTS) as client:
        found = client.get(assistant_path(assistant, "/personal")).json()
    if as_json:
        show_json(found)
        return
    rows = [
        (v["id"], v["kind"], v["state"], v["examples"], _rounded(v["before"]), _rounded(v["after"]),
         when(v["created_at"]))
        for v in found["data"]
    ]  # fmt: skip
    show_table(("version", "adapter", "state", "examples", "before", "after", "trained"), rows)


@app.command()
def serve(
    version: Annotated[int, typer.Argument(metavar="VERSION", help="As `list` shows.", min=1)],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:
    """Serve a version that is kept, such as an earlier one."""
    from cli.client import assistant_path, node_client

    with node_client(home) as client:
        path = assistant_path(assistant, f"/personal/versions/{version}")
        served = client.put(path, json={"state": "served"}).json()
    if as_json:
        show_json(served)
        return
    show(f"Version {version} is served.")


@app.command()
def reset(
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase all versions; the assistant goes on without a personal adapter."""
    from cli.client import assistant_path, node_client

    with node_client(home) as client:
        confirm(f"Erase the personal adapters of {assistant}?", yes)
        client.delete(assistant_path(assistant, "/personal"))
    if as_json:
        show_json({"assistant": assistant})
        return
    show(f"{assistant} has no personal adapter any more.")


@app.command()
def schedule(
    hours: Annotated[
        int | None, typer.Argument(metavar="[HOURS]", help="Without it: when asked only.", min=1)
    ] = None,
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:
    """Have it trained every so many hours, if something has changed."""
    from cli.client import Need, assistant_path, node_client

    path = assistant_path(assistant, "/personal/schedule")
    with node_client(home, Need.ASSISTANTS) as client:
        kept = client.put(path, json={"hours": hours}).json()
    if as_json:
        show_json(kept)
        return
    often = "when asked only" if hours is None else f"every {hours} hours if something has changed"
    show(f"{assistant} is trained {often}.")


def _rounded(measured: float | None) -> str | None:
    """None for an adapter that was imported."""
    return None if measured is None else f"{measured:.4f}"


def _follow(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it is finished, with a bar for each adapter."""
    with stage_bars() as report:
        while job["finished_at"] is None:
            for item in job["items"]:
                if item["passages"]:
                    report(item["name"], item["passages_done"], item["passages"])
            time.sleep(POLL_SECONDS)
            job = client.get(f"/v1/jobs/{job['id']}").json()
    return job


def _line(made: dict[str, Any]) -> str:
    measure = "MRR@10" if made["kind"] == "retriever" else "loss"
    result = "is served" if made["state"] == "served" else "is not clearly better, and not served"
    return (
        f"{made['kind']}: version {made['version']} {result}"
        f" ({measure} on held-back examples {made['before']:.4f} -> {made['after']:.4f})"
    )
