"""Settings of a server: defaults, then `settings.toml` in its folder, then ALCOVE_* variables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

MEBIBYTE = 1 << 20
PACKAGED = "packaged"
# Cosine similarity (all-MiniLM-L6-v2) that the best passage must reach. Measured: 26 of 27 everyday
# questions about eleven short notes reach it, as do 97 % of fairytaleqa's and 99 % of medquad's
# with their gold passage; 25 of 27 questions on other subjects stay below.
RELEVANT_COSINE = 0.25
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ServerSettings(BaseSettings):
    """Where a server keeps its folder and listens; what others can reach speaks HTTPS."""

    home: Path

    host: str = "127.0.0.1"
    port: int = Field(default=8420, ge=0, le=65535)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allow_plain_http: bool = False
    pages: bool = True

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @property
    def is_secure(self) -> bool:
        """Whether browsers come over HTTPS; off loopback they do, if only through a proxy."""
        return self.tls_key is not None or self.host not in LOOPBACK

    @model_validator(mode="after")
    def _refuse_plain_http(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are set together or not at all")
        if self.host not in LOOPBACK and self.tls_key is None and not self.allow_plain_http:
            raise ValueError(
                f"host {self.host} can be reached by others: set tls_certificate and tls_key, or "
                "allow_plain_http = true where a proxy in front of the server speaks HTTPS"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        home = init_settings().get("home") or env_settings().get("home")
        if home is not None:
            file = Path(home).expanduser() / "settings.toml"
            sources += (TomlConfigSettingsSource(settings_cls, toml_file=file),)
        return sources


class NodeSettings(ServerSettings):
    """What an owner may choose. Sizes are bytes, times are seconds, lengths are tokens."""

    model_config = SettingsConfigDict(env_prefix="ALCOVE_", extra="forbid", frozen=True)

    embedder: str = PACKAGED
    reranker: str | None = None
    index: Literal["flat", "fp16"] = "flat"
    snapshot_every: int = Field(default=2_000, ge=1)
    snapshot_seconds: float = Field(default=60.0, gt=0)

    generator: str = PACKAGED
    upstream_url: str | None = None
    upstream_key: SecretStr | None = None
    upstream_context: int = Field(default=8_192, ge=256)
    allow_remote_generator: bool = False
    allow_adapter_export: bool = False
    allow_adapter_import: bool = False
    answer_tokens: int = Field(default=160, ge=1)
    max_answer_tokens: int = Field(default=2_048, ge=1)
    max_rows: int = Field(default=4, ge=1)
    queue_size: int = Field(default=16, ge=0)
    passages: int = Field(default=5, ge=1, le=50)
    relevant_cosine: float = Field(default=RELEVANT_COSINE, ge=-1, le=1)

    max_file_bytes: int = Field(default=100 * MEBIBYTE, ge=1)
    max_expanded_bytes: int = Field(default=400 * MEBIBYTE, ge=1)
    max_pages: int = Field(default=5_000, ge=1)
    parse_memory_bytes: int = Field(default=2_048 * MEBIBYTE, ge=256 * MEBIBYTE)
    parse_seconds: int = Field(default=300, ge=1)
    max_files_per_upload: int = Field(default=200, ge=1)
    max_pending_bytes: int = Field(default=4_096 * MEBIBYTE, ge=1)

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Self:
        if self.upstream_url is not None:
            self._check_upstream(self.upstream_url)
        return self

    def _check_upstream(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"upstream_url {url!r} is no address; give one like http://host/v1")
        if self.generator == PACKAGED:
            raise ValueError("upstream_url needs generator, the name of the upstream's model")
        if parts.hostname not in LOOPBACK and not self.allow_remote_generator:
            raise ValueError(
                f"questions and passages would leave this host for {parts.hostname}: "
                "set allow_remote_generator = true if that is what you want"
            )
