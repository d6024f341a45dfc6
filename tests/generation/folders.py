"""Adapters as folders in PEFT's format."""

from collections.abc import Mapping
from pathlib import Path

from generation.adapter_files import LARGEST, Lora, read_lora


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in LARGEST}


def lora_of(folder: Path) -> Lora:
    return read_lora(files_of(folder))


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder
