"""What the tests of a node's part in federations have in common."""

from __future__ import annotations

import pytest

from federation.participant import worker


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator that stops waits for those who still poll it."""
    monkeypatch.setattr(worker, "POLL_SECONDS", 1.0)
