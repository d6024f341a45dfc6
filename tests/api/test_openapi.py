"""The OpenAPI documents say what the applications refuse outside of their endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.coordinator import app as coordinator_app
from api.coordinator.coordinator import Coordinator
from api.coordinator.coordinator import create as create_coordinator
from api.node import app as node_app
from api.node.node import Node
from api.node.node import create as create_node
from storage.coordinator_settings import CoordinatorSettings
from storage.settings import NodeSettings


def node_document(folder: Path) -> dict[str, Any]:
    settings = NodeSettings(home=folder)
    create_node(settings)
    node = Node(settings)
    try:
        return node_app.create_app(node, lambda _: None, load=False).openapi()
    finally:
        node.close()


def coordinator_document(folder: Path) -> dict[str, Any]:
    settings = CoordinatorSettings(home=folder)
    create_coordinator(settings)
    coordinator = Coordinator(settings)
    try:
        return coordinator_app.create_app(coordinator, drive=False).openapi()
    finally:
        coordinator.close()


@pytest.mark.parametrize("document", [node_document, coordinator_document])
def test_a_body_may_be_slow_or_too_large_wherever_one_is_read(
    document: Any, tmp_path: Path
) -> None:
    paths = document(tmp_path / "home")["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    reading = [operation for operation in operations if "requestBody" in operation]
    assert len(reading) > 10
    for operation in operations:
        of_bodies = {"408", "413"} & operation["responses"].keys()
        assert of_bodies == ({"408", "413"} if operation in reading else set())


@pytest.mark.parametrize("document", [node_document, coordinator_document])
def test_what_is_invalid_is_refused_with_400(document: Any, tmp_path: Path) -> None:
    described = document(tmp_path / "home")
    for path in described["paths"].values():
        for operation in path.values():
            assert "422" not in operation["responses"]
            takes_something = "parameters" in operation or "requestBody" in operation
            assert "400" in operation["responses"] or not takes_something
    assert (
        not {"HTTPValidationError", "ValidationError"} & described["components"]["schemas"].keys()
    )
