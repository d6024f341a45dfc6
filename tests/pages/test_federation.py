"""What an owner sees and decides on the page about federations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from federation.participant.identity import FederationHome
from federation.roster import fingerprint
from privacy.receipts import Receipt
from retrieval.embedding import Embedder
from tests.federation.participant.plans import make_plan
from tests.federation.participant.sites import learning_site
from tests.pages.browser import NARROW, WIDE, Visit, visit
from tests.pages.federations import (
    HOSTILE,
    ROUNDS,
    FederatedNode,
    enrol,
    federated_node,
    plant,
)
from tests.pages.nodes import ServedNode, served_node

pytestmark = [pytest.mark.pages, pytest.mark.timeout(400)]

JOINED = "What this node has joined"
SPENT = "Privacy spent"
POLICY = "What this node agrees to"
VERSIONS = "Shared versions"
CONTRIBUTIONS = "What this node has contributed to"


@pytest.fixture(scope="module")
def federated(
    tmp_path_factory: pytest.TempPathFactory, embedder: Embedder
) -> Iterator[FederatedNode]:
    with federated_node(tmp_path_factory.mktemp("federated"), embedder.identity) as opened:
        yield opened


@contextmanager
def on_page(
    browser: Browser, node: ServedNode, key: str | None = None, **given: Any
) -> Iterator[Visit]:
    """A window on the page, once every part of it is there."""
    with visit(browser, node.url, **given) as opened:
        opened.sign_in(key or node.key)
        opened.open("/federation")
        expect(opened.page.get_by_label("Loading")).to_have_count(0)
        yield opened
        assert opened.page.evaluate("window.hurt") is None


def part(visit: Visit, title: str) -> Locator:
    return visit.page.get_by_role("region", name=title, exact=True)


def press(place: Locator, name: str) -> None:
    place.get_by_role("button", name=name, exact=True).click()


def dialog(visit: Visit) -> Locator:
    return visit.page.get_by_role("dialog")


def of_api(node: ServedNode, path: str) -> Any:
    return node.owner.get(f"/v1/federation/{path}").raise_for_status().json()


def states(node: ServedNode) -> dict[int, tuple[str, bool]]:
    versions = of_api(node, "versions")["data"]
    return {one["number"]: (one["state"], one["pinned"]) for one in versions}


def join(visit: Visit, url: str, token: str, name: str) -> None:
    visit.page.get_by_label("Coordinator's address").fill(url)
    visit.page.get_by_label("Token from its admin").fill(token)
    visit.page.get_by_label("What others see this node called").fill(name)
    visit.page.get_by_role("button", name="Join", exact=True).click()


def test_a_node_that_joined_nothing_says_what_to_do(browser: Browser, node: ServedNode) -> None:
    with on_page(browser, node) as visit:
        expect(part(visit, JOINED)).to_contain_text("This node takes part in nothing")
        expect(part(visit, SPENT)).to_contain_text("Nothing was ever joined")
        expect(part(visit, POLICY)).to_contain_text("It knows no plan yet")
        expect(part(visit, VERSIONS)).to_contain_text("No shared version has come yet")
        expect(part(visit, CONTRIBUTIONS)).to_contain_text("has entered no round yet")
        join(visit, "http://coordinator.example", "no token", "North clinic")
        refusal = visit.page.get_by_role("alert").filter(has_text="only https://")
        expect(refusal).to_be_visible()
        assert of_api(node, "memberships") == {"data": []}


def test_an_owner_joins_confirms_peers_pauses_and_leaves(
    browser: Browser, federated: FederatedNode, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        site = stack.enter_context(learning_site(tmp_path / "coordinator", "another model"))
        heard = fingerprint(enrol(stack, site, HOSTILE).identity)
        visit = stack.enter_context(on_page(browser, federated.node))
        panel = part(visit, JOINED).locator(".panel", has_text=site.url)
        visit.page.get_by_text("Join a coordinator", exact=True).click()
        token = site.token()
        join(visit, site.url, token, "West clinic")
        expect(panel).to_contain_text("Waits for the admin's approval")
        site.approve_all()
        expect(panel).to_contain_text("Takes part")

        def membership() -> Any:
            (found,) = (
                one for one in of_api(federated.node, "memberships")["data"]
                if one["url"] == site.url
            )  # fmt: skip
            return found

        expect(panel).to_contain_text(membership()["fingerprint"])
        expect(panel.get_by_text(HOSTILE, exact=True)).to_be_visible()
        press(panel, f"Confirm {HOSTILE}")
        expect(dialog(visit)).to_contain_text(heard)
        press(dialog(visit), "All of it is the same")
        expect(panel).to_contain_text("1 of 1 peer confirmed")
        peers = of_api(federated.node, f"memberships/{membership()['id']}/peers")["data"]
        assert {one["name"]: one["confirmed"] for one in peers}[HOSTILE] is True

        press(panel, "Pause")
        expect(panel).to_contain_text("paused: it enters no new round")
        assert membership()["paused"] is True
        press(panel, "Go on")
        expect(panel.get_by_role("button", name="Pause")).to_be_visible()
        assert membership()["paused"] is False

        join(visit, site.url, token, "West clinic")
        refusal = visit.page.get_by_role("alert").filter(has_text="The coordinator refused")
        expect(refusal).to_be_visible()

        press(panel, "Leave")
        press(dialog(visit), "Cancel")
        expect(dialog(visit)).to_have_count(0)
        assert membership()["state"] == "active"
        press(panel, "Leave")
        expect(dialog(visit)).to_contain_text("What was spent stays spent")
        press(dialog(visit), "Leave")
        expect(part(visit, JOINED)).to_contain_text(f"Left: clinics at {site.url}")
        expect(part(visit, JOINED)).to_contain_text(
            "Revoked by the coordinator: a population at https://revoked.example"
        )
        assert membership()["state"] == "left"


def test_the_effect_of_a_policy_is_in_view_before_it_is_saved(
    browser: Browser, federated: FederatedNode
) -> None:
    node = federated.node
    before = of_api(node, "policy")
    with on_page(browser, node) as visit:
        agreed = part(visit, POLICY)
        expect(agreed).to_contain_text("At least 10 nodes are invited to a round")
        expect(agreed).to_contain_text(f"Refused, from {federated.site.url}")
        expect(agreed).to_contain_text("cohort: the plan says 3, the policy wants at least 10")
        press(agreed, "Change what this node agrees to")
        form = dialog(visit)
        expect(form.get_by_label("Lifetime Renyi order")).to_be_disabled()
        expect(form).to_contain_text(f"Refused, from {federated.site.url}")

        form.get_by_label("Fewest nodes invited").fill("1")
        expect(form).to_contain_text("smallest_cohort must be at least 2")
        press(form, "Save")
        refusal = visit.page.get_by_role("alert").filter(has_text="must be at least 2")
        expect(refusal).to_be_visible()
        assert of_api(node, "policy") == before

        form.get_by_label("Fewest nodes invited").fill("3")
        form.get_by_label("Fewest nodes in a sum").fill("3")
        form.get_by_label("Largest delta of a plan").fill("0.001")
        expect(form).to_contain_text(f"Accepted, from {federated.site.url}")
        assert of_api(node, "policy") == before
        form.get_by_role("checkbox", name="Generator").click()
        form.get_by_role("checkbox", name="Feedback of users may enter rounds").click()
        press(form, "Save")
        expect(agreed).to_contain_text("At least 3 nodes are invited to a round")
        expect(agreed).to_contain_text("What may be adapted: retriever, with")
        expect(agreed).to_contain_text(f"Accepted, from {federated.site.url}")
        assert of_api(node, "policy") == before | {
            "smallest_cohort": 3,
            "smallest_min_survivors": 3,
            "largest_delta": 0.001,
            "adapters": ["retriever"],
            "shares_feedback": True,
        }
        agreed.get_by_text("What the whole plan may cost").click()
        costs = agreed.get_by_text("If all other nodes were dishonest: epsilon")
        expect(costs).to_contain_text("mode document, for one subject, adjacency zero-out")
    node.owner.put("/v1/federation/policy", json=before).raise_for_status()


def test_the_odometer_is_shown_against_the_limit(
    browser: Browser, federated: FederatedNode
) -> None:
    found = of_api(federated.node, "odometer")
    spent, limit = found["epsilon_spent"], found["epsilon_limit"]
    assert 0 < spent < limit
    with on_page(browser, federated.node) as visit:
        shown = part(visit, SPENT)
        expect(shown).to_contain_text(f"Epsilon {spent:.4g} of at most {limit:g}")
        expect(shown).to_contain_text("After 2 rounds, at delta 1e-5, for one subject")
        bar = shown.get_by_role("progressbar", name=SPENT)
        assert float(bar.get_attribute("aria-valuenow") or "") == pytest.approx(spent / limit)


def test_every_contribution_is_listed_with_its_receipt(
    browser: Browser, federated: FederatedNode
) -> None:
    newest = f"round-{ROUNDS - 1}"
    with on_page(browser, federated.node) as visit:
        listed = part(visit, CONTRIBUTIONS)
        entries = listed.get_by_role("listitem")
        expect(entries).to_have_count(20)
        expect(entries.first).to_contain_text(f"Left early: the coordinator said {HOSTILE}")
        expect(entries.first).to_contain_text("No receipt")
        press(listed, "Show 3 older")
        expect(entries).to_have_count(ROUNDS + 1)
        expect(entries.last).to_contain_text("round round-0")
        expect(entries.last).to_contain_text("3.37 kB sent")

        press(listed, f"Receipt of round {newest}")
        receipt = of_api(federated.node, f"receipts/{newest}")
        for value in (newest, receipt["signed"]["statement"]["head"], receipt["participant"]):
            expect(dialog(visit)).to_contain_text(value)
        press(dialog(visit), "Close")
        with visit.page.expect_download() as saved:
            listed.get_by_role("link", name=f"Download the receipt of round {newest}").click()
        kept = Receipt.from_bytes(saved.value.path().read_bytes())
        assert kept.signed.statement.round_id == newest


def test_an_owner_sees_what_versions_did_and_overrules_the_node(
    browser: Browser, federated: FederatedNode
) -> None:
    node = federated.node
    with on_page(browser, node) as visit:

        def version(number: int) -> Locator:
            return part(visit, VERSIONS).locator(".panel", has_text=f"version {number},")

        expect(part(visit, VERSIONS).locator(".panel").first).to_contain_text("version 3,")
        expect(version(3)).to_contain_text("In use")
        expect(version(3)).to_contain_text("Better by 0.091 on your questions")
        expect(version(3)).to_contain_text("Tried on 24 questions of your own")
        expect(version(2)).to_contain_text("Worse by 0.015 on your questions")
        expect(version(4)).to_contain_text("there were no questions to try it on")
        expect(version(4).get_by_role("heading")).to_contain_text(HOSTILE)

        press(version(1), "Pin version 1 of referrals")
        expect(dialog(visit)).to_contain_text("whatever its trial said")
        press(dialog(visit), "Pin")
        expect(version(1)).to_contain_text("In use, because you pinned it")
        assert (states(node)[1], states(node)[3]) == (("served", True), ("retired", False))
        press(version(1), "Refuse version 1 of referrals")
        press(dialog(visit), "Refuse")
        expect(version(1)).to_contain_text("Not used: you refused it")
        assert states(node)[1] == ("refused", False)


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("is_dark", [False, True])
def test_everybody_can_use_it(
    browser: Browser, federated: FederatedNode, size: tuple[int, int], is_dark: bool
) -> None:
    with on_page(browser, federated.node, size=size, is_dark=is_dark) as visit:
        expect(part(visit, JOINED)).to_contain_text("0 of 2 peers confirmed")
        shown = visit.page.locator("body.body--dark")
        expect(shown).to_have_count(int(is_dark))
        assert visit.violations() == []
        assert visit.overflow() == 0
        for opener in (
            "Change what this node agrees to",
            f"Receipt of round round-{ROUNDS - 1}",
            f"Confirm {HOSTILE}",
        ):
            press(visit.page.locator("body"), opener)
            expect(dialog(visit)).to_be_visible()
            assert visit.violations() == []
            assert visit.overflow() == 0
            visit.page.keyboard.press("Escape")
            expect(dialog(visit)).to_have_count(0)
        press(visit.page.locator("body"), "Light or dark")
        expect(shown).to_have_count(int(not is_dark))


def test_only_the_owner_of_the_whole_node_may_look(
    browser: Browser, federated: FederatedNode
) -> None:
    node = federated.node
    for given, words in (
        ({"scope": "user"}, "scope 'owner'"),
        ({"scope": "owner", "assistants": ["default"]}, "not bound to assistants"),
    ):
        with visit(browser, node.url) as visiting:
            visiting.sign_in(node.new_key(**given))
            visiting.open("/federation")
            expect(visiting.page.get_by_role("alert")).to_contain_text(words)
            expect(visiting.page.get_by_role("region")).to_have_count(0)


def test_a_revoked_key_closes_the_page(browser: Browser, federated: FederatedNode) -> None:
    key = federated.node.new_key(scope="owner")
    with on_page(browser, federated.node, key) as visit:
        federated.node.owner.delete(f"/v1/keys/{key.split('_')[1]}").raise_for_status()
        visit.page.wait_for_url(re.compile("/ui/sign-in"))
        expect(visit.page.get_by_label("Key")).to_be_visible()


def test_a_node_whose_odometer_is_damaged_says_so(browser: Browser, tmp_path: Path) -> None:
    def prepare(home: Path) -> None:
        plant(home, make_plan())
        odometer = FederationHome(home / "federation").odometer
        odometer.write_bytes(b"{}\n" + odometer.read_bytes())

    with (
        served_node(tmp_path / "node", prepare, errors=1) as node,
        on_page(browser, node) as visit,
    ):
        for title in (SPENT, POLICY):
            expect(part(visit, title).get_by_role("alert")).to_contain_text("damaged in line 1")
        expect(part(visit, CONTRIBUTIONS).get_by_role("listitem")).to_have_count(20)
