"""Filters: each operator against an oracle in Python, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from retrieval import filters
from retrieval.filters import Filter, FilterError
from storage.database import Database
from storage.node_tables import Document
from tests.nodes import add_assistant, open_database
from tests.retrieval.filter_oracle import (
    COMPARISONS,
    NAMES,
    NUMBERS,
    TEXTS,
    VALUES,
    holds,
    kind,
    passes,
    some_filters,
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with open_database(tmp_path_factory.mktemp("filters") / "node.db") as opened:
        add_assistant(opened, "a")
        yield opened


def matching(
    database: Database, attributes: list[dict[str, Any]], given: Filter, **own: Any
) -> set[int]:
    """The places of the documents, with these attributes, that the filter lets through."""
    with pytest.raises(ZeroDivisionError), database.write() as session:
        session.execute(delete(Document))
        for place, described in enumerate(attributes):
            fields = {"name": "n", "title": "t", "media_type": "m", "created_at": 1, "size": 1}
            session.add(
                Document(
                    id=f"doc-{place}", assistant_id=1, attributes=described,
                    content_hash=bytes([place]), **{**fields, **own},
                )
            )  # fmt: skip
        session.flush()
        found = session.scalars(select(Document.id).where(filters.condition(given))).all()
        raise ZeroDivisionError  # nothing is kept
    return {int(name.removeprefix("doc-")) for name in found}


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], Any]:
    """Documents and a filter that speak of the same few names."""
    names = st.sampled_from(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
    described = st.dictionaries(names, VALUES, max_size=3)
    return draw(st.lists(described, min_size=1, max_size=5)), draw(
        some_filters(names, VALUES, st.one_of(NUMBERS, TEXTS))
    )


class TestAgainstPython:
    @settings(deadline=None, max_examples=200)
    @given(cases())
    def test_any_filter_on_any_attributes(
        self, database: Database, case: tuple[list[dict[str, Any]], Any]
    ) -> None:
        attributes, given = case
        expected = {i for i, described in enumerate(attributes) if passes(given, described)}
        assert matching(database, attributes, given) == expected

    @pytest.mark.parametrize("op", [*COMPARISONS, "$in", "$nin"])
    def test_each_operator_on_each_pair_of_kinds(self, database: Database, op: str) -> None:
        values = [None, True, False, 0, 1, -1, 2.5, "", "1", "true", "b", "B", 2**62]
        attributes: list[dict[str, Any]] = [{}, *({"x": value} for value in values)]
        for operand in values:
            ordering = op in ("$gt", "$gte", "$lt", "$lte")
            if ordering and kind(operand) in ("null", "truth value"):
                with pytest.raises(FilterError, match="number or a text"):
                    filters.condition({"x": {op: operand}})
                continue
            given = [operand] if op in ("$in", "$nin") else operand
            expected = {i for i, one in enumerate(attributes) if holds(op, one.get("x"), given)}
            assert matching(database, attributes, {"x": {op: given}}) == expected, operand

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({}, True),
            ({"name": "report"}, True),
            ({"name": {"$gt": "repor"}}, True),
            ({"title": {"$in": ["a", "b"]}}, False),
            ({"created_at": {"$gte": 100, "$lt": 101}}, True),
            ({"created_at": 100.0}, True),
            ({"created_at": {"$gt": 100}}, False),
            ({"external_id": None}, True),
            ({"external_id": {"$ne": "x"}}, True),
            ({"media_type": {"$nin": []}}, True),
            ({"media_type": {"$in": []}}, False),
            ({"id": "doc-0"}, True),
            ({"name": {"$contains": "EPO"}}, True),
            ({"name": {"$contains": "other"}}, False),
            ({"external_id": {"$contains": ""}}, False),
        ],
    )
    def test_fields_of_the_documents_own(
        self, database: Database, given: Filter, expected: bool
    ) -> None:
        # An attribute of the same name is not reachable; the field of the document's own is meant.
        found = matching(
            database, [{"name": "other", "created_at": 7}], given, name="report", created_at=100
        )
        assert found == ({0} if expected else set())


HOSTILE = (
    "x'; DROP TABLE document; --",
    "x') OR 1=1 --",
    "' UNION SELECT secret_hash FROM key --",
    "x', '$.y') IS NULL OR json_extract(attributes, '$.z",
    "%' OR '1'='1",
    ":match",
    "?1",
    "$.x",
    "x]",
    "[#-1]",
)


class TestHostility:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_names_and_values_are_only_names_and_values(
        self, database: Database, text: str
    ) -> None:
        attributes = [{}, {"x": 1}, {"x": text}, {text: 1}]
        assert matching(database, attributes, {"x": text}) == {2}
        if not text.startswith("$"):
            assert matching(database, attributes, {text: 1}) == {3}

    @pytest.mark.parametrize(
        "given",
        [
            [],
            "name = 'x'",
            None,
            {"$where": "1=1"},
            {"$not": {"a": 1}},
            {"$eq": 1},
            {"a": {}},
            {"a": {"$regex": "x"}},
            {"a": {"b": 1}},
            {"a": {"$eq": {"$eq": 1}}},
            {"a": {"$eq": [1]}},
            {"a": [1]},
            {"a": {"$in": 1}},
            {"a": {"$in": [[1]]}},
            {"a": {"$in": "abc"}},
            {"a": {"$gt": None}},
            {"a": {"$gt": True}},
            {"a": {"$gt": []}},
            {"a": 2**63},
            {"a": -(2**63) - 1},
            {"a": float("nan")},
            {"a": {"$lt": float("inf")}},
            {"a": b"bytes"},
            {'a"b': 1},
            {"a\\b": 1},
            {"a\0b": 1},
            {"\ud800": 1},
            {"a": "\ud800"},
            {"name": 1},
            {"name": {"$in": ["a", 1]}},
            {"created_at": "1"},
            {"created_at": True},
            {"$and": {}},
            {"$and": []},
            {"$or": [[]]},
            {"$or": [1]},
            {"$or": None},
        ],
        ids=repr,
    )
    def test_what_is_malformed_is_refused(self, given: Any) -> None:
        with pytest.raises(FilterError):
            filters.condition(given)

    def test_depth_is_limited(self, database: Database) -> None:
        def nested(depth: int) -> Filter:
            given: Filter = {"x": 1}
            for level in range(depth):
                given = {("$and", "$or")[level % 2]: [given, {"x": 2}]}
            return given

        deepest = nested(filters.MAX_DEPTH)
        attributes = [{"x": 1}, {"x": 2}, {"x": 3}]
        expected = {i for i, one in enumerate(attributes) if passes(deepest, one)}
        assert matching(database, attributes, deepest) == expected == {1}
        for depth in (filters.MAX_DEPTH + 1, 400):
            with pytest.raises(FilterError, match="deep"):
                filters.condition(nested(depth))

    @pytest.mark.parametrize(
        "given",
        [
            {"$or": [{"x": i} for i in range(101)]},
            {"$and": [{}] * 101},
            {"$or": [{}] * 1_000_000},
            {f"x{i}": 1 for i in range(101)},
            {"x": {"$in": list(range(1001))}},
            {"$and": [{"x": {"$in": list(range(101))}}] * 10},
            {"$or": [{"x": {"$gt": 1, "$lt": 2}}] * 51},
        ],
        ids=range(7),
    )
    def test_size_is_limited(self, given: Filter) -> None:
        with pytest.raises(FilterError, match=r"may have 100 conditions|1000 values"):
            filters.condition(given)

    @pytest.mark.parametrize("attribute", ["x", "name", "created_at"])
    @pytest.mark.parametrize("list_of_all", [True, False])
    def test_the_largest_that_are_allowed_run(
        self, database: Database, attribute: str, list_of_all: bool
    ) -> None:
        """SQLite refuses expressions that are deeper than 1,000 or have too many variables."""
        plain = 1 if attribute == "created_at" else "n"
        values: list[Any] = [f"v{i}" for i in range(999)]
        if attribute == "created_at":
            values = list(range(2, 1001))
        elif attribute == "x":
            values = [None, True, *range(499), *values[:498]]
        if list_of_all:
            given: Filter = {attribute: {"$in": [plain, *values]}}
        else:
            given = {
                "$or": [
                    *({attribute: {"$nin": values[i * 10 : i * 10 + 10]}} for i in range(40)),
                    *({attribute: {"$gte": plain, "$lte": plain}} for _ in range(25)),
                ]
            }
        assert matching(database, [{"x": "n"}], given) == {0}

    def test_attributes_with_numbers_that_json_does_not_have_harm_nothing(
        self, database: Database
    ) -> None:
        attributes = [{"x": float("nan")}, {"x": float("inf")}, {"x": 1}]
        assert matching(database, attributes, {"x": 1}) == {2}
        assert matching(database, attributes, {"x": {"$lte": 5}}) == {2}

    @settings(deadline=None, max_examples=150)
    @given(
        st.recursive(
            st.one_of(VALUES, st.sampled_from(HOSTILE), st.floats()),
            lambda inner: st.one_of(
                st.lists(inner, max_size=4),
                st.dictionaries(
                    st.one_of(
                        st.sampled_from(
                            ["$and", "$or", "$in", "$nin", "$ne", "$gt", "x", "name", *HOSTILE]
                        ),
                        st.text(max_size=3),
                    ),
                    inner,
                    max_size=4,
                ),
            ),
            max_leaves=12,
        )
    )
    @example({"x": {"$in": [None, True, 1, "a"]}})
    def test_anything_is_refused_or_runs(self, database: Database, given: Any) -> None:
        try:
            filters.condition(given)
        except FilterError as error:
            assert str(error)
            return
        assert matching(database, [{"x": 1}], given) <= {0}
