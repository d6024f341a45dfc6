"""API keys: what a token opens, and where it can be found."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from storage import keys
from storage.database import Database
from storage.keys import Principal
from storage.node_tables import Assistant, Key, Scope
from tests.nodes import add_assistant, files_holding, open_database


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with open_database(tmp_path_factory.mktemp("keys") / "node.db") as opened:
        for name in ("a", "b", "c"):
            add_assistant(opened, name)
        yield opened


def make(database: Database, scope: Scope, names: list[str] | None) -> tuple[str, str]:
    """A key's id and its token."""
    with database.write() as session:
        chosen = None
        if names is not None:
            own = select(Assistant).where(Assistant.name.in_(names))
            chosen = session.scalars(own).all()
        new = keys.create(session, "label", scope, chosen)
        return new.key.id, new.token


def verify(database: Database, token: str) -> Principal | None:
    with database.read() as session:
        return keys.verify(session, token)


class TestTokens:
    @pytest.mark.parametrize("scope", Scope)
    @pytest.mark.parametrize("names", [None, [], ["a"], ["a", "c"]])
    def test_a_token_opens_what_its_key_was_made_for(
        self, database: Database, scope: Scope, names: list[str] | None
    ) -> None:
        key_id, token = make(database, scope, names)
        caller = verify(database, token)
        assert caller is not None
        assert (caller.key_id, caller.scope) == (key_id, scope)
        ids = {"a": 1, "b": 2, "c": 3}
        assert caller.assistant_ids == (None if names is None else {ids[name] for name in names})

    def test_any_other_character_closes_it(self, database: Database) -> None:
        _, token = make(database, Scope.OWNER, None)
        for place in range(len(token)):
            other = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
            assert verify(database, other) is None
        assert verify(database, token) is not None

    @settings(deadline=None, max_examples=60)
    @given(st.text())
    @example("")
    @example("alcove")
    @example("alcove__")
    @example("alcove_\0_\0")
    @example("alcove_\ud800_\ud800")
    @example("alcove_ключ_секрет")
    @example("alcove_' OR 1=1 --_x")
    @example("alcove_" * 10_000)
    def test_nothing_else_opens_anything(self, database: Database, token: str) -> None:
        assert verify(database, token) is None

    def test_parts_of_two_keys_do_not_go_together(self, database: Database) -> None:
        (first, _), (_, token) = make(database, Scope.OWNER, None), make(database, Scope.USER, [])
        secret = token.split("_", 2)[2]
        assert verify(database, f"alcove_{first}_{secret}") is None

    def test_tokens_differ_and_carry_256_random_bits(self, database: Database) -> None:
        secrets = {make(database, Scope.USER, [])[1].split("_", 2)[2] for _ in range(50)}
        assert len(secrets) == 50
        assert {len(secret) for secret in secrets} == {43}  # base64 of 32 bytes, RFC 4648


class TestRevocation:
    def test_a_revoked_key_opens_nothing_any_more(self, database: Database) -> None:
        key_id, token = make(database, Scope.OWNER, None)
        with database.write() as session:
            assert keys.revoke(session, key_id)
        assert verify(database, token) is None
        with database.write() as session:
            assert not keys.revoke(session, key_id)
            assert not keys.revoke(session, "unknown")
        listed = {}
        with database.read() as session:
            listed = {key.id: key.revoked_at for key in keys.list_all(session)}
        assert listed[key_id] is not None

    def test_a_deleted_assistant_is_taken_from_its_keys(self, database: Database) -> None:
        add_assistant(database, "short-lived")
        _, token = make(database, Scope.USER, ["short-lived", "a"])
        with database.write() as session:
            session.execute(delete(Assistant).where(Assistant.name == "short-lived"))
        caller = verify(database, token)
        assert caller is not None
        assert caller.assistant_ids == {1}


class TestSecrecy:
    def test_only_the_hash_of_the_secret_is_on_disk(self, tmp_path: Path) -> None:
        with open_database(tmp_path / "node.db") as database:
            _, token = make(database, Scope.OWNER, None)
            secret = token.split("_", 2)[2]
            digest = hashlib.sha256(secret.encode()).digest()
            assert files_holding(tmp_path, [digest])
            pieces = [secret[start : start + 8].encode() for start in range(len(secret) - 7)]
            assert not files_holding(tmp_path, [token.encode(), *pieces])

    def test_a_new_key_does_not_print_its_token(self, database: Database) -> None:
        with database.write() as session:
            new = keys.create(session, "label", Scope.USER, None)
        assert new.token.split("_", 2)[2] not in f"{new} {new!r} {new.key!r}"

    def test_known_and_unknown_keys_are_compared_alike(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Time cannot be asserted; that the standard library's constant-time comparison decides,
        # for whole hashes and for unknown ids too, can.
        compared = []

        def spy(expected: bytes, given: bytes) -> bool:
            compared.append((len(expected), len(given)))
            return real(expected, given)

        real = hmac.compare_digest
        monkeypatch.setattr(hmac, "compare_digest", spy)
        key_id, token = make(database, Scope.USER, [])
        assert verify(database, f"alcove_{key_id}_wrong") is None
        assert verify(database, "alcove_unknown_wrong") is None
        assert verify(database, token) is not None
        assert compared == [(32, 32)] * 3


def test_keys_are_listed_oldest_first(database: Database) -> None:
    with database.read() as session:
        listed = [(key.created_at, key.id) for key in keys.list_all(session)]
        assert listed == sorted(listed)
        assert len(listed) == len(session.scalars(select(Key.id)).all())
