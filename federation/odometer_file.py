"""The node's odometer on disk: an append-only file that is fsynced before anything is sent.

Each line is canonical JSON: the events of one step and a hash over them and all lines before.
A line that a crash cut short was never acknowledged, so what it would have paid for was never
sent, and it is dropped. Any other damage means that debits may be missing, and the file is refused,
with one exception: a file that ends after an earlier line, an old backup for one, is a shorter file
without a fault, and opens with fewer debits. Nothing in it tells; only receipts do (`recover`), so
a restored file must not be used before each debit since the backup has been recovered.
"""

import errno
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from privacy.budget import Event, Odometer, event_from_json, event_to_json
from privacy.canonical import canonical_bytes, parse_canonical
from privacy.limits import RenyiFilter, Run
from privacy.signing import Domain, digest
from storage.files import lock, new_private, sync


class OdometerError(RuntimeError):
    """The odometer cannot be trusted or used; the node must not take part in rounds."""


class OdometerFile:
    """One node's odometer with its file; one process at a time holds it.

    Attributes:
        odometer: the state, to be read; only the methods here change it.
        dropped: bytes of an unfinished line that opening removed.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Takes over an open descriptor; use `open`."""
        self._path = path
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._link = ""
        self._usable = True
        self.odometer = Odometer([])
        self.dropped = 0

    @classmethod
    def open(cls, path: Path, identity_key: Path, limit: RenyiFilter) -> Self:
        """Opens the odometer at `path`; makes a new one, with `limit`, only for a new node.

        Call it before an identity is made. The limit in an existing file stays in force.

        Raises:
            OdometerError: if the node has an identity but no odometer (what it has spent would be
                forgotten), if the file is damaged, or if another process holds it.
            OSError: if the file cannot be read or written.
        """
        if not path.exists():
            if identity_key.exists():
                raise OdometerError(
                    f"{identity_key} exists without {path}: this node has taken part in rounds "
                    "whose cost is not known any more; restore the odometer, or enrol a new node "
                    "with new documents"
                )
            _create(path, limit)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        file = cls(path, descriptor)
        try:
            file._load()
        except BaseException:
            file.close()
            raise
        return file

    def debit(self, run: Run, round_id: str) -> bool:
        """Debits a round durably; the masked upload may leave only after this has returned.

        Returns:
            Whether the debit is new. If it is not, only the bytes that were stored for the first
            upload may be sent again.

        Raises:
            BudgetError: if the odometer refuses; nothing was written.
            OdometerError: if an earlier write failed.
            OSError: if the write fails; the round must not go on.
        """
        with self._lock:
            return self._append(self.odometer.debit(run, round_id))

    def recover(self, run: Run, round_id: str) -> bool:
        """Adds a debit that a receipt proves and this file lacks; as `debit`, without a limit."""
        with self._lock:
            return self._append(self.odometer.recover(run, round_id))

    def change_epsilon(self, epsilon: float) -> None:
        """Lowers or raises the owner's limit durably; as `debit`."""
        with self._lock:
            self._append((self.odometer.change_epsilon(epsilon),))

    def close(self) -> None:
        """Gives the file free for another process."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._usable = -1, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _load(self) -> None:
        if not lock(self._descriptor, wait=False):
            raise OdometerError(f"{self._path} is in use by another process")
        with os.fdopen(os.dup(self._descriptor), "rb") as reader:
            data = reader.read()
        complete, _, torn = data.rpartition(b"\n")
        for number, line in enumerate(complete.split(b"\n"), 1):
            try:
                events, link = _read_line(line, self._link)
                for event in events:
                    self.odometer.record(event)
            except ValueError as error:
                raise OdometerError(f"{self._path} is damaged in line {number}: {error}") from error
            self._link = link
        if torn:
            os.ftruncate(self._descriptor, len(data) - len(torn))
            os.fsync(self._descriptor)
            self.dropped = len(torn)

    def _append(self, events: tuple[Event, ...]) -> bool:
        if not self._usable:
            raise OdometerError(f"{self._path} is closed, or an earlier write to it failed")
        if not events:
            return False
        line, link = _write_line(events, self._link)
        # After a failed fsync nobody knows what is on the disk; only opening anew finds out.
        self._usable = False
        _write_all(self._descriptor, line)
        os.fsync(self._descriptor)
        self._usable = True
        for event in events:
            self.odometer.record(event)
        self._link = link
        return True


def _create(path: Path, limit: RenyiFilter) -> None:
    """Makes the file with its first line appear under its name whole, or not at all."""
    line, _ = _write_line((Event(0, limit=limit),), "")
    partial = path.with_name(path.name + ".new")
    partial.unlink(missing_ok=True)
    with new_private(partial) as stream:
        stream.write(line)
    # A link never replaces a file that appeared meanwhile, as a rename would.
    os.link(partial, path)
    partial.unlink()
    sync(path.parent)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        written = os.write(descriptor, data)
        if written == 0:
            raise OSError(errno.EIO, "a write wrote nothing")
        data = data[written:]


def _write_line(events: tuple[Event, ...], previous: str) -> tuple[bytes, str]:
    body = [event_to_json(event) for event in events]
    link = digest(Domain.ODOMETER_LINE, previous.encode() + canonical_bytes(body))
    return canonical_bytes({"events": body, "link": link}) + b"\n", link


def _read_line(line: bytes, previous: str) -> tuple[list[Event], str]:
    value = parse_canonical(line)
    if not isinstance(value, dict) or value.keys() != {"events", "link"}:
        raise ValueError("it is not a line of an odometer")
    body, link = value["events"], value["link"]
    if link != digest(Domain.ODOMETER_LINE, previous.encode() + canonical_bytes(body)):
        raise ValueError("its hash does not fit it and the lines before")
    if not isinstance(body, list) or not isinstance(link, str):
        raise ValueError("it is not a line of an odometer")
    return [event_from_json(event) for event in body], link
