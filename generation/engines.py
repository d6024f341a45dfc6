"""Which engine a node's settings name."""

from __future__ import annotations

from generation.engine import Engine
from generation.transformers_engine import TransformersEngine
from generation.weights import find_model
from storage.settings import PACKAGED, NodeSettings


def open_engine(settings: NodeSettings) -> Engine:
    """The generator of these settings, loaded; takes seconds, the first time a minute.

    Raises:
        EngineError: it cannot be had; the message says why.
    """
    named = None if settings.generator == PACKAGED else settings.generator
    return TransformersEngine(
        find_model(named), max_rows=settings.max_rows, max_waiting=settings.queue_size
    )
