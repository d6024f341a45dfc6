"""Answers to many questions as a node gives them: its engine, its prompt, its adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from generation.adapter_files import Lora
from generation.answer_loss import bare_passage
from generation.engine import GenerationRequest, Message, complete
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
    asked: Sequence[Asked], model: str, adapters: Sequence[Lora], most_tokens: int
) -> list[str]:
    """Greedy answers of at most `most_tokens` tokens under the sum of the adapters' updates.

    As a node answers, but without the citation marks that it adds, since no reference has any.
    Which replies share a pass moves logits by rounding, so that single words may differ from one
    run to the next.

    Args:
        model: the generator, as in `find_model`.
        adapters: none, one, or two.

    Raises:
        ValueError: there are more adapters, or one does not fit the model.
    """
    engine = TransformersEngine(find_model(model), max_rows=ROWS, max_waiting=len(asked))
    try:
        return asyncio.run(_all(engine, asked, adapters, most_tokens))
    finally:
        asyncio.run(engine.close())


async def _all(
    engine: TransformersEngine, asked: Sequence[Asked], adapters: Sequence[Lora], most_tokens: int
) -> list[str]:
    names = tuple(f"adapter-{place}" for place in range(len(adapters)))
    for name, lora in zip(names, adapters, strict=True):
        await engine.load_adapter(name, lora)

    async def one(asking: Asked) -> str:
        prompt = build_prompt(
            (*asking.history, Message("user", asking.question)),
            [bare_passage(text) for text in asking.passages],
            count_tokens=engine.count_tokens,
            prompt_tokens=engine.context_length - most_tokens,
            cites=False,
        )
        request = GenerationRequest(
            prompt.messages, max_tokens=most_tokens, stop=TAGS, adapters=names
        )
        return (await complete(engine, request))[0]

    return list(await asyncio.gather(*map(one, asked)))
