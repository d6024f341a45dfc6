"""Finding a model: the packaged one, a folder, a hub's id, and what is none of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from generation.weights import DEFAULT_MODEL, ModelFiles, find_model, user_cache


def test_the_default_model_is_smollm2_and_is_converted_once(model_files: ModelFiles) -> None:
    folder = Path(model_files.location)
    assert model_files.model_id == DEFAULT_MODEL
    assert folder.parent == user_cache()
    # The model card of HuggingFaceTB/SmolLM2-135M-Instruct.
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (576, 30)
    assert (config["vocab_size"], config["max_position_embeddings"]) == (49152, 8192)
    assert "quantization_config" not in config
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert find_model() == model_files
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "alcove"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert user_cache() == Path("/home/someone/.cache/alcove")


def test_a_folder_or_a_hub_id_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert find_model(str(tmp_path)) == ModelFiles(tmp_path.name, str(tmp_path))
    name = "HuggingFaceTB/SmolLM2-360M-Instruct"
    assert find_model(name) == ModelFiles(name, name)


@pytest.mark.parametrize("model", ["no-such-folder", "../../etc/passwd", "a b/c"])
def test_other_names_are_refused(model: str) -> None:
    with pytest.raises(ValueError, match="neither a folder nor a model id"):
        find_model(model)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        find_model(str(tmp_path))


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_processes_share_one_conversion_though_one_is_killed(tmp_path: Path) -> None:
    code = "from generation.weights import find_model; print(find_model().location)"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        )

    cache = tmp_path / "alcove"
    victim = start()
    while not list(cache.glob("*.tmp-*")):
        time.sleep(0.1)
    others = [start(), start()]
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    locations = {other.communicate()[0].splitlines()[-1] for other in others}
    assert [other.returncode for other in others] == [0, 0]
    (folder,) = [entry for entry in cache.iterdir() if entry.is_dir()]
    assert locations == {str(folder)}
    assert (folder / "model.safetensors").stat().st_size > 500_000_000
