"""`alcove document`: list and erase documents."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import WRONG_USAGE, CommandError
from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home, Yes, confirm, given
from cli.output import say, show, show_json, show_table, show_withdrawn, when

if TYPE_CHECKING:
    import httpx

app = typer.Typer(help="List and erase documents.", no_args_is_help=True)

LARGEST_PAGE = 200
POLL_SECONDS = 1.0


@app.command("list")
def list_documents(
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 50,
    after: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on after this document.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the documents of an assistant, newest first."""
    from cli.client import Need, assistant_path, node_client

    found: list[dict[str, Any]] = []
    with node_client(home, Need.ASSISTANTS) as client:
        while True:
            asked = given(limit=min(limit - len(found), LARGEST_PAGE), after=after)
            page = client.get(assistant_path(assistant, "/documents"), params=asked).json()
            found += page["data"]
            after = page["next_after"]
            if after is None or len(found) >= limit:
                break
    if as_json:
        show_json({"data": found, "next_after": after})
        return
    columns = ("id", "document", "title", "passages", "pages", "version", "updated")
    show_table(columns, [_row(document) for document in found])
    if after is not None:
        say(f"There are more: --after {after}")


@app.command()
def erase(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as `document list` shows.")
    ] = None,
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    external_id: Annotated[
        list[str] | None,
        typer.Option(
            "--external-id", metavar="PATH",
            help="A document by its path, as `document list` shows; may be repeated.",
        ),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Erase documents physically and print the receipt."""
    from cli.client import assistant_path, node_client

    ids, names = ids or [], external_id or []
    if not ids and not names:
        raise CommandError("name a document: its id, or --external-id PATH", WRONG_USAGE)
    url = assistant_path(assistant, "/documents")
    with node_client(home) as client:
        ids += [_document_id(client, url, name) for name in names]
        confirm(f"Erase {len(ids)} document(s) of {assistant}?", yes)
        job = client.post(f"{url}/erase", json={"ids": ids}).json()
        if job["finished_at"] is None:
            say("Readers of the database hold the erasure up; waiting for them.")
        while job["finished_at"] is None:
            time.sleep(POLL_SECONDS)
            job = client.get(f"/v1/jobs/{job['id']}").json()
    receipt = job["result"]["receipt"]
    if as_json:
        show_json(receipt)
        return
    _show_receipt(receipt)


def _document_id(client: httpx.Client, url: str, external_id: str) -> str:
    found = client.get(url, params={"external_id": external_id, "limit": 1}).json()["data"]
    if not found:
        raise CommandError(f"this assistant has no document {external_id!r}")
    return str(found[0]["id"])


def _row(document: dict[str, Any]) -> tuple[object, ...]:
    name = document["external_id"] or document["name"]
    counts = document["passages"], document["pages"], document["version"]
    return document["id"], name, document["title"], *counts, when(document["updated_at"])


def _show_receipt(receipt: dict[str, Any]) -> None:
    show(f"Receipt {receipt['id']}, completed {when(receipt['completed_at'])}")
    for document in receipt["documents"]:
        counts = f"{document['passages']} passages, {document['vectors']} vectors"
        show(f"  erased: {document['id']} ({counts})")
    for place in receipt["removed_from"]:
        show(f"  removed from: {place}")
    for rest in receipt["not_covered"]:
        show(f"  not covered: {rest}")
    show_withdrawn(receipt["personal"])
    show(f"  {receipt['adapters']}")
