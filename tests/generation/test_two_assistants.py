"""Two assistants with different personal adapters and one shared one, in one engine at once."""

import asyncio
from contextlib import aclosing

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from generation.adapter_files import Lora
from generation.adapter_training import describe_modules
from generation.engine import Finished, GenerationRequest, TextDelta
from generation.transformers_engine import TransformersEngine
from generation.weights import ModelFiles
from tests.generation.oracle import ask
from tests.narrow_generator import make_narrow_generator

PAIRS = {
    "first": ("shared", "personal-1"),
    "second": ("shared", "personal-2"),
    "neither": ("shared",),
}
QUESTIONS = ("Where is the bell?", "Who has the key to the northern gate of the yard?", "Why?")
TOKENS = 12


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return ModelFiles("narrow", make_narrow_generator(tmp_path_factory.mktemp("narrow")))


@pytest.fixture(scope="module")
def planted(narrow: ModelFiles) -> dict[str, Lora]:
    """Updates as large as the weights, so that each pair says something else."""
    drawn = np.random.default_rng(3)
    made = {}
    for name, rank, targets in (
        ("shared", 4, ["q_proj", "v_proj"]),
        ("personal-1", 8, ["q_proj", "v_proj", "down_proj"]),
        ("personal-2", 8, ["v_proj", "down_proj"]),
    ):
        factors = {
            module.name: (
                drawn.standard_normal((rank, module.inputs)).astype(np.float32),
                drawn.standard_normal((module.outputs, rank)).astype(np.float32),
            )
            for module in describe_modules(narrow.location, targets)
        }
        made[name] = Lora("narrow", rank, rank, factors)
    return made


def merged_reply(narrow: ModelFiles, loras: list[Lora], request: GenerationRequest) -> str:
    """What transformers' `generate` says with W + alpha/r B A in the weights, one row at a time."""
    model = AutoModelForCausalLM.from_pretrained(narrow.location, dtype=torch.float32)
    for lora in loras:
        for name, (layer_a, layer_b) in lora.factors.items():
            update = lora.alpha / lora.rank * layer_b @ layer_a
            model.get_submodule(name).weight.data += torch.from_numpy(update)
    tokenizer = AutoTokenizer.from_pretrained(narrow.location)
    turns = [{"role": m.role, "content": m.content} for m in request.messages]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(**prompt, max_new_tokens=request.max_tokens, do_sample=False)
    reply = output[0, prompt["input_ids"].shape[1] :]
    # Half a character, as a model of noise writes it, is no text.
    return tokenizer.decode(reply, skip_special_tokens=True).replace("\ufffd", "")


def test_interleaved_requests_get_their_own_assistants_answers(
    narrow: ModelFiles, planted: dict[str, Lora]
) -> None:
    requests = {
        (who, question): ask(question, TOKENS, *names)
        for question in QUESTIONS
        for who, names in PAIRS.items()
    }
    expected = {
        key: merged_reply(narrow, [planted[name] for name in request.adapters], request)
        for key, request in requests.items()
    }
    # Otherwise a leak of one into the other would not be seen.
    assert len(set(expected.values())) == len(expected)
    engine = TransformersEngine(
        narrow, dtype=torch.float32, max_rows=3, max_waiting=64, no_repeat_ngram=0
    )

    async def visit(number: int, key: tuple[str, str]) -> bool:
        """Whether the answer, or what was read of one that was hung up on, is its own."""
        await asyncio.sleep(0.01 * (number * 7 % 11))
        text = ""
        async with aclosing(engine.generate(requests[key])) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    text += event.text
                    if number % 5 == 4:
                        return expected[key].startswith(text)
                if isinstance(event, Finished):
                    return text == expected[key]
        return False

    async def scenario() -> list[bool]:
        for name, lora in planted.items():
            await engine.load_adapter(name, lora)
        keys = list(requests) * 4
        return await asyncio.gather(*(visit(number, key) for number, key in enumerate(keys)))

    try:
        assert asyncio.run(scenario()) == [True] * (4 * len(requests))
    finally:
        asyncio.run(engine.close())
