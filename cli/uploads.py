"""Files to jobs of the node: a few at a time, so that an interruption costs little."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cli.client import RefusedError, assistant_path
from cli.errors import WRONG_USAGE, CommandError

FILES_PER_JOB = 20
BYTES_PER_JOB = 32 << 20
# One is being read, one waits for it, one is being sent: the node does not run out of work.
OPEN_JOBS = 3
LONGEST_EXTERNAL_ID = 500
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
LONGEST_RETRY = 5.0


@dataclass(frozen=True, slots=True)
class File:
    """A file to send and the external id that names its document."""

    path: Path
    external_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file: done, duplicate or failed.

    `error` says why it failed, or what else holds its content.
    """

    file: File
    state: str
    document_id: str | None = None
    passages: int | None = None
    code: str | None = None
    error: str | None = None


@dataclass(slots=True)
class OpenJob:
    """A job that the node has not finished; `progress` is the share that it has, 0 to 1."""

    files: Sequence[File]
    progress: float = 0.0


def collect(paths: Iterable[Path]) -> list[File]:
    """The files below `paths`, hidden ones left out, in order.

    A file's external id is its path from the given folder's name on, `/` between the parts.

    Raises:
        CommandError: two of them would have the same external id.
    """
    found: dict[str, File] = {}
    for given in paths:
        top = given.absolute() if given.name else given.resolve()
        for path in _walk(top) if top.is_dir() else [top]:
            name = os.fsencode(path.relative_to(top.parent)).decode("utf-8", "replace")
            other = found.setdefault(name, File(path, name))
            if other.path != path:
                raise CommandError(
                    f"{other.path} and {path} would be one document, {name}: give the folder "
                    "that holds both",
                    WRONG_USAGE,
                )
    return list(found.values())


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if not name.startswith(".") and _may_be_read(path):
                yield path


def _may_be_read(path: Path) -> bool:
    """False for what is no file at all, such as a socket; a broken link fails when it is sent."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


@dataclass(frozen=True, slots=True)
class Limits:
    """What the node accepts: bytes of a file, files of a job."""

    file_bytes: int
    files: int


class Uploads:
    """Sends files in jobs and follows them; `step` is to be called until `finished`."""

    def __init__(
        self, client: httpx.Client, assistant: str, files: Sequence[File], limits: Limits
    ) -> None:
        self.total = len(files)
        self.outcomes: list[Outcome] = []
        self.open_jobs: dict[str, OpenJob] = {}
        self._client = client
        self._url = assistant_path(assistant, "/documents")
        self._limits = limits
        self._waiting = deque(_batches(files, min(limits.files, FILES_PER_JOB)))
        self._not_before = 0.0
        self._pause = SHORTEST_PAUSE

    @property
    def finished(self) -> bool:
        return not self._waiting and not self.open_jobs

    def step(self) -> list[Outcome]:
        """Send what there is room for and look at the open jobs; returns what is new.

        Raises:
            RefusedError: the node does not take documents for this assistant.
        """
        before = len(self.outcomes)
        while self._waiting and len(self.open_jobs) < OPEN_JOBS and self._may_send():
            self._send(self._waiting.popleft())
        for job_id in list(self.open_jobs):
            self._follow(job_id)
        return self.outcomes[before:]

    def pause(self) -> None:
        """Wait a little, longer while nothing comes to an end."""
        time.sleep(self._pause)
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE)

    def _may_send(self) -> bool:
        return time.monotonic() >= self._not_before

    def _send(self, batch: Sequence[File]) -> None:
        contents = {file: content for file in batch if (content := self._read(file)) is not None}
        if not contents:
            return
        parts = [("file", (Path(f.external_id).name, content)) for f, content in contents.items()]
        names = [file.external_id for file in contents]
        try:
            sent = self._client.post(self._url, files=parts, data={"external_id": names})
        except RefusedError as error:
            if error.status != httpx.codes.TOO_MANY_REQUESTS:
                raise
            self._waiting.appendleft(list(contents))
            self._not_before = time.monotonic() + min(error.retry_after, LONGEST_RETRY)
        else:
            self.open_jobs[sent.json()["id"]] = OpenJob(list(contents))

    def _read(self, file: File) -> bytes | None:
        """The whole file, so that it cannot change while it is sent; None if it has failed."""
        try:
            size = file.path.stat().st_size
            if size <= self._limits.file_bytes and len(file.external_id) <= LONGEST_EXTERNAL_ID:
                return file.path.read_bytes()
        except OSError as error:
            self._fail(file, "unreadable", error.strerror or str(error))
            return None
        if size > self._limits.file_bytes:
            most = self._limits.file_bytes
            self._fail(file, "too_large", f"{size:,} bytes; at most {most:,} are accepted")
        else:
            self._fail(file, "too_long", f"its path is longer than {LONGEST_EXTERNAL_ID}")
        return None

    def _follow(self, job_id: str) -> None:
        job = self._client.get(f"/v1/jobs/{job_id}").json()
        self.open_jobs[job_id].progress = job["progress"]
        if job["finished_at"] is not None:
            files = self.open_jobs.pop(job_id).files
            for file, item in zip(files, job["items"], strict=True):
                self.outcomes.append(_outcome(file, item))
            self._pause = SHORTEST_PAUSE

    def _fail(self, file: File, code: str, error: str) -> None:
        self.outcomes.append(Outcome(file, "failed", code=code, error=error))


def _batches(files: Sequence[File], most: int) -> Iterator[list[File]]:
    batch: list[File] = []
    size = 0
    for file in files:
        own = _size(file.path)
        if batch and (len(batch) == most or size + own > BYTES_PER_JOB):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += own
    if batch:
        yield batch


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _outcome(file: File, item: dict[str, Any]) -> Outcome:
    error = item["error"] or {"code": None, "message": None}
    state = "duplicate" if error["code"] == "duplicate_content" else item["state"]
    return Outcome(
        file, state, item["document_id"], item["passages"], error["code"], error["message"]
    )
