"""Personal query maps of a node, trained by real processes with the packaged embedder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from personal import service
from personal.service import PersonalError, UnknownVersionError
from personal.tasks import Trained
from retrieval import questions
from retrieval.embedding import Embedder
from storage.example_tables import PersonalKind, PersonalState
from storage.node_tables import JobState
from tests.nodes import files_holding, until
from tests.personal.towns import PLACES, Town, open_town, rule, story

ERASE_SECONDS = 120


@pytest.fixture(scope="module")
def taught(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a node with documents and questions in its assistant number 1."""
    root = tmp_path_factory.mktemp("taught") / "home"
    with open_town(root, embedder) as town:
        town.settle(town.node.assistant())
        town.teach(town.node.assistant())
    return root


@pytest.fixture
def town(taught: Path, tmp_path: Path, embedder: Embedder) -> Iterator[Town]:
    with open_town(shutil.copytree(taught, tmp_path / "home"), embedder) as opened:
        yield opened


def test_it_is_trained_served_rolled_back_and_reset(
    town: Town, tmp_path: Path, embedder: Embedder
) -> None:
    other = town.node.assistant("other")
    town.settle(other)
    plain = town.found(1, "quarry")
    assert plain[0][0] == story("quarry")
    job = town.train(1)
    first = town.served(1)
    assert first is not None and first.before is not None and first.after is not None
    assert job.state is JobState.DONE and first.after > first.before
    assert first.examples == len(PLACES) and first.shared is None
    mapped = town.found(1, "quarry")
    assert mapped[0][0] == rule("quarry")
    assert town.found(other, "quarry") == plain

    town.train(1)
    second = town.served(1)
    assert second is not None and second.id != first.id
    assert second.parameters == first.parameters
    town.personal.serve(1, first.id)
    assert town.found(1, "quarry") == mapped
    with pytest.raises(UnknownVersionError):
        town.personal.serve(other, first.id)

    town.personal.reset(1)
    assert town.found(1, "quarry") == plain and town.served(1) is None
    pieces = {first.parameters[at : at + 64] for at in range(0, len(first.parameters), 4096)}
    until(lambda: not files_holding(tmp_path / "home", pieces))


def test_it_is_served_again_after_a_stop(taught: Path, tmp_path: Path, embedder: Embedder) -> None:
    root = shutil.copytree(taught, tmp_path / "home")
    with open_town(root, embedder) as town:
        town.train(1)
        mapped = town.found(1, "dairy")
    with open_town(root, embedder) as town:
        assert town.found(1, "dairy") == mapped
        assert mapped[0][0] == rule("dairy")


def test_too_little_to_learn_from_is_refused(town: Town) -> None:
    other = town.node.assistant("other")
    town.settle(other, PLACES[:6])
    town.teach(other, PLACES[:4])
    with pytest.raises(PersonalError, match="needs 5 examples, and there are 4") as refused:
        town.personal.train(other, None)
    assert refused.value.code == "too_few_examples"
    with pytest.raises(PersonalError, match="on another server"):
        town.personal.train(1, [PersonalKind.GENERATOR])


@pytest.mark.long
def test_what_is_not_better_is_not_served(town: Town) -> None:
    """The embedder finds each story first already: nothing can be better than an MRR of 1."""
    other = town.node.assistant("other")
    town.settle(other)
    new = [
        questions.NewQuestion(f"What do people tell of the {p}?", (f"{p}-a.txt",), None, None)
        for p in PLACES
    ]
    with town.node.database.write() as session:
        questions.add(session, other, new)
    job = town.train(other)
    assert job.result is not None
    (made,) = job.result["versions"]
    assert made["state"] == PersonalState.WORSE and made["before"] == 1.0
    assert town.served(other) is None
    with pytest.raises(PersonalError, match="not clearly better"):
        town.personal.serve(other, made["version"])


def test_a_gain_for_which_no_strength_was_chosen_is_not_better(town: Town) -> None:
    maps = town.personal._kinds[PersonalKind.RETRIEVER]
    gained = Trained(b"", {"strength": None}, before=0.5, after=0.6)
    assert not maps.is_better(gained)
    assert maps.is_better(replace(gained, config={"strength": 3.0}))


@pytest.mark.long
def test_a_schedule_trains_again_only_when_something_has_changed(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HOUR_SECONDS", 0)
    monkeypatch.setattr(service, "CHECK_SECONDS", 0.1)
    town.personal.schedule(1, 1)
    until(lambda: town.served(1) is not None and not town.is_training(1))
    (first,) = town.versions(1)
    changes, changed = [], town.personal._changed

    def look(assistant_id: int) -> set[PersonalKind]:
        changes.append(changed(assistant_id))
        return changes[-1]

    monkeypatch.setattr(town.personal, "_changed", look)
    until(lambda: len(changes) >= 3)
    assert not any(changes) and not town.is_training(1)
    assert [version.id for version in town.versions(1)] == [first.id]
    new = questions.NewQuestion("Who may enter the quarry?", ("quarry-b.txt",), None, None)
    with town.node.database.write() as session:
        questions.add(session, 1, [new])
    until(lambda: len(town.versions(1)) == 2)
    assert [version.examples for version in town.versions(1)] == [len(PLACES) + 1, len(PLACES)]


class TestErasure:
    @pytest.fixture
    def clean(
        self, taught: Path, tmp_path: Path, embedder: Embedder
    ) -> tuple[list[tuple[str, float]], bytes]:
        """What a node with the same secret and without the quarry finds and trains."""
        root = shutil.copytree(taught, tmp_path / "clean")
        with open_town(root, embedder) as never:
            ids = [never.document(1, f"quarry-{letter}.txt") for letter in "ab"]
            never.node.library.erase(1, ids, ERASE_SECONDS)
            plain = never.found(1, "bakery")
            never.train(1)
            version = never.served(1)
        assert version is not None
        return plain, version.parameters

    @pytest.mark.long
    def test_a_document_takes_the_adapter_with_it(
        self, town: Town, tmp_path: Path, clean: tuple[list[tuple[str, float]], bytes]
    ) -> None:
        plain, wanted = clean
        town.train(1)
        old = town.served(1)
        assert old is not None and town.found(1, "bakery") != plain
        ids = [town.document(1, f"quarry-{letter}.txt") for letter in "ab"]
        job = town.node.library.erase(1, ids, ERASE_SECONDS)
        assert job.result is not None
        (entry,) = job.result["receipt"]["personal"]
        assert (entry["kind"], entry["version"]) == ("retriever", old.id)
        assert job.created_at <= entry["off_at"] <= (job.finished_at or 0)
        pieces = {old.parameters[at : at + 64] for at in range(0, len(old.parameters), 4096)}
        again = town.node.finish(entry["job"])
        assert again.state is JobState.DONE
        fresh = town.served(1)
        assert fresh is not None and fresh.id != old.id
        assert fresh.parameters == wanted and fresh.parameters != old.parameters
        # The basis depends on the assistant alone, so it is the same in both.
        pieces -= {piece for piece in pieces if piece in fresh.parameters}
        assert pieces and files_holding(tmp_path / "home", pieces) == set()

    def test_it_is_out_of_service_when_the_erasure_returns(
        self, town: Town, clean: tuple[list[tuple[str, float]], bytes]
    ) -> None:
        plain, _ = clean
        town.train(1)
        ids = [town.document(1, f"quarry-{letter}.txt") for letter in "ab"]
        # Nothing may be trained so soon that its ranking hides the plain one.
        assert town.personal._trainings is not None
        town.personal._trainings.close()
        town.node.library.erase(1, ids, ERASE_SECONDS)
        assert town.found(1, "bakery") == plain

    def test_a_training_under_way_ends_and_begins_without_it(
        self, town: Town, clean: tuple[list[tuple[str, float]], bytes]
    ) -> None:
        _, wanted = clean
        ids = [town.document(1, f"quarry-{letter}.txt") for letter in "ab"]
        job = town.personal.train(1, None)
        until(lambda: town.node.job(job.id).state is JobState.RUNNING)
        assert town.node.library.erase(1, ids, ERASE_SECONDS).finished_at
        assert town.node.finish(job.id).state is JobState.DONE
        version = town.served(1)
        assert version is not None and version.parameters == wanted

    def test_one_between_storing_and_closing_is_trained_anew(
        self,
        town: Town,
        clean: tuple[list[tuple[str, float]], bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Nobody else asks for the next training: the erasure finds one that is not closed yet."""
        _, wanted = clean
        ids = [town.document(1, f"quarry-{letter}.txt") for letter in "ab"]
        trainings = town.personal._trainings
        assert trainings is not None
        serve, stored = trainings._on_stored, []

        def erase_before_serving() -> None:
            if not stored:
                stored.append(town.served(1))
                town.node.library.erase(1, ids, ERASE_SECONDS)
            serve()

        monkeypatch.setattr(trainings, "_on_stored", erase_before_serving)
        job = town.train(1)
        version, (first,) = town.served(1), stored
        assert first is not None and version is not None and version.id != first.id
        assert version.parameters == wanted != first.parameters
        assert job.state is JobState.DONE and job.result is not None
        assert [made["version"] for made in job.result["versions"]] == [version.id]

    @pytest.mark.long
    def test_an_example_takes_the_adapter_with_it(
        self, town: Town, taught: Path, tmp_path: Path, embedder: Embedder
    ) -> None:
        root = shutil.copytree(taught, tmp_path / "clean")
        with open_town(root, embedder) as never:
            _erase_first_question(never)
            never.train(1)
            wanted = never.served(1)
        town.train(1)
        old = town.served(1)
        _erase_first_question(town)
        until(lambda: (new := town.served(1)) is not None and new.id != (old and old.id))
        fresh = town.served(1)
        assert wanted is not None and fresh is not None and old is not None
        assert fresh.parameters == wanted.parameters != old.parameters


def _erase_first_question(town: Town) -> None:
    with town.node.database.write() as session:
        (first,) = questions.list_page(session, 1, limit=1)
        assert questions.remove(session, 1, first.id).removed
