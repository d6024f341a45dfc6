"""Settings: where they come from, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from storage.settings import NodeSettings


def load(home: Path, toml: str = "", **given: Any) -> NodeSettings:
    (home / "settings.toml").write_text(toml)
    return NodeSettings(home=home, **given)


class TestSources:
    def test_arguments_go_before_variables_and_variables_before_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        toml = "port = 1\nmax_rows = 1\nqueue_size = 1\n"
        monkeypatch.setenv("ALCOVE_PORT", "2")
        monkeypatch.setenv("ALCOVE_MAX_ROWS", "2")
        settings = load(tmp_path, toml, port=3)
        assert (settings.port, settings.max_rows, settings.queue_size) == (3, 2, 1)

    def test_the_home_of_a_variable_has_its_file_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "settings.toml").write_text("port = 17")
        monkeypatch.setenv("ALCOVE_HOME", str(tmp_path))
        assert NodeSettings().port == 17

    def test_a_fresh_node_listens_on_loopback_alone(self, tmp_path: Path) -> None:
        assert load(tmp_path).host == "127.0.0.1"

    def test_the_home_is_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert NodeSettings(home=Path("node")).home == tmp_path / "node"

    def test_they_cannot_be_changed_later(self, tmp_path: Path) -> None:
        settings = load(tmp_path)
        with pytest.raises(ValidationError, match="frozen"):
            settings.port = 1  # type: ignore[misc]


class TestRefusals:
    @pytest.mark.parametrize(
        "toml",
        [
            'emebdder = "packaged"',
            "[node]\nport = 1",
            "port = 65536",
            "port = -1",
            'port = "many"',
            'index = "hnsw"',
            "snapshot_every = 0",
            "snapshot_seconds = 0",
            "max_rows = 0",
            "passages = 51",
            "max_file_bytes = 0",
            "parse_memory_bytes = 1000",
            "max_pending_bytes = 0",
        ],
    )
    def test_an_unknown_name_or_a_value_out_of_range(self, tmp_path: Path, toml: str) -> None:
        with pytest.raises(ValidationError):
            load(tmp_path, toml)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.7", "node.example.org"])
    def test_a_host_that_others_reach_without_encryption(self, tmp_path: Path, host: str) -> None:
        with pytest.raises(ValidationError, match="can be reached by others"):
            load(tmp_path, host=host)
        assert load(tmp_path, host=host, allow_plain_http=True).host == host
        encrypted = load(tmp_path, host=host, tls_certificate="c.pem", tls_key="k.pem")
        assert encrypted.host == host

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
    def test_loopback_needs_no_encryption(self, tmp_path: Path, host: str) -> None:
        assert load(tmp_path, host=host).host == host

    @pytest.mark.parametrize("half", ["tls_certificate", "tls_key"])
    def test_half_of_what_encryption_needs(self, tmp_path: Path, half: str) -> None:
        with pytest.raises(ValidationError, match="together"):
            load(tmp_path, **{half: "x.pem"})

    def test_an_upstream_elsewhere_unless_allowed(self, tmp_path: Path) -> None:
        there = {"generator": "model", "upstream_url": "https://api.example.org/v1"}
        with pytest.raises(ValidationError, match="leave this host"):
            load(tmp_path, **there)
        assert load(tmp_path, **there, allow_remote_generator=True).generator == "model"
        here = {"generator": "model", "upstream_url": "http://127.0.0.1:9/v1"}
        assert load(tmp_path, **here).upstream_url == here["upstream_url"]

    @pytest.mark.parametrize(
        "url", ["api.example.org", "file:///etc/passwd", "http://", "ftp://127.0.0.1/"]
    )
    def test_an_upstream_that_is_no_address(self, tmp_path: Path, url: str) -> None:
        with pytest.raises(ValidationError, match="no address"):
            load(tmp_path, generator="model", upstream_url=url, allow_remote_generator=True)

    def test_the_key_of_an_upstream_does_not_print(self, tmp_path: Path) -> None:
        settings = load(
            tmp_path, generator="m", upstream_url="http://127.0.0.1:9/v1", upstream_key="sesame"
        )
        assert "sesame" not in f"{settings} {settings!r}"
        assert settings.upstream_key is not None
        assert settings.upstream_key.get_secret_value() == "sesame"
