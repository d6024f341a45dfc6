"""`make demo`: a node from nothing, asked over HTTP, taught, and then a federation of three."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from openai import APIStatusError, OpenAI
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from examples import federation_demo, feedback_demo
from examples.processes import DemoError, alcove_json, checked, console, serve, step, wait

EXAMPLES = Path(__file__).parent
QUESTIONS: list[dict[str, Any]] = [
    json.loads(line) for line in (EXAMPLES / "questions.jsonl").open(encoding="utf-8")
]
ORGANISATIONS = list(dict.fromkeys(row["organisation"] for row in QUESTIONS))
QUESTIONS_EACH = 1


def main() -> None:
    """Run every step; anything that does not hold ends it with an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the server up at the end")
    parser.add_argument("--generator", action="store_true", help="also train the generator once")
    chosen = parser.parse_args()
    keep = chosen.keep
    home = Path(tempfile.mkdtemp(prefix="alcove-demo-"))
    with ExitStack() as cleaning:
        if not keep:
            cleaning.callback(shutil.rmtree, home, ignore_errors=True)
        step(f"A node in {home}")
        owner_key = make_node(home)
        with console.status("loading the models (the first time a minute) ..."):
            server, url = cleaning.enter_context(serve(home, "node", keep=keep))
        console.print(f"serving on {url}")
        owner = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {owner_key}"}, timeout=120
        )
        cleaning.enter_context(owner)
        keys = {name: make_assistant(owner, name) for name in ORGANISATIONS}
        for name in ORGANISATIONS:
            ingest(owner, name)
        ask_all(url, keys)
        show_separation(url, keys)
        show_erasure(owner, home)
        learner = ORGANISATIONS[-1]
        headers = {"Authorization": f"Bearer {keys[learner]}"}
        with httpx.Client(base_url=url, headers=headers, timeout=120) as user:
            feedback_demo.run(owner, user, learner, answerable(learner))
        federation_folder = Path(tempfile.mkdtemp(prefix="alcove-federation-"))
        cleaning.callback(shutil.rmtree, federation_folder, ignore_errors=True)
        federation_demo.run(federation_folder, generator=chosen.generator)
        if keep:
            step("The server stays up")
            console.print(f"URL  {url}\nkey  {owner_key}\nstop it with: kill {server.pid}")


def make_node(home: Path) -> str:
    """Create the node; returns its first key."""
    key: str = alcove_json("node", "init", "--home", str(home))["key"]
    console.print("Its first key is shown once and kept as a hash only.")
    return key


def make_assistant(owner: httpx.Client, name: str) -> str:
    """An assistant and a user's key that sees nothing else."""
    checked(owner.post("/v1/assistants", json={"name": name}))
    made = owner.post("/v1/keys", json={"label": name, "scope": "user", "assistants": [name]})
    key: str = checked(made)["key"]
    return key


def ingest(owner: httpx.Client, name: str) -> None:
    """Upload an organisation's folder and watch its job."""
    files = sorted(path for path in (EXAMPLES / name).iterdir() if path.is_file())
    with ExitStack() as opened:
        parts = [("file", (path.name, opened.enter_context(path.open("rb")))) for path in files]
        job = checked(owner.post(f"/v1/assistants/{name}/documents", files=parts))
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(name, total=len(files))

        def follow(job: dict[str, Any]) -> None:
            done = sum(item["state"] not in ("pending", "running") for item in job["items"])
            progress.update(bar, completed=done)

        wait(owner, job, follow)


def answerable(name: str) -> list[dict[str, Any]]:
    """The questions that an organisation's documents answer."""
    return [row for row in QUESTIONS if row["organisation"] == name and row["answer"]]


def ask_all(url: str, keys: dict[str, str]) -> None:
    """Ask with the official client; every cited passage must be one that was returned."""
    for name, key in keys.items():
        client = OpenAI(base_url=f"{url}/v1", api_key=key)
        for row in answerable(name)[:QUESTIONS_EACH]:
            ask(client, name, row["question"])
    unanswerable = next(row for row in QUESTIONS if not row["answer"])
    step("A question that no document answers")
    name = unanswerable["organisation"]
    ask(OpenAI(base_url=f"{url}/v1", api_key=keys[name]), name, unanswerable["question"])


def ask(client: OpenAI, assistant: str, question: str) -> None:
    console.print(Panel(question, title=f"asked {assistant}", title_align="left", style="cyan"))
    sources: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    stream = client.chat.completions.create(
        model=assistant, messages=[{"role": "user", "content": question}], stream=True
    )
    for chunk in stream:
        delta = chunk.choices[0].delta
        console.print(delta.content or "", end="", markup=False, highlight=False)
        annotations += (delta.model_extra or {}).get("annotations", [])
        sources += (chunk.model_extra or {}).get("sources", [])
    console.print()
    returned = {source["url"]: source for source in sources}
    cited = {note["url_citation"]["url"] for note in annotations}
    if not cited <= set(returned):
        raise DemoError("an answer cites a passage that was not returned")
    for citation in sorted(cited, key=lambda link: int(returned[link]["number"])):
        source = returned[citation]
        page = f", page {source['page']}" if source["page"] else ""
        quote = " ".join(source["text"].split())[:160]
        console.print(
            f"  [bold]\\[{source['number']}][/] {source['heading'] or source['title']}{page}\n"
            f"      [dim]{quote} ...[/]", highlight=False,
        )  # fmt: skip


def show_separation(url: str, keys: dict[str, str]) -> None:
    """One organisation's key and another's assistant."""
    step("A second key sees nothing of another assistant")
    mine, other = list(keys)[:2]
    client = OpenAI(base_url=f"{url}/v1", api_key=keys[other])
    console.print(f"models for the key of {other}: {[model.id for model in client.models.list()]}")
    try:
        client.chat.completions.create(
            model=mine, messages=[{"role": "user", "content": "What do you know?"}]
        )
    except APIStatusError as error:
        console.print(f"asking {mine} with it: {error.status_code} {error.body}")
        if error.status_code != 404:
            raise
    else:
        raise DemoError("a key could ask an assistant that is not its own")


def show_erasure(owner: httpx.Client, home: Path) -> None:
    """Erase a document and look for its words in every file of the node."""
    step("Erasing a document")
    name = ORGANISATIONS[0]
    row = answerable(name)[0]
    search = {"assistant": name, "query": row["question"], "limit": 1}
    found = checked(owner.post("/v1/search", json=search))["data"][0]
    console.print(f"before, the question finds: {found['name']}")
    erased = checked(owner.delete(f"/v1/assistants/{name}/documents/{found['document_id']}"))
    console.print_json(data=erased["result"]["receipt"])
    after = checked(owner.post("/v1/search", json=search))["data"]
    if any(hit["document_id"] == found["document_id"] for hit in after):
        raise DemoError("an erased document was found")
    needle = found["text"][:60].encode()
    holding = [path for path in home.rglob("*") if path.is_file() and needle in path.read_bytes()]
    if holding:
        raise DemoError(f"erased text stands in {holding}")
    console.print("its text stands in no file of the node's folder any more")


if __name__ == "__main__":
    try:
        main()
    except (DemoError, httpx.HTTPError, subprocess.CalledProcessError) as error:
        console.print(f"the demo failed: {error}", style="red", markup=False)
        sys.exit(1)
