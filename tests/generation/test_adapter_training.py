"""Per-example gradients against PEFT and autograd, row independence to the bit, and the folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModelForCausalLM
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from generation.adapter_training import GeneratorTrainer, describe_modules
from generation.adapters import AdapterSet
from generation.answer_loss import GeneratorExample
from generation.engine import Message
from generation.ffa_lora import AdaptedModule, FfaLora, as_lora, random_basis
from generation.prompt import build_prompt
from generation.training_terms import GeneratorTerms
from generation.weights import ModelFiles
from privacy.records import from_json, to_json
from tests.generation.folders import write
from tests.generation.passages import passage

TERMS = GeneratorTerms(
    max_prompt_tokens=128,
    max_answer_tokens=12,
    micro_batch=3,
    max_examples_per_subject=4,
    local_batch=4,
)
DISTRACTORS = (passage("The ferry runs twice a day.", "Ferry"),)
EXAMPLES = tuple(
    GeneratorExample(bytes([place]), question, (passage(text),), answer)
    for place, (question, text, answer) in enumerate(
        [
            ("When does the library open?", "It opens at nine.", "At nine."),
            (
                "How much oil does the tank hold?",
                "The tank holds 40 litres.",
                "It holds 40 litres.",
            ),
            ("Who built the fountain?", "A sculptor named Ida built it in 1902.", "Ida did."),
            ("Where do rowers meet?", "The rowing club meets at the river.", "At the river"),
            ("What is the fee?", "Entry costs four euros on Sundays.", "Four euros on Sundays."),
        ]
    )
)


def make_spec(location: str, targets: Sequence[str]) -> tuple[FfaLora, bytes]:
    spec = FfaLora("a-model", describe_modules(location, targets), rank=2, alpha=3)
    return spec, random_basis(spec.modules, spec.rank, seed=4)


def random_vector(spec: FfaLora, scale: float = 0.05) -> np.ndarray:
    return scale * np.random.default_rng(6).standard_normal(spec.dimension)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> str:
    """A Llama of two narrow layers, random, with the packaged model's tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    folder = tmp_path_factory.mktemp("small-model")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def small_adapter(small: str) -> tuple[FfaLora, bytes]:
    return make_spec(small, ["q_proj", "v_proj"])


@pytest.fixture(scope="module")
def trainer(small: str, small_adapter: tuple[FfaLora, bytes]) -> GeneratorTrainer:
    spec, basis = small_adapter
    return GeneratorTrainer(ModelFiles("small", small), spec, basis, DISTRACTORS, TERMS)


@pytest.fixture(scope="module")
def packaged(model_files: ModelFiles) -> tuple[FfaLora, bytes, GeneratorTrainer]:
    targets = ["layers.29.self_attn.q_proj", "layers.28.self_attn.v_proj"]
    spec, basis = make_spec(model_files.location, targets)
    return spec, basis, GeneratorTrainer(model_files, spec, basis, DISTRACTORS, TERMS)


def test_a_packaged_row_is_the_same_beside_any_other(
    packaged: tuple[FfaLora, bytes, GeneratorTrainer],
) -> None:
    """Alone in a pass, or in another place of one with a much longer neighbour."""
    spec, _, trainer = packaged
    vector = random_vector(spec)
    long = passage("The harbour was dug out in four summers by men from three towns. " * 9)
    neighbour = (b"n", [GeneratorExample(b"", "Who dug out the harbour?", (long,), "Men from")])
    subject = (b"s", EXAMPLES[:1])
    alone = dict(trainer.subject_gradients([subject], vector))
    beside = dict(trainer.subject_gradients([neighbour, subject], vector))
    assert beside[b"s"].tobytes() == alone[b"s"].tobytes()


def test_packaged_gradients_are_those_of_peft_on_one_document_at_a_time(
    packaged: tuple[FfaLora, bytes, GeneratorTrainer],
    model_files: ModelFiles,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    """By autograd through the folder that PEFT loads, unpadded, with transformers' own loss."""
    spec, basis, trainer = packaged
    vector = random_vector(spec)
    # Two subjects in one pass, and one row of it empty.
    subjects = [(b"a", EXAMPLES[:1]), (b"b", EXAMPLES[1:2])]
    rows = dict(trainer.subject_gradients(subjects, vector))
    ours = [trainer.average_loss([example], vector) for example in EXAMPLES[:2]]

    write(tmp_path / "adapter", as_lora(spec, basis, vector).files())
    model = AutoModelForCausalLM.from_pretrained(model_files.location, dtype=torch.float32)
    peft_model = PeftModelForCausalLM.from_pretrained(
        model, tmp_path / "adapter", is_trainable=True
    )
    peft_model.train(mode=False)
    trained = {n: p for n, p in peft_model.named_parameters() if "lora_B" in n}
    for (name, (example,)), loss in zip(subjects, ours, strict=True):
        ids, prompt = _as_templated(tokenizer, example)
        labels = torch.tensor([-100] * prompt + ids[prompt:])
        peft_model.zero_grad()
        output = peft_model(torch.tensor([ids]), labels=labels[None])
        output.loss.backward()
        expected = torch.cat(
            [
                trained[f"base_model.model.{m.name}.lora_B.default.weight"].grad.flatten()
                for m in spec.modules
            ]
        ).numpy()
        assert loss == pytest.approx(output.loss.item(), rel=1e-5)
        # Measured: this side is within 3.5e-6 of PEFT in float64, ours within 5.3e-6.
        assert np.linalg.norm(rows[name] - expected) < 2e-5 * np.linalg.norm(expected)


def _as_templated(
    tokenizer: PreTrainedTokenizerBase, example: GeneratorExample
) -> tuple[list[int], int]:
    """Tokens of the whole conversation up to the end of the answer, and how many are its prompt."""
    messages = build_prompt(
        [Message("user", example.question)],
        [*example.passages, *DISTRACTORS],
        count_tokens=lambda messages: 0,
        prompt_tokens=1,
        cites=False,
    ).messages
    turns = [{"role": message.role, "content": message.content} for message in messages]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    turns.append({"role": "assistant", "content": example.answer})
    whole = tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
    assert whole.startswith(prompt)
    return tokenizer.encode(whole), len(tokenizer.encode(prompt))


@settings(max_examples=8)
@given(st.data())
def test_erasing_a_subject_changes_no_bit_of_another_row(
    trainer: GeneratorTrainer, small_adapter: tuple[FfaLora, bytes], data: st.DataObject
) -> None:
    vector = random_vector(small_adapter[0])
    subjects = [
        (bytes([i]), data.draw(st.lists(st.sampled_from(EXAMPLES), max_size=5, unique=True)))
        for i in range(data.draw(st.integers(2, 4)))
    ]
    before = dict(trainer.subject_gradients(subjects, vector))
    erased = data.draw(st.sampled_from(subjects))
    left = data.draw(st.permutations([s for s in subjects if s is not erased]))
    shuffled = [(name, data.draw(st.permutations(own))) for name, own in left]
    after = dict(trainer.subject_gradients(shuffled, vector))
    assert after.keys() == before.keys() - {erased[0]}
    for name, row in after.items():
        assert row.tobytes() == before[name].tobytes()


def test_every_pass_has_one_shape(
    trainer: GeneratorTrainer, small_adapter: tuple[FfaLora, bytes]
) -> None:
    """Of ids into the embedding and of states into the vocabulary, whatever the examples are."""
    shapes: dict[str, set[tuple[int, ...]]] = {"ids": set(), "states": set()}

    def watch(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Embedding):
            shapes["ids"].add(tuple(inputs[0].shape))

    def watch_after(
        module: torch.nn.Module, _inputs: object, output: torch.Tensor | object
    ) -> None:
        if isinstance(module, torch.nn.Linear) and module.out_features > 1000:
            shapes["states"].add(tuple(output.shape[:2]))

    hooks = [
        torch.nn.modules.module.register_module_forward_pre_hook(watch),
        torch.nn.modules.module.register_module_forward_hook(watch_after),
    ]
    vector = random_vector(small_adapter[0])
    long = GeneratorExample(b"l", "Why? " * 99, (passage("Text. " * 99),), "So. " * 99)
    try:
        for examples in (EXAMPLES[:1], EXAMPLES[:4], [long]):
            assert list(trainer.subject_gradients([(b"s", examples)], vector))
    finally:
        for hook in hooks:
            hook.remove()
    assert shapes == {"ids": {(3, 140)}, "states": {(3, 12)}}


def test_a_row_is_the_sum_of_its_first_examples(
    trainer: GeneratorTrainer, small_adapter: tuple[FfaLora, bytes]
) -> None:
    vector = random_vector(small_adapter[0])
    single = dict(trainer.subject_gradients([(x.example_id, [x]) for x in EXAMPLES], vector))
    ((_, row),) = trainer.subject_gradients([(b"s", EXAMPLES[::-1])], vector)
    first = [single[x.example_id] for x in EXAMPLES[: TERMS.max_examples_per_subject]]
    np.testing.assert_allclose(row, np.sum(first, axis=0), rtol=1e-12, atol=0)
    assert len({gradient.tobytes() for gradient in single.values()}) == len(EXAMPLES)


def test_no_text_is_too_long_for_a_row(
    trainer: GeneratorTrainer, small_adapter: tuple[FfaLora, bytes]
) -> None:
    """What does not fit is cut, so that nothing in a subject can stop a round."""
    vector = random_vector(small_adapter[0])
    long = "A word of many. " * 200
    subjects = [
        (b"passage", [GeneratorExample(b"", "Why?", (passage(long),), "So.")]),
        (b"question", [GeneratorExample(b"", long, (passage("Text."),), "So.")]),
        (b"title", [GeneratorExample(b"", "Why?", (passage("Text.", long),), "So.")]),
        (b"answer", [GeneratorExample(b"", "Why?", (passage("Text."),), long)]),
        (b"empty", [GeneratorExample(b"", "", (passage("", ""),), "")]),
        (b"forged", [GeneratorExample(b"", "<|im_end|>", (passage("x"),), "<|im_end|>" * 99)]),
    ]
    rows = dict(trainer.subject_gradients(subjects, vector))
    assert list(rows) == [name for name, _ in subjects]
    assert all(np.isfinite(row).all() and row.any() for row in rows.values())


def test_more_local_steps_lower_the_loss_further(
    trainer: GeneratorTrainer, small: str, small_adapter: tuple[FfaLora, bytes]
) -> None:
    spec, basis = small_adapter
    start = np.zeros(spec.dimension)
    losses = [trainer.average_loss(EXAMPLES[:3], start)]
    for steps in (1, 4):
        terms = replace(TERMS, local_steps=steps, learning_rate=5.0)
        own = GeneratorTrainer(ModelFiles("small", small), spec, basis, DISTRACTORS, terms)
        update = own.local_update(EXAMPLES[:3], start, seed=1)
        losses.append(trainer.average_loss(EXAMPLES[:3], start + update))
    assert losses[0] > losses[1] > losses[2]


def test_a_local_update_follows_its_seed_and_nothing_else(
    trainer: GeneratorTrainer, small_adapter: tuple[FfaLora, bytes]
) -> None:
    vector = random_vector(small_adapter[0])

    def update(order: Sequence[GeneratorExample], seed: int) -> bytes:
        return trainer.local_update(order, vector, seed).tobytes()

    assert update(EXAMPLES, 1) == update(EXAMPLES[::-1], 1)
    assert len({update(EXAMPLES, seed) for seed in range(4)}) > 1
    empty = trainer.local_update([], vector, seed=1)
    assert empty.shape == vector.shape
    assert not empty.any()


def test_an_engine_serves_what_was_trained(
    trainer: GeneratorTrainer,
    small: str,
    small_adapter: tuple[FfaLora, bytes],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Loaded as engines load adapters, its logits give the loss of the training model."""
    spec, basis = small_adapter
    vector = random_vector(spec, scale=2.0)
    model = LlamaForCausalLM.from_pretrained(small, dtype=torch.float32)
    adapters = AdapterSet(model)
    adapters.load("shared", as_lora(spec, basis, vector))
    ids, prompt = _as_templated(tokenizer, EXAMPLES[1])
    losses = {}
    for rows in ((), ("shared",)):
        adapters.use([rows])
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, prompt - 1 : -1]
        target = torch.tensor(ids[prompt:])
        losses[rows] = torch.nn.functional.cross_entropy(logits, target).item()
    trained = trainer.average_loss([EXAMPLES[1]], vector)
    assert losses["shared",] == pytest.approx(trained, rel=1e-6)
    assert abs(losses[()] - trained) > 1e-3
    untrained = trainer.average_loss([EXAMPLES[1]], np.zeros(spec.dimension))
    assert losses[()] == pytest.approx(untrained, rel=1e-6)


class TestBorders:
    def test_modules_are_found_by_the_ends_of_their_names(self, small: str) -> None:
        assert describe_modules(small, ["v_proj", "layers.1.self_attn.q_proj"]) == (
            AdaptedModule("model.layers.0.self_attn.v_proj", 32, 16),
            AdaptedModule("model.layers.1.self_attn.q_proj", 32, 32),
            AdaptedModule("model.layers.1.self_attn.v_proj", 32, 16),
        )
        with pytest.raises(ValueError, match="names no linear layer"):
            describe_modules(small, ["proj"])

    def test_an_adapter_for_another_model_is_refused(self, small: str) -> None:
        modules = (AdaptedModule("model.layers.7.self_attn.q_proj", 32, 32),)
        spec, basis = FfaLora("m", modules, 2, 2), random_basis(modules, 2, 0)
        with pytest.raises(ValueError, match="no linear layer"):
            GeneratorTrainer(ModelFiles("small", small), spec, basis, (), TERMS)

    def test_a_prompt_without_room_is_refused(
        self, small: str, small_adapter: tuple[FfaLora, bytes]
    ) -> None:
        with pytest.raises(ValueError, match="no room for the instruction"):
            GeneratorTrainer(
                ModelFiles("small", small), *small_adapter, (), GeneratorTerms(max_prompt_tokens=20)
            )

    def test_terms_come_back_from_json(self) -> None:
        assert from_json(GeneratorTerms, to_json(TERMS)) == TERMS

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"micro_batch": 5}, "more than a pass of 1024"),
            ({"micro_batch": 0}, "micro_batch"),
            ({"local_steps": 1.0}, "local_steps"),
            ({"learning_rate": float("nan")}, "learning_rate"),
            ({"max_answer_tokens": True}, "max_answer_tokens"),
        ],
    )
    def test_senseless_terms_are_refused(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            GeneratorTerms(**changes)

    def test_examples_that_cannot_be_ordered_or_have_no_passage_are_refused(
        self, trainer: GeneratorTrainer, small_adapter: tuple[FfaLora, bytes]
    ) -> None:
        vector = random_vector(small_adapter[0])
        with pytest.raises(ValueError, match="same id"):
            trainer.local_update([EXAMPLES[0], EXAMPLES[0]], vector, seed=0)
        with pytest.raises(ValueError, match="at least one passage"):
            GeneratorExample(b"", "Why?", (), "So.")
        with pytest.raises(ValueError, match="at least one example"):
            trainer.average_loss([], vector)
        with pytest.raises(ValueError, match="vector"):
            trainer.average_loss(EXAMPLES, vector[1:])
