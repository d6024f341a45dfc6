"""`alcove ask`: a streamed answer and the passages that it cites."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import CommandError
from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home
from cli.output import clean, show, show_json
from cli.search import excerpt

if TYPE_CHECKING:
    import httpx


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:
    """Ask an assistant; its answer names the passages that it stands on."""
    from cli.client import node_client

    request = {"model": assistant, "messages": [{"role": "user", "content": question}]}
    with node_client(home) as client:
        if as_json:
            answer = client.post("/v1/chat/completions", json=request).json()
            message = answer["choices"][0]["message"]
            cited = _cited(message["annotations"], answer["sources"])
            show_json({"answer": message["content"], "cited": cited, "usage": answer["usage"]})
        else:
            _show_cited(_stream(client, request))


def _stream(client: httpx.Client, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Print the answer as it comes; returns the sources that it cites."""
    annotations: list[dict[str, Any]] = []
    sources: list[dict[str, Any]] = []
    body = {**request, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        try:
            for chunk in _chunks(response):
                delta = chunk["choices"][0]["delta"]
                sys.stdout.write(clean(delta.get("content") or ""))
                sys.stdout.flush()
                annotations += delta.get("annotations", [])
                sources += chunk.get("sources", [])
        finally:
            show("")
    return _cited(annotations, sources)


def _chunks(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The objects of an event stream, up to its end mark."""
    for line in response.iter_lines():
        event = line.removeprefix("data: ")
        if event == "[DONE]":
            return
        if event:
            chunk = json.loads(event)
            if "error" in chunk:
                raise CommandError(chunk["error"]["message"])
            yield chunk
    raise CommandError("the answer broke off: the node was stopped")


def _cited(
    annotations: list[dict[str, Any]], sources: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    links = {annotation["url_citation"]["url"] for annotation in annotations}
    return [source for source in sources if source["url"] in links]


def _show_cited(cited: list[dict[str, Any]]) -> None:
    if not cited:
        show("\nThe answer cites no passage.")
    for source in cited:
        page = f"page {source['page']}" if source["page"] else ""
        place = dict.fromkeys((source["title"], source["heading"], page))
        show(f"\n[{source['number']}] {', '.join(part for part in place if part)}")
        show(f"    {excerpt(source['text'])}")
