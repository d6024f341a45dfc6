"""The admin's pages: participants, plans, rounds and versions, and what an auditor sees of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from api.pages.words import moment
from benchmarks.participants import Participant
from federation.enrolment import EnrolmentToken
from tests.coordinators import noisy_vector
from tests.pages.browser import NARROW, WIDE, Visit, visit
from tests.pages.conftest import NewVisit
from tests.pages.coordinators import (
    CREATED,
    LABEL,
    MEMBERS,
    NODES,
    PENDING,
    POPULATION,
    REASON,
    REVOKED,
    RUNNING,
    STOPPED,
    ServedCoordinator,
    empty_coordinator,
    plan_request,
)

pytestmark = pytest.mark.pages

Open = Callable[..., AbstractContextManager[Page]]
IMAGE = "<img src=x onerror='window.hurt = 1'>"
BASE_MODEL = "all-MiniLM-L6-v2@0123456789abcdef/torch-float32"


@pytest.fixture
def open_page(visit_coordinator: NewVisit, coordinator: ServedCoordinator) -> Open:
    """Signs an admin, or whose key is given, in and opens a page."""

    @contextmanager
    def open_(path: str, key: str = "", **options: Any) -> Iterator[Page]:
        with visit_coordinator(**options) as visit:
            visit.sign_in(key or coordinator.key)
            visit.open(path)
            yield visit.page
            assert visit.page.evaluate("window.hurt") is None

    return open_


def press(page: Page | Locator, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def confirm(page: Page, action: str, about: str) -> None:
    """Press the button of the question that names `about`."""
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_contain_text(about)
    press(dialog, action)
    expect(dialog).to_have_count(0)


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option).click()


def test_a_node_is_let_in_with_a_token_and_shut_out(
    open_page: Open, coordinator: ServedCoordinator
) -> None:
    with (
        open_page("/participants") as page,
        httpx.Client(base_url=coordinator.url, timeout=60) as http,
    ):
        choose(page, "Population", NODES)
        expect(page.get_by_text("Nobody yet. Make a token")).to_be_visible()
        page.get_by_label("What the token is for").fill(IMAGE)
        press(page, "Make a token")
        shown = page.get_by_label("Token", exact=True).last
        token = EnrolmentToken.parse(shown.input_value())
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject() }")
        press(page, "Copy")
        expect(page.get_by_text("The browser did not let it be copied")).to_be_visible()
        press(page, "Done")
        expect(page.get_by_text("Not used, expires in 7 days")).to_be_visible()
        expect(page.get_by_text(IMAGE, exact=True)).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert not Visit(coordinator.url, page).shows(token.secret)

        participant = Participant(http, token.coordinator, noisy_vector)
        assert participant.enrol(token, f"Kiosk {PENDING}").status_code == 201
        page.reload()
        choose(page, "Population", NODES)
        expect(page.get_by_text("Waits for approval")).to_be_visible()
        assert not Visit(coordinator.url, page).shows(token.secret)
        press(page, f"Approve Kiosk {PENDING}")
        fingerprint = " ".join(re.findall("....", participant.identity))
        expect(page.get_by_role("dialog")).to_contain_text(fingerprint)
        confirm(page, "Approve", f"Approve Kiosk {PENDING}?")
        # Among the participants and in the roster.
        expect(page.get_by_text(fingerprint, exact=True)).to_have_count(2)
        participant.open_session()
        participant.work()

        page.reload()
        choose(page, "Population", NODES)
        kiosk = page.get_by_role("listitem").filter(has_text=fingerprint)
        expect(kiosk).to_contain_text("last seen just now")
        press(page, f"Revoke Kiosk {PENDING}")
        confirm(page, "Revoke", f"Revoke Kiosk {PENDING} for ever?")
        expect(page.get_by_text("Nobody is approved yet.")).to_be_visible()
        expect(page.get_by_text(f"Used by Kiosk {PENDING}")).to_be_visible()
        assert page.get_by_role("button", name="Revoke").count() == 0
        assert http.get("/v1/participant/work").status_code == 401


def test_participants_and_the_roster_are_those_of_the_api(
    open_page: Open, coordinator: ServedCoordinator
) -> None:
    members = coordinator.ask("GET", f"/v1/admin/participants?population={POPULATION}")["data"]
    own = coordinator.ask("GET", "/v1/audit/coordinator")["fingerprint"]
    with open_page("/participants") as page:
        expect(page.get_by_role("listitem").filter(has_text=PENDING).first).to_be_visible()
        for member in members:
            row = page.get_by_role("listitem").filter(has_text=member["fingerprint"])
            expect(row).to_contain_text(member["name"])
            # An approved one is in the roster too.
            places = 2 if member["state"] == "approved" else 1
            expect(page.get_by_text(member["fingerprint"], exact=True)).to_have_count(places)
        assert {member["name"] for member in members} >= {*MEMBERS, REVOKED, PENDING}
        expect(page.get_by_text(own, exact=True)).to_be_visible()
        expect(page.get_by_text(LABEL, exact=True)).to_be_visible()


def test_what_the_api_refuses_is_told(open_page: Open, coordinator: ServedCoordinator) -> None:
    """Somebody else was faster: the page still offers what cannot be done any more."""
    with httpx.Client(base_url=coordinator.url, timeout=60) as http:
        participant = coordinator.enrol(http, POPULATION, "Too late")
        number = coordinator.id_of(participant)
        with open_page("/participants") as page:
            expect(page.get_by_role("button", name="Approve Too late")).to_be_visible()
            coordinator.ask("POST", f"/v1/admin/participants/{number}/revoke")
            refused = coordinator.admin.post(f"/v1/admin/participants/{number}/approve")
            assert refused.status_code == 409
            press(page, "Approve Too late")
            confirm(page, "Approve", "Too late")
            expect(page.get_by_role("alert")).to_contain_text(
                refused.json()["error"]["message"], ignore_case=True
            )


def fill_plan(page: Page, name: str, **fields: str) -> None:
    typed = {
        "Name": name,
        "Base model": BASE_MODEL,
        "Dimension of the vectors": "32",
        "Epsilon of all rounds": "0.5",
        "Rounds": "8",
        "Nodes in a round": "6",
        "Planned subjects": "2000",
    }
    for label, value in (typed | {key.replace("_", " "): fields[key] for key in fields}).items():
        page.get_by_label(label, exact=True).fill(value)


def meaning(page: Page) -> Locator:
    return page.get_by_role("region", name="What the plan means")


def preview(coordinator: ServedCoordinator, **changes: Any) -> dict[str, Any]:
    """What the API says about the plan of `fill_plan`."""
    timing = {"enlist_seconds": 60, "phase_seconds": 60, "training_seconds": 600}
    request = plan_request(
        federation="leaflets", epsilon=0.5, delta=None, rounds=8, drop_out=0.2, timing=timing
    )
    found: dict[str, Any] = coordinator.ask(
        "POST", "/v1/admin/federations/preview", request | changes
    )
    return found


def expect_numbers(page: Page, found: dict[str, Any]) -> None:
    shown = meaning(page)
    for guarantee in found["total"].values():
        expect(shown).to_contain_text(f"ε {guarantee['epsilon']:.4g}")
        expect(shown).to_contain_text(
            f"Mode {guarantee['mode']}, unit {guarantee['unit']}, adjacency "
            f"{guarantee['adjacency']}; assumes that {guarantee['trust']}."
        )
    expect(shown).to_contain_text(f"Noise-to-signal{found['noise_to_signal']:.3g}")
    up, down = found["bytes_up"] / 1000, found["bytes_down"] / 1000
    expect(shown).to_contain_text(f"{up:.3g} kB up, {down:.3g} kB down")


def test_the_numbers_of_a_plan_change_while_typing(
    open_page: Open, coordinator: ServedCoordinator
) -> None:
    with open_page("/plan") as page:
        expect(meaning(page)).to_contain_text("Still to be filled in: Name, Planned subjects.")
        expect(page.get_by_role("button", name="Create federation")).to_be_disabled()
        fill_plan(page, "leaflets")
        expect_numbers(page, preview(coordinator))
        expect(page.get_by_role("button", name="Create federation")).to_be_enabled()
        page.get_by_label("Rank").fill("8")
        adapter = plan_request()["adapter"] | {"rank": 8}
        expect_numbers(page, preview(coordinator, adapter=adapter))
        page.get_by_label("Epsilon of all rounds").fill("0.25")
        expect_numbers(page, preview(coordinator, adapter=adapter, epsilon=0.25))
        choose(page, "Mode", "local")
        expect_numbers(page, preview(coordinator, adapter=adapter, epsilon=0.25, mode="local"))
        page.get_by_label("Planned subjects").fill("200")
        found = preview(coordinator, adapter=adapter, epsilon=0.25, mode="local", planned_rows=200)
        expect_numbers(page, found)
        assert any("noise-to-signal" in warning for warning in found["warnings"])
        for warning in found["warnings"]:
            expect(meaning(page)).to_contain_text(f"Warning: {warning}")


def test_what_the_api_refuses_of_a_plan_is_refused_in_its_words(
    open_page: Open, coordinator: ServedCoordinator
) -> None:
    with open_page("/plan") as page:
        fill_plan(page, "leaflets", Delta="0.5")
        request = plan_request(federation="leaflets", delta=0.5)
        refused = coordinator.admin.post("/v1/admin/federations/preview", json=request)
        assert refused.status_code == 400
        expect(page.get_by_role("alert")).to_contain_text(refused.json()["error"]["message"])
        expect(page.get_by_role("button", name="Create federation")).to_be_disabled()
        page.get_by_label("Delta", exact=True).fill("a little")
        expect(page.get_by_role("alert")).to_contain_text("delta: Input should be a valid number")
        page.get_by_label("Delta", exact=True).fill("")
        page.get_by_label("Epsilon of all rounds").fill("40")
        refusal = preview(coordinator, epsilon=40)["refusal"]
        assert "would exceed epsilon" in refusal
        expect(page.get_by_role("alert")).to_contain_text(refusal)
        expect(page.get_by_role("button", name="Create federation")).to_be_disabled()
        # The mode of a population that protects nodes is another one.
        page.get_by_label("Epsilon of all rounds").fill("0.5")
        expect(page.get_by_role("alert")).to_have_count(0)
        choose(page, "Population", NODES)
        expect(page.get_by_role("alert")).to_be_visible()


def test_a_generator_s_layers_are_typed_a_line_each(open_page: Open) -> None:
    with open_page("/plan") as page:
        fill_plan(page, "wording")
        choose(page, "Adapter", "Generator")
        page.get_by_label("Adapted layers").fill("model.layers.0.q_proj, 576")
        expect(page.get_by_role("alert")).to_contain_text("adapter.modules.0.outputs")
        page.get_by_label("Adapted layers").fill("model.layers.0.q_proj, 576, 576\n")
        expect(meaning(page)).to_contain_text("Parameters2,304")


@pytest.fixture
def visit_empty(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """A signed-in admin of a coordinator that has just been made."""
    with empty_coordinator(tmp_path) as served, visit(browser, served.url) as visiting:
        visiting.sign_in(served.key)
        yield visiting


def test_the_whole_way_from_nothing_to_a_running_federation(visit_empty: Visit) -> None:
    page = visit_empty.page
    expect(page.get_by_text("There is no population yet")).to_be_visible()
    visit_empty.open("/ledger")
    expect(page.get_by_text("There is no ledger yet")).to_be_visible()
    assert visit_empty.violations() == []
    visit_empty.open("/versions")
    expect(page.get_by_text("There is no federation yet, and so no version.")).to_be_visible()
    visit_empty.open("/rounds")
    expect(page.get_by_text("There is no federation yet.")).to_be_visible()
    expect(page.get_by_role("link", name="Plan one")).to_be_visible()
    visit_empty.open("/participants")
    page.get_by_role("link", name="Make a population for a new federation").click()
    expect(meaning(page)).to_contain_text("Population, Name, Base model, Planned subjects")
    fill_plan(page, "triage")
    press(page, "New population")
    page.get_by_label("Name of the population").fill("Not a name")
    press(page, "Make it")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("name: ")
    page.get_by_label("Name of the population").fill("clinics")
    page.get_by_label("Epsilon of all federations").fill("0.7")
    press(page, "Make it")
    expect(meaning(page)).to_contain_text("Budget of clinics")
    press(page, "Create federation")
    confirm(page, "Create", "Create triage?")
    page.wait_for_url(re.compile("/ui/rounds$"))
    expect(page.get_by_text("No round was opened.")).to_be_visible()
    press(page, "Start triage")
    confirm(page, "Start", "Start triage?")
    expect(page.get_by_text("Running", exact=True)).to_be_visible()
    expect(page.get_by_text("The next round opens once 4 nodes are approved")).to_be_visible()
    press(page, "Pause triage")
    page.get_by_label("Reason (nodes and auditors may read it)").fill(IMAGE)
    confirm(page, "Pause", "Pause triage?")
    expect(page.get_by_text(f"Reason: {IMAGE}")).to_be_visible()
    press(page, "Resume triage")
    press(page, "Stop triage")
    confirm(page, "Stop", "Stop triage for ever?")
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    assert page.get_by_role("button", name="triage").count() == 0
    assert page.evaluate("window.hurt") is None


def panel(page: Page, federation: str) -> Locator:
    heading = page.get_by_role("heading", name=federation, exact=True)
    return page.locator("section").filter(has=heading)


def test_rounds_are_seen_as_they_happen(open_page: Open, coordinator: ServedCoordinator) -> None:
    newest = coordinator.play(RUNNING, "enlisting")
    name = f"{newest['slot'] + 1} of 12"
    with open_page("/rounds") as page:
        shown = panel(page, RUNNING)
        row = shown.get_by_role("row").filter(has_text=name)
        step = shown.locator("[aria-current=step]")
        expect(step).to_contain_text("Enlisting")
        expect(shown).to_contain_text(f"Round {name} is under way.")
        for stage, words in (("keys", "Keys"), ("masked", "Training and masked vectors")):
            coordinator.play(RUNNING, stage)
            expect(step).to_contain_text(words)
            expect(row).to_contain_text(words)
            expect(shown).to_contain_text("5 nodes joined.")
        due = coordinator.play(RUNNING, "survivors")["deadline"]
        expect(shown).to_contain_text(f"This phase ends at the latest {moment(due)}, in ")
        coordinator.play(RUNNING, "enlisting")
        expect(row.get_by_role("cell")).to_contain_text([name, "Released", "5", "0", "–"])
        expect(step).to_contain_text("Enlisting")
        # The round of which a node was revoked, and the one that failed.
        expect(shown.get_by_role("row").filter(has_text="3 of 12")).to_contain_text("Released61")
        stopped = panel(page, STOPPED)
        expect(stopped).to_contain_text(f"Reason: {REASON}")
        expect(stopped.get_by_role("row").last).to_contain_text("Failed")
        expect(stopped.get_by_role("row").last).to_contain_text("the federation was stopped")


def test_versions_are_promoted_rolled_back_and_downloaded(
    open_page: Open, coordinator: ServedCoordinator
) -> None:
    versions = coordinator.ask("GET", f"/v1/audit/federations/{RUNNING}/versions")["data"]
    with open_page("/versions") as page:
        shown = panel(page, RUNNING)
        expect(shown).to_contain_text("Version 0 is promoted.")
        expect(page.get_by_role("button", name=f"Roll back {CREATED}")).to_have_count(0)
        for version in versions:
            row = shown.get_by_role("row").filter(has_text=version["parameters_hash"])
            expect(row).to_contain_text(version["round_id"] or "Where training began")
        press(page, f"Promote {RUNNING} 2")
        confirm(page, "Promote", f"Promote version 2 of {RUNNING}?")
        expect(shown).to_contain_text("Version 2 is promoted.")
        press(page, f"Roll back {RUNNING}")
        confirm(page, "Roll back", f"Roll {RUNNING} back by one version?")
        expect(shown).to_contain_text("Version 1 is promoted.")
        with page.expect_download() as downloading:
            page.get_by_role("link", name=f"Download {RUNNING} 2").click()
        path = f"/v1/admin/federations/{RUNNING}/versions"
        assert downloading.value.suggested_filename == f"{RUNNING}-2.f32"
        content = Path(downloading.value.path()).read_bytes()
        assert content == coordinator.admin.get(f"{path}/2/parameters").content
        # Somebody else was faster.
        coordinator.ask("POST", f"{path}/0/promote")
        refused = coordinator.admin.post(f"/v1/admin/federations/{RUNNING}/roll-back")
        assert refused.is_client_error
        press(page, f"Roll back {RUNNING}")
        confirm(page, "Roll back", f"Roll {RUNNING} back by one version?")
        expect(page.get_by_role("alert")).to_contain_text(
            refused.json()["error"]["message"], ignore_case=True
        )


def test_an_auditor_reads_and_is_offered_nothing_to_do(
    open_page: Open, coordinator: ServedCoordinator
) -> None:
    with open_page("/rounds", coordinator.auditor_key) as page:
        expect(panel(page, RUNNING)).to_contain_text("Released")
        shown = {"Light or dark", "Sign out"}
        assert {one.get_attribute("aria-label") or one.inner_text() for one in buttons(page)} == (
            shown
        )
        page.goto(f"{coordinator.url}/ui/versions")
        expect(panel(page, RUNNING)).to_contain_text("is promoted.")
        assert len(buttons(page)) == len(shown)
        assert page.get_by_role("link", name="Download").count() == 0
        for path in ("participants", "plan"):
            page.goto(f"{coordinator.url}/ui/{path}")
            expect(page.get_by_role("alert")).to_contain_text("This needs an admin's key")


def buttons(page: Page) -> list[Locator]:
    return page.get_by_role("button").all()


def test_a_page_whose_key_was_revoked_asks_to_sign_in(
    open_page: Open, coordinator: ServedCoordinator
) -> None:
    new = {"label": "for a while", "role": "admin"}
    made = coordinator.ask("POST", "/v1/admin/keys", new)
    with open_page("/rounds", made["key"]) as page:
        expect(panel(page, RUNNING)).to_be_visible()
        assert coordinator.admin.delete(f"/v1/admin/keys/{made['id']}").is_success
        page.wait_for_url(re.compile("/ui/sign-in"))
        expect(page.get_by_label("Key")).to_be_visible()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_the_pages_can_be_used_by_everybody(
    visit_coordinator: NewVisit,
    coordinator: ServedCoordinator,
    size: tuple[int, int],
    is_dark: bool,
) -> None:
    def check() -> None:
        assert visit.violations() == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]

    with visit_coordinator(size=size, is_dark=is_dark) as visit:
        visit.sign_in(coordinator.key)
        page = visit.page
        visit.open("/participants")
        expect(page.locator("body")).to_have_class(re.compile("body--dark" if is_dark else "light"))
        expect(page.get_by_text(PENDING, exact=True).first).to_be_visible()
        check()
        press(page, f"Approve {PENDING}")
        expect(page.get_by_role("dialog")).to_be_visible()
        check()
        # Whoever leaves with a question open has answered nothing.
        visit.open("/versions")
        expect(page.get_by_role("link", name=f"Download {RUNNING} 1")).to_be_visible()
        check()
        visit.open("/rounds")
        press(page, f"Pause {RUNNING}")
        expect(page.get_by_label("Reason (nodes and auditors may read it)")).to_be_visible()
        check()
        press(page, "Cancel")
        expect(page.get_by_role("dialog")).to_have_count(0)
        check()
        visit.open("/plan")
        expect(page.get_by_label("Base model")).to_be_visible()
        fill_plan(page, "leaflets")
        expect(meaning(page)).to_contain_text("Noise-to-signal")
        check()
        page.get_by_label("Epsilon of all rounds").fill("40")
        expect(page.get_by_role("alert")).to_be_visible()
        check()
