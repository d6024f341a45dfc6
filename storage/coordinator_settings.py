"""Settings of a coordinator: defaults, `settings.toml`, then ALCOVE_COORDINATOR_* variables."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from storage.settings import ServerSettings

POSTGRESQL = "postgresql+psycopg://"


class CoordinatorSettings(ServerSettings):
    """What an admin may choose.

    Attributes:
        database_url: a PostgreSQL that several workers share; None for SQLite in the folder.
        workers: processes that serve; all of them use one folder.
    """

    model_config = SettingsConfigDict(
        env_prefix="ALCOVE_COORDINATOR_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    port: int = Field(default=8430, ge=0, le=65535)
    database_url: SecretStr | None = None
    workers: int = Field(default=1, ge=1, le=64)

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        """`postgresql://` means the driver that is installed."""
        if url is None:
            return None
        scheme, separator, rest = url.get_secret_value().partition("://")
        if not separator or scheme not in ("postgresql", "postgresql+psycopg"):
            raise ValueError("database_url is a PostgreSQL address: postgresql://user@host/name")
        return SecretStr(POSTGRESQL + rest)
