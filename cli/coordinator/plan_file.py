"""A plan in a file, TOML or JSON, and the files that it names."""

from __future__ import annotations

import base64
import json
import tomllib
from pathlib import Path
from typing import Any

from cli.errors import CommandError, os_error_message


def read_plan_file(path: Path) -> dict[str, Any]:
    """The request that a file describes.

    Beside the fields of the API, `adapter.basis_file` and `initial_file` name files whose content
    becomes `basis` and `initial`, and `public_passages_file` one with a passage in each line,
    {"text": ...}; paths are relative to the plan's own folder.

    Raises:
        CommandError: a file cannot be read or understood.
    """
    plan = _read(path)
    folder = path.parent
    adapter = plan.get("adapter")
    if isinstance(adapter, dict):
        _replace(adapter, "basis", folder, _base64)
    _replace(plan, "initial", folder, _base64)
    _replace(plan, "public_passages", folder, _passages)
    return plan


def _read(path: Path) -> dict[str, Any]:
    data = _bytes(path)
    try:
        plan = json.loads(data) if path.suffix == ".json" else tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path}: {error}") from error
    if not isinstance(plan, dict):
        raise CommandError(f"{path}: a plan is an object")
    return plan


def _replace(fields: dict[str, Any], name: str, folder: Path, read: Any) -> None:
    file = fields.pop(f"{name}_file", None)
    if file is None:
        return
    if not isinstance(file, str) or name in fields:
        raise CommandError(f"{name}_file is the name of a file, and stands instead of {name}")
    fields[name] = read(folder / file)


def _base64(path: Path) -> str:
    return base64.b64encode(_bytes(path)).decode()


def _passages(path: Path) -> list[str]:
    passages = []
    for number, line in enumerate(_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            passages.append(str(json.loads(line)["text"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f'{path}, line {number}: not {{"text": ...}}') from error
    return passages


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(os_error_message(error)) from error
