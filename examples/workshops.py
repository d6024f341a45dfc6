"""Documents and questions of three fictional workshops, made from templates: one subject each.

The demo's federation needs some hundred short subjects on every node. Each is a card about one
object that somebody brought in; its questions are put the roundabout way in which people write.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

SUBJECTS_EACH = 102


@dataclass(frozen=True, slots=True)
class Question:
    """A question that exactly one card answers."""

    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class Card:
    """One subject: a short document in Markdown, and questions about it."""

    external_id: str
    text: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a fictional workshop repairs; `name` is its node's name.

    A fault is written down in one way and told by its owner in another.
    """

    name: str
    title: str
    objects: tuple[str, ...]
    makers: tuple[str, ...]
    faults: tuple[tuple[str, str], ...]
    works: tuple[str, ...]


WORKSHOPS = (
    Workshop(
        "hollin-clocks",
        "Hollin Clock Repairs",
        ("carriage clock", "longcase clock", "mantel clock", "cuckoo clock", "pocket watch",
         "ship's chronometer", "wall regulator", "travel alarm"),
        ("Ellery & Vane", "Tobias Marl", "Northgate Works", "J. Penhallow", "Rusk Brothers"),
        (("strikes the wrong hour", "never rings as often as it should"),
         ("stops when it is wound", "goes quiet once I have turned the key"),
         ("gains nine minutes a day", "is always ahead by the evening"),
         ("has a cracked crystal", "was dropped and its glass is broken"),
         ("rattles when it is moved", "makes a noise when I carry it"),
         ("will not chime at all", "has fallen silent")),
        ("the mainspring was replaced", "the escapement was cleaned", "the pivot was bushed",
         "a new suspension spring was fitted", "the hammer was bent back", "the dial was relaid"),
    ),
    Workshop(
        "carrow-instruments",
        "Carrow Instrument Makers",
        ("violin", "concertina", "mandolin", "cello", "clarinet", "hurdy-gurdy", "lap harp",
         "square piano"),
        ("Ida Fennimore", "Castell & Sons", "Workshop of Brae", "L. Ottaway", "Quay Street"),
        (("buzzes on the low notes", "hums in an ugly way at the bottom"),
         ("has a lifted seam", "is coming apart along its edge"),
         ("slips out of tune", "will not stay as I set it"),
         ("leaks air", "is short of breath when I play"),
         ("has a split in the belly", "shows a long crack in front"),
         ("sticks in damp weather", "does not like the rain")),
        ("the bass bar was reglued", "new pads were seated", "the pegs were bushed",
         "the reeds were voiced again", "the fingerboard was planed", "a cleat was set inside"),
    ),
    Workshop(
        "dunmere-bicycles",
        "Dunmere Bicycle Works",
        ("touring bicycle", "tandem", "delivery tricycle", "folding bicycle", "racing bicycle",
         "child's bicycle", "recumbent", "post bicycle"),
        ("Halden", "Sparrow Cycles", "Wren & Locke", "Fell Road", "Marchetti"),
        (("slips out of third gear", "jumps when I change up"),
         ("pulls to the left", "will not go straight"),
         ("squeals when it brakes", "screams whenever I slow down"),
         ("has a bent fork", "ran into a wall with its front"),
         ("creaks under the saddle", "groans where I sit"),
         ("loses its chain on hills", "comes undone when it gets steep")),
        ("the hub was rebuilt", "the headset was packed afresh", "the rim was trued",
         "the cones were replaced", "the bottom bracket was faced", "the cable was run anew"),
    ),
)  # fmt: skip

_FIRST = (
    *("Orla", "Bram", "Ines", "Tamsin", "Yorick", "Maeve", "Anselm", "Petra", "Lowen", "Sunniva"),
    *("Garrick", "Elowen", "Matthis", "Rhona", "Corin", "Isolde", "Fergus", "Nerys", "Dorian"),
)
_LAST = (
    *("Pennick", "Achterberg", "Sowerby", "Tregear", "Quill", "Haldane", "Morrow", "Inchbald"),
    *("Fairweather", "Ostrander", "Kell", "Bickerstaff", "Lundy", "Vexley", "Crane", "Dunstan"),
)
_MONTHS = ("January", "March", "April", "June", "August", "September", "October", "December")
_OPENINGS = (
    "Good morning, I hope that this finds you well. I only wanted to ask",
    "Sorry to trouble you again about this. Could somebody please tell me",
    "Hello there, it is me once more, and I would be most grateful to know",
    "I do not mean to be a nuisance, but may I ask",
)
_CLOSINGS = (
    "Many thanks in advance for your kind help.",
    "There is no hurry at all, whenever you have a minute.",
    "With best wishes and thank you for your patience.",
    "I look forward to hearing from you soon.",
)


def cards(workshop: Workshop, count: int = SUBJECTS_EACH) -> Iterator[Card]:
    """The cards of a workshop; the same ones every time. No two have object, maker and fault."""
    chosen = random.Random(workshop.name)
    owners = [f"{first} {last}" for first in _FIRST for last in _LAST]
    kinds = list(product(workshop.objects, workshop.makers, workshop.faults))
    chosen.shuffle(owners)
    chosen.shuffle(kinds)
    for number, (owner, kind) in enumerate(zip(owners[:count], kinds[:count], strict=True), 1):
        item, maker, (fault, told) = kind
        work, month = chosen.choice(workshop.works), chosen.choice(_MONTHS)
        shelf = f"{chosen.choice('ABCDEFGH')}{chosen.randint(1, 40)}"
        price = chosen.randint(18, 240)
        text = (
            f"# Card {number}\n\n"
            f"{workshop.title} took in a {item} made by {maker}. It {fault}. In {month} {work}. "
            f"It waits on shelf {shelf}, and {price} crowns are to be paid when {owner} comes "
            "to collect it.\n"
        )
        mine = f"my {item} from {maker}, the one that {told}"
        asked = (
            (f"where you keep {mine}", f"On shelf {shelf}."),
            (f"what I owe you for {mine}", f"{price} crowns."),
            (f"what was done about {mine}", f"In {month} {work}."),
        )
        questions = tuple(Question(_roundabout(chosen, ask), answer) for ask, answer in asked)
        yield Card(f"{workshop.name}-{number:03d}", text, questions)


def public_passages() -> list[str]:
    """Passages that belong to nobody: what every node may use as wrong answers."""
    return [
        f"{workshop.title} took in a {item} made by {maker}. It {fault}. In {month} {work}. "
        "It has been collected and paid."
        for workshop in WORKSHOPS
        for item, maker, (fault, _told), month, work in zip(
            workshop.objects, workshop.makers * 2, workshop.faults * 2, _MONTHS,
            workshop.works * 2, strict=False,
        )
    ]  # fmt: skip


def _roundabout(chosen: random.Random, clause: str) -> str:
    return f"{chosen.choice(_OPENINGS)} {clause}. {chosen.choice(_CLOSINGS)}"
