"""What an admin does on every page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from playwright.sync_api import Locator, Page, expect

Open = Callable[..., AbstractContextManager[Page]]
IMAGE = "<img src=x onerror='window.hurt = 1'>"
BASE_MODEL = "all-MiniLM-L6-v2@0123456789abcdef/torch-float32"


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
