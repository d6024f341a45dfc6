"""The packaged model, two adapters made for it, and engines on it, shared by a whole run."""

import asyncio
from collections.abc import Iterator

import pytest
import torch
from peft import LoraConfig, PeftModelForCausalLM, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from generation.adapter_files import Lora
from generation.transformers_engine import TransformersEngine
from generation.weights import ModelFiles, find_model
from tests.generation.folders import lora_of
from tests.generation.oracle import Oracle

ADAPTERS = {
    "shared": LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    ),
    "personal": LoraConfig(
        r=8, lora_alpha=8, target_modules=["v_proj", "o_proj"], task_type="CAUSAL_LM"
    ),
}


@pytest.fixture(scope="session")
def model_files() -> ModelFiles:
    return find_model()


@pytest.fixture(scope="session")
def tokenizer(model_files: ModelFiles) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_files.location)


@pytest.fixture(scope="session")
def oracle_model(model_files: ModelFiles) -> PeftModelForCausalLM:
    """PEFT as its documentation uses it: one row, adapters switched by `set_adapter`."""
    torch.manual_seed(20)
    model = AutoModelForCausalLM.from_pretrained(model_files.location, dtype=torch.float32)
    first, second = ADAPTERS
    peft_model = get_peft_model(model, ADAPTERS[first], adapter_name=first)
    peft_model.add_adapter(second, ADAPTERS[second])
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    peft_model.train(mode=False)
    return peft_model


@pytest.fixture(scope="session")
def loras(
    oracle_model: PeftModelForCausalLM, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Lora]:
    base = tmp_path_factory.mktemp("adapters")
    oracle_model.save_pretrained(str(base), selected_adapters=list(ADAPTERS))
    return {name: lora_of(base / name) for name in ADAPTERS}


@pytest.fixture(scope="session")
def oracle(oracle_model: PeftModelForCausalLM, tokenizer: PreTrainedTokenizerBase) -> Oracle:
    return Oracle(oracle_model, tokenizer)


@pytest.fixture(scope="module")
def engine(model_files: ModelFiles, loras: dict[str, Lora]) -> Iterator[TransformersEngine]:
    """In float32 and free to repeat itself, as `generate` runs by default."""
    made = TransformersEngine(
        model_files, dtype=torch.float32, max_rows=3, max_waiting=8, no_repeat_ngram=0
    )
    for name, lora in loras.items():
        asyncio.run(made.load_adapter(name, lora))
    yield made
    asyncio.run(made.close())
