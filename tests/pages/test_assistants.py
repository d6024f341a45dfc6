"""The owner's assistants: made and ended, their keys, what they are told and what they learn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, expect

from tests.pages.browser import NARROW, WIDE, Visit
from tests.pages.conftest import NewVisit
from tests.pages.nodes import ServedNode
from tests.personal.towns import PLACES, question, rule, story
from tests.served import wait

pytestmark = pytest.mark.pages

HURT = '<script>window.hurt = 1</script><img src="x" onerror="window.hurt = 1">'
TOWN = "/v1/assistants/town"
SLOW = 120_000
"""Milliseconds for what a busy machine trains."""
NOTE_TRAINING = """() => {
  const bar = document.querySelector('[role=progressbar][aria-label=Training]');
  const train = [...document.querySelectorAll('button')].find(
    one => one.innerText.endsWith('Train'));
  new MutationObserver(() => {
    window.was_training ||= bar.checkVisibility() && train.disabled;
  }).observe(document.body, {subtree: true, attributes: true, childList: true});
}"""
"""Sets `was_training` once the page has shown a training, however soon that is over."""


@pytest.fixture
def town(node: ServedNode) -> Iterator[str]:
    """A fresh assistant with a hostile description that goes with the test."""
    body = {"name": "town", "description": f"Of the harbour {HURT}"}
    node.owner.post("/v1/assistants", json=body).raise_for_status()
    yield "town"
    node.owner.delete(TOWN)


def upload(node: ServedNode, files: dict[str, str]) -> None:
    """Under their names as external ids."""
    parts = [("file", (name, text.encode())) for name, text in files.items()]
    sent = node.owner.post(f"{TOWN}/documents", files=parts, data={"external_id": list(files)})
    assert wait(node.owner, sent.raise_for_status().json()["id"])["state"] == "done"


def teach(node: ServedNode) -> None:
    upload(node, {f"{place}-a.txt": story(place) for place in PLACES})
    upload(node, {f"{place}-b.txt": rule(place) for place in PLACES})
    lines = [{"question": question(p), "relevant": [f"{p}-b.txt"]} for p in PLACES]
    node.owner.post(f"{TOWN}/questions", content="\n".join(map(json.dumps, lines)))


def start(visit: Visit, node: ServedNode, path: str = "/assistants/town") -> None:
    visit.sign_in(node.key)
    visit.open(path)


def entry(visit: Visit, text: str) -> Locator:
    return visit.page.get_by_role("listitem").filter(has_text=text)


def found(node: ServedNode, path: str) -> Any:
    return node.owner.get(path).raise_for_status().json()


def test_an_assistant_is_made_and_deleted(visit_node: NewVisit, node: ServedNode) -> None:
    with visit_node() as visit:
        start(visit, node, "/assistants")
        name = visit.page.get_by_label("Name of a new assistant")
        name.fill("No Name!")
        visit.page.get_by_role("button", name="Create").click()
        expect(visit.page.get_by_text("'No Name!' is no name for an assistant")).to_be_visible()
        name.fill("attic")
        visit.page.get_by_label("What it is for").fill(f"Old things {HURT}")
        visit.page.get_by_role("button", name="Create").click()
        expect(entry(visit, f"Old things {HURT}")).to_be_visible()
        assert found(node, "/v1/assistants/attic")["description"] == f"Old things {HURT}"

        visit.page.get_by_role("link", name="attic", exact=True).click()
        visit.page.get_by_role("button", name="Delete attic").click()
        dialog = visit.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Delete the assistant “attic”?")
        dialog.get_by_role("button", name="Delete").click()
        visit.page.wait_for_url("**/assistants")
        expect(entry(visit, "attic")).to_have_count(0)
        assert node.owner.get("/v1/assistants/attic").status_code == 404
        visit.open("/assistants/attic")
        expect(visit.page.get_by_text("There is no assistant 'attic' for this key")).to_be_visible()
        assert visit.page.evaluate("window.hurt") is None


def test_a_key_is_shown_once_works_and_is_revoked(
    visit_node: NewVisit, node: ServedNode, town: str
) -> None:
    label = f"Tablet {HURT}"
    with visit_node() as visit:
        visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        start(visit, node, "/assistants")
        visit.page.get_by_role("button", name="New key").click()
        dialog = visit.page.get_by_role("dialog")
        dialog.get_by_label("Whom or what it is for").fill(label)
        dialog.get_by_label("Assistants").click()
        visit.page.get_by_role("option", name="town").click()
        visit.page.get_by_role("option", name="default").click()
        visit.page.keyboard.press("Escape")
        dialog.get_by_role("button", name="Create key").click()
        once = visit.page.get_by_role("dialog", name="The new key")
        key = once.get_by_label("Key").input_value()
        assert visit.violations() == []
        assert visit.shows(key)
        once.get_by_role("button", name="Copy").click()
        expect(visit.page.get_by_text("Copied.")).to_be_visible()
        assert visit.page.evaluate("navigator.clipboard.readText()") == key
        once.get_by_role("button", name="I have it").click()
        expect(entry(visit, label)).to_contain_text("Asks town")
        expect(once).to_have_count(0)
        assert not visit.shows(key)
        visit.open("/assistants")
        expect(entry(visit, label)).to_contain_text("Asks town")
        assert not visit.shows(key)
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60) as holder:
            models = holder.get(f"{node.url}/v1/models").json()["data"]
            assert [model["id"] for model in models] == ["town"]

            entry(visit, label).get_by_role("button", name="Change").click()
            dialog = visit.page.get_by_role("dialog")
            dialog.get_by_label("Standing instruction").fill("Answer in French.")
            dialog.get_by_role("checkbox").click()
            dialog.get_by_role("button", name="Save").click()
            expect(entry(visit, label)).to_contain_text("its feedback is trusted")
            kept = holder.get(f"{node.url}/v1/instructions").json()
            assert kept == {"instructions": "Answer in French."}

            entry(visit, label).get_by_role("button", name="Revoke").click()
            dialog = visit.page.get_by_role("dialog")
            expect(dialog).to_contain_text(f"Revoke “{label}”?")
            dialog.get_by_role("button", name="Revoke").click()
            expect(entry(visit, label).get_by_role("button")).to_have_count(0)
            assert holder.get(f"{node.url}/v1/models").status_code == 401
        assert visit.page.evaluate("window.hurt") is None


def test_keys_are_for_the_owner_of_the_node(
    visit_node: NewVisit, node: ServedNode, town: str
) -> None:
    with visit_node() as visit:
        visit.sign_in(node.new_key(scope="owner", assistants=["town"]))
        visit.open("/assistants")
        expect(visit.page.get_by_text("Keys cannot be managed from here")).to_be_visible()
        expect(visit.page.get_by_role("button", name="New key")).to_have_count(0)


def test_what_it_is_told_is_kept(visit_node: NewVisit, node: ServedNode, town: str) -> None:
    with visit_node() as visit:
        start(visit, node)
        expect(visit.page.get_by_text(f"Of the harbour {HURT}")).to_be_visible()
        visit.page.get_by_label("Instruction").fill(f"Be brief. {HURT}")
        visit.page.get_by_role("button", name="Save instruction").click()
        expect(visit.page.get_by_text("it holds from the next question on")).to_be_visible()
        visit.page.get_by_label("Days to keep them").fill("30")
        visit.page.get_by_role("button", name="Save days").click()
        expect(visit.page.get_by_text("Saved.", exact=True)).to_be_visible()
        kept = found(node, TOWN)
        assert (kept["instructions"], kept["conversation_days"]) == (f"Be brief. {HURT}", 30)
        visit.open("/assistants/town")
        expect(visit.page.get_by_label("Instruction")).to_have_value(f"Be brief. {HURT}")
        assert visit.page.evaluate("window.hurt") is None


def test_an_adapter_is_trained_compared_gone_back_to_and_reset(
    visit_node: NewVisit, node: ServedNode, town: str
) -> None:
    with visit_node() as visit:
        start(visit, node)
        train = visit.page.get_by_role("button", name="Train")
        train.click()
        expect(
            visit.page.get_by_text("A personal retriever needs 5 examples, and there are 0")
        ).to_be_visible()
        teach(node)
        visit.open("/assistants/town")
        for number in (1, 2):
            visit.page.evaluate(NOTE_TRAINING)
            train.click()
            visit.page.wait_for_function("window.was_training")
            # Whoever comes back finds it going on.
            visit.open("/assistants/town")
            expect(entry(visit, "in use")).to_be_visible(timeout=SLOW)
            expect(entry(visit, "Version")).to_have_count(number, timeout=SLOW)
            expect(train).to_be_enabled()
        second, first = found(node, f"{TOWN}/personal")["data"]
        expect(entry(visit, f"Version {second['id']}: in use")).to_contain_text(
            f"before{first['before']:.3f}after{first['after']:.3f}"
        )
        entry(visit, f"Version {first['id']}: kept").get_by_role("button").click()
        expect(entry(visit, f"Version {first['id']}: in use")).to_be_visible()
        assert [one["state"] for one in found(node, f"{TOWN}/personal")["data"]] == [
            "kept",
            "served",
        ]
        assert visit.violations() == []

        visit.page.get_by_label("Train by itself").click()
        visit.page.get_by_role("option", name="Every week").click()
        expect(visit.page.get_by_text("Saved.", exact=True)).to_be_visible()
        assert found(node, f"{TOWN}/personal")["schedule_hours"] == 168
        visit.page.get_by_role("button", name="Erase all versions").click()
        dialog = visit.page.get_by_role("dialog")
        dialog.get_by_role("button", name="Erase all versions").click()
        expect(visit.page.get_by_text("There is no version yet.")).to_be_visible()
        assert found(node, f"{TOWN}/personal")["data"] == []


def give(node: ServedNode, text: str, **more: Any) -> None:
    body = {"assistant": "town", "question": text, "answer": f"At nine [1]. {HURT}", **more}
    node.owner.post("/v1/feedback", json=body).raise_for_status()


def test_feedback_waits_for_the_owner(visit_node: NewVisit, node: ServedNode, town: str) -> None:
    upload(node, {"ferry.md": "The ferry leaves at nine."})
    (passage,) = node.owner.post("/v1/search", json={"assistant": "town", "query": "ferry"}).json()[
        "data"
    ]
    cited = [{"chunk_id": passage["chunk_id"]}]
    give(node, f"When leaves the ferry? {HURT}", rating=1, passages=cited)
    give(node, "And the bus?", rating=-1, reason=f"There is none. {HURT}")
    with visit_node() as visit:
        start(visit, node)
        expect(visit.page.get_by_text("2 answers to look at.")).to_be_visible()
        bus = entry(visit, "And the bus?")
        expect(bus).to_contain_text(f"Reason: There is none. {HURT}")
        bus.get_by_role("button", name="Approve").click()
        expect(visit.page.get_by_role("alert")).to_be_visible()
        bus.get_by_role("button", name="Reject").click()
        expect(visit.page.get_by_text("1 answer to look at.")).to_be_visible()
        entry(visit, f"When leaves the ferry? {HURT}").get_by_role("button", name="Approve").click()
        expect(visit.page.get_by_text("Nothing waits.")).to_be_visible()
        expect(entry(visit, "from feedback")).to_contain_text(f"When leaves the ferry? {HURT}")
        assert visit.page.evaluate("window.hurt") is None
    states = [one["state"] for one in found(node, f"{TOWN}/feedback")["data"]]
    assert states == ["rejected", "approved"]


def test_a_question_is_labelled_and_removed(
    visit_node: NewVisit, node: ServedNode, town: str
) -> None:
    upload(node, {f"{HURT[:70]}.md": f"The ferry leaves at nine. {HURT}", "bus.md": "No bus."})
    with visit_node() as visit:
        start(visit, node)
        visit.page.get_by_text("Label a question").click()
        visit.page.get_by_role("button", name="Save example").click()
        expect(visit.page.get_by_text("choose those that answer the question")).to_be_visible()
        visit.page.get_by_label("Question", exact=True).fill(f"When does the ferry leave? {HURT}")
        visit.page.get_by_role("button", name="Find passages").click()
        visit.page.get_by_role("checkbox", name="The ferry leaves at nine.").click()
        visit.page.get_by_label("Answer (optional)").fill("At nine.")
        visit.page.get_by_role("button", name="Save example").click()
        saved = entry(visit, f"When does the ferry leave? {HURT}")
        expect(saved).to_contain_text("Answer: At nine.")
        (kept,) = found(node, f"{TOWN}/questions?origin=upload")["data"]
        assert (len(kept["relevant"]), kept["answer"]) == (1, "At nine.")
        visit.page.get_by_role("button", name="From feedback").click()
        expect(visit.page.get_by_text("There are none of these yet.")).to_be_visible()
        visit.page.get_by_role("button", name="Labelled").click()
        saved.get_by_role("button", name="Remove").click()
        visit.page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(saved).to_have_count(0)
        assert visit.page.evaluate("window.hurt") is None
    assert found(node, f"{TOWN}/questions?origin=upload")["data"] == []


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_everybody_can_use_it(
    visit_node: NewVisit, node: ServedNode, town: str, size: tuple[int, int], is_dark: bool
) -> None:
    long = "w" * 150
    upload(node, {"ferry.md": f"# {long}\n\nThe ferry leaves at nine."})
    give(node, long, rating=-1, corrected_answer=long)
    with visit_node(size=size, is_dark=is_dark) as visit:
        start(visit, node, "/assistants")
        visit.show_dark(is_dark)
        assert visit.violations() == []
        assert visit.overflow() == 0
        visit.open("/assistants/town")
        visit.page.get_by_text("Label a question").click()
        expect(visit.page.get_by_label("Answer (optional)")).to_be_visible()
        assert visit.violations() == []
        assert visit.overflow() == 0
