"""No search and no id gives a passage of an assistant that was not asked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from api.errors import ApiError
from api.node.auth import visible, visible_assistants
from retrieval import documents, jobs
from retrieval.filters import FilterError
from retrieval.search import MAX_RESULTS, Mode
from storage import keys
from storage.node_tables import Assistant, Chunk, Scope
from tests.nodes import new_document
from tests.retrieval.conftest import MakeShelf, Shelf
from tests.retrieval.filter_oracle import passes, some_filters

NAMES = ("alice", "bob", "carol", "dave")
TEXTS = [
    "The invoice of March was paid in full.",
    "A password was changed after the incident.",
    "The patient recovered within two weeks.",
    "Minutes of the meeting on the new building.",
    "The recipe needs butter, eggs and sugar.",
]


@dataclass
class Holding:
    """What an assistant holds: attributes and the document's own fields by passage id."""

    id: int
    passages: dict[str, dict[str, Any]]


@dataclass
class World:
    shelf: Shelf
    holdings: dict[str, Holding]
    document_ids: list[str]


@pytest.fixture(scope="module")
def world(make_shelf: MakeShelf) -> World:
    """Assistants that hold the same texts, names and external ids, and some of their own."""
    shelf = make_shelf()
    holdings, document_ids = {}, []
    for number, name in enumerate(NAMES):
        attributes = [{"owner": name, "year": 2020 + place} for place in range(len(TEXTS) + 1)]
        held = [
            new_document([text], f"ext-{place}", f"file-{place}", attributes=attributes[place])
            for place, text in enumerate([*TEXTS, f"Only {name} knows the number {number}."])
        ]
        assistant_id, ids = shelf.assistant(name, *held)
        document_ids += ids
        holdings[name] = Holding(
            assistant_id,
            {
                f"{document_id}.1.0": {
                    **attributes[place], "id": document_id, "external_id": f"ext-{place}",
                    "name": f"file-{place}",
                }
                for place, document_id in enumerate(ids)
            },
        )  # fmt: skip
    return World(shelf, holdings, document_ids)


@st.composite
def searches(draw: st.DrawFn) -> tuple[str, str, Mode, int, Any]:
    """Filters name documents, external ids and owners of any assistant."""
    question = draw(
        st.one_of(st.sampled_from([*TEXTS, *(f"Only {name} knows" for name in NAMES)]), st.text())
    )
    return (
        draw(st.sampled_from(NAMES)),
        question,
        draw(st.sampled_from(["dense", "lexical", "hybrid"])),
        draw(st.sampled_from([1, 3, MAX_RESULTS])),
        draw(st.one_of(st.none(), some_filters(FIELDS, OWN_VALUES))),
    )


FIELDS = st.sampled_from(["owner", "year", "id", "external_id", "name"])
OWN_VALUES = st.one_of(
    st.sampled_from(NAMES),
    st.integers(2019, 2026),
    st.integers(0, len(NAMES) * (len(TEXTS) + 1) - 1).map(lambda place: ("document", place)),
    st.sampled_from([f"ext-{place}" for place in range(4)]),
    st.none(),
)


class TestSearches:
    @settings(deadline=None, max_examples=100)
    @given(searches())
    def test_only_the_own_passages_that_the_filter_allows(
        self, world: World, search: tuple[str, str, Mode, int, Any]
    ) -> None:
        name, question, mode, k, where = search
        where = _with_ids(where, world.document_ids)
        holding = world.holdings[name]
        try:
            hits = world.shelf.searcher.search(holding.id, question, k=k, mode=mode, where=where)
        except FilterError:  # it compares a text with a number, say
            return
        allowed = {
            chunk_id
            for chunk_id, described in holding.passages.items()
            if where is None or passes(where, described)
        }
        found = [hit.chunk_id for hit in hits]
        assert set(found) <= allowed
        assert len(found) == len(set(found)) <= k
        if mode != "lexical":
            assert len(found) == min(k, len(allowed))

    @pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
    def test_the_secret_of_another_is_not_found_by_its_very_words(
        self, world: World, mode: Mode
    ) -> None:
        for number, name in enumerate(NAMES):
            secret = f"Only {name} knows the number {number}."
            for asked in NAMES:
                hits = world.shelf.searcher.search(
                    world.holdings[asked].id, secret, k=MAX_RESULTS, mode=mode
                )
                assert (secret in {hit.text for hit in hits}) == (asked == name)


def _with_ids(where: Any, ids: list[str]) -> Any:
    """Ids are random, so a drawn filter names documents by place."""
    if isinstance(where, dict):
        return {name: _with_ids(value, ids) for name, value in where.items()}
    if isinstance(where, list):
        return [_with_ids(value, ids) for value in where]
    return ids[where[1]] if isinstance(where, tuple) else where


class TestIds:
    def test_documents_and_passages_open_to_their_assistant_alone(self, world: World) -> None:
        for name, holding in world.holdings.items():
            for asked in NAMES:
                own = world.holdings[asked].id
                for chunk_id in holding.passages:
                    document_id = chunk_id.split(".")[0]
                    with world.shelf.database.read() as session:
                        found = documents.get(session, own, document_id)
                        chunks = documents.passages(session, own, document_id, limit=9, after=-1)
                    assert (found is not None) == (asked == name)
                    assert [chunk.public_id for chunk in chunks] == (
                        [chunk_id] if asked == name else []
                    )

    def test_a_list_shows_the_own_documents_under_any_filter(self, world: World) -> None:
        alice = world.holdings["alice"]
        own = {chunk_id.split(".")[0] for chunk_id in alice.passages}
        for where in ({}, {"owner": {"$ne": "x"}}, {"id": {"$in": world.document_ids}}):
            with world.shelf.database.read() as session:
                page = documents.list_page(session, alice.id, limit=100, after=None, where=where)
            assert {document.id for document, _ in page.documents} == own

    def test_a_page_cannot_go_on_after_the_document_of_another(self, world: World) -> None:
        theirs = next(iter(world.holdings["bob"].passages)).split(".")[0]
        with pytest.raises(KeyError), world.shelf.database.read() as session:
            documents.list_page(
                session, world.holdings["alice"].id, limit=5, after=theirs, where={}
            )

    def test_a_job_opens_to_its_assistant_alone(self, world: World) -> None:
        ids = [holding.id for holding in world.holdings.values()]
        with world.shelf.database.write() as session:
            job_id = jobs.create_erase(session, ids[0], []).id
        with world.shelf.database.read() as session:
            assert jobs.get(session, job_id, ids[1:]) is None
            assert jobs.get(session, job_id, []) is None
            assert jobs.get(session, job_id, ids[:1]) is not None

    def test_a_store_removes_its_own_documents_only(self, world: World) -> None:
        store = world.shelf.stores[world.holdings["alice"].id]
        before = self._count(world, "alice")
        theirs = next(iter(world.holdings["bob"].passages)).split(".")[0]
        with store.changing() as change:
            assert change.remove(theirs) == 0
        with world.shelf.database.read() as session:
            assert documents.get(session, world.holdings["bob"].id, theirs) is not None
        assert self._count(world, "alice") == before

    def _count(self, world: World, name: str) -> tuple[int, int]:
        with world.shelf.database.read() as session:
            return documents.count(session, world.holdings[name].id)


@settings(deadline=None, max_examples=12)
@given(
    st.lists(
        st.tuples(st.sampled_from(Scope), st.one_of(st.none(), st.sets(st.sampled_from(NAMES)))),
        min_size=1, max_size=3,
    ),
    st.sampled_from(TEXTS),
    st.one_of(st.none(), some_filters(FIELDS, OWN_VALUES)),
)  # fmt: skip
def test_whatever_keys_there_are_each_finds_what_its_assistants_hold(
    world: World, wanted: list[tuple[Scope, set[str] | None]], question: str, where: Any
) -> None:
    """As the endpoints go: from a key to the assistants that it may name, and to passages by id."""
    where = _with_ids(where, world.document_ids)
    with world.shelf.database.write() as session:
        by_name = {one.name: one for one in session.scalars(select(Assistant))}
        tokens = [
            keys.create(
                session, "", scope, None if names is None else [by_name[name] for name in names]
            ).token
            for scope, names in wanted
        ]
    for token, (_, names) in zip(tokens, wanted, strict=True):
        with world.shelf.database.read() as session:
            caller = keys.verify(session, token)
            assert caller is not None
            listed = {one.name for one in visible_assistants(session, caller)}
            opened = set()
            for name in NAMES:
                with suppress(ApiError):
                    opened.add(visible(session, caller, name).name)
            readable = {
                chunk_id
                for holding in world.holdings.values()
                for chunk_id in holding.passages
                if documents.passage(session, caller.assistant_ids, chunk_id) is not None
            }
        assert listed == opened == (set(NAMES) if names is None else names)
        held = [world.holdings[name].passages for name in sorted(opened)]
        assert readable == {chunk_id for passages in held for chunk_id in passages}
        for name in opened:
            holding = world.holdings[name]
            try:
                hits = world.shelf.searcher.search(
                    holding.id, question, k=MAX_RESULTS, mode="dense", where=where
                )
            except FilterError:  # it compares a text with a number, say
                continue
            assert {hit.chunk_id for hit in hits} == {
                chunk_id
                for chunk_id, described in holding.passages.items()
                if where is None or passes(where, described)
            }


def test_a_passage_belongs_to_the_assistant_of_its_document(world: World) -> None:
    with world.shelf.database.read() as session:
        rows = session.execute(select(Chunk.public_id, Chunk.assistant_id)).all()
    owners = {
        chunk_id: holding.id for holding in world.holdings.values() for chunk_id in holding.passages
    }
    assert dict(rows) == owners
