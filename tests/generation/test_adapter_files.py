"""Adapters as files: against PEFT's own, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModelForCausalLM
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load, save

from generation.adapter_files import CONFIG_FILE, LARGEST, TENSORS_FILE, Lora, combine, read_lora
from generation.adapters import AdapterSet
from generation.ffa_lora import AdaptedModule
from tests.generation.folders import files_of, lora_of
from tests.generation.test_adapters import IDS, logits, save_adapter, small_model

Files = dict[str, bytes]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    modules = ["v_proj", "o_proj"]
    return save_adapter(tmp_path / "shared", r=3, lora_alpha=5, target_modules=modules)


@pytest.fixture
def personal(tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "personal", r=8, lora_alpha=16)


def test_what_peft_wrote_comes_back_as_it_was(personal: Path) -> None:
    lora = lora_of(personal)
    assert (lora.rank, lora.alpha) == (8, 16)
    again = read_lora(lora.files())
    before, after = load(files_of(personal)[TENSORS_FILE]), load(again.files()[TENSORS_FILE])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_combination_is_pefts_own_to_the_bit(shared: Path, personal: Path) -> None:
    """PEFT's `add_weighted_adapter(combination_type="cat")`, of which PEFT says it is exact."""
    model = PeftModelForCausalLM.from_pretrained(small_model(), shared, "a")
    model.load_adapter(personal, "b")
    model.base_model.add_weighted_adapter(["a", "b"], [1.0, 1.0], "both", combination_type="cat")
    expected = get_peft_model_state_dict(model, adapter_name="both")
    ours = combine(lora_of(shared), lora_of(personal))
    assert (ours.rank, ours.alpha) == (11, 11)
    found = load(ours.files()[TENSORS_FILE])
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        assert torch.equal(tensor, expected[key]), key


def test_two_adapters_of_a_row_are_the_combined_one_and_the_merged_weights(
    shared: Path, personal: Path
) -> None:
    """The parity of the reference engine, in float32: its pair of adapters, PEFT with both active,
    PEFT's merge into the weights, and the one file of rank r1 + r2."""
    loras = {"shared": lora_of(shared), "personal": lora_of(personal)}
    loras["both"] = combine(loras["shared"], loras["personal"])
    model = small_model()
    adapters = AdapterSet(model)
    for name, lora in loras.items():
        adapters.load(name, lora)
    pair = logits(adapters, model, ("shared", "personal"), ())
    single = logits(adapters, model, ("both",), ("shared",))

    peft = PeftModelForCausalLM.from_pretrained(small_model(), shared, "shared")
    peft.load_adapter(personal, "personal")
    peft.base_model.set_adapter(["shared", "personal"], inference_mode=True)
    peft.train(mode=False)
    with torch.inference_mode():
        active = peft(IDS[:1]).logits[0]
        merged = peft.merge_and_unload(adapter_names=["shared", "personal"])(IDS[:1]).logits[0]
        base = small_model()(IDS[:1]).logits[0]
    for other in (single[0], active, merged):
        torch.testing.assert_close(pair[0], other, atol=1e-4, rtol=1e-4)
    for alone in (base, single[1]):
        assert (pair[0] - alone).abs().max() > 0.1


def test_the_files_are_what_vllm_accepts(shared: Path, personal: Path) -> None:
    """vLLM's `PEFTHelper` and `LoRAModel.from_local_checkpoint`: integers r and lora_alpha, one
    rank for all layers, no bias, DoRA or saved modules, and names that begin with PEFT's two
    wrappers and end in the factors."""
    both = combine(lora_of(shared), lora_of(personal)).files()
    config = json.loads(both[CONFIG_FILE])
    assert type(config["r"]) is int and type(config["lora_alpha"]) is int
    assert config["bias"] == "none"
    assert not {"modules_to_save", "use_dora", "use_rslora", "rank_pattern"} & config.keys()
    tensors = load(both[TENSORS_FILE])
    for name in config["target_modules"]:
        layer_a, layer_b = (tensors.pop(f"base_model.model.{name}.lora_{x}.weight") for x in "AB")
        assert layer_a.shape[0] == layer_b.shape[1] == config["r"]
    assert not tensors


def test_what_means_nothing_here_is_not_passed_on(personal: Path) -> None:
    """`megatron_core` names a module that PEFT imports."""
    files = _config(megatron_core="antigravity")(files_of(personal))
    assert read_lora(files).config() == lora_of(personal).config()


def test_half_precision_is_read_exactly(personal: Path) -> None:
    files = files_of(personal)
    for dtype in (torch.bfloat16, torch.float16):
        small = {key: tensor.to(dtype) for key, tensor in load(files[TENSORS_FILE]).items()}
        found = load(read_lora({**files, TENSORS_FILE: save(small)}).files()[TENSORS_FILE])
        assert all(torch.equal(found[key], small[key].float()) for key in small)


def test_an_adapter_of_other_layers_does_not_fit(personal: Path) -> None:
    lora = lora_of(personal)
    modules = [AdaptedModule(name, a.shape[1], b.shape[0]) for name, (a, b) in lora.factors.items()]
    lora.check_fits(modules)
    for other in (modules[1:], [*modules[1:], AdaptedModule(modules[0].name, 32, 31)]):
        with pytest.raises(ValueError, match=r"no layer model\.layers"):
            lora.check_fits(other)


def _config(**changes: object) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        config = {**json.loads(files[CONFIG_FILE]), **changes}
        return {**files, CONFIG_FILE: json.dumps(config).encode()}

    return change


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Files], Files]:
    def changed(files: Files) -> Files:
        tensors = load(files[TENSORS_FILE])
        change(tensors)
        return {**files, TENSORS_FILE: save(tensors)}

    return changed


A0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: {CONFIG_FILE: f[CONFIG_FILE]}, "no others"),
        (lambda f: {**f, "adapter_model.bin": b"\x80\x04"}, "no others"),
        (lambda f: {**f, TENSORS_FILE: b"\x80\x04\x95"}, "no safetensors file"),
        (lambda f: {**f, TENSORS_FILE: f[TENSORS_FILE][:-1]}, "no safetensors file"),
        (lambda f: {**f, TENSORS_FILE: bytes(LARGEST[TENSORS_FILE] + 1)}, "at most"),
        (lambda f: {**f, CONFIG_FILE: bytes(LARGEST[CONFIG_FILE] + 1)}, "at most"),
        (lambda f: {**f, CONFIG_FILE: b"[" * 100_000}, "no JSON"),
        (lambda f: {**f, CONFIG_FILE: b"[]"}, "a JSON object"),
        (lambda f: {**f, CONFIG_FILE: b"{}"}, "peft_type"),
        (_config(peft_type="IA3"), "sets peft_type"),
        (_config(use_dora=True), "sets use_dora"),
        (_config(use_rslora=True), "sets use_rslora"),
        (_config(modules_to_save=["lm_head"]), "sets modules_to_save"),
        (_config(rank_pattern={"q_proj": 4}), "sets rank_pattern"),
        (_config(init_lora_weights="pissa"), "sets init_lora_weights"),
        (_config(bias="all"), "sets bias"),
        (_config(something_new={"a": 1}), "sets something_new"),
        (_config(r=0), "rank r"),
        (_config(r=True), "rank r"),
        (_config(r=65), "rank r"),
        (_config(r=7), "no side of rank 7"),
        (_config(lora_alpha="16"), "lora_alpha"),
        (_config(lora_alpha=float("inf")), "lora_alpha"),
        (_config(base_model_name_or_path=None), "names no base model"),
        (_tensors(lambda t: t.update(extra=torch.zeros(1))), "'extra' is no factor"),
        (_tensors(lambda t: t.pop(A0)), "both factors"),
        (_tensors(lambda t: t.clear()), "both factors"),
        (_tensors(lambda t: t[A0].fill_(float("nan"))), "not finite"),
        (_tensors(lambda t: t.update({A0: t[A0][0].clone()})), "no side of rank"),
        (_tensors(lambda t: t.update({A0: t[A0].to(torch.int32)})), "is I32"),
        (_tensors(lambda t: t.update({A0: t[A0].double()})), "is F64"),
    ],
)  # fmt: skip
def test_files_of_anything_else_are_refused(
    personal: Path, spoil: Callable[[Files], Files], message: str
) -> None:
    good = files_of(personal)
    read_lora(good)
    with pytest.raises(ValueError, match=message):
        read_lora(spoil(good))


def test_a_lora_is_its_numbers(personal: Path) -> None:
    """B A of every layer, computed from what PEFT wrote, is that of the combination with zeros."""
    lora = lora_of(personal)
    nothing = Lora(
        lora.base_model, 2, 2,
        {n: (np.ones_like(a[:2]), np.zeros_like(b[:, :2])) for n, (a, b) in lora.factors.items()},
    )  # fmt: skip
    both = combine(nothing, lora)
    for name, (layer_a, layer_b) in lora.factors.items():
        expected = lora.alpha / lora.rank * layer_b.astype(np.float64) @ layer_a
        update = both.factors[name][1].astype(np.float64) @ both.factors[name][0]
        np.testing.assert_allclose(update, expected, rtol=1e-5, atol=1e-6)
