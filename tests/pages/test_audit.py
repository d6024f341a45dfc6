"""The pages of auditors: budgets, the ledger, the privacy statement."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from federation.roster import read_fingerprint
from privacy.verification import verify
from tests.coordinators import FEDERATION, POPULATION
from tests.pages.browser import NARROW, WIDE, Visit, visit
from tests.pages.ledgers import (
    BROKEN,
    BROKEN_LINES,
    EMPTY,
    HURT,
    RELEASED,
    UNUSED,
    ServedLedgers,
    served_ledgers,
)

pytestmark = pytest.mark.pages

SignIn = Callable[..., AbstractContextManager[Visit]]


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedLedgers]:
    with served_ledgers(tmp_path_factory.mktemp("ledgers")) as served:
        yield served


@pytest.fixture
def signed_in(browser: Browser, ledgers: ServedLedgers) -> SignIn:
    """A window of an auditor, or of whoever has the key."""

    @contextmanager
    def window(key: str = ledgers.auditor, **look: Any) -> Iterator[Visit]:
        with visit(browser, ledgers.url, **look) as visiting:
            visiting.sign_in(key)
            yield visiting

    return window


@pytest.fixture(scope="module")
def api(ledgers: ServedLedgers) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {ledgers.auditor}"}
    with httpx.Client(base_url=ledgers.url, headers=headers, timeout=60) as client:
        yield client


def panel(page: Page, text: str) -> Any:
    """The panel with this heading."""
    heading = page.get_by_role("heading", name=text, exact=True)
    return page.locator(".panel").filter(has=heading)


@pytest.mark.parametrize("role", ["admin", "auditor"])
def test_budgets_are_the_api_s_with_what_they_mean(
    signed_in: SignIn, ledgers: ServedLedgers, api: httpx.Client, role: str
) -> None:
    budget = api.get(f"/v1/audit/budgets/{POPULATION}").json()
    course = api.get(f"/v1/audit/federations/{FEDERATION}/epsilons").json()
    with signed_in(getattr(ledgers, role)) as visiting:
        shown = panel(visiting.page, POPULATION)
        for part in ("spent", "reserved", "left", "limit"):
            number = f"{budget[f'epsilon_{part}']:.4g}"
            expect(shown.get_by_text(number, exact=True).first).to_be_visible()
        expect(shown).to_contain_text(
            "At delta 1e-5; mode client, document; unit subject; adjacency zero-out; kept at "
            f"Renyi order {budget['order']}"
        )
        expect(shown.get_by_role("heading", name=f"{FEDERATION} (paused)")).to_be_visible()
        expect(shown).to_contain_text(f"{RELEASED} of 12 rounds charged, 8 reserved")
        for guarantee in course["guarantees"]:
            view = guarantee["name"].removeprefix("epsilon_")
            now = course["data"][RELEASED][view]
            tile = shown.get_by_text(guarantee["name"], exact=True).locator("..").last
            expect(tile).to_contain_text(f"{now:.4g} so far")
            expect(tile).to_contain_text(f"{guarantee['epsilon']:.4g} for the whole plan")
            expect(tile).to_contain_text(f"Assumes that {guarantee['trust']}.")
            expect(tile).to_contain_text("mode document; unit subject; adjacency zero-out")


def test_charts_have_the_limit_in_them_and_say_the_same_in_words(
    signed_in: SignIn, api: httpx.Client
) -> None:
    budget = api.get(f"/v1/audit/budgets/{POPULATION}").json()
    with signed_in() as visiting:
        spending = visiting.page.get_by_role("img", name=f"Epsilon spent by {POPULATION}")
        label = spending.get_attribute("aria-label")
        assert label is not None
        assert f"Spent: from 0 to {budget['epsilon_spent']:.4g}" in label
        assert "Limit: from 6 to 7" in label
        expect(spending.locator("svg text", has_text="Limit")).to_be_visible()
        three = visiting.page.get_by_role("img", name=f"The three epsilons of {FEDERATION}")
        expect(three.locator("svg text", has_text="Limit of the population")).to_be_visible()
        expect(three.locator("svg text", has_text="charged so far")).to_be_visible()
        visiting.page.get_by_text(f"The three epsilons of {FEDERATION}: as a table").click()
        course = api.get(f"/v1/audit/federations/{FEDERATION}/epsilons").json()["data"]
        last = ["coordinator", "release", "alone"]
        cells = [f"{course[-1][view]:.4g}" for view in last]
        row = visiting.page.get_by_role("row", name=f"12 {' '.join(cells)} 7")
        expect(row).to_be_visible()


def test_a_population_that_spent_nothing_says_so(signed_in: SignIn) -> None:
    with signed_in() as visiting:
        expect(panel(visiting.page, EMPTY)).to_contain_text("It has no federation yet")
        expect(panel(visiting.page, EMPTY).get_by_role("img")).to_have_count(0)
        tile = visiting.page.get_by_text(f"{UNUSED} (created)").locator("..")
        expect(tile).to_contain_text("0 of 2 rounds charged")


def test_the_ledger_is_verified_in_view_and_searched(signed_in: SignIn, api: httpx.Client) -> None:
    fingerprint = api.get("/v1/audit/coordinator").json()["fingerprint"]
    records = RELEASED + 3  # A round that failed, the limit, and its change.
    with signed_in() as visiting:
        page = visiting.page
        visiting.open(f"/ledger?population={POPULATION}")
        verified = page.get_by_role("status").filter(has_text="records are verified")
        expect(verified).to_contain_text(f"All {records} records are verified")
        expect(panel(page, "Verification")).to_contain_text(fingerprint)
        expect(panel(page, "Verification")).to_contain_text(f"{3 * RELEASED}, as participants")
        table = page.get_by_role("table")
        expect(table.get_by_role("cell", name="verified", exact=True)).to_have_count(records)
        page.get_by_label("Search the records").fill("aborted")
        expect(table.get_by_role("row")).to_have_count(2)
        expect(table).to_contain_text("0 nodes enlisted")
        expect(panel(page, "Records")).to_contain_text(
            "At delta 1e-5; mode client, document; unit subject; adjacency zero-out"
        )
        trust = api.get(f"/v1/audit/budgets/{POPULATION}").json()["trust"]
        expect(panel(page, "Records")).to_contain_text(f"Assumes {trust}.")
        page.get_by_label("Search the records").fill("nobody wrote this")
        expect(page.get_by_text("No record has that in it")).to_be_visible()
        page.get_by_label("Search the records").fill("")
        expect(table.get_by_role("row")).to_have_count(records + 1)


def test_a_record_is_shown_whole(signed_in: SignIn, api: httpx.Client) -> None:
    sealed = api.get(f"/v1/audit/ledgers/{POPULATION}", params={"start": 1, "limit": 1}).json()
    with signed_in() as visiting:
        visiting.open(f"/ledger?population={POPULATION}")
        visiting.page.get_by_role("button", name="Show record 2").click()
        dialog = visiting.page.get_by_role("dialog")
        for part in ("signer", "signature"):
            expect(dialog).to_contain_text(sealed["data"][0][part])
        expect(dialog).to_contain_text(sealed["data"][0]["record"]["previous"])
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_have_count(0)


def test_the_downloaded_ledger_is_what_verification_reads(
    signed_in: SignIn, api: httpx.Client
) -> None:
    with signed_in() as visiting:
        visiting.open(f"/ledger?population={POPULATION}")
        with visiting.page.expect_download() as downloading:
            visiting.page.get_by_role("link", name="Download the ledger").click()
        assert downloading.value.suggested_filename == f"{POPULATION}.jsonl"
        file = Path(downloading.value.path()).read_bytes()
        command = visiting.page.get_by_text("alcove audit verify").inner_text()
    key = re.fullmatch(rf'alcove audit verify {POPULATION}\.jsonl --keys "(.*)"', command)
    assert key is not None
    assert verify(io.BytesIO(file), [read_fingerprint(key[1])]).ok


def test_what_is_broken_is_named_and_shown_as_text(signed_in: SignIn) -> None:
    with signed_in() as visiting:
        page = visiting.page
        broken = panel(page, BROKEN)
        expect(broken).to_contain_text(f"no records: {BROKEN_LINES - 2}")
        broken.get_by_role("link", name=f"Verify the ledger of {BROKEN}").click()
        expect(page.get_by_text("The ledger is NOT accepted.")).to_be_visible()
        expect(panel(page, "Verification")).to_contain_text("record 2, signature:")
        expect(panel(page, "Verification")).to_contain_text("record 3, unreadable:")
        rows = page.get_by_role("table").get_by_role("row")
        expect(rows).to_have_count(25 + 1)
        expect(rows.nth(1)).to_contain_text("unreadable")
        page.get_by_label("Next page").click()
        expect(rows).to_have_count(BROKEN_LINES - 25 + 1)
        hostile = rows.filter(has_text=HURT)
        expect(hostile).to_contain_text("signature")
        page.get_by_role("button", name="Show record 2").click()
        expect(page.get_by_role("dialog")).to_contain_text(HURT)
        assert page.evaluate("window.hurt") is None


def test_the_statement_is_the_api_s_and_prints_alone(signed_in: SignIn, api: httpx.Client) -> None:
    made = api.get(f"/v1/audit/federations/{FEDERATION}/statement").json()
    with signed_in() as visiting:
        page = visiting.page
        page.add_init_script("window.print = () => { window.printed = true }")
        page.get_by_role("link", name=f"Privacy statement of {FEDERATION}").click()
        for section in made["sections"]:
            expect(page.get_by_role("heading", name=section["title"])).to_be_visible()
        sentences = page.get_by_role("listitem").all_inner_texts()
        expected = [line for section in made["sections"] for line in section["sentences"]]
        assert [" ".join(text.split()) for text in sentences] == expected
        assert any(HURT in text for text in expected)
        assert page.evaluate("window.hurt") is None
        page.get_by_role("button", name="Print").click()
        page.wait_for_function("window.printed")
        visiting.show_dark(True)
        page.emulate_media(media="print")
        for unprinted in ("Print", "Sign out", "Light or dark"):
            expect(page.get_by_role("button", name=unprinted)).to_have_count(0)
        expect(page.get_by_role("heading", name="What is assumed")).to_be_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )


def test_what_there_is_not_is_said_in_the_page(signed_in: SignIn) -> None:
    said = {
        "/statement/nothing": "There is no federation 'nothing'",
        "/statement/NO<b>": "Federation: String should match pattern",
        "/ledger?population=nothing": "There is no population 'nothing'",
        "/ledger?population=..%2F<b>": "There is no population '../<b>'",
    }
    with signed_in() as visiting:
        for path, words in said.items():
            visiting.open(path)
            expect(visiting.page.locator(".panel")).to_contain_text(words)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_everybody_can_use_them(signed_in: SignIn, size: tuple[int, int], is_dark: bool) -> None:
    with signed_in(size=size) as visiting:
        page = visiting.page
        visiting.show_dark(is_dark)
        pages = {
            "/": f"The three epsilons of {FEDERATION}: as a table",
            f"/ledger?population={POPULATION}": "records are verified",
            f"/ledger?population={BROKEN}": "NOT accepted",
            f"/statement/{FEDERATION}": "What this statement does not cover",
        }
        for path, text in pages.items():
            visiting.open(path)
            expect(page.get_by_text(text).first).to_be_visible()
            if path == "/":
                page.get_by_text(text).click()
                expect(page.get_by_role("table")).to_be_visible()
            assert visiting.violations() == []
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
