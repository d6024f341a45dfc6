"""A random generator of two narrow layers, with the packaged model's tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from generation.weights import find_model


def make_narrow_generator(folder: Path) -> str:
    """Save it, always the same one; returns the folder, as `find_model` takes it."""
    tokenizer = AutoTokenizer.from_pretrained(find_model().location)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
