"""A real node, served by a real process on loopback, for all tests of the API."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.served import alcove_json, start_node, wait


@dataclass(frozen=True)
class Served:
    """A running node and its first key."""

    url: str
    key: str
    home: Path
    process: subprocess.Popen[bytes]

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def openai(self, key: str | None = None) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=0)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("node") / "home"
    key = alcove_json("node", "init", "--home", str(home))["key"]
    (home / "settings.toml").write_text(
        "max_file_bytes = 2_000_000\nmax_expanded_bytes = 20_000_000\n"
        "max_rows = 2\nqueue_size = 1\nanswer_tokens = 40\n"
    )
    process, url = start_node(home)
    try:
        yield Served(url, key, home, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture
def owner(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


NUMBERS = itertools.count()
Upload = Callable[..., dict[str, Any]]


@pytest.fixture
def upload(owner: httpx.Client) -> Upload:
    """Upload {name: content} to an assistant and wait for the job."""

    def send(assistant: str, files: dict[str, bytes], **form: Any) -> dict[str, Any]:
        parts = [("file", (name, content)) for name, content in files.items()]
        accepted = owner.post(f"/v1/assistants/{assistant}/documents", files=parts, data=form)
        assert accepted.status_code == 202, accepted.text
        return wait(owner, accepted.json()["id"])

    return send


@pytest.fixture
def assistant(owner: httpx.Client) -> Iterator[str]:
    """A fresh assistant that goes with the test."""
    name = f"a-{next(NUMBERS)}"
    assert owner.post("/v1/assistants", json={"name": name}).status_code == 201
    yield name
    owner.delete(f"/v1/assistants/{name}")


BERTH = "# Berths\n\n## Price of a berth\n\nA berth costs 42 crowns a night.\n"
FIRE = "# Fires\n\n## In case of fire\n\nRing the bronze bell three times.\n"


@pytest.fixture
def passages(assistant: str, upload: Upload, owner: httpx.Client) -> list[str]:
    """The passages of an assistant about berths and fires, in this order."""
    job = upload(assistant, {"berths.md": BERTH.encode(), "fires.md": FIRE.encode()})
    return [f"{item['document_id']}.1.0" for item in job["items"]]


HARBOUR = b"""# Harbour rules

## Mooring fees
A berth for a boat of up to eight metres costs 42 crowns a night. Fees are paid at the harbour
office before noon.

## Fire
In case of fire ring the bronze bell beside the crane three times and walk to the northern pier.
"""


@pytest.fixture(scope="session")
def harbour(served: Served) -> str:
    """An assistant that holds one short document about a harbour."""
    with served.client() as owner:
        assert owner.post("/v1/assistants", json={"name": "harbour"}).status_code == 201
        accepted = owner.post(
            "/v1/assistants/harbour/documents",
            files=[("file", ("harbour.md", HARBOUR))],
            data={"external_id": "rules", "attributes": json.dumps({"year": 2025})},
        )
        assert wait(owner, accepted.json()["id"])["state"] == "done"
    return "harbour"
