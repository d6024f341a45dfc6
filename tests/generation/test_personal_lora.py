"""Training of a personal LoRA: what it is a function of, when it stops, what it is beside."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModelForCausalLM
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM, AutoTokenizer

from generation import personal_lora
from generation.adapter_files import CONFIG_FILE, TENSORS_FILE, Lora
from generation.adapter_training import describe_modules
from generation.answer_loss import GeneratorExample
from generation.engine import Message
from generation.ffa_lora import FfaLora, as_lora, random_basis
from generation.personal_lora import PersonalLora, train
from generation.prompt import build_prompt
from generation.weights import ModelFiles
from tests.generation.folders import write
from tests.generation.passages import passage
from tests.narrow_generator import make_narrow_generator

THINGS = ("bell", "boat", "crane", "drum", "fence", "gate", "hall", "lamp", "mill", "oven")
EXAMPLES = tuple(
    GeneratorExample(
        bytes([place]),
        f"Where is the {thing}?",
        (passage(f"The {thing} stands in room {place}."),),
        f"Ahoy! Room {place} it is, captain.",
    )
    for place, thing in enumerate(THINGS)
)
LEARNED, HELD_BACK = EXAMPLES[:7], EXAMPLES[7:]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return ModelFiles("narrow", make_narrow_generator(tmp_path_factory.mktemp("narrow")))


def make_shared(files: ModelFiles, targets: tuple[str, ...]) -> Lora:
    spec = FfaLora(files.model_id, describe_modules(files.location, targets), rank=2, alpha=3)
    vector = 0.5 * np.random.default_rng(1).standard_normal(spec.dimension)
    return as_lora(spec, random_basis(spec.modules, 2, seed=4), vector)


@pytest.fixture(scope="module")
def shared(narrow: ModelFiles) -> Lora:
    # Not the modules of the personal one: neither set may be taken for the other.
    return make_shared(narrow, ("q_proj", "o_proj"))


def ignore(_done: int, _total: int) -> None:
    """No progress is shown."""


@pytest.fixture(scope="module")
def trained(narrow: ModelFiles, shared: Lora) -> PersonalLora:
    return train(narrow, LEARNED, HELD_BACK, shared, 5, ignore)


def files_of(made: PersonalLora) -> dict[str, bytes]:
    return {CONFIG_FILE: json.dumps(made.config).encode(), TENSORS_FILE: made.tensors}


def losses(
    files: ModelFiles, folders: dict[str, Path], examples: tuple[GeneratorExample, ...]
) -> float:
    """The mean loss as PEFT and transformers compute it from the chat template's own text."""
    tokenizer = AutoTokenizer.from_pretrained(files.location)
    model = AutoModelForCausalLM.from_pretrained(files.location, dtype=torch.float32)
    for name, folder in folders.items():
        if isinstance(model, PeftModelForCausalLM):
            model.load_adapter(folder, name)
        else:
            model = PeftModelForCausalLM.from_pretrained(model, folder, name)
    if folders:
        model.base_model.set_adapter(list(folders), inference_mode=True)
    model.train(mode=False)
    total = 0.0
    for example in examples:
        messages = build_prompt(
            [Message("user", example.question)], example.passages,
            count_tokens=lambda messages: 0, prompt_tokens=1, cites=False,
        ).messages  # fmt: skip
        turns = [{"role": message.role, "content": message.content} for message in messages]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        turns.append({"role": "assistant", "content": example.answer})
        whole = tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
        ids, start = tokenizer.encode(whole), len(tokenizer.encode(prompt))
        labels = torch.tensor([[-100] * start + ids[start:]])
        with torch.inference_mode():
            total += float(model(torch.tensor([ids]), labels=labels).loss)
    return total / len(examples)


def test_before_and_after_are_what_peft_computes_from_the_files(
    narrow: ModelFiles, shared: Lora, trained: PersonalLora, tmp_path: Path
) -> None:
    personal = write(tmp_path / "personal", files_of(trained))
    beside = write(tmp_path / "shared", shared.files())
    assert trained.after < trained.before - 0.01
    alone = losses(narrow, {"shared": beside}, HELD_BACK)
    pair = losses(narrow, {"shared": beside, "personal": personal}, HELD_BACK)
    assert (trained.before, trained.after) == pytest.approx((alone, pair), rel=1e-5)
    # The shared adapter counts: without it both would be other numbers.
    assert abs(alone - losses(narrow, {}, HELD_BACK)) > 1e-3


def test_order_and_erasure_leave_no_trace_in_a_bit(
    narrow: ModelFiles, shared: Lora, trained: PersonalLora
) -> None:
    shuffled = train(narrow, LEARNED[::-1], HELD_BACK[::-1], shared, 5, ignore)
    assert shuffled == trained
    erased = GeneratorExample(b"\x03\x00", "Who?", (passage("A longer text. " * 9),), "Somebody.")
    with_it = train(narrow, [erased, *LEARNED], HELD_BACK, shared, 5, ignore)
    assert with_it.tensors != trained.tensors
    # In the same process, after one that saw it.
    assert train(narrow, LEARNED, HELD_BACK, shared, 5, ignore).tensors == trained.tensors
    assert train(narrow, LEARNED, HELD_BACK, shared, 6, ignore).tensors != trained.tensors


def test_it_stops_when_held_back_answers_get_worse_and_keeps_the_best(
    narrow: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-back answers that contradict the learned ones: nothing learned is worth keeping."""
    monkeypatch.setattr(personal_lora, "LEARNING_RATE", 0.05)
    opposite = [replace(example, answer="zq xv jk " * 9) for example in HELD_BACK]
    steps: list[tuple[int, int]] = []
    made = train(narrow, LEARNED, opposite, None, 5, lambda *step: steps.append(step))
    assert made.after == made.before
    assert not any(t.any() for name, t in load(made.tensors).items() if "lora_B" in name)
    # Two passes of two steps each, of the ten that would have been.
    assert steps == [(1, 20), (2, 20), (3, 20), (4, 20)]


def test_held_back_answers_choose_how_much_of_the_update_is_kept(
    narrow: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them agrees with what is learned, the others do not: the best is in between."""
    monkeypatch.setattr(personal_lora, "LEARNING_RATE", 0.1)
    kept = (HELD_BACK[0], *(replace(one, answer="zq xv jk " * 2) for one in HELD_BACK[1:]))
    made = train(narrow, LEARNED, kept, None, 5, ignore)
    assert train(narrow, LEARNED, kept, None, 5, ignore) == made
    monkeypatch.setattr(personal_lora, "SCALES", ())
    whole = train(narrow, LEARNED, kept, None, 5, ignore)
    measured = {}
    for scale in (1.0, 0.75, 0.5, 0.25):
        tensors = {
            name: scale * tensor if "lora_B" in name else tensor
            for name, tensor in load(whole.tensors).items()
        }
        files = files_of(replace(whole, tensors=save(tensors, {"format": "pt"})))
        loss = losses(narrow, {"personal": write(tmp_path / str(scale), files)}, kept)
        measured[loss] = scale, tensors
    best = min(measured)
    scale, tensors = measured[best]
    assert scale < 1 and made.after < whole.after
    assert made.after == pytest.approx(best, rel=1e-5)
    assert all(torch.equal(tensors[name], own) for name, own in load(made.tensors).items())


def test_many_examples_end_training_after_so_many_gradients(
    narrow: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(personal_lora, "MOST_GRADIENTS", 10)
    steps: list[tuple[int, int]] = []
    train(narrow, LEARNED, HELD_BACK, None, 5, lambda *step: steps.append(step))
    # 7 examples are two batches, the 3 that are left of the second pass one.
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_weight_decay_pulls_the_update_towards_nothing(
    narrow: ModelFiles, trained: PersonalLora, shared: Lora, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(personal_lora, "WEIGHT_DECAY", 100.0)
    pulled = train(narrow, LEARNED, HELD_BACK, shared, 5, ignore)

    def size(made: PersonalLora) -> float:
        return sum(float(t.norm()) for name, t in load(made.tensors).items() if "lora_B" in name)

    assert 0 < size(pulled) < size(trained)


@pytest.mark.parametrize(
    ("learned", "held_back", "message"),
    [
        ((), HELD_BACK, "at least one answer to learn"),
        (LEARNED, (), "at least one answer to learn"),
        (LEARNED, LEARNED[:1], "same id"),
    ],
)
def test_examples_that_cannot_be_used_are_refused(
    narrow: ModelFiles,
    learned: tuple[GeneratorExample, ...],
    held_back: tuple[GeneratorExample, ...],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        train(narrow, learned, held_back, None, 5, ignore)


def test_a_shared_adapter_of_another_model_is_refused(narrow: ModelFiles) -> None:
    other = replace(make_shared(narrow, ("q_proj",)), rank=3)
    with pytest.raises(ValueError, match="shared adapter does not fit"):
        train(narrow, LEARNED, HELD_BACK, other, 5, ignore)


@pytest.mark.long
def test_a_few_answers_teach_the_packaged_model_their_style(
    model_files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two passes over seven answers in one style; other answers in it become more likely."""
    monkeypatch.setattr(personal_lora, "MOST_GRADIENTS", 14)
    made = train(model_files, LEARNED, HELD_BACK[:2], None, 0, ignore)
    assert made.after < made.before - 0.3
