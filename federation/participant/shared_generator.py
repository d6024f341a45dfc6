"""The shared generator adapter in the node's engine: exchanged between replies."""

from __future__ import annotations

import asyncio

from generation.adapter_files import Lora
from generation.transformers_engine import TransformersEngine


class SharedGenerator:
    """Which shared adapter answers use. Its methods but `adapters` are for one thread at a time,
    and not for one with a running event loop."""

    def __init__(self, engine: TransformersEngine) -> None:
        self._engine = engine
        self._current: str | None = None
        self._previous: str | None = None

    @property
    def adapters(self) -> tuple[str, ...]:
        """For `GenerationRequest.adapters`: the shared one, if there is one."""
        return () if self._current is None else (self._current,)

    def serve(self, name: str, lora: Lora) -> None:
        """Use this adapter for replies from now on; those under way keep theirs.

        Raises:
            ValueError: it does not fit the model.
        """
        if name == self._current:
            return
        if name != self._previous:
            asyncio.run(self._engine.load_adapter(name, lora))
        self._exchange(name)

    def withdraw(self) -> None:
        """Answer without a shared adapter from now on."""
        self._exchange(None)

    def _exchange(self, name: str | None) -> None:
        # A request that has just read the old name may not have reached the engine yet, so the
        # old adapter stays until the next exchange.
        stale, self._previous, self._current = self._previous, self._current, name
        if stale is not None and stale not in (self._previous, name):
            asyncio.run(self._engine.unload_adapter(stale))
