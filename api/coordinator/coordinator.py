"""A running coordinator: its folder, key and database, opened and closed together."""

from __future__ import annotations

from pydantic import SecretStr

from federation.coordinator.authority import Authority
from storage import staff_keys
from storage.coordinator_database import CoordinatorDatabase
from storage.coordinator_home import CoordinatorHome
from storage.coordinator_settings import CoordinatorSettings
from storage.coordinator_tables import Role


class Coordinator:
    """One worker's view of a coordinator; any number of processes may open the same one."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        """Open the folder and bring the database up to date.

        Raises:
            HomeError: there is no coordinator in the folder.
        """
        self.settings = settings
        self.home = CoordinatorHome(settings.home)
        key = self.home.open_key()
        self.database = CoordinatorDatabase.of(settings)
        self.database.migrate()
        self.authority = Authority(key, self.database, self.home)

    @property
    def identity(self) -> str:
        """The public key that participants know the coordinator by, hexadecimal."""
        return self.authority.identity

    def close(self) -> None:
        self.database.close()


def create(settings: CoordinatorSettings) -> SecretStr:
    """Make a coordinator in the folder of `settings`; returns its first key, an admin's.

    Raises:
        HomeError: the folder cannot be a coordinator's, or is one already.
    """
    home = CoordinatorHome(settings.home)
    home.prepare()
    database = CoordinatorDatabase.of(settings)
    try:
        database.migrate()
        with database.write() as session:
            first = staff_keys.create(session, "first key", Role.ADMIN)
        # The key makes the folder a coordinator's, so it comes last.
        home.create_key()
    finally:
        database.close()
    return SecretStr(first.token)
