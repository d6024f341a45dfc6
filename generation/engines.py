"""Which engine a node's settings name."""

from __future__ import annotations

from generation.engine import Engine, EngineError
from generation.upstream_engine import UpstreamEngine
from generation.weights import find_model
from storage.settings import NodeSettings


def open_engine(settings: NodeSettings) -> Engine:
    """The generator of these settings, loaded; takes seconds, the first time a minute.

    Raises:
        EngineError: it cannot be had; the message says why.
    """
    if settings.upstream_url is not None:
        return UpstreamEngine(
            settings.upstream_url,
            settings.generator,
            api_key=settings.upstream_key,
            context_length=settings.upstream_context,
            max_open=settings.max_rows + settings.queue_size,
        )
    from generation.transformers_engine import TransformersEngine

    try:
        return TransformersEngine(
            find_model(settings.generator),
            max_rows=settings.max_rows,
            max_waiting=settings.queue_size,
        )
    except (OSError, ValueError) as error:
        raise EngineError(f"cannot load the generator {settings.generator}: {error}") from error
