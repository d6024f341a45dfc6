"""Somebody in front of a page: a real Chromium that reaches the server under test alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

AXE = Path(sys.prefix) / "npm/node_modules/axe-core/axe.min.js"
WIDE, NARROW = (1280, 900), (390, 844)
"""Of a desk and of a phone, in CSS pixels."""
SERIOUS = ("serious", "critical")
PATIENCE = 60_000
"""Milliseconds for what a page shows, on a busy machine."""
expect.set_options(timeout=PATIENCE)

_OPTIONS = [
    # The tests run as root in containers; the pages are ours.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

_IS_STILL = """() => document.getAnimations().every(
  one => one.playState !== 'running' || one.effect.getComputedTiming().endTime === Infinity
)"""


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_OPTIONS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A window of a browser with cookies of its own.

    Attributes:
        outside: addresses beyond the server that the page asked for; they are refused.
        problems: what the browser's console calls an error, and scripts that failed.
    """

    url: str
    page: Page
    outside: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def sign_in(self, key: str) -> None:
        self.page.goto(f"{self.url}/ui/sign-in")
        self.page.get_by_label("Key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(re.compile(r"/ui/$"))
        self._wait_until_it_answers()

    def open(self, path: str) -> None:
        """A page below /ui."""
        self.page.goto(f"{self.url}/ui{path}")
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        """Its socket is connected."""
        self.page.wait_for_function("window.did_handshake")

    def violations(self) -> list[str]:
        """What axe-core finds serious or critical in the page once what fades in is there."""
        self.page.wait_for_function(_IS_STILL)
        self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = self.page.evaluate(
            "axe.run(document, {resultTypes: ['violations']})"
        )
        return [
            f"{violation['id']}: {node['html']}: {node['failureSummary']}"
            for violation in found["violations"]
            if violation["impact"] in SERIOUS
            for node in violation["nodes"]
        ]

    def tab_to(self, wanted: Locator, key: str = "Tab") -> None:
        """Press a key until the focus is there."""
        for _ in range(40):
            self.page.keyboard.press(key)
            if wanted.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"{key} does not lead to {wanted}")

    def shows(self, secret: str) -> bool:
        """Whether it is anywhere on the page, in a field too."""
        shown: bool = self.page.evaluate(
            """secret => document.documentElement.outerHTML.includes(secret) ||
              [...document.querySelectorAll('input, textarea')].some(
                field => field.value.includes(secret))""",
            secret,
        )
        return shown

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        wider: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wider

    def show_dark(self, is_dark: bool) -> None:
        """Choose how the page looks, as its reader would."""
        button = self.page.get_by_role("button", name="Light or dark")
        if ("body--dark" in (self.page.locator("body").get_attribute("class") or "")) != is_dark:
            button.click()
        expect(self.page.locator("body.body--dark")).to_have_count(int(is_dark))


@contextmanager
def visit(
    browser: Browser, url: str, *, size: tuple[int, int] = WIDE, is_dark: bool = False
) -> Iterator[Visit]:
    """A window on the server at `url`. At its end nothing may have been asked of another host, and
    no script may have failed."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if is_dark else "light",
        accept_downloads=True,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    visiting = Visit(url, page)
    own = urlsplit(url).netloc

    def route(asked: Route) -> None:
        if urlsplit(asked.request.url).netloc == own:
            asked.continue_()
        else:
            visiting.outside.append(asked.request.url)
            asked.abort()

    context.route("**/*", route)
    page.on("pageerror", lambda error: visiting.problems.append(str(error)))
    page.on(
        "console",
        lambda said: visiting.problems.append(said.text) if said.type == "error" else None,
    )
    try:
        yield visiting
        assert visiting.outside == []
        assert visiting.problems == []
    finally:
        context.close()
