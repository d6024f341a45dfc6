"""Answers to many questions as a node gives them: its engine, its prompt, the shared adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federation.adapter_spec import parameters_hash, parameters_to_bytes
from federation.participant.shared_generator import SharedGenerator
from federation.plan_request import ResolvedPlan
from federation.rows import ffa_lora
from generation.answer_loss import bare_passage
from generation.engine import GenerationRequest, Message, complete
from generation.ffa_lora import as_lora
from generation.prompt import TAGS, build_prompt
from generation.transformers_engine import TransformersEngine
from generation.weights import find_model

ROWS = 8
"""Replies that are made together."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the passages that its answer is to come from.

    Attributes:
        passages: the best first, at least one.
        history: earlier turns of the conversation, such as examples of good answers.
    """

    question: str
    passages: tuple[str, ...]
    history: tuple[Message, ...] = ()


def answers(
    asked: Sequence[Asked],
    resolved: ResolvedPlan,
    vector: NDArray[np.float32],
    model: str,
) -> list[str]:
    """Greedy answers under the plan's adapter with the parameters `vector`, shape (d,).

    As a node answers, but without the citation marks that it adds, since no reference has any. An
    answer has at most the plan's `max_answer_tokens` tokens. Which replies share a pass moves
    logits by rounding, so that single words may differ from one run to the next.

    Args:
        model: the generator, as in `find_model`.

    Raises:
        ValueError: the plan is of no generator, or its adapter does not fit the model.
    """
    plan = resolved.plan
    if plan.generator_terms is None:
        raise ValueError("the plan is of no generator")
    basis = resolved.blobs[plan.adapter.basis_hash]
    engine = TransformersEngine(find_model(model), max_rows=ROWS, max_waiting=len(asked))
    try:
        shared = SharedGenerator(engine)
        name = parameters_hash(parameters_to_bytes(vector))
        shared.serve(name, as_lora(ffa_lora(plan.adapter, basis), basis, vector))
        most = plan.generator_terms.max_answer_tokens
        return asyncio.run(_all(engine, asked, shared.adapters, most))
    finally:
        asyncio.run(engine.close())


async def _all(
    engine: TransformersEngine, asked: Sequence[Asked], adapters: tuple[str, ...], most_tokens: int
) -> list[str]:
    async def one(asking: Asked) -> str:
        prompt = build_prompt(
            (*asking.history, Message("user", asking.question)),
            [bare_passage(text) for text in asking.passages],
            count_tokens=engine.count_tokens,
            prompt_tokens=engine.context_length - most_tokens,
            cites=False,
        )
        request = GenerationRequest(
            prompt.messages, max_tokens=most_tokens, stop=TAGS, adapters=adapters
        )
        return (await complete(engine, request))[0]

    return list(await asyncio.gather(*map(one, asked)))
