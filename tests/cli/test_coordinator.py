"""`alcove coordinator` and `alcove audit` with real processes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.coordinator.client import coordinator_client
from cli.coordinator.options import Place
from cli.coordinator.plan_file import read_plan_file
from cli.errors import CommandError
from federation.roster import read_fingerprint
from retrieval.query_map import basis_to_bytes, random_basis
from tests.cli.commands import refusal, run, run_json
from tests.served import start_coordinator

PLAN = """
population = "clinics"
federation = "triage"
mode = "document"
epsilon = 4.0
planned_rows = 2000
sampling_rate = 0.05
cohort = 10
public_passages_file = "public.jsonl"

[adapter]
kind = "retriever"
base_model = "tiny@0/float32"
basis_file = "basis.safetensors"
"""
SECONDS = 60


@dataclass(frozen=True)
class Served:
    """A coordinator served by two workers."""

    home: Path
    url: str
    key: str
    fingerprint: str
    process: subprocess.Popen[bytes]
    plan: Path

    def ask(self, *arguments: str | Path) -> Any:
        return run_json("coordinator", *arguments, home=self.home)

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=SECONDS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("coordinator")
    made = run_json("coordinator", "init", home=folder / "home")
    plan = folder / "plan.toml"
    plan.write_text(PLAN)
    (folder / "public.jsonl").write_text('{"text": "One."}\n\n{"text": "Two."}\n')
    (folder / "basis.safetensors").write_bytes(basis_to_bytes(random_basis(32, 4, 3)))
    process, url = start_coordinator(folder / "home", "--workers", "2")
    try:
        yield Served(folder / "home", url, made["key"], made["fingerprint"], process, plan)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert not (folder / "home" / "server.json").exists()


def test_the_way_of_an_admin_and_an_auditor(served: Served, tmp_path: Path) -> None:
    limit = ("--unit", "subject", "--epsilon", "4.3", "--delta", "1e-5", "--plan", served.plan)
    assert served.ask("population", "create", "clinics", *limit)["epsilon_limit"] == 4.3
    previewed = served.ask("federation", "preview", served.plan, "--rounds", "10")
    assert previewed["refusal"] is None and previewed["parameters"] == 128
    assert previewed["total"]["coordinator"]["epsilon"] <= 4.0
    made = served.ask("federation", "create", served.plan)
    assert (made["state"], made["plan"]["privacy"]["rounds"]) == ("created", 20)
    again = run("coordinator", "federation", "create", served.plan, home=served.home)
    assert "there is a federation 'triage'" in refusal(again)
    assert served.ask("federation", "start", "triage")["state"] == "running"
    assert served.ask("federation", "pause", "triage", "--reason", "lunch")["reason"] == "lunch"
    token = served.ask("token", "create", "clinics", "--label", "Ward 1")
    assert token["fingerprint"] == served.fingerprint

    auditor = served.ask("key", "create", "--role", "auditor")["key"]
    remote = ("--url", served.url, "--key", auditor)
    ledger = tmp_path / "ledger.jsonl"
    assert run("audit", "export", "clinics", "-o", ledger, *remote).returncode == 0
    verified = run_json("audit", "verify", ledger, "--keys", served.fingerprint)
    assert verified["ok"] and verified["population"] == "clinics"
    shown = run("audit", "budgets", *remote).stdout
    assert "20 rounds charged, 20 reserved" in shown and "adjacency zero-out" in shown
    text = run("audit", "statement", "triage", *remote).stdout
    assert text.startswith("Privacy statement of the federation triage")
    denied = run("coordinator", "federation", "resume", "triage", *remote)
    assert refusal(denied) == "this needs an admin's key"
    stopped = served.ask("federation", "stop", "triage", "--yes")
    assert stopped["state"] == "stopped"


def test_status_says_where_and_by_which_key(served: Served) -> None:
    found = served.ask("status")
    assert (found["state"], found["url"]) == ("serving", served.url)
    assert found["public_key"] == read_fingerprint(served.fingerprint)


def test_the_first_key_is_an_admin_s(served: Served) -> None:
    with served.client() as client:
        assert client.get("/v1/admin/keys").status_code == 200
    announced = json.loads((served.home / "server.json").read_text())
    assert announced["key"] != served.key
    assert (served.home / "server.json").stat().st_mode & 0o777 == 0o600
    assert (served.home / "coordinator.key").stat().st_mode & 0o777 == 0o600


def test_a_folder_is_served_once(served: Served) -> None:
    second = run("coordinator", "serve", "--port", "0", home=served.home)
    assert refusal(second) == f"{served.home} is served already"


@pytest.mark.parametrize(
    ("url", "key", "code", "message"),
    [
        ("http://example.org", "k", 2, "in the clear"),
        ("example.org", "k", 2, "is no address"),
        ("http://[", "k", 2, "is no address"),
        ("https://example.org", None, 2, "needs --key"),
        ("http://127.0.0.1:9", "k", 1, "the coordinator at http://127.0.0.1:9 stopped answering"),
        (None, None, 1, "there is no coordinator in /nonexistent"),
    ],
)
def test_a_coordinator_that_cannot_be_reached(
    url: str | None, key: str | None, code: int, message: str
) -> None:
    with (
        pytest.raises(CommandError) as refused,
        coordinator_client(Place(Path("/nonexistent"), url, key)) as client,
    ):
        client.get("/v1/admin/keys")
    assert message in str(refused.value) and refused.value.exit_code == code


def test_a_plan_s_files_are_read_beside_it(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.replace("public_", 'initial_file = "v"\npublic_'))
    (tmp_path / "public.jsonl").write_text('{"text": "One."}\n\n{"text": "Two."}\n')
    (tmp_path / "basis.safetensors").write_bytes(b"basis")
    (tmp_path / "v").write_bytes(b"vector")
    plan = read_plan_file(tmp_path / "plan.toml")
    assert plan["public_passages"] == ["One.", "Two."]
    assert base64.b64decode(plan["adapter"]["basis"]) == b"basis"
    assert base64.b64decode(plan["initial"]) == b"vector"
    assert not any(name.endswith("_file") for name in (*plan, *plan["adapter"]))
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert read_plan_file(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("plan.toml", "mode =", "plan.toml: "),
        ("plan.json", "[1]", "a plan is an object"),
        ("plan.json", "{", "plan.json: "),
        ("plan.toml", 'public_passages_file = "nothing"', "nothing: No such file"),
        ("plan.toml", 'public_passages_file = "plan.toml"', "plan.toml, line 1: not"),
        ("plan.toml", "initial_file = 3", "is the name of a file"),
        ("plan.toml", 'initial_file = "a"\ninitial = "AA=="', "stands instead of"),
    ],
)
def test_a_plan_file_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CommandError) as refused:
        read_plan_file(tmp_path / name)
    assert message in str(refused.value)


def test_every_wrong_field_of_a_plan_is_named(served: Served) -> None:
    plan = served.plan.with_name("wrong.toml")
    plan.write_text(PLAN.replace("cohort = 10", 'cohort = "many"'))
    done = run("coordinator", "federation", "preview", plan, home=served.home)
    assert refusal(done).startswith("cohort: ")


@pytest.mark.faults
def test_a_killed_worker_is_replaced_and_a_killed_server_leaves_none(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run_json("coordinator", "init", home=home)
    process, url = start_coordinator(home, "--workers", "2")
    try:
        before = workers(process.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        assert wait(lambda: len(set(workers(process.pid)) - {before[0]}) == 2)
        assert httpx.get(f"{url}/ready").status_code == 200
        left = workers(process.pid)
    finally:
        process.kill()
        process.wait(SECONDS)
    assert wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
    again, _ = start_coordinator(home)
    again.send_signal(signal.SIGTERM)
    assert again.wait(SECONDS) == 0


def workers(parent: int) -> list[int]:
    """The processes that answer, children of the one that was started (proc(5))."""
    found = []
    for task in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (task / "stat").read_text(), (task / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if int(status.rpartition(")")[2].split()[1]) == parent and b"spawn_main" in command:
            found.append(int(task.name))
    return sorted(found)


def wait(condition: Callable[[], bool]) -> bool:
    """Whether it comes to hold."""
    deadline = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()
