"""Asking: a real model's answer, and a planted one that cites, dawdles and attacks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from playwright.sync_api import Browser, expect

from generation.answer import NOTHING_FOUND
from tests.loopback import served_on_loopback
from tests.pages.browser import NARROW, WIDE, Visit, visit
from tests.pages.conftest import NewVisit
from tests.pages.nodes import ServedNode, served_node
from tests.served import wait

pytestmark = pytest.mark.pages

HURT = '<script>window.hurt = 1</script><img src="x" onerror="window.hurt = 1">'
NAME = "<img src=x onerror='window.hurt = 1'>.md"
TEXT = f"# Ferries {HURT}\n\nThe ferry to Ansel leaves at nine. {HURT}\n"
CITING = f"It leaves at nine [1]. {HURT}"


class Generator:
    """An OpenAI-compatible server: the last word of a question says how it behaves."""

    def __init__(self) -> None:
        self.hung_up = threading.Event()
        self.conversations: list[list[str]] = []
        """Who said what it was asked about: the roles of each request's messages."""
        self.url = ""

    @classmethod
    @contextmanager
    def served(cls) -> Iterator[Generator]:
        """One that answers on loopback while the block runs."""
        generator, app = cls(), FastAPI()
        app.post("/v1/chat/completions")(generator._complete)
        with served_on_loopback(app) as url:
            generator.url = f"{url}/v1"
            yield generator

    async def _complete(self, request: Request) -> StreamingResponse:
        messages = (await request.json())["messages"]
        self.conversations.append([message["role"] for message in messages])
        how = messages[-1]["content"].rpartition("ferry")[2]
        pieces = (
            self._dawdle() if "slowly" in how else self._break() if "badly" in how else self._cite()
        )
        return StreamingResponse(_events(pieces), media_type="text/event-stream")

    async def _cite(self) -> AsyncIterator[str]:
        for piece in CITING.split(" "):
            yield f"{piece} "

    async def _break(self) -> AsyncIterator[str]:
        yield "wave "
        raise RuntimeError("the generator fails")

    async def _dawdle(self) -> AsyncIterator[str]:
        try:
            while True:
                yield "wave "
                await asyncio.sleep(0.05)
        finally:
            self.hung_up.set()


async def _events(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    def event(delta: dict[str, str], reason: str | None) -> str:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return f"data: {json.dumps({**head, 'choices': choices})}\n\n"

    async for piece in pieces:
        yield event({"content": piece}, None)
    yield event({}, "stop")
    yield "data: [DONE]\n\n"


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with Generator.served() as server:
        yield server


@pytest.fixture(scope="module")
def ferries(generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNode]:
    """A node with one hostile document that asks the planted generator, one answer at a time."""

    def prepare(home: Path) -> None:
        (home / "settings.toml").write_text(
            f'upstream_url = "{generator.url}"\ngenerator = "planted"\nmax_rows = 1\n'
            "queue_size = 0\n"
        )

    with served_node(tmp_path_factory.mktemp("ferries") / "served", prepare) as node:
        upload(node, "default", NAME, TEXT)
        yield node


@pytest.fixture
def visit_ferries(browser: Browser, ferries: ServedNode) -> NewVisit:
    return partial(visit, browser, ferries.url)


def upload(node: ServedNode, assistant: str, name: str, text: str) -> None:
    path = f"/v1/assistants/{assistant}/documents"
    job = node.owner.post(path, files={"file": (name, text.encode())}).raise_for_status().json()
    assert wait(node.owner, job["id"])["state"] == "done"


def ask(visit: Visit, question: str) -> None:
    visit.page.get_by_label("Your question").fill(question)
    visit.page.keyboard.press("Enter")


def test_a_real_model_answers_from_a_document(
    visit_node: NewVisit, node: ServedNode, tmp_path: Path
) -> None:
    node.owner.post("/v1/assistants", json={"name": "library"}).raise_for_status()
    upload(
        node,
        "library",
        "hours.md",
        "# The library\n\n## Opening hours\n\nThe library opens at nine.\n",
    )
    with visit_node() as visit:
        visit.sign_in(node.new_key(assistants=["library"]))
        # A user's key leads to nothing but the chat with its own assistants.
        assert visit.page.get_by_role("navigation").inner_text() == "Chat"
        ask(visit, "When does the library open?")
        answer = visit.page.get_by_role("region", name="Answer")
        expect(answer.get_by_role("button", name="Good answer")).to_be_visible()
        assert answer.inner_text().strip()
        answer.get_by_role("button", name="1 passages were read").click()
        answer.get_by_role("button", name="[1] The library > Opening hours").click()
        passage = visit.page.get_by_role("dialog")
        expect(passage.get_by_role("heading")).to_have_text("The library")
        expect(passage.get_by_text("The library > Opening hours", exact=True)).to_be_visible()
        expect(passage.get_by_text("hours.md, passage 1")).to_be_visible()
        expect(passage.get_by_role("mark")).to_contain_text("The library opens at nine.")


def test_a_mark_opens_the_passage_and_texts_stay_texts(
    visit_ferries: NewVisit, ferries: ServedNode
) -> None:
    with visit_ferries() as visit:
        visit.sign_in(ferries.key)
        ask(visit, f"{HURT} When leaves the ferry?")
        answer = visit.page.get_by_role("region", name="Answer")
        answer.get_by_role("button", name="Passage [1]").first.click()
        passage = visit.page.get_by_role("dialog")
        expect(passage.get_by_role("mark")).to_contain_text(f"leaves at nine. {HURT}")
        expect(passage).to_contain_text(NAME)
        assert visit.violations() == []
        passage.get_by_role("button", name="Close").click()
        expect(passage).to_have_count(0)
        expect(answer).to_contain_text(CITING)
        expect(visit.page.get_by_role("region", name="Question")).to_contain_text(HURT)
        assert visit.page.evaluate("window.hurt") is None


def test_the_keyboard_is_enough_to_ask_and_to_open_a_passage(
    visit_ferries: NewVisit, ferries: ServedNode
) -> None:
    with visit_ferries() as visit:
        visit.sign_in(ferries.key)
        question = visit.page.get_by_label("Your question")
        expect(question).to_be_focused()
        visit.page.keyboard.type("When leaves the ferry?")
        visit.page.keyboard.press("Enter")
        mark = visit.page.get_by_role("button", name="Passage [1]").first
        expect(mark).to_be_visible()
        visit.tab_to(mark, "Shift+Tab")
        visit.page.keyboard.press("Enter")
        passage = visit.page.get_by_role("dialog")
        expect(passage.get_by_role("button", name="Close")).to_be_focused()
        visit.page.keyboard.press("Enter")
        expect(passage).to_have_count(0)
        expect(mark).to_be_focused()


def test_thumbs_reach_the_owner_with_reason_and_passages(
    visit_ferries: NewVisit, ferries: ServedNode
) -> None:
    with visit_ferries() as visit:
        visit.sign_in(ferries.new_key(assistants=["default"]))
        ask(visit, "When leaves the ferry?")
        visit.page.get_by_role("button", name="Bad answer").click()
        asked = visit.page.get_by_role("dialog")
        expect(asked.get_by_label("Reason (optional)")).to_be_visible()
        asked.get_by_label("Reason (optional)").fill("not on Sundays")
        asked.get_by_label("A better answer (optional)").fill("At ten.")
        asked.get_by_role("button", name="Send").click()
        expect(visit.page.get_by_text("Thank you: your feedback was sent.")).to_be_visible()
    (given,) = ferries.owner.get("/v1/assistants/default/feedback").json()["data"]
    assert (given["rating"], given["reason"]) == (-1, "not on Sundays")
    assert (given["question"], given["corrected_answer"]) == ("When leaves the ferry?", "At ten.")
    assert [passage["rating"] for passage in given["passages"]] == [0]
    assert given["completion_id"].startswith("chatcmpl-")


def test_stopping_ends_the_generation_and_another_question_is_answered(
    visit_ferries: NewVisit, ferries: ServedNode, generator: Generator
) -> None:
    with visit_ferries() as visit:
        visit.sign_in(ferries.key)
        generator.hung_up.clear()
        ask(visit, "When leaves the ferry, slowly?")
        expect(visit.page.get_by_text("wave wave")).to_be_visible()
        visit.page.get_by_role("button", name="Stop").click()
        expect(visit.page.get_by_text("You stopped this answer.")).to_be_visible()
        assert generator.hung_up.wait(20)
        ask(visit, "When leaves the ferry?")
        expect(visit.page.get_by_role("button", name="Good answer")).to_be_visible()


def test_closing_the_window_ends_the_generation(
    visit_ferries: NewVisit, ferries: ServedNode, generator: Generator
) -> None:
    with visit_ferries() as visit:
        visit.sign_in(ferries.key)
        generator.hung_up.clear()
        ask(visit, "When leaves the ferry, slowly?")
        expect(visit.page.get_by_text("wave wave")).to_be_visible()
        visit.page.close()
        # Sooner than a page is over whose phone sleeps.
        assert generator.hung_up.wait(40)


def test_a_phone_that_slept_finds_its_conversation(
    visit_ferries: NewVisit, ferries: ServedNode
) -> None:
    with visit_ferries() as visit:
        visit.sign_in(ferries.key)
        ask(visit, "When leaves the ferry, slowly?")
        expect(visit.page.get_by_text("wave wave")).to_be_visible()
        visit.page.evaluate(
            """() => {
              window.is_the_same = true;
              window.socket.io.reconnectionDelay(4000).randomizationFactor(0);
              window.socket.io.engine.close();
            }"""
        )
        lost = visit.page.get_by_text("Connection lost")
        expect(lost).to_be_visible()
        expect(lost).to_be_hidden()
        visit.page.get_by_role("button", name="Stop").click()
        expect(visit.page.get_by_text("You stopped this answer.")).to_be_visible()
        assert visit.page.evaluate("window.is_the_same")
        # What is over on the server is loaded anew.
        visit.page.evaluate("emitEvent('left'); window.socket.io.engine.close()")
        visit.page.wait_for_function("!window.is_the_same && window.did_handshake")
        expect(visit.page.get_by_role("region", name="Answer")).to_have_count(0)


def test_what_was_refused_or_broke_off_is_told_and_no_part_of_the_conversation(
    visit_ferries: NewVisit, ferries: ServedNode, generator: Generator
) -> None:
    with visit_ferries() as first, visit_ferries() as second:
        first.sign_in(ferries.key)
        second.sign_in(ferries.key)
        ask(first, "When leaves the ferry, slowly?")
        expect(first.page.get_by_text("wave wave")).to_be_visible()
        ask(second, "When leaves the ferry?")
        expect(second.page.get_by_text("its queue is full")).to_be_visible()
        first.page.get_by_role("button", name="Stop").click()
        expect(first.page.get_by_text("You stopped this answer.")).to_be_visible()
        ask(second, "When leaves the ferry, badly?")
        expect(second.page.get_by_text("No answer: ")).to_be_visible()
        good = second.page.get_by_role("button", name="Good answer")
        for number in (1, 2):
            ask(second, "When leaves the ferry?")
            expect(good).to_have_count(number)
    before, after = generator.conversations[-2:]
    assert (before.count("user"), before.count("assistant")) == (1, 0)
    assert (after.count("user"), after.count("assistant")) == (2, 1)


def test_where_nothing_is_found_the_page_says_so(
    visit_ferries: NewVisit, ferries: ServedNode
) -> None:
    ferries.owner.post("/v1/assistants", json={"name": "empty"}).raise_for_status()
    with visit_ferries() as visit:
        visit.sign_in(ferries.new_key(assistants=["empty"]))
        ask(visit, "When leaves the ferry?")
        expect(visit.page.get_by_text(NOTHING_FOUND)).to_be_visible()
        ferries.owner.delete("/v1/assistants/empty").raise_for_status()
        visit.open("/")
        expect(
            visit.page.get_by_text("There is no assistant that this key may ask.")
        ).to_be_visible()


def test_a_new_conversation_forgets_the_old(visit_ferries: NewVisit, ferries: ServedNode) -> None:
    with visit_ferries() as visit:
        visit.sign_in(ferries.key)
        ask(visit, "When leaves the ferry?")
        expect(visit.page.get_by_role("button", name="Good answer")).to_be_visible()
        visit.page.get_by_role("button", name="New conversation").click()
        expect(visit.page.get_by_role("region", name="Answer")).to_have_count(0)
        expect(visit.page.get_by_text("Ask about the assistant's documents.")).to_be_visible()
        # Also while it goes on, and the node answers no two at a time.
        ask(visit, "When leaves the ferry, slowly?")
        expect(visit.page.get_by_text("wave wave")).to_be_visible()
        visit.page.get_by_role("button", name="New conversation").click()
        ask(visit, "When leaves the ferry?")
        expect(visit.page.get_by_role("button", name="Good answer")).to_be_visible()
        expect(visit.page.get_by_role("region", name="Answer")).to_have_count(1)


def test_who_signed_out_elsewhere_is_sent_to_sign_in(
    visit_ferries: NewVisit, ferries: ServedNode
) -> None:
    with visit_ferries() as visit:
        visit.sign_in(ferries.key)
        # The other tab of the same browser.
        visit.page.request.post(
            f"{visit.url}/ui/sign-out", headers={"Origin": visit.url}, max_redirects=0
        )
        ask(visit, "When leaves the ferry?")
        visit.page.wait_for_url("**/ui/sign-in")
        expect(visit.page.get_by_label("Key")).to_be_visible()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_everybody_can_use_it(
    visit_ferries: NewVisit, ferries: ServedNode, size: tuple[int, int], is_dark: bool
) -> None:
    with visit_ferries(size=size, is_dark=is_dark) as visit:
        visit.sign_in(ferries.key)
        ask(visit, "When leaves the ferry?")
        visit.page.get_by_role("button", name="passages were read").click()
        expect(visit.page.get_by_role("button", name="[1] Ferries")).to_be_visible()
        assert visit.violations() == []
        assert visit.overflow() == 0
