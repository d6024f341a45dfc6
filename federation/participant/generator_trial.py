"""A shared version of a generator, tried on this node's held-back answers in a process of its own.

The process is a training process: at the lowest priority, with a model of its own, so that answers
stay fast. It tells the mean loss of the answers with the version, and the lower one of those
without any and with what is served now.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from federation.adapter_spec import parameters_from_bytes
from federation.participant.adoption import Trial
from federation.participant.trainer import Trainer, TrainingTask
from retrieval.examples import Example

MOST_ANSWERS = 32
"""Each takes a second or two of one core, twice."""


class GeneratorTrial:
    """One version's trial, begun when this is made. For one thread."""

    def __init__(
        self,
        task: TrainingTask,
        number: int,
        parameters: bytes,
        served: bytes | None,
        examples: Sequence[Example],
    ) -> None:
        """Try version `number`.

        Args:
            served: the parameters that are served now, if they are of the task's adapter.
            examples: those of `ExampleSource.held_back_answers`.

        Raises:
            ValueError: the parameters are not those of the task's plan.
        """
        self.number = number
        self._examples = len(examples[:MOST_ANSWERS])
        self._trainer = Trainer(task)
        with_it = parameters_from_bytes(parameters, task.plan.adapter)
        if examples:
            # An adapter whose B is zero adds nothing.
            vectors = [np.zeros_like(with_it), with_it]
            if served is not None:
                vectors.insert(0, parameters_from_bytes(served, task.plan.adapter))
            self._trainer.begin_losses("trial", tuple(vectors), examples[:MOST_ANSWERS])

    def result(self) -> Trial | None:
        """None while it is under way; without losses if nobody can tell."""
        if self._trainer.is_busy:
            return None
        losses = self._trainer.losses()
        if losses is None:
            return Trial(self._examples, None, None)
        return Trial(self._examples, min(losses[:-1]), losses[-1])

    def close(self) -> None:
        """End its process."""
        self._trainer.close()
