"""A masked vector on its way to disk: streamed, measured, hashed and made durable."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anyio import to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from api.errors import ApiError
from federation.coordinator.inbox import ABORT_BYTES, MaskedUpload
from storage.settings import MEBIBYTE

PIECE = MEBIBYTE
"""Bytes that are collected before they are written."""
MOST_AT_ONCE = 8
"""Unfinished uploads of one participant in a round: a repeated one may meet its predecessor."""


@dataclass(frozen=True, slots=True)
class Received:
    """A body that lies, durably, at `path`; its SHA-256 and its length."""

    path: Path
    payload_hash: str
    length: int


@asynccontextmanager
async def received(request: Request, expected: MaskedUpload) -> AsyncIterator[Received]:
    """The body of a request as a file, which is gone at the end unless it was moved.

    Raises:
        ApiError: 400 or 413, the body has neither the length of a vector nor that of an Abort; 429,
            the participant sends too many at once.
    """
    declared = request.headers.get("content-length")
    if declared is not None and declared not in (str(expected.length), str(ABORT_BYTES)):
        raise _wrong_length(int(declared), expected)
    begun = expected.folder.glob(f"{expected.participant}-*.part")
    if sum(1 for _ in begun) >= MOST_AT_ONCE:
        raise ApiError(429, "too_many_uploads", "wait until earlier uploads have ended")
    path = expected.folder / f"{expected.participant}-{secrets.token_hex(8)}.part"
    try:
        await to_thread.run_sync(_begin, path)
        yield await _receive(request, path, expected)
    except ClientDisconnect:
        raise ApiError(400, "wrong_size", "the body ended early") from None
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # other vectors of the round are in it
            path.parent.rmdir()


def _begin(path: Path) -> None:
    while True:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # an upload that ended took the empty folder away
            path.touch(0o600)
            return


async def _receive(request: Request, path: Path, expected: MaskedUpload) -> Received:
    digest, length, piece = hashlib.sha256(), 0, bytearray()

    def write(*, is_last: bool) -> None:
        with path.open("ab") as file:
            digest.update(piece)
            file.write(piece)
            piece.clear()
            if is_last:
                file.flush()
                os.fsync(file.fileno())

    async for chunk in request.stream():
        piece += chunk
        length += len(chunk)
        if length > expected.length:
            raise _wrong_length(length, expected)
        if len(piece) >= PIECE:
            await to_thread.run_sync(partial(write, is_last=False))
    if length not in (expected.length, ABORT_BYTES):
        raise _wrong_length(length, expected)
    await to_thread.run_sync(partial(write, is_last=True))
    return Received(path, digest.hexdigest(), length)


def _wrong_length(length: int, expected: MaskedUpload) -> ApiError:
    return ApiError(
        413 if length > expected.length else 400,
        "wrong_size",
        f"{length} bytes; a masked vector of this plan has {expected.length}",
    )
