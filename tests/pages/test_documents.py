"""The owner's documents: sent, read or refused, found, looked at, replaced, erased."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Locator, expect

from tests.pages.browser import NARROW, WIDE, Visit
from tests.pages.conftest import NewVisit
from tests.pages.nodes import ServedNode
from tests.served import wait

pytestmark = pytest.mark.pages

HURT = '<script>window.hurt = 1</script><img src="x" onerror="window.hurt = 1">'
NAME = "<img src=x onerror='window.hurt = 1'>.md"
SLOW = 120_000
"""Milliseconds for what a busy machine reads or erases."""


@pytest.fixture
def papers(node: ServedNode) -> Iterator[str]:
    """A fresh assistant that goes with the test."""
    node.owner.post("/v1/assistants", json={"name": "papers"}).raise_for_status()
    yield "papers"
    node.owner.delete("/v1/assistants/papers")


def paper(name: str, text: str) -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": text.encode()}


def upload(node: ServedNode, files: dict[str, str]) -> dict[str, str]:
    """The ids of documents that are sent past the page."""
    parts = [("file", (name, text.encode())) for name, text in files.items()]
    sent = node.owner.post("/v1/assistants/papers/documents", files=parts).raise_for_status()
    items = wait(node.owner, sent.json()["id"])["items"]
    return {item["name"]: item["document_id"] for item in items}


def listed(node: ServedNode) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = node.owner.get("/v1/assistants/papers/documents").json()["data"]
    return found


def start(visit: Visit, node: ServedNode) -> None:
    visit.sign_in(node.key)
    visit.open("/documents?assistant=papers")


def row(visit: Visit, name: str) -> Locator:
    """The entry of a document or of a file that was sent."""
    return visit.page.get_by_role("listitem").filter(has_text=name)


def test_many_files_are_sent_and_each_says_what_became_of_it(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    with visit_node() as visit:
        start(visit, node)
        expect(visit.page.get_by_text("There are no documents yet.")).to_be_visible()
        visit.page.locator("input[type=file]").set_input_files(
            [
                paper("harbour.md", "# Harbour\n\nA berth costs 42 crowns a night."),
                paper(NAME, f"# Ferries {HURT}\n\nThe ferry leaves at nine. {HURT}"),
                paper("empty.txt", ""),
                paper("huge.txt", "x" * 100_001),
            ]
        )
        summary = visit.page.get_by_text("4 files sent in the last 24 hours: all read, 2 refused")
        expect(summary).to_be_visible(timeout=SLOW)
        expect(row(visit, "huge.txt")).to_contain_text("refused: 0 MiB; at most 0 MiB are accepted")
        expect(row(visit, "empty.txt")).to_contain_text("refused: The file is empty.")
        expect(row(visit, "harbour.md").first).to_contain_text("stored, 1 passage")
        expect(visit.page.get_by_text("2 documents with 2 passages")).to_be_visible()

        visit.page.get_by_role("button", name=NAME, exact=True).click()
        shown = visit.page.get_by_role("dialog")
        expect(shown).to_contain_text(f"The ferry leaves at nine. {HURT}")
        expect(shown.get_by_role("heading", name=NAME)).to_be_visible()
        assert visit.violations() == []
        shown.get_by_role("button", name="Close").click()

        visit.open("/documents?assistant=papers")
        expect(summary).to_be_visible()
        assert visit.page.evaluate("window.hurt") is None
    assert {document["name"] for document in listed(node)} == {"harbour.md", NAME}


def test_a_slow_upload_shows_how_far_it_is(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    with visit_node() as visit:
        start(visit, node)
        network = visit.page.context.new_cdp_session(visit.page)
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1}
        network.send("Network.enable")
        network.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": 4_000})
        # Long to send and soon read.
        name = "<img src=x onerror='window.hurt = 1'>.html"
        page = f"<p>Rain.</p><!-- {'x' * 90_000} -->"
        visit.page.locator("input[type=file]").set_input_files([paper(name, page)])
        sending = visit.page.get_by_role("progressbar", name=f"Sending {name}")
        expect(sending).to_be_visible()
        expect(visit.page.get_by_text("% sent")).to_be_visible()
        network.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        expect(row(visit, name).first).to_contain_text("stored", timeout=SLOW)
        expect(sending).to_have_count(0)
        assert visit.page.evaluate("window.hurt") is None


def test_files_are_dropped_anywhere_on_the_page(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    upload(node, {"first.md": "An anvil."})
    with visit_node() as visit:
        start(visit, node)
        files = visit.page.evaluate_handle(
            """() => {
              const dropped = new DataTransfer();
              dropped.items.add(new File(['An anvil.'], 'again.md'));
              dropped.items.add(new File(['A pair of bellows.'], 'bellows.md'));
              return dropped;
            }"""
        )
        search = visit.page.get_by_role("button", name="Search", exact=True)
        search.dispatch_event("drop", {"dataTransfer": files})
        expect(row(visit, "again.md")).to_contain_text(
            "not stored again: the same content is here already", timeout=SLOW
        )
        expect(row(visit, "bellows.md").first).to_contain_text("stored", timeout=SLOW)
    assert {document["name"] for document in listed(node)} == {"first.md", "bellows.md"}


def test_what_the_api_refuses_is_named_with_the_reason(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    with visit_node() as visit:
        start(visit, node)
        node.owner.delete("/v1/assistants/papers").raise_for_status()
        visit.page.locator("input[type=file]").set_input_files([paper(NAME, "late")])
        problem = visit.page.get_by_role("listitem").filter(has_text="there is no assistant")
        expect(problem).to_contain_text(f"{NAME}: there is no assistant 'papers' for this key")
        with visit.page.expect_response(lambda answer: answer.request.method == "POST"):
            visit.page.get_by_role("button", name="Send again").click()
        expect(problem).to_be_visible()
        visit.page.get_by_role("button", name="Leave out").click()
        expect(problem).to_have_count(0)
        assert visit.page.evaluate("window.hurt") is None
        # The browser calls an answer 404 an error of the page.
        assert all("404" in one for one in visit.problems) and len(visit.problems) == 2
        visit.problems.clear()


def test_who_signed_out_elsewhere_is_sent_to_sign_in(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    with visit_node() as visit:
        start(visit, node)
        visit.page.request.post(
            f"{visit.url}/ui/sign-out", headers={"Origin": visit.url}, max_redirects=0
        )
        visit.page.locator("input[type=file]").set_input_files([paper("late.md", "late")])
        visit.page.wait_for_url("**/ui/sign-in")
    assert listed(node) == []


def test_documents_are_found_by_name_and_by_text(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    weather = "\n\n".join(f"## Day {n}\n\n{f'Rain fell on day {n}. ' * 40}" for n in range(35))
    upload(
        node,
        {
            "log.md": f"# Log {HURT}\n\n{weather}\n\n## Bell\n\nThe bronze bell rang. {HURT}",
            "Tariff.md": "# Prices\n\nA berth costs 42 crowns.",
        },
    )
    with visit_node() as visit:
        start(visit, node)
        field = visit.page.get_by_label("Search names and texts")
        field.fill("tariff")
        field.press("Enter")
        expect(visit.page.get_by_text("1 document with “tariff” in its name")).to_be_visible()
        expect(visit.page.get_by_role("checkbox")).to_have_count(1)
        best = visit.page.get_by_role("listitem").filter(has_text="A berth costs 42 crowns.")
        best.get_by_role("button", name="Tariff.md").click()
        shown = visit.page.get_by_role("dialog")
        expect(shown.get_by_role("mark")).to_have_text("A berth costs 42 crowns.")
        shown.get_by_role("button", name="Close").click()
        # What was searched before comes too late.
        field.fill("rain")
        field.press("Enter")
        field.fill("bronze bell")
        visit.page.get_by_role("button", name="Search", exact=True).click()
        expect(visit.page.get_by_text("No document with “bronze bell”")).to_be_visible()
        best = visit.page.get_by_role("listitem").filter(has_text="The bronze bell rang.")
        best.get_by_role("button", name="log.md").click()
        expect(shown.get_by_role("mark")).to_have_text(f"The bronze bell rang. {HURT}")
        expect(shown.get_by_role("mark")).to_be_in_viewport()
        assert visit.page.evaluate("window.hurt") is None


def test_a_document_is_replaced_in_its_place(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    document_id = upload(node, {"rules.md": "The pier is closed."})["rules.md"]
    with visit_node() as visit:
        start(visit, node)
        visit.page.get_by_role("button", name="Replace rules.md").click()
        dialog = visit.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Replace “rules.md”")
        assert visit.violations() == []
        dialog.locator("input[type=file]").set_input_files(paper("new.md", "The pier is open."))
        expect(dialog).to_have_count(0)
        expect(visit.page.get_by_text("version 2")).to_be_visible(timeout=SLOW)
    (document,) = listed(node)
    assert (document["id"], document["name"]) == (document_id, "new.md")
    passages = node.owner.get(f"/v1/assistants/papers/documents/{document_id}/passages").json()
    assert [passage["text"] for passage in passages["data"]] == ["The pier is open."]


def test_erasing_asks_first_and_leaves_a_receipt(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    ids = upload(node, {NAME: "One.", "two.md": "Two.", "three.md": "Three."})
    with visit_node() as visit:
        start(visit, node)
        for name in (NAME, "two.md"):
            visit.page.get_by_role("checkbox", name=f"Choose {name}").click()
        visit.page.get_by_role("button", name="Erase 2 chosen documents").click()
        dialog = visit.page.get_by_role("dialog")
        expect(dialog.get_by_role("heading")).to_have_text(f"Erase “{NAME}” and 1 other document?")
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_have_count(0)
        assert len(listed(node)) == 3

        visit.page.get_by_role("button", name="Erase 2 chosen documents").click()
        dialog.get_by_role("button", name="Erase", exact=True).click()
        expect(dialog).to_contain_text("Receipt of an erasure", timeout=SLOW)
        for name in (NAME, "two.md"):
            expect(dialog).to_contain_text(f"{ids[name]}: 1 passage, 1 vector")
        assert visit.violations() == []
        with visit.page.expect_download() as saved:
            dialog.get_by_role("link", name="Download").click()
        dialog.get_by_role("button", name="Close").click()
        expect(visit.page.get_by_text("1 document with 1 passage")).to_be_visible()
        expect(visit.page.get_by_text("2 documents, ")).to_be_visible()
        expect(visit.page.get_by_text("chosen document")).to_be_hidden()
        assert visit.page.evaluate("window.hurt") is None
        receipt = json.loads(saved.value.path().read_bytes())["result"]["receipt"]
        assert saved.value.suggested_filename == f"{receipt['id']}.json"
        assert {one["id"] for one in receipt["documents"]} == {ids[NAME], ids["two.md"]}
        assert [document["name"] for document in listed(node)] == ["three.md"]

        # The button goes with its row, before there is a receipt.
        visit.page.get_by_role("button", name="Erase three.md").click()
        dialog.get_by_role("button", name="Erase", exact=True).click()
        expect(dialog).to_contain_text("Receipt of an erasure", timeout=SLOW)
        expect(dialog).to_contain_text(f"{ids['three.md']}: 1 passage, 1 vector")
    assert listed(node) == []


def test_what_is_chosen_shown_and_begun_stays_while_files_are_read(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    upload(node, {f"{number}.md": f"Number {number}." for number in range(51)})
    with visit_node() as visit:
        start(visit, node)
        boxes = visit.page.get_by_role("checkbox")
        expect(boxes).to_have_count(50)
        visit.page.get_by_role("button", name="Show more").click()
        expect(boxes).to_have_count(51)
        oldest = visit.page.get_by_role("listitem").last.get_by_role("button").first.inner_text()
        boxes.last.click()
        visit.page.get_by_role("button", name="Replace 7.md").click()
        dialog = visit.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Replace “7.md”")
        visit.page.locator("input[type=file]").first.set_input_files(paper("new.md", "New."))
        expect(boxes).to_have_count(52, timeout=SLOW)
        expect(boxes.first).to_have_accessible_name("Choose new.md")
        expect(boxes.last).to_have_accessible_name(f"Choose {oldest}")
        expect(boxes.last).to_be_checked()
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_have_count(0)
        visit.page.get_by_role("button", name="Erase 1 chosen document").click()
        expect(dialog.get_by_role("heading")).to_have_text(f"Erase “{oldest}”?")


def test_the_keyboard_is_enough_to_erase(
    visit_node: NewVisit, node: ServedNode, papers: str
) -> None:
    upload(node, {"one.md": "One."})
    with visit_node() as visit:
        start(visit, node)
        visit.tab_to(visit.page.get_by_role("checkbox", name="Choose one.md"))
        visit.page.keyboard.press("Space")
        visit.tab_to(visit.page.get_by_role("button", name="Erase 1 chosen document"))
        visit.page.keyboard.press("Enter")
        dialog = visit.page.get_by_role("dialog")
        visit.tab_to(dialog.get_by_role("button", name="Erase", exact=True))
        visit.page.keyboard.press("Enter")
        expect(dialog.get_by_role("button", name="Close")).to_be_focused(timeout=SLOW)
        visit.page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
    assert listed(node) == []


def test_it_is_for_owners(visit_node: NewVisit, node: ServedNode, papers: str) -> None:
    with visit_node() as visit:
        visit.sign_in(node.new_key(assistants=["papers"]))
        visit.open("/documents")
        expect(visit.page.get_by_text("This needs a key with the scope 'owner'")).to_be_visible()
    with visit_node() as visit:
        visit.sign_in(node.new_key(scope="owner", assistants=["papers"]))
        visit.open("/documents?assistant=default")
        expect(visit.page.get_by_text("There is no assistant “default”")).to_be_visible()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_everybody_can_use_it(
    visit_node: NewVisit, node: ServedNode, papers: str, size: tuple[int, int], is_dark: bool
) -> None:
    upload(node, {"w" * 120 + ".md": f"# {'Long ' * 40}\n\nText.", "empty.txt": ""})
    with visit_node(size=size, is_dark=is_dark) as visit:
        start(visit, node)
        visit.show_dark(is_dark)
        visit.page.get_by_role("checkbox").click()
        visit.page.get_by_label("Search names and texts").fill("text")
        visit.page.keyboard.press("Enter")
        expect(visit.page.get_by_text("In the texts, best first")).to_be_visible()
        assert visit.violations() == []
        assert visit.overflow() == 0
