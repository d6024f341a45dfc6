"""Time to first token and tokens per second beside `transformers.generate`, same prompt and model.

Both decode greedily with the same weights and number format. Four at once: ours as one batch that
requests join as they come, transformers one after another, as a plain server with a lock would.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

from benchmarks.ingest import WORDS
from benchmarks.report import Options, Row, versioned
from generation.engine import Finished, GenerationRequest, Message, TextDelta
from generation.transformers_engine import TransformersEngine, best_dtype
from generation.weights import find_model

PROMPT_WORDS = 400
NEW_TOKENS = 60
REPEATS = 3
TOGETHER = (1, 4)


def run(options: Options) -> Iterator[Row]:
    """Ours and the peer in turn, medians."""
    repeats = 1 if options.quick else REPEATS
    text = " ".join(WORDS[place % len(WORDS)] for place in range(PROMPT_WORDS))
    messages = (Message("user", f"Write a long story with these words: {text}"),)
    engine = TransformersEngine(find_model())
    prompt_tokens = engine.count_tokens(messages)
    mine = {n: _median([asyncio.run(_ours(engine, messages, n)) for _ in range(repeats)])
            for n in TOGETHER}  # fmt: skip
    asyncio.run(engine.close())
    peer = _Peer()
    theirs = {n: _median([peer.answer(messages, n) for _ in range(repeats)]) for n in TOGETHER}
    name = f"generate, {versioned('transformers')}"
    for together in TOGETHER:
        case = f"prompt={prompt_tokens} new={NEW_TOKENS} at once={together}"
        (first, rate), (peer_first, peer_rate) = mine[together], theirs[together]
        yield Row("generation", case, "mean time to first token, s", first, peer_first, name)
        yield Row("generation", case, "tokens per second", rate, peer_rate, name, better="higher")


def _median(measured: list[tuple[float, float]]) -> tuple[float, float]:
    firsts, rates = zip(*measured, strict=True)
    return statistics.median(firsts), statistics.median(rates)


async def _ours(
    engine: TransformersEngine, messages: tuple[Message, ...], together: int
) -> tuple[float, float]:
    start = time.perf_counter()

    async def one() -> tuple[float, int]:
        first = 0.0
        async for event in engine.generate(GenerationRequest(messages, NEW_TOKENS)):
            if isinstance(event, TextDelta) and not first:
                first = time.perf_counter() - start
            if isinstance(event, Finished):
                return first, event.usage.completion_tokens
        raise RuntimeError("the stream ended without Finished")

    answers = await asyncio.gather(*(one() for _ in range(together)))
    seconds = time.perf_counter() - start
    return (
        statistics.mean(first for first, _ in answers),
        sum(tokens for _, tokens in answers) / seconds,
    )


class _Peer:
    def __init__(self) -> None:
        folder = find_model().location
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=best_dtype())
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def answer(self, messages: tuple[Message, ...], together: int) -> tuple[float, float]:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        prompt = self._tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        start = time.perf_counter()
        firsts, tokens = [], 0
        for _ in range(together):
            streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True)
            produced: list[torch.Tensor] = []

            def work(streamer: Any = streamer, produced: list[torch.Tensor] = produced) -> None:
                produced.append(
                    self._model.generate(
                        **prompt, max_new_tokens=NEW_TOKENS, do_sample=False, streamer=streamer
                    )
                )

            thread = Thread(target=work)
            thread.start()
            next(iter(streamer))
            firsts.append(time.perf_counter() - start)
            for _piece in streamer:
                pass
            thread.join()
            tokens += produced[0].shape[1] - prompt["input_ids"].shape[1]
        return statistics.mean(firsts), tokens / (time.perf_counter() - start)
