"""JSON messages over a pipe: a length of four bytes (big-endian), then UTF-8."""

import json
import os
import select
import time
from typing import Any

MOST_FRAME_BYTES = 8 << 20
OUT_OF_MEMORY_STATUS = 71  # how a process ends that has no memory left for a message
_BLOCK = 1 << 16


class FrameError(Exception):
    """The other side sent something that is not a frame of this protocol."""


class FrameTimeoutError(Exception):
    """No complete frame arrived before the deadline."""


def write_frame(descriptor: int, message: dict[str, Any]) -> None:
    """Write one message whole.

    Raises FrameError above `MOST_FRAME_BYTES`, BrokenPipeError where nobody reads.
    """
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > MOST_FRAME_BYTES:
        raise FrameError(f"a message of {len(body)} bytes is above {MOST_FRAME_BYTES}")
    data = memoryview(len(body).to_bytes(4, "big") + body)
    while data:
        data = data[os.write(descriptor, data) :]


class FrameReader:
    """Reads messages from a pipe that the other side may break, stall or fill with anything."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self.bytes_read = 0
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def read(self, deadline: float | None = None) -> dict[str, Any]:
        """The next message; `deadline` is a time of `time.monotonic`.

        Raises EOFError when the other side has gone, FrameTimeoutError, or FrameError.
        """
        size = int.from_bytes(self._take(4, deadline), "big")
        if size > MOST_FRAME_BYTES:
            raise FrameError(f"a message of {size} bytes is above {MOST_FRAME_BYTES}")
        try:
            message = json.loads(self._take(size, deadline))
        except (ValueError, RecursionError) as error:
            raise FrameError("a message is not JSON") from error
        if not isinstance(message, dict):
            raise FrameError("a message is not a JSON object")
        return message

    def _take(self, size: int, deadline: float | None) -> bytes:
        while len(self._buffer) < size:
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._poll.poll(1000 * left):
                    raise FrameTimeoutError
            block = os.read(self._descriptor, _BLOCK)
            if not block:
                raise EOFError
            self._buffer += block
            self.bytes_read += len(block)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken
