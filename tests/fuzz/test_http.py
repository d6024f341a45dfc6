"""Schemathesis against a real node: what its OpenAPI document allows and much that it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.forked import ROOT
from tests.served import alcove_json, start_node, wait

CONFIG = """
[parameters]
"path.assistant" = "fuzzed"
"path.document_id" = "{document}"
"path.job_id" = "{job}"
"path.chunk_id" = "{chunk}"

[[operations]]
include-path = "/v1/assistants/{{assistant}}"
include-method = "DELETE"
enabled = false
"""
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)


@pytest.mark.fuzz
@pytest.mark.timeout(900)
def test_no_request_makes_the_node_fail(tmp_path: Path) -> None:
    home = tmp_path / "home"
    key = alcove_json("node", "init", "--home", str(home))["key"]
    (home / "settings.toml").write_text("max_answer_tokens = 4\n")
    process, url = start_node(home)
    try:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as owner:
            config = tmp_path / "schemathesis.toml"
            config.write_text(CONFIG.format(**_things(owner)))
            done = subprocess.run(
                [
                    str(Path(sys.executable).parent / "schemathesis"),
                    "--config-file", str(config), "run", f"{url}/openapi.json",
                    "--header", f"Authorization: Bearer {key}", "--checks", CHECKS,
                    "--max-examples", os.environ.get("ALCOVE_FUZZ_EXAMPLES", "30"),
                    "--request-timeout", "60", "--phases", "examples,coverage,fuzzing",
                    "--no-color",
                ],
                cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, told(done.stdout)
            assert owner.get("/ready").status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def told(output: str) -> str:
    """What schemathesis found, without the whole of the bodies."""
    return "\n".join(line[:1_000] for line in output.splitlines())


def _things(owner: httpx.Client) -> dict[str, str]:
    """Ids of things that exist, so that the requests reach more than their 404s."""
    owner.post("/v1/assistants", json={"name": "fuzzed"}).raise_for_status()
    files = [("file", ("a.md", b"# Kiln\n\nThe kiln is fired on Mondays.\n"))]
    accepted = owner.post("/v1/assistants/fuzzed/documents", files=files).json()
    job = wait(owner, accepted["id"])
    document = job["items"][0]["document_id"]
    passages = owner.get(f"/v1/assistants/fuzzed/documents/{document}/passages").json()
    chunk = passages["data"][0]["chunk_id"]
    return {"document": document, "job": job["id"], "chunk": chunk}
