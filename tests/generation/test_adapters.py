"""What may become an adapter, and what two of them are together, on a Llama of two small layers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from generation.adapter_files import CONFIG_FILE, Lora
from generation.adapters import AdapterSet
from tests.generation.folders import lora_of

IDS = torch.arange(12).reshape(2, 6)


def small_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def save_adapter(folder: Path, **options: object) -> Path:
    """A random adapter of `small_model` in PEFT's own format; its file is called `default`."""
    config = LoraConfig(
        **{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], **options},
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(small_model(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
    model.save_pretrained(str(folder))
    # PEFT writes the name that a model was loaded by; this one has none.
    file = folder / CONFIG_FILE
    named = {**json.loads(file.read_text()), "base_model_name_or_path": "a-small-model"}
    file.write_text(json.dumps(named))
    return folder


def logits(adapters: AdapterSet, model: LlamaForCausalLM, *rows: tuple[str, ...]) -> torch.Tensor:
    adapters.use(rows)
    with torch.inference_mode():
        return model(IDS[: len(rows)]).logits


def test_a_pair_is_the_sum_of_both_updates(tmp_path: Path) -> None:
    folders = {
        "one": save_adapter(tmp_path / "one"),
        "two": save_adapter(tmp_path / "two", r=3, target_modules=["v_proj", "o_proj"]),
    }
    model = small_model()
    adapters = AdapterSet(model)
    for name, folder in folders.items():
        adapters.load(name, lora_of(folder))
    # W' = W + alpha/r BA, added up over the adapters (Hu et al. 2021, LoRA, equation 3).
    summed = small_model()
    for folder, alpha_over_r in zip(folders.values(), (6 / 4, 6 / 3), strict=True):
        weights = load_file(folder / "adapter_model.safetensors")
        for key in [key for key in weights if "lora_A" in key]:
            module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            update = weights[key.replace("lora_A", "lora_B")] @ weights[key]
            summed.get_submodule(module).weight.data += alpha_over_r * update
    with torch.inference_mode():
        expected = summed(IDS).logits
        base = small_model()(IDS).logits
    pair = logits(adapters, model, ("one", "two"), ("two", "one"))
    torch.testing.assert_close(pair, expected, atol=1e-4, rtol=1e-4)
    mixed = logits(adapters, model, ("one", "two"), ())
    torch.testing.assert_close(mixed[0], expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mixed[1], base[1])


def test_unloading_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = small_model()
    adapters = AdapterSet(model)
    adapters.load("one", lora_of(save_adapter(tmp_path / "one")))
    adapters.load("two", lora_of(save_adapter(tmp_path / "two")))
    before = logits(adapters, model, ("one",))
    assert not torch.equal(logits(adapters, model, ("one", "two")), before)
    adapters.unload("two")
    assert adapters.names == {"one"}
    assert torch.equal(logits(adapters, model, ("one",)), before)
    adapters.unload("one")
    with torch.inference_mode():
        base = small_model()(IDS).logits
    assert torch.equal(logits(adapters, model, (), ()), base)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    with pytest.raises(KeyError):
        adapters.unload("one")


# PEFT resets the weights of an adapter whose name is part of "lora_" while it loads them.
@pytest.mark.parametrize("name", ["a", "lora", "A-long_name-0"])
def test_any_name_loads_the_same_weights(tmp_path: Path, name: str) -> None:
    lora = lora_of(save_adapter(tmp_path / "adapter"))
    model, other = small_model(), small_model()
    adapters, reference = AdapterSet(model), AdapterSet(other)
    adapters.load(name, lora)
    reference.load("reference", lora)
    assert torch.equal(logits(adapters, model, (name,)), logits(reference, other, ("reference",)))


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "a+b", "x" * 65, "é"])
def test_a_malformed_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 letters"):
        AdapterSet(small_model()).load(name, lora_of(save_adapter(tmp_path / "adapter")))


def _spoiled(lora: Lora, change: Callable[[np.ndarray], np.ndarray]) -> Lora:
    """With another A of one layer."""
    name, (layer_a, layer_b) = next(iter(lora.factors.items()))
    return replace(lora, factors={**lora.factors, name: (change(layer_a), layer_b)})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lora: replace(lora, rank=8),
        lambda lora: replace(lora, factors={"no_such": next(iter(lora.factors.values()))}),
        lambda lora: replace(
            lora, factors={**lora.factors, "no_such": next(iter(lora.factors.values()))}
        ),
        lambda lora: _spoiled(lora, lambda layer_a: layer_a[:, :5]),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    tmp_path: Path, spoil: Callable[[Lora], Lora]
) -> None:
    model = small_model()
    adapters = AdapterSet(model)
    good = lora_of(save_adapter(tmp_path / "good"))
    adapters.load("good", good)
    before = logits(adapters, model, ("good",))
    with pytest.raises(ValueError, match="does not fit the model"):
        adapters.load("bad", spoil(good))
    assert adapters.names == {"good"}
    assert torch.equal(logits(adapters, model, ("good",)), before)
    with pytest.raises(ValueError, match="already holds"):
        adapters.load("good", good)
