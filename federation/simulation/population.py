"""A labelled data set as a population: who is a node, what it learns from, who is asked what."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from retrieval.examples import Example
from retrieval.labelled import DataError, Passage, Query

TRAINING = "train"


class Unit(StrEnum):
    """What a subject is."""

    DOCUMENT = "document"
    """A line of the corpus."""
    SUBCLIENT = "subclient"
    """All lines of a subclient: a web page, a story."""


@dataclass(frozen=True, slots=True)
class SimulatedNode:
    """A node with its subjects; `group` is the scoring group that it lies in."""

    name: str
    group: str
    subjects: tuple[tuple[bytes, tuple[Example, ...]], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Task:
    """A question for scoring; it is looked for among the passages of its group.

    Attributes:
        gold: places of passages of the group that answer it, at least one.
    """

    question_id: str
    text: str
    answer: str | None
    group: str
    gold: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Population:
    """Nodes to train on, and questions to score with.

    Attributes:
        nodes: by name; they learn from the questions of the split `train`.
        candidates: the passages of each scoring group.
        tasks: the questions of one other split.
    """

    nodes: tuple[SimulatedNode, ...]
    candidates: dict[str, tuple[str, ...]] = field(repr=False)
    tasks: tuple[Task, ...] = field(repr=False)

    @property
    def scored_groups(self) -> tuple[str, ...]:
        """Groups with a question, by name."""
        return tuple(sorted({task.group for task in self.tasks}))

    def gold(self, task: Task) -> tuple[str, ...]:
        """The texts of the passages that answer a question."""
        return tuple(self.candidates[task.group][place] for place in task.gold)

    def with_questions(self, most: int) -> Population:
        """At most `most` of the questions, chosen by hash, so that a subset stays the same."""
        ordered = sorted(self.tasks, key=lambda task: _key(task.question_id))
        return replace(self, tasks=tuple(ordered[:most]))

    @property
    def hash(self) -> str:
        """SHA-256 of everything in it, 64 hexadecimal digits."""
        return hashlib.sha256(repr(self._parts()).encode()).hexdigest()

    def _parts(self) -> list[object]:
        nodes = [(node.name, node.group, node.subjects) for node in self.nodes]
        tasks = [
            (task.question_id, task.text, task.answer, task.group, task.gold) for task in self.tasks
        ]
        return [nodes, sorted(self.candidates.items()), tasks]

    def texts(self) -> list[str]:
        """Every text that is embedded, each once."""
        examples = [own for node in self.nodes for _, every in node.subjects for own in every]
        asked = [task.text for task in self.tasks] + [example.question for example in examples]
        held = [text for own in self.candidates.values() for text in own]
        for example in examples:
            held += [*example.positives, *example.negatives]
        return list(dict.fromkeys(held + asked))


@dataclass(frozen=True, slots=True)
class Division:
    """How the data is divided into nodes: `client`, `subclient` or `group:N`.

    `group:N` merges the subclients of a client by hash into groups, some N in all, of which each
    client gets its share of training questions.
    """

    field: str
    groups: int = 0

    @staticmethod
    def read(text: str) -> Division:
        """Raises ValueError unless `text` is one of the three."""
        if text in ("client", "subclient"):
            return Division(text)
        found = re.fullmatch(r"group:([1-9]\d{0,5})", text)
        if found is None:
            raise ValueError(f"nodes are made by client, subclient or group:N, not {text[:40]!r}")
        return Division("group", int(found[1]))

    def names(self, training: Sequence[Query]) -> Callable[[Passage | Query], str]:
        """The name of the node of a row, of a client that has a training question."""
        if self.field != "group":
            return lambda row: str(getattr(row, self.field))
        count: dict[str, int] = defaultdict(int)
        for query in training:
            count[query.client] += 1
        shares = {
            client: max(1, round(self.groups * own / len(training)))
            for client, own in count.items()
        }

        def name(row: Passage | Query) -> str:
            digest = hashlib.sha256(row.subclient.encode()).digest()
            place = int.from_bytes(digest) % shares[row.client]
            return f"{row.client}/{place}"

        return name


def build(
    corpus: Sequence[Passage],
    queries: Sequence[Query],
    division: Division,
    unit: Unit,
    *,
    score_by: str,
    split: str,
) -> Population:
    """The population of a data set.

    As on a real node each question belongs to the one subject of its node that answers it, and has
    as negatives the other passages of that subject; a question that several of them answer belongs
    to none. For training, answers that another node holds count for nothing; for scoring, those
    of another client or scoring group. A subclient lies in one client: where two clients have one
    of the same name, they are two, and called client/subclient.

    Real nodes know more and less: they count subjects without a question too, learn from headings
    as well, and hold one question in five back.

    Args:
        score_by: field, `client` or `subclient`, within which a question is looked for.
        split: of the questions for scoring.

    Raises:
        DataError: the data lacks a field that is needed, ids or names of subclients cannot be told
            apart, or there is nothing to train or score.
    """
    wanted = {score_by, division.field, unit.value}
    named = all(p.subclient for p in corpus) and all(q.subclient for q in queries)
    if wanted & {"subclient", "group"} and not named:
        raise DataError("every line needs a subclient for nodes, units or scores made by it")
    corpus, queries = _told_apart(corpus, queries)
    passages = {passage.id: passage for passage in corpus}

    def group(row: Passage | Query) -> str:
        return str(getattr(row, score_by))

    def subject(passage: Passage) -> str:
        return passage.id if unit is Unit.DOCUMENT else passage.subclient

    candidates: dict[str, list[str]] = defaultdict(list)
    places: dict[str, int] = {}
    shelves: dict[str, list[Passage]] = defaultdict(list)
    for passage in corpus:
        places[passage.id] = len(candidates[group(passage)])
        candidates[group(passage)].append(passage.text)
        shelves[subject(passage)].append(passage)

    def answers(query: Query) -> list[Passage]:
        return [
            passages[one]
            for one in sorted(query.gold_ids)
            if one in passages and passages[one].client == query.client
        ]

    training = [query for query in queries if query.split == TRAINING and answers(query)]
    if not training:
        raise DataError(f"no question of the split {TRAINING!r} has its answer in the corpus")
    if len({query.id for query in training}) < len(training):
        raise DataError(f"two questions of the split {TRAINING!r} have the same id")
    name = division.names(training)
    learned: dict[str, dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
    groups: dict[str, set[str]] = defaultdict(set)
    for query in training:
        groups[name(query)].add(group(query))
        held = [passage for passage in answers(query) if name(passage) == name(query)]
        found = {subject(passage) for passage in held}
        if len(found) == 1:
            (own,) = found
            learned[name(query)][own].append(_example(query, held, shelves[own]))
    tasks = [
        Task(query.id, query.text, query.answer, group(query), gold)
        for query in queries
        if query.split == split
        and (gold := tuple(places[p.id] for p in answers(query) if group(p) == group(query)))
    ]
    if not tasks:
        raise DataError(f"no question of the split {split!r} has its answer in the corpus")
    nodes = tuple(
        SimulatedNode(
            one,
            groups[one].pop() if len(groups[one]) == 1 else "",
            tuple((_key(own), tuple(every)) for own, every in sorted(learned[one].items())),
        )
        for one in sorted(groups)
    )
    texts = {one: tuple(own) for one, own in candidates.items()}
    return Population(nodes, texts, tuple(tasks))


def _told_apart(
    corpus: Sequence[Passage], queries: Sequence[Query]
) -> tuple[list[Passage], list[Query]]:
    """The rows, with subclients that several clients have under one name called by both names."""
    owners: dict[str, set[str]] = defaultdict(set)
    rows: list[Passage | Query] = [*corpus, *queries]
    for row in rows:
        owners[row.subclient].add(row.client)

    def name(row: Passage | Query) -> str:
        own = row.subclient
        if not own or len(owners[own]) == 1:
            return own
        longer = f"{row.client}/{own}"
        if longer in owners:
            raise DataError(
                f"several clients have the subclient {own!r}, and {longer!r} is one already"
            )
        return longer

    return (
        [replace(passage, subclient=name(passage)) for passage in corpus],
        [replace(query, subclient=name(query)) for query in queries],
    )


def _example(query: Query, answers: Iterable[Passage], shelf: Iterable[Passage]) -> Example:
    positives = tuple(dict.fromkeys(passage.text for passage in answers))
    others = dict.fromkeys(p.text for p in shelf if p.text not in positives)
    return Example(_key(query.id), query.text, query.answer, positives, tuple(others))


def _key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
