"""`alcove personal export` and `import`: an assistant's adapters as files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CommandError
from cli.options import DEFAULT_HOME, AsJson, AssistantName, Home
from cli.output import show, show_json


class Kind(StrEnum):
    RETRIEVER = "retriever"
    GENERATOR = "generator"


class Which(StrEnum):
    SHARED = "shared"
    PERSONAL = "personal"
    BOTH = "both"


def export_adapter(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made, or empty.")],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    kind: Annotated[Kind, typer.Option(help="Of which model.")] = Kind.GENERATOR,
    which: Annotated[Which, typer.Option(help="Both: their sum as one.")] = Which.PERSONAL,
    as_json: AsJson = False,
) -> None:
    """Write the adapter in use to a folder; needs allow_adapter_export = true."""
    from cli.client import Need, assistant_path, node_client
    from personal.exchange import LARGEST
    from storage.archives import unpack
    from storage.files import write_private

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} is there already and no empty folder")
    url = assistant_path(assistant, "/adapters/export")
    with node_client(home, Need.MODELS) as client:
        archive = client.get(url, params={"kind": kind.value, "which": which.value}).content
    files = unpack(archive, LARGEST)
    folder.mkdir(0o700, parents=True, exist_ok=True)
    for name, content in files.items():
        write_private(folder / name, content)
    if as_json:
        show_json({"folder": str(folder), "files": sorted(files)})
        return
    show(f"{', '.join(sorted(files))} are in {folder}: keep them as you keep the documents.")


def import_adapter(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", exists=True, help="A folder, or a zip of one.")
    ],
    home: Home = DEFAULT_HOME,
    assistant: AssistantName = "default",
    as_json: AsJson = False,
) -> None:
    """Keep an adapter as a personal version; needs allow_adapter_import = true."""
    from cli.client import Need, assistant_path, node_client

    archive = _packed(path) if path.is_dir() else path.read_bytes()
    url = assistant_path(assistant, "/adapters/import")
    headers = {"Content-Type": "application/zip"}
    with node_client(home, Need.MODELS) as client:
        made = client.post(url, content=archive, headers=headers).json()
    if as_json:
        show_json(made)
        return
    show(f"It is kept as personal version {made['id']} of the {made['kind']}, and not used yet.")


def _packed(folder: Path) -> bytes:
    """Of a folder the files that an adapter has; others, such as a README, stay where they are."""
    from personal.exchange import LARGEST
    from storage.archives import pack

    files = {name: (folder / name).read_bytes() for name in LARGEST if (folder / name).is_file()}
    if not files:
        raise CommandError(f"{folder} holds no adapter: {', '.join(sorted(LARGEST))}")
    return pack(files)
