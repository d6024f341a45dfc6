"""The editor of plans: what a plan means while it is typed, and the way from it to a federation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.pages.admin import IMAGE, Open, choose, confirm, fill_plan, meaning, press
from tests.pages.browser import Visit, visit
from tests.pages.coordinators import (
    NODES,
    ServedCoordinator,
    empty_coordinator,
    plan_request,
)

pytestmark = pytest.mark.pages


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
