"""How nodes train a query map: public constants of a plan."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True)
class MapTerms:
    """How the query map is trained: public, part of the plan, the same at every node.

    Attributes:
        temperature: tau, divides cosines.
        max_examples_per_subject: the first so many by id are used.
        max_positives, max_negatives: of an example's own passages the first so many are used.
        local_steps: steps of gradient descent in one local update (mode `client`).
        local_batch: examples of a local step, drawn without replacement; all if there are fewer.
        learning_rate: of a local step, on the mean gradient of its examples. The default makes
            nearly every update longer than a clip norm of 1, so that each node has one voice.

    Raises:
        ValueError: a count is not a positive whole number, or a number not positive and finite.
    """

    temperature: float = 0.05
    max_examples_per_subject: int = 16
    max_positives: int = 4
    max_negatives: int = 16
    local_steps: int = 1
    local_batch: int = 256
    learning_rate: float = 100.0

    def __post_init__(self) -> None:
        check_positive(self, reals=("temperature", "learning_rate"))


def check_positive(terms: DataclassInstance, reals: Container[str]) -> None:
    """Refuse terms of which a field is not positive and finite; only `reals` need not be whole.

    Raises:
        ValueError: says which field.
    """
    for name in (field.name for field in fields(terms)):
        value = getattr(terms, name)
        if name in reals:
            if type(value) not in (int, float) or not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, not {value!r}")
        elif type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a positive whole number, not {value!r}")
