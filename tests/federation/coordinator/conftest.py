"""One served coordinator for the tests of a module, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.coordinators import Site, plan_for, privacy_plan, site


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Four nodes, of whom two have to survive, and more rounds than a module's tests run."""
    url = None
    if request.param == "postgresql":
        fresh: Callable[[], str] = request.getfixturevalue("new_postgresql")
        url = fresh()
    privacy = privacy_plan(cohort=7, min_survivors=2, rounds=40, max_participations=2)
    home = tmp_path_factory.mktemp("coordinator") / "home"
    with site(home, url, count=4, plan=lambda key: plan_for(key, privacy)) as opened:
        yield opened
