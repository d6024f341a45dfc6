"""What an auditor reads, against ledgers of real rounds; and that it changes nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from federation.coordinator import populations
from federation.invitation import Stage
from federation.roster import read_fingerprint
from federation.statement import statement
from privacy.ledger_records import unseal
from privacy.records import to_json
from privacy.verification import verify
from storage.coordinator_tables import LedgerLine, Role
from tests.api.coordinator.conftest import Staffed, client_of
from tests.coordinators import FEDERATION, POPULATION, Site, plan_for, site

LEDGER = f"/v1/audit/ledgers/{POPULATION}"


@dataclass
class Audited:
    """A coordinator that has released two versions and failed one round."""

    site: Site
    auditor: httpx.Client
    admin: httpx.Client


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    with ExitStack() as stack:
        place = stack.enter_context(site(tmp_path_factory.mktemp("audited") / "home", count=3))
        for silent in ([], place.participants, []):
            place.open_round()
            place.play(drops={Stage.ENLISTING: silent})
        opened = place.coordinator
        auditor = stack.enter_context(client_of(opened, place.url, Role.AUDITOR))
        admin = stack.enter_context(client_of(opened, place.url, Role.ADMIN))
        yield Audited(place, auditor, admin)


def test_the_exported_file_is_what_verification_reads(audited: Audited) -> None:
    exported = audited.auditor.get(f"{LEDGER}/export")
    assert exported.headers["content-type"].startswith("application/jsonl")
    key = audited.auditor.get("/v1/audit/coordinator").json()
    assert read_fingerprint(key["fingerprint"]) == key["public_key"]
    report = verify(io.BytesIO(exported.content), [key["public_key"]])
    assert report.ok and report.rounds_charged == 2
    ours = audited.auditor.get(f"{LEDGER}/verification").json()
    assert ours["ok"] and ours["head"] == report.head
    assert (ours["epsilon"], ours["epsilon_renyi"]) == (report.epsilon, report.epsilon_renyi)
    assert ours["receipts"] == 6
    assert (ours["unit"], ours["adjacency"], ours["modes"]) == ("node", "zero-out", ["client"])


def test_pages_of_the_ledger_are_the_lines_of_the_file(audited: Audited) -> None:
    lines = audited.auditor.get(f"{LEDGER}/export").content.splitlines(keepends=True)
    read, start = [], 0
    while start is not None:
        page = audited.auditor.get(LEDGER, params={"start": start, "limit": 2}).json()
        assert page["total"] == len(lines) and len(page["data"]) <= 2
        read += page["data"]
        start = page["next"]
    assert read == [to_json(unseal(line)) for line in lines]
    assert audited.auditor.get(LEDGER, params={"start": 99}).json()["data"] == []


def test_entries_are_the_records_in_short(audited: Audited) -> None:
    records = audited.auditor.get(LEDGER).json()["data"]
    entries, start = [], 0
    while start is not None:
        page = audited.auditor.get(f"{LEDGER}/entries", params={"start": start, "limit": 3}).json()
        entries += page["data"]
        start = page["next"]
    assert [entry["number"] for entry in entries] == list(range(1, len(records) + 1))
    for entry, sealed in zip(entries, records, strict=True):
        assert entry["sealed"]["signer"] == sealed["signer"]
        _is_part(entry["sealed"]["record"], sealed["record"])
    assert len(records) == 4


def _is_part(part: object, whole: object) -> None:
    if isinstance(part, dict):
        assert isinstance(whole, dict)
        for name, value in part.items():
            _is_part(value, whole[name])
    else:
        assert part == whole


def test_lines_that_are_no_records_are_entries_too(tmp_path: Path) -> None:
    """An auditor has to see that something is wrong, and where."""
    with site(tmp_path / "home", count=0) as place:
        opened = place.coordinator
        with opened.database.write() as session:
            (line,) = populations.lines(session, POPULATION)
            number = b'{"record":{"sequence":"<b>1</b>"}}\n'
            session.add(LedgerLine(population=POPULATION, sequence=1, line=number))
            session.add(LedgerLine(population=POPULATION, sequence=2, line=b"\xff"))
            session.add(LedgerLine(population=POPULATION, sequence=3, line=line))
        with client_of(opened, place.url, Role.AUDITOR) as auditor:
            entries = auditor.get(f"{LEDGER}/entries").json()["data"]
        assert [entry["number"] for entry in entries] == [1, 2, 3, 4]
        assert [entry["sealed"] is None for entry in entries] == [False, True, True, False]


def test_the_course_of_the_epsilons_ends_at_the_statement(audited: Audited) -> None:
    place = f"/v1/audit/federations/{FEDERATION}"
    found = audited.auditor.get(f"{place}/epsilons").json()
    promised = audited.auditor.get(f"{place}/statement").json()["guarantees"]
    assert found["guarantees"] == promised
    assert (found["rounds"], found["charged"], found["participations"]) == (3, 2, 3)
    first, *_, last = found["data"]
    assert [last[view] for view in ("coordinator", "release", "alone")] == [
        guarantee["epsilon"] for guarantee in promised
    ]
    assert first == dict.fromkeys(first, 0)
    assert [point["rounds"] for point in found["data"]] == [0, 1, 2, 3]


def test_budgets_say_what_is_spent_reserved_and_left(audited: Audited) -> None:
    (budget,) = audited.auditor.get("/v1/audit/budgets").json()["data"]
    assert budget == audited.auditor.get(f"/v1/audit/budgets/{POPULATION}").json()
    plan = plan_for(audited.site.coordinator.identity)
    (account,) = budget["federations"]
    # A failed round is tried again under its slot, so one of three is left.
    assert (account["charged"], account["reserved"], account["rounds"]) == (2, 1, 3)
    ledger = audited.auditor.get(f"{LEDGER}/verification").json()
    assert budget["epsilon_spent"] == pytest.approx(ledger["epsilon"], rel=1e-12)
    assert budget["charged"] == pytest.approx(2 * budget["reserved"])
    total = budget["charged"] + budget["reserved"] + budget["left"]
    assert total == pytest.approx(budget["capacity"])
    assert (budget["unit"], budget["adjacency"], budget["modes"]) == (
        "node", "zero-out", ["client"],
    )  # fmt: skip
    promised = statement(plan).guarantees[0]
    assert (account["epsilon_plan"], account["delta_plan"]) == (promised.epsilon, promised.delta)
    assert budget["delta"] == plan.privacy.delta and account["trust"].startswith("at least 3")


def test_the_statement_is_that_of_the_plan_in_both_forms(audited: Audited) -> None:
    expected = statement(plan_for(audited.site.coordinator.identity))
    place = f"/v1/audit/federations/{FEDERATION}/statement"
    text = audited.auditor.get(place, params={"form": "text"})
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == expected.to_text()
    found = audited.auditor.get(place).json()
    assert [section["title"] for section in found["sections"]] == [
        section.title for section in expected.sections
    ]
    assert found["guarantees"][0]["epsilon"] == expected.guarantees[0].epsilon


def test_versions_come_with_the_records_that_produced_them(audited: Audited) -> None:
    place = f"/v1/audit/federations/{FEDERATION}/versions"
    first, second, third = audited.auditor.get(place).json()["data"]
    assert first["ledger_record"] is None and first["number"] == 0
    for version, before in ((second, first), (third, second)):
        facts = version["ledger_record"]["record"]["round"]["facts"]
        assert facts["round_id"] == version["round_id"]
        assert facts["model_out"] == version["parameters_hash"]
        assert facts["model_in"] == before["parameters_hash"]


def test_rounds_show_counts_and_reasons_and_nobody(audited: Audited) -> None:
    place = f"/v1/admin/federations/{FEDERATION}/rounds"
    shown = audited.admin.get(place)
    newest, failed, oldest = shown.json()["data"]
    assert [newest["stage"], failed["stage"], oldest["stage"]] == ["released", "failed", "released"]
    assert failed["reason"] and failed["slot"] == newest["slot"]
    assert (oldest["joined"], oldest["survivors"]) == (3, 3)
    assert not any(one.identity in shown.text for one in audited.site.participants)
    page = audited.admin.get(place, params={"start": 1, "limit": 1}).json()["data"]
    assert page == [failed]
    place = f"/v1/audit/federations/{FEDERATION}/rounds"
    assert audited.auditor.get(place).json() == shown.json()
    assert audited.auditor.get(place, params={"start": 1, "limit": 1}).json()["data"] == [failed]
    assert audited.auditor.get("/v1/audit/federations/nowhere/rounds").status_code == 404


def test_federations_are_listed_with_their_plans(audited: Audited) -> None:
    (found,) = audited.auditor.get("/v1/audit/federations").json()["data"]
    plan = plan_for(audited.site.coordinator.identity)
    assert found["plan"] == to_json(plan) and found["plan_hash"] == plan.hash


def test_an_admin_may_read_it_too(audited: Audited) -> None:
    for path in ("/v1/audit/budgets", LEDGER, f"{LEDGER}/export", "/v1/audit/coordinator"):
        assert audited.admin.get(path).status_code == 200


def test_an_auditor_changes_nothing(staffed: Staffed) -> None:
    """Every operation of the document below /v1/admin, as it is written there."""
    document = staffed.admin.get("/openapi.json").json()
    tried = 0
    for path, operations in document["paths"].items():
        if not path.startswith("/v1/admin"):
            continue
        filled = path.replace("{participant_id}", "1").replace("{number}", "0")
        filled = filled.replace("{key_id}", "0a").replace("{population}", "a")
        filled = filled.replace("{federation}", "a")
        for method in operations:
            refused = staffed.auditor.request(method, filled, json={})
            assert refused.status_code == 403, (method, path, refused.text)
            assert refused.json()["error"]["code"] == "admin_only"
            tried += 1
    assert tried > 20


def test_nobody_reads_without_a_key(staffed: Staffed) -> None:
    with httpx.Client(base_url=staffed.url) as nobody:
        for path in ("/v1/audit/budgets", "/v1/admin/keys", "/v1/audit/coordinator"):
            assert nobody.get(path).status_code == 401


def test_nothing_below_audit_takes_anything_but_get(staffed: Staffed) -> None:
    document = staffed.admin.get("/openapi.json").json()
    methods = {
        method
        for path, operations in document["paths"].items()
        if path.startswith("/v1/audit")
        for method in operations
    }
    assert methods == {"get"}
