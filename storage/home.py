"""The private folder of a server, and the node's: its layout, its permissions, its lock."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage import files
from storage.files import sync, write_private

LOCK = "lock"


class HomeError(Exception):
    """The folder cannot be used; the message says why and what to do."""


class HomeBusyError(HomeError):
    """Another process of this node holds the folder."""


@dataclass(frozen=True, slots=True)
class ServedHome:
    """A private folder that one server holds, and that says where the server listens."""

    root: Path

    @property
    def address(self) -> Path:
        """Where the running server is and the key that the command line may use meanwhile."""
        return self.root / "server.json"

    @property
    def settings(self) -> Path:
        return self.root / "settings.toml"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            HomeBusyError: another process holds it.
        """
        descriptor = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not files.lock(descriptor, wait=False):
                raise HomeBusyError(f"another process is using {self.root}")
            yield
        finally:
            os.close(descriptor)

    def announce(self, url: str, key: str, certificate: str | None = None) -> None:
        """Write where the server listens, readable by the owner of the folder only.

        `certificate` is the server's own, PEM; None where it speaks plain HTTP.
        """
        announced = {"url": url, "key": key, "certificate": certificate}
        write_private(self.address, json.dumps(announced).encode())

    def withdraw(self) -> None:
        self.address.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class NodeHome(ServedHome):
    """Paths inside the node's folder. Everything that a node keeps lies below `root`."""

    @property
    def database(self) -> Path:
        return self.root / "node.db"

    @property
    def indexes(self) -> Path:
        return self.root / "indexes"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    def exists(self) -> bool:
        return self.database.exists()

    def create(self) -> None:
        """Make the folder, mode 0700; what a stop left of an earlier attempt does not matter.

        Raises:
            HomeError: there is something else at its place.
        """
        if self.root.exists() and not self.root.is_dir():
            raise HomeError(f"{self.root} is not a folder")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = {self.indexes, self.uploads, self.root / LOCK}
        known = self.exists() or self.settings.exists() or own.issuperset(self.root.iterdir())
        if not known:
            raise HomeError(f"{self.root} is not empty and is not a node's folder")
        self.root.chmod(0o700)
        for folder in (self.indexes, self.uploads):
            folder.mkdir(mode=0o700, exist_ok=True)
        sync(self.root)

    def require(self) -> None:
        """Raise HomeError unless a node was made here."""
        if not self.exists():
            raise HomeError(f"there is no node in {self.root}: run `alcove node init` first")
