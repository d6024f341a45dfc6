"""The coordinator's private folder: its key, its database unless that is elsewhere, and vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from storage.files import remove, sync, write_private
from storage.home import HomeError, ServedHome


@dataclass(frozen=True, slots=True)
class CoordinatorHome(ServedHome):
    """Paths inside the coordinator's folder. All its workers share it."""

    @property
    def key(self) -> Path:
        """The Ed25519 key that signs plans, rosters, rounds and the ledger; raw, mode 0600."""
        return self.root / "coordinator.key"

    @property
    def database(self) -> Path:
        return self.root / "coordinator.db"

    @property
    def vectors(self) -> Path:
        """Masked vectors of unfinished rounds, one folder each."""
        return self.root / "vectors"

    def exists(self) -> bool:
        return self.key.exists()

    def prepare(self) -> None:
        """Make the folder, mode 0700, all but the key.

        Raises:
            HomeError: there is a coordinator or something else in its place.
        """
        if self.root.exists() and not self.root.is_dir():
            raise HomeError(f"{self.root} is not a folder")
        if self.exists():
            raise HomeError(f"there is a coordinator in {self.root} already")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What a stop left of an earlier attempt does not matter.
        own = {self.settings.name, self.vectors.name, f"{self.key.name}.tmp"}
        own |= {self.database.name + end for end in ("", "-wal", "-shm")}
        if not own.issuperset(path.name for path in self.root.iterdir()):
            raise HomeError(f"{self.root} is not empty and is not a coordinator's folder")
        self.root.chmod(0o700)
        self.vectors.mkdir(mode=0o700, exist_ok=True)
        sync(self.root)

    def create_key(self) -> None:
        """Make the key, which makes the folder a coordinator's."""
        write_private(self.key, Ed25519PrivateKey.generate().private_bytes_raw())

    def open_key(self) -> Ed25519PrivateKey:
        """The coordinator's key.

        Raises:
            HomeError: there is no coordinator here, or its key is damaged.
        """
        try:
            data = self.key.read_bytes()
        except FileNotFoundError:
            raise HomeError(
                f"there is no coordinator in {self.root}: run `alcove coordinator init` first"
            ) from None
        try:
            return Ed25519PrivateKey.from_private_bytes(data)
        except ValueError as error:
            raise HomeError(f"{self.key} is damaged: restore it from a backup") from error

    def round_vectors(self, round_id: str) -> Path:
        """The folder of one round's masked vectors; each file is named by a participant's id."""
        return self.vectors / round_id

    def delete_vectors(self, round_id: str) -> None:
        """Remove a round's masked vectors, if there are any."""
        remove(self.round_vectors(round_id))
