"""Commands against one served node: what they print, for people and for scripts, and refuse."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.commands import ALCOVE, refusal, run, run_json
from tests.cli.conftest import Served
from tests.forked import ENVIRONMENT, ROOT

LEAVE = "# Leave\n\nEvery member of the crew has thirty-one days of leave in a year.\n"
FEES = "# Fees\n\nA berth for a boat of up to eight metres costs 42 crowns a night.\n"


@pytest.fixture
def assistant(served: Served, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh assistant that goes with the test."""
    name = request.node.name.removeprefix("test_")[:60].rstrip("_").replace("_", "-")
    with served.owner() as owner:
        assert owner.post("/v1/assistants", json={"name": name}).status_code == 201
        yield name
        owner.delete(f"/v1/assistants/{name}")


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    folder = tmp_path / "handbook"
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "leave.md").write_text(LEAVE)
    (folder / "fees.md").write_text(FEES)
    return folder


def test_ingest_goes_on_past_files_that_fail_and_names_them(
    served: Served, assistant: str, handbook: Path
) -> None:
    (handbook / "broken.md").symlink_to(handbook / "gone.md")
    (handbook / "empty.txt").touch()
    (handbook / "large.txt").write_text("too many words " * 10_000)
    (handbook / "memory").symlink_to("/proc/self/mem")
    (handbook / ".hidden.md").write_text("not to be read")
    done = run("ingest", handbook, "--assistant", assistant, home=served.home)
    assert (done.returncode, done.stdout) == (1, "2 stored, 0 there already, 4 failed\n")
    assert sorted(done.stderr.splitlines()) == [
        "failed: handbook/broken.md: No such file or directory",
        "failed: handbook/empty.txt: The file is empty.",
        "failed: handbook/large.txt: 150,000 bytes; at most 100,000 are accepted",
        "failed: handbook/memory: Input/output error",
    ]
    listed = run_json("document", "list", "--assistant", assistant, home=served.home)["data"]
    assert {row["external_id"] for row in listed} == {"handbook/fees.md", "handbook/rules/leave.md"}


def test_ingest_again_skips_what_is_stored_and_replaces_what_changed(
    served: Served, assistant: str, handbook: Path
) -> None:
    options = ("ingest", handbook, "--assistant", assistant)
    first = run_json(*options, home=served.home)
    ids = {file["external_id"]: file["document_id"] for file in first["files"]}
    (handbook / "fees.md").write_text(FEES.replace("42", "45"))
    (handbook / "copy.md").write_text(LEAVE)
    second = run_json(*options, home=served.home)
    assert (first["stored"], second["stored"], second["duplicates"]) == (2, 1, 2)
    listed = run_json("document", "list", "--assistant", assistant, home=served.home)["data"]
    assert {row["external_id"]: row["id"] for row in listed} == ids
    assert {row["version"] for row in listed if row["external_id"] == "handbook/fees.md"} == {2}


def test_two_files_that_would_be_one_document_are_refused(served: Served, tmp_path: Path) -> None:
    files = [tmp_path / name / "rules.md" for name in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(f"the rules of {file.parent.name}")
    assert "one document, rules.md" in refusal(run("ingest", *files, home=served.home), code=2)


def test_an_answer_is_followed_by_the_passages_that_it_cites(
    served: Served, assistant: str, handbook: Path
) -> None:
    run_json("ingest", handbook / "rules", "--assistant", assistant, home=served.home)
    question = ("ask", "How many days of leave are there?", "--assistant", assistant)
    answer = run_json(*question, home=served.home)
    cited = {source["number"] for source in answer["cited"]}
    assert cited and all(f"[{number}]" in answer["answer"] for number in cited)

    # Greedy decoding gives the same answer again.
    done = run(*question, home=served.home)
    told, _, passages = done.stdout.partition("\n")
    assert told == answer["answer"]
    assert LEAVE.splitlines()[-1] in passages


def test_search_prints_rows_and_takes_a_mode_a_limit_and_a_filter(
    served: Served, assistant: str, handbook: Path
) -> None:
    run_json("ingest", handbook, "--assistant", assistant, home=served.home)
    options = ("search", "leave", "--assistant", assistant)
    found = run_json(*options, "--mode", "lexical", home=served.home)["data"]
    assert [hit["external_id"] for hit in found] == ["handbook/rules/leave.md"]
    where = json.dumps({"external_id": "handbook/fees.md"})
    found = run_json(*options, "--filter", where, home=served.home)["data"]
    assert {hit["external_id"] for hit in found} == {"handbook/fees.md"}
    lines = run(*options, "--limit", "1", home=served.home).stdout.splitlines()
    assert [line.split("\t")[2] for line in lines] == ["document", "handbook/rules/leave.md"]


@pytest.mark.parametrize(
    ("arguments", "reason", "code"),
    [
        (("--filter", "{"), "--filter: not JSON", 2),
        (("--filter", "[1]"), "--filter: not a JSON object", 2),
        (("--filter", '{"name": {"$near": 1}}'), "$near", 1),
        (("--mode", "sparse"), "sparse", 2),
        (("--limit", "0"), "--limit", 2),
        (("--assistant", "nobody"), "nobody", 1),
    ],
)
def test_a_wrong_search_is_refused(
    served: Served, arguments: tuple[str, ...], reason: str, code: int
) -> None:
    assert reason in refusal(run("search", "leave", *arguments, home=served.home), code)


def test_erasing_a_document_prints_its_receipt(
    served: Served, assistant: str, handbook: Path
) -> None:
    run_json("ingest", handbook, "--assistant", assistant, home=served.home)
    options = ("document", "erase", "--external-id", "handbook/fees.md", "--assistant", assistant)
    assert "--yes" in refusal(run(*options, home=served.home), code=2)
    receipt = run_json(*options, "--yes", home=served.home)
    assert [document["passages"] for document in receipt["documents"]] == [1]
    assert "no document" in refusal(run(*options, "--yes", home=served.home))
    page = run("document", "list", "--assistant", assistant, home=served.home).stdout
    assert "fees.md" not in page and "leave.md" in page


def test_documents_are_listed_in_pages(served: Served, assistant: str, handbook: Path) -> None:
    run_json("ingest", handbook, "--assistant", assistant, home=served.home)
    options = ("document", "list", "--assistant", assistant, "--limit", "1")
    first = run_json(*options, home=served.home)
    second = run_json(*options, "--after", first["next_after"], home=served.home)
    assert second["next_after"] is None
    names = {row["external_id"] for page in (first, second) for row in page["data"]}
    assert names == {"handbook/fees.md", "handbook/rules/leave.md"}


def test_a_key_works_until_it_is_revoked(served: Served, assistant: str) -> None:
    made = run_json("key", "create", "--assistant", assistant, "--label", "desk", home=served.home)
    headers = {"Authorization": f"Bearer {made['key']}"}
    models = httpx.get(f"{served.url}/v1/models", headers=headers).json()["data"]
    assert [model["id"] for model in models] == [assistant]
    listed = run("key", "list", home=served.home).stdout
    assert made["id"] in listed and made["key"] not in listed
    run_json("key", "revoke", made["id"], home=served.home)
    assert httpx.get(f"{served.url}/v1/models", headers=headers).status_code == 401
    assert made["id"] in refusal(run("key", "revoke", made["id"], home=served.home))


def test_a_key_alone_on_standard_output_can_be_captured(served: Served) -> None:
    done = run("key", "create", "--every-assistant", home=served.home)
    headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
    assert httpx.get(f"{served.url}/v1/models", headers=headers).status_code == 200
    wrong = run("key", "create", "--every-assistant", "--assistant", "default", home=served.home)
    assert "exclude each other" in refusal(wrong, code=2)


def test_assistants_are_deleted_only_when_confirmed(served: Served, assistant: str) -> None:
    assert "--yes" in refusal(run("assistant", "delete", assistant, home=served.home), code=2)
    taken = run("assistant", "create", assistant, home=served.home)
    assert "already" in refusal(taken)
    assert "is no name" in refusal(run("assistant", "create", "Bad Name", home=served.home))
    names = [row["name"] for row in run_json("assistant", "list", home=served.home)["data"]]
    assert names == [assistant, "default"]


def test_texts_cannot_drive_the_terminal(served: Served) -> None:
    name = "escapes"
    described = ("--description", "\x1b]0;owned\x07 \x1b[2J cleared")
    run_json("assistant", "create", name, *described, home=served.home)
    listed = run("assistant", "list", home=served.home).stdout
    run_json("assistant", "delete", name, "--yes", home=served.home)
    assert "cleared" in listed
    assert not {"\x1b", "\x07"} & set(listed)


def test_a_wrong_session_key_is_refused(served: Served) -> None:
    address = served.home / "server.json"
    content = address.read_text()
    announced = json.loads(content)
    try:
        address.write_text(json.dumps({**announced, "key": "alcove_session_wrong"}))
        assert "key is wrong" in refusal(run("key", "list", home=served.home))
        address.write_text("{")
        assert "server.json is damaged" in refusal(run("key", "list", home=served.home))
    finally:
        address.write_text(content)


def test_output_that_cannot_be_written_ends_without_a_traceback(served: Served) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("key", "list", home=served.home, stdout=full)
    assert "No space left" in refusal(done)
    pipeline = " ".join((*ALCOVE, "key", "list", "--home", str(served.home), "| true"))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {pipeline}"], check=False, env=ENVIRONMENT, cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    # Who closes them wants neither; a message must not end up among the results instead.
    for closed, code in ((">&-", 0), ("--wrong 2>&-", 2)):
        command = " ".join((*ALCOVE, "key", "list", "--home", str(served.home), closed))
        done = subprocess.run(
            ["bash", "-c", command], check=False, env=ENVIRONMENT, cwd=ROOT, capture_output=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")
