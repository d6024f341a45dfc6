"""The admin's pages: participants, rounds and versions, and what an auditor sees of them."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from api.pages.words import moment
from benchmarks.participants import Participant
from federation.enrolment import EnrolmentToken
from tests.coordinators import noisy_vector
from tests.pages.admin import IMAGE, Open, choose, confirm, fill_plan, meaning, press
from tests.pages.browser import NARROW, WIDE, Visit
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
)

pytestmark = pytest.mark.pages


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
