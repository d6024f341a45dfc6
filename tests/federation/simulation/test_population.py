"""Who is a node, what it learns from, and who is asked what."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from federation.simulation.population import Division, Population, Unit, build
from retrieval.labelled import DataError, Passage, Query


def passage(name: str, client: str = "a", subclient: str = "one", text: str = "") -> Passage:
    return Passage(name, text or f"text of {name}", "", client, subclient)


def query(
    name: str, *gold: str, split: str = "train", client: str = "a", subclient: str = "one"
) -> Query:
    return Query(name, f"text of {name}", client, frozenset(gold), split, subclient, "yes")


# Client a has two subclients with two passages each, client b has one with one.
CORPUS = (
    passage("a1"), passage("a2"), passage("a3", subclient="two"), passage("a4", subclient="two"),
    passage("b1", "b", "three"),
)  # fmt: skip
QUERIES = (
    query("qa1", "a1"),
    query("qa3", "a3", subclient="two"),
    query("qb1", "b1", client="b", subclient="three"),
    query("ta2", "a2", split="test"),
    query("tb1", "b1", split="test", client="b", subclient="three"),
)


def population(
    corpus: tuple[Passage, ...] = CORPUS, queries: tuple[Query, ...] = QUERIES, **given: Any
) -> Population:
    chosen: dict[str, Any] = {
        "division": Division("client"), "unit": Unit.SUBCLIENT, "score_by": "client",
        "split": "test",
    }  # fmt: skip
    return build(corpus, queries, **(chosen | given))


def learned(found: Population) -> dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]]:
    """By node, and by question that it learns from: positives and negatives."""
    return {
        node.name: {x.question: (x.positives, x.negatives) for _, own in node.subjects for x in own}
        for node in found.nodes
    }


class TestDivision:
    @pytest.mark.parametrize("text", ["clients", "", "group:", "group:0", "group:-1", "group:1.5"])
    def test_anything_else_is_refused_by_name(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"client, subclient or group:N, not"):
            Division.read(text)

    def test_fields_are_the_nodes_names(self) -> None:
        assert [node.name for node in population().nodes] == ["a", "b"]
        found = population(division=Division.read("subclient"))
        assert [node.name for node in found.nodes] == ["one", "three", "two"]

    def test_groups_are_shared_out_by_training_questions(self) -> None:
        """Clients with 600, 300, 99 and 1 questions get 6, 3, 1 and (at least) 1 of ten groups."""
        sizes = {"a": 600, "b": 300, "c": 99, "d": 1}
        training = [
            query(f"{client}{n}", "x", client=client, subclient=f"{client}-{n}")
            for client, size in sizes.items()
            for n in range(size)
        ]
        name = Division.read("group:10").names(training)
        groups = {one.subclient: name(one) for one in training}
        per_client = Counter(group.split("/")[0] for group in set(groups.values()))
        assert per_client == {"a": 6, "b": 3, "c": 1, "d": 1}
        # By hash the groups of a client are about as large: 100 each, five deviations of chance.
        sizes_of_a = Counter(group for group in groups.values() if group.startswith("a/"))
        assert all(50 < size < 150 for size in sizes_of_a.values())

    def test_a_subclient_stays_together_and_where_it_was(self) -> None:
        training = [query(f"q{n}", "x", subclient=f"s{n % 30}") for n in range(300)]
        name = Division.read("group:4").names(training)
        places = {one.subclient: name(one) for one in training}
        assert all(name(one) == places[one.subclient] for one in training)
        again = Division.read("group:4").names(training[::-1])
        assert {one.subclient: again(one) for one in training} == places
        # SHA-256 of the name, so that another machine divides alike (computed with sha256sum).
        assert places["s0"] == "a/3"


class TestSubjects:
    def test_negatives_are_of_the_same_subject_only(self) -> None:
        assert learned(population()) == {
            "a": {
                "text of qa1": (("text of a1",), ("text of a2",)),
                "text of qa3": (("text of a3",), ("text of a4",)),
            },
            "b": {"text of qb1": (("text of b1",), ())},
        }

    def test_a_document_as_subject_has_no_negatives(self) -> None:
        found = learned(population(unit=Unit.DOCUMENT))
        assert {negatives for own in found.values() for _, negatives in own.values()} == {()}

    def test_a_question_about_several_subjects_belongs_to_none(self) -> None:
        """Its node is there all the same: who takes part does not depend on it."""
        both = query("both", "a1", "a3")
        assert "text of both" not in learned(population(queries=(*QUERIES, both)))["a"]
        within = query("within", "a1", "a2")
        found = learned(population(queries=(*QUERIES, within)))["a"]
        assert found["text of within"] == (("text of a1", "text of a2"), ())
        alone = population(queries=(both, *QUERIES[2:]))
        assert [(node.name, len(node.subjects)) for node in alone.nodes] == [("a", 0), ("b", 1)]

    def test_a_node_learns_from_its_own_passages_only(self) -> None:
        """Passages a1 and a2 are of subclient one, a3 and a4 of two: a subject lies in one node."""
        both, other = query("both", "a1", "a3"), query("other", "a3")
        found = learned(
            population(queries=(both, other, *QUERIES[2:]), division=Division("subclient"))
        )
        assert found["one"] == {"text of both": (("text of a1",), ("text of a2",))}

    def test_a_text_that_answers_is_no_negative_under_another_id(self) -> None:
        twin = passage("twin", text="text of a1")
        found = learned(population(corpus=(*CORPUS, twin)))
        assert found["a"]["text of qa1"] == (("text of a1",), ("text of a2",))

    def test_only_the_training_split_is_learned_from(self) -> None:
        questions = [question for own in learned(population()).values() for question in own]
        assert not [question for question in questions if question.startswith("text of t")]


class TestSubclientsOfOneName:
    """Clients a and b each have a subclient "one"."""

    CORPUS = (passage("a1"), passage("a2"), passage("b1", "b"), passage("b2", "b"))
    QUERIES = (
        query("qa1", "a1"),
        query("qb1", "b1", client="b"),
        query("ta2", "a2", split="test"),
        query("tb2", "b2", split="test", client="b"),
    )

    def test_they_are_two_subjects(self) -> None:
        found = population(self.CORPUS, self.QUERIES)
        assert learned(found) == {
            "a": {"text of qa1": (("text of a1",), ("text of a2",))},
            "b": {"text of qb1": (("text of b1",), ("text of b2",))},
        }
        names = {name for node in found.nodes for name, _ in node.subjects}
        assert len(names) == 2

    def test_they_are_two_nodes_and_two_groups(self) -> None:
        found = population(
            self.CORPUS, self.QUERIES, division=Division("subclient"), score_by="subclient"
        )
        assert [(node.name, node.group) for node in found.nodes] == [
            ("a/one", "a/one"), ("b/one", "b/one")
        ]  # fmt: skip
        assert found.candidates == {
            "a/one": ("text of a1", "text of a2"), "b/one": ("text of b1", "text of b2")
        }  # fmt: skip

    def test_a_name_that_could_be_either_is_refused(self) -> None:
        third = passage("c1", "c", "a/one")
        with pytest.raises(DataError, match="'a/one' is one already"):
            population((*self.CORPUS, third), self.QUERIES)

    def test_clients_without_subclients_have_none_in_common(self) -> None:
        corpus = tuple(passage(one.id, one.client, "") for one in CORPUS)
        found = population(corpus, unit=Unit.DOCUMENT)
        assert [node.name for node in found.nodes] == ["a", "b"]


class TestTasks:
    def test_a_question_is_looked_for_among_its_groups_passages(self) -> None:
        found = population()
        assert found.candidates == {
            "a": ("text of a1", "text of a2", "text of a3", "text of a4"),
            "b": ("text of b1",),
        }
        assert [(task.question_id, task.group, task.gold) for task in found.tasks] == [
            ("ta2", "a", (1,)), ("tb1", "b", (0,))
        ]  # fmt: skip
        smaller = population(score_by="subclient")
        assert smaller.candidates["one"] == ("text of a1", "text of a2")
        assert smaller.scored_groups == ("one", "three")

    def test_answers_of_another_group_count_for_nothing(self) -> None:
        elsewhere = query("elsewhere", "a1", "a3", "b1", split="test")
        found = population(queries=(*QUERIES, elsewhere))
        assert found.tasks[-1].gold == (0, 2)
        found = population(queries=(*QUERIES, elsewhere), score_by="subclient")
        assert found.tasks[-1].gold == (0,)
        foreign = query("foreign", "b1", split="test")
        assert len(population(queries=(*QUERIES, foreign)).tasks) == len(population().tasks)


class TestRefusals:
    def test_without_training_questions(self) -> None:
        with pytest.raises(DataError, match="no question of the split 'train'"):
            population(queries=QUERIES[3:])
        with pytest.raises(DataError, match="no question of the split 'train'"):
            population(queries=(query("lost", "nowhere"), *QUERIES[3:]))

    def test_of_two_training_questions_with_one_id(self) -> None:
        """Their order within a subject would be chance."""
        with pytest.raises(DataError, match="two questions of the split 'train' have the same id"):
            population(queries=(*QUERIES, query("qa1", "a3", subclient="two")))

    def test_without_questions_to_score(self) -> None:
        with pytest.raises(DataError, match="no question of the split 'dev'"):
            population(split="dev")

    @pytest.mark.parametrize(
        "given",
        [
            {"division": Division("subclient")},
            {"division": Division("group", 2)},
            {"score_by": "subclient"},
            {"unit": Unit.SUBCLIENT},
        ],
    )
    def test_without_the_subclients_that_something_is_made_by(self, given: dict[str, Any]) -> None:
        bare = (passage("a5", subclient=""),)
        given = {"unit": Unit.DOCUMENT, **given}
        with pytest.raises(DataError, match="every line needs a subclient"):
            population(corpus=(*CORPUS, *bare), **given)
        with pytest.raises(DataError, match="every line needs a subclient"):
            population(queries=(*QUERIES, query("q", "a1", subclient="")), **given)
        assert population(corpus=(*CORPUS, *bare), unit=Unit.DOCUMENT).nodes


def test_the_hash_covers_texts_nodes_and_tasks() -> None:
    ours = population().hash
    changed = [
        population(corpus=(*CORPUS, passage("a5"))),
        population(queries=QUERIES[1:]),
        population(queries=QUERIES[:-1]),
        population(division=Division("subclient")),
        population(unit=Unit.DOCUMENT),
        population(score_by="subclient"),
    ]
    assert population().hash == ours
    assert len({ours, *(one.hash for one in changed)}) == 1 + len(changed)


def test_every_text_that_is_embedded_is_named_once() -> None:
    texts = population().texts()
    expected = {f"text of {one.id}" for one in (*CORPUS, *QUERIES)}
    assert set(texts) == expected and len(texts) == len(expected)
