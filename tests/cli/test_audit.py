"""`alcove audit verify` on real ledgers, honest and not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import refusal, run, run_json
from tests.privacy.ledger_factory import Coordinator, small_ledger


@pytest.fixture(scope="module")
def coordinator() -> Coordinator:
    return small_ledger()


@pytest.fixture
def ledger(coordinator: Coordinator, tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(coordinator.file)
    return path


def test_an_honest_ledger_with_its_receipts_is_accepted(
    coordinator: Coordinator, ledger: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "receipts"
    folder.mkdir()
    for place, receipt in enumerate(coordinator.all_receipts):
        (folder / f"{place}.json").write_bytes(receipt)
    key = coordinator.public_key
    spaced = " ".join(key[start : start + 4] for start in range(0, 64, 4)).upper()
    done = run("audit", "verify", ledger, "--keys", spaced, "--receipts", folder)
    assert done.returncode == 0, done.stderr
    assert "The ledger is accepted." in done.stdout
    assert f"{len(coordinator.all_receipts)} receipts were checked" in done.stdout
    line = next(line for line in done.stdout.splitlines() if "epsilon spent" in line)
    spent = coordinator.ledger.limit.epsilon_of(coordinator.ledger.total())  # type: ignore[union-attr]
    for part in (f"{spent:.6g}", "delta 1e-06", "modes client", "unit node", "zero-out"):
        assert part in line


def test_it_says_so_when_no_receipts_were_given(coordinator: Coordinator, ledger: Path) -> None:
    keys = ledger.with_name("keys.txt")
    keys.write_text(f"{coordinator.public_key}\n\n")
    report = run_json("audit", "verify", ledger, "--keys", keys)
    assert report["ok"] and report["receipts"] == 0 and report["modes"] == ["client"]
    assert any("No receipts were given" in sentence for sentence in report["statements"])


def test_a_cut_tail_is_found_by_a_receipt(coordinator: Coordinator, tmp_path: Path) -> None:
    cut, receipts = tmp_path / "ledger.jsonl", tmp_path / "receipts.jsonl"
    cut.write_bytes(b"".join(coordinator.lines[:-1]))
    receipts.write_bytes(b"\n".join(coordinator.all_receipts) + b"\n")
    key = coordinator.public_key
    assert run("audit", "verify", cut, "--keys", key).returncode == 0
    done = run("audit", "verify", cut, "--keys", key, "--receipts", receipts)
    assert done.returncode == 1
    assert "NOT accepted" in done.stdout and "unlogged" in done.stdout


def test_another_key_is_not_accepted(ledger: Path) -> None:
    done = run("audit", "verify", ledger, "--keys", "0" * 64)
    assert done.returncode == 1
    assert "signed by a key that was not given" in done.stdout


def test_what_is_no_key_is_wrong_usage(ledger: Path) -> None:
    said = refusal(run("audit", "verify", ledger, "--keys", "nonsense"), code=2)
    assert "64 hexadecimal digits" in said
