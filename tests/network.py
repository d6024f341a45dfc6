"""A bad network in front of a server: requests and answers that are late, lost, doubled, reordered.

Works on whole HTTP/1.1 requests, a connection each, so that a lost answer looks to the client like
a broken connection after its request was carried out.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities for each request, and the longest delay on either way, in seconds.

    `repeated`: that a second copy arrives, up to `REPEAT_SECONDS` after the answer to the first,
    and so after later requests of the same node.
    """

    request_lost: float = 0.0
    answer_lost: float = 0.0
    doubled: float = 0.0
    repeated: float = 0.0
    delay: float = 0.0


REPEAT_SECONDS = 5.0


class BadNetwork:
    """A proxy on a free loopback port. Use it in a `with` block.

    Attributes:
        requests: every one that arrived whole, in that order, lost or not.
        happened: how often it did what.
    """

    def __init__(self, upstream: str, faults: Faults, seed: int) -> None:
        """`upstream` is an address like http://127.0.0.1:8000."""
        host, _, port = upstream.removeprefix("http://").partition(":")
        self._upstream = host, int(port)
        self._faults = faults
        self._chance = random.Random(seed)
        self.requests: list[bytes] = []
        self.happened: Counter[str] = Counter()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0, limit=2**22)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        await self._over.wait()
        server.close()
        carried = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in carried:
            task.cancel()
        await asyncio.gather(*carried, return_exceptions=True)

    async def _carry(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            request = await _whole_message(client)
            self.requests.append(request)
            place = len(self.requests)
            await self._late()
            if self._happens("request_lost"):
                return
            if self._happens("doubled"):
                await self._ask(request)
            response = await self._ask(request)
            await self._late()
            if not self._happens("answer_lost"):
                answer.write(response)
                await answer.drain()
                self.happened["delivered"] += 1
            answer.close()
            if self._happens("repeated"):
                await asyncio.sleep(self._chance.uniform(0, REPEAT_SECONDS))
                later = {_session(other) for other in self.requests[place:]}
                self.happened["overtaken"] += _session(request) in later
                await self._ask(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.happened["broken"] += 1
        finally:
            answer.close()

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()

    async def _late(self) -> None:
        # Requests that are late by different times arrive in another order.
        await asyncio.sleep(self._chance.uniform(0, self._faults.delay))

    def _happens(self, what: str) -> bool:
        happens = self._chance.random() < getattr(self._faults, what)
        self.happened[what] += happens
        return happens


def _session(request: bytes) -> bytes:
    """What tells one node's requests from another's."""
    return request.partition(b"Bearer ")[2].partition(b"\r\n")[0]


async def _whole_message(reader: asyncio.StreamReader) -> bytes:
    """A request with its body, changed to ask for the connection to be closed after the answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if line]
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in lines[1:])
    }
    body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        while True:
            size = await reader.readuntil(b"\r\n")
            chunk = await reader.readexactly(int(size, 16) + 2)
            body += size + chunk
            if int(size, 16) == 0:
                break
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close", b"", body])
