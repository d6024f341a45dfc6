"""The commands about feedback, conversations and instructions, against a served node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import refusal, run, run_json
from tests.cli.conftest import Served
from tests.served import wait

NAME = "quay"


@pytest.fixture(scope="module")
def passage(served: Served) -> Iterator[str]:
    """The one passage of an assistant."""
    with served.owner() as owner:
        assert owner.post("/v1/assistants", json={"name": NAME}).status_code == 201
        accepted = owner.post(
            f"/v1/assistants/{NAME}/documents",
            files=[("file", ("b.md", b"# Berths\n\n## Price of a berth\n\n42 crowns a night.\n"))],
        )
        document = wait(owner, accepted.json()["id"])["items"][0]["document_id"]
        yield f"{document}.1.0"
        owner.delete(f"/v1/assistants/{NAME}")


def test_feedback_is_looked_through_exported_and_erased(
    served: Served, passage: str, tmp_path: Path
) -> None:
    home = served.home
    key = run_json("key", "create", "--assistant", NAME, home=home)
    shown = run("key", "set", key["id"], "--instructions", "Be brief.", home=home)
    assert shown.stdout == "instructions: Be brief.\nfeedback: to be approved\n"
    with served.owner() as owner:
        owner.headers["Authorization"] = f"Bearer {key['key']}"
        for question in ("first?", "second?"):
            body = {"assistant": NAME, "question": question, "rating": 1,
                    "passages": [{"chunk_id": passage, "rating": 1}]}  # fmt: skip
            assert owner.post("/v1/feedback", json=body).status_code == 201
    at = ("--assistant", NAME)
    listed = run_json("feedback", "list", *at, "--state", "pending", home=home)["data"]
    assert [one["question"] for one in listed] == ["second?", "first?"]
    second, first = (str(one["id"]) for one in listed)
    approved = run_json("feedback", "approve", first, *at, home=home)
    assert approved["state"] == "approved"
    assert run_json("feedback", "reject", second, *at, home=home)["state"] == "rejected"
    (example,) = run_json("question", "list", *at, "--origin", "feedback", home=home)["data"]
    assert (example["id"], example["relevant"]) == (approved["question_id"], [passage])
    edited = run_json(
        "question", "edit", str(example["id"]), "--question", "edited?", "--relevant", passage,
        "--answer", "42.", *at, home=home,
    )  # fmt: skip
    assert (edited["question"], edited["answer"]) == ("edited?", "42.")
    (made,) = run_json("question", "list", *at, "--origin", "heading", home=home)["data"]
    deleted = run_json("question", "delete", made["id"], *at, home=home)
    assert deleted == {"removed": 1, "personal": []}
    file = tmp_path / "feedback.jsonl"
    assert run_json("feedback", "export", file, *at, home=home) == {"exported": 2}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [one["question"] for one in lines] == ["second?", "first?"]
    assert file.stat().st_mode & 0o777 == 0o600
    erased = {"removed": 1, "personal": []}
    assert run_json("feedback", "erase", second, *at, home=home) == erased
    unconfirmed = run("feedback", "erase", *at, home=home)
    assert "confirm it with --yes" in refusal(unconfirmed, 2)
    assert run_json("feedback", "erase", "--yes", *at, home=home) == erased
    assert run_json("question", "list", *at, home=home)["data"] == []


def test_an_assistant_is_set_and_its_conversations_are_erased(served: Served, passage: str) -> None:
    home = served.home
    assert passage
    shown = run("assistant", "set", NAME, "--instructions", "Be kind.", home=home)
    assert shown.stdout == "instructions: Be kind.\nconversations: not kept\n"
    kept = run_json("assistant", "set", NAME, "--keep-conversations", "30", home=home)
    assert (kept["conversation_days"], kept["instructions"]) == (30, "Be kind.")
    run_json("ask", "What does a berth cost?", "--assistant", NAME, home=home)
    at = ("--assistant", NAME)
    (turn,) = run_json("conversation", "list", *at, home=home)["data"]
    assert turn["question"] == "What does a berth cost?"
    assert "What does a berth cost?" in run("conversation", "list", *at, home=home).stdout
    erased = run_json("conversation", "erase", "--chat", "none", "--yes", *at, home=home)
    assert erased == {"removed": 0}
    assert run_json("conversation", "erase", "--yes", *at, home=home) == {"removed": 1}
    off = run_json("assistant", "set", NAME, "--no-conversations", home=home)
    assert off["conversation_days"] is None
    nothing = run("assistant", "set", NAME, home=home)
    assert nothing.returncode == 2 and "say what to set" in nothing.stderr
