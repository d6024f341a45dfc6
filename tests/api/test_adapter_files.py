"""Adapters out of a real node and into it, over HTTP and by the command, where that is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from peft import PeftModelForCausalLM
from transformers import AutoModelForCausalLM

from generation.adapter_files import Lora, combine, read_lora
from personal.exchange import LARGEST
from retrieval.query_map import basis_from_bytes
from retrieval.query_map_files import query_map_files, read_query_map
from storage.archives import pack, unpack
from storage.database import Database
from storage.example_tables import PersonalVersion
from tests.api.conftest import Served
from tests.api.planting import Pair, plant
from tests.cli.commands import refusal, run, run_json
from tests.federation.participant.plans import BASIS
from tests.narrow_generator import make_narrow_generator
from tests.served import alcove_json, serving

pytestmark = pytest.mark.long

ADAPTERS = "/v1/assistants/default/adapters"


@dataclass(frozen=True)
class Allowing:
    """A node whose owner allows both, what it serves, and where it logs."""

    home: Path
    client: httpx.Client
    generator: str
    embedder: str
    shared: Pair
    personal: Pair

    def log(self) -> str:
        return (self.home.parent / "server.log").read_text()

    def export(self, kind: str, which: str) -> dict[str, bytes]:
        response = self.client.get(f"{ADAPTERS}/export", params={"kind": kind, "which": which})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/zip"
        return unpack(response.content, LARGEST)

    def send(self, files: dict[str, bytes]) -> httpx.Response:
        return self.client.post(f"{ADAPTERS}/import", content=pack(files))


@pytest.fixture(scope="module")
def allowing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Allowing]:
    base = tmp_path_factory.mktemp("allowing")
    home = base / "home"
    generator = make_narrow_generator(base / "narrow")
    key = alcove_json("node", "init", "--home", str(home))["key"]
    (home / "settings.toml").write_text(
        f"generator = {json.dumps(generator)}\n"
        "allow_adapter_export = true\nallow_adapter_import = true\n"
    )
    with serving(home):
        pass  # The first start makes the assistant.
    planted = plant(home, generator, ["default"])
    with serving(home) as (_, url):
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
            yield Allowing(
                home, client, generator, planted.embedder, planted.shared,
                planted.personal["default"],
            )  # fmt: skip


def test_generator_adapters_leave_as_peft_folders(allowing: Allowing, tmp_path: Path) -> None:
    expected = {
        "shared": allowing.shared.lora,
        "personal": allowing.personal.lora,
        "both": combine(allowing.shared.lora, allowing.personal.lora),
    }
    for which, lora in expected.items():
        files = allowing.export("generator", which)
        assert files == lora.files()
        folder = tmp_path / which
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        model = AutoModelForCausalLM.from_pretrained(allowing.generator)
        loaded = PeftModelForCausalLM.from_pretrained(model, folder)
        config = loaded.peft_config["default"]
        assert (config.r, config.lora_alpha) == (lora.rank, lora.alpha)


def test_query_maps_leave_as_matrices_with_a_spec(allowing: Allowing) -> None:
    expected = {
        "shared": allowing.shared.weights,
        "personal": allowing.personal.weights,
        "both": allowing.shared.weights + allowing.personal.weights,
    }
    for which, weights in expected.items():
        found = read_query_map(allowing.export("retriever", which), allowing.embedder)
        assert np.array_equal(found.weights, weights)
        assert np.array_equal(found.basis, basis_from_bytes(BASIS))


def test_an_export_is_logged_without_its_contents(allowing: Allowing) -> None:
    allowing.export("generator", "both")
    lines = [json.loads(line) for line in allowing.log().splitlines() if "exported" in line]
    last = lines[-1]
    key_id = allowing.client.headers["authorization"].split("_")[1]
    assert (last["assistant"], last["kind"], last["which"]) == ("default", "generator", "both")
    assert last["key"] == key_id
    assert type(last["version"]) is int
    assert "lora" not in json.dumps(last)


def test_what_was_exported_is_kept_when_it_comes_back_and_not_used(allowing: Allowing) -> None:
    served = allowing.export("generator", "personal"), allowing.export("retriever", "personal")
    for kind, files in zip(("generator", "retriever"), served, strict=True):
        made = allowing.send(files)
        assert made.status_code == 201, made.text
        assert (made.json()["kind"], made.json()["state"]) == (kind, "kept")
        with closing(Database(allowing.home / "node.db")) as database, database.read() as session:
            row = session.get_one(PersonalVersion, made.json()["id"])
            assert row.config["imported"] is True
            assert allowing.export(kind, "personal") == files
            if kind == "generator":
                stored = {
                    "adapter_config.json": json.dumps(row.config["adapter_config"]).encode(),
                    "adapter_model.safetensors": row.parameters,
                }
                assert read_lora(stored).files() == files
            else:
                assert row.config["model"] == allowing.embedder
        assert '"an adapter was imported"' in allowing.log()


def test_adapters_of_another_model_are_refused(allowing: Allowing) -> None:
    own = allowing.personal.lora
    first = next(iter(own.factors))
    (layer_a, layer_b) = own.factors[first]
    foreign = {
        "is for 'llama'": Lora("llama", 8, 16, own.factors),
        "is for": Lora(own.base_model[:-1] + "x", 8, 16, own.factors),
        "names no linear layer": Lora(own.base_model, 8, 16, {"model.no": (layer_a, layer_b)}),
        "takes an adapter": Lora(own.base_model, 8, 16, {first: (layer_a[:, 1:], layer_b)}),
    }
    for message, lora in foreign.items():
        refused = allowing.send(lora.files())
        assert refused.status_code == 400, message
        assert refused.json()["error"]["code"] == "unusable_adapter"
        assert message in refused.json()["error"]["message"]
    query_map = read_query_map(allowing.export("retriever", "shared"), allowing.embedder)
    other = allowing.send(query_map_files(query_map, "another"))
    assert other.status_code == 400
    pickled = allowing.send({"adapter_model.bin": b"\x80\x04", "../adapter_config.json": b"{}"})
    assert pickled.status_code == 400
    assert "accepted are" in pickled.json()["error"]["message"]


def test_the_command_writes_a_folder_and_takes_it_back(allowing: Allowing, tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    run_json("personal", "export", folder, "--which", "both", home=allowing.home)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files == combine(allowing.shared.lora, allowing.personal.lora).files()
    # Made from private texts: for the owner's eyes.
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())} == {0}
    (folder / "README.md").write_text("About it.")
    made = run_json("personal", "import", folder, home=allowing.home)
    assert (made["kind"], made["state"]) == ("generator", "kept")
    again = run("personal", "export", folder, home=allowing.home)
    assert "no empty folder" in refusal(again)


def test_without_the_owners_setting_nothing_leaves_or_enters(served: Served) -> None:
    with served.client() as client:
        given = {"kind": "generator", "which": "shared"}
        out = client.get(f"{ADAPTERS}/export", params=given)
        into = client.post(f"{ADAPTERS}/import", content=pack({"query_map.json": b"{}"}))
    assert (out.status_code, into.status_code) == (403, 403)
    assert "allow_adapter_export = true" in out.json()["error"]["message"]
    assert "allow_adapter_import = true" in into.json()["error"]["message"]


def test_only_owners_of_the_assistant_may(allowing: Allowing) -> None:
    client = allowing.client
    assert client.post("/v1/assistants", json={"name": "foreign"}).status_code == 201
    for scope, names, status in (("user", ["default"], 403), ("owner", ["foreign"], 404)):
        given = {"label": "x", "scope": scope, "assistants": names}
        key = client.post("/v1/keys", json=given).json()["key"]
        headers = {"Authorization": f"Bearer {key}"}
        wanted = {"kind": "generator", "which": "shared"}
        out = client.get(f"{ADAPTERS}/export", params=wanted, headers=headers)
        content = pack(allowing.personal.lora.files())
        into = client.post(f"{ADAPTERS}/import", content=content, headers=headers)
        assert (out.status_code, into.status_code) == (status, status)


def test_what_is_not_there_is_not_found(allowing: Allowing) -> None:
    assert allowing.client.post("/v1/assistants", json={"name": "bare"}).status_code == 201
    for which in ("personal", "both"):
        given = {"kind": "generator", "which": which}
        refused = allowing.client.get("/v1/assistants/bare/adapters/export", params=given)
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "adapter_not_found"
