"""A rotation whose answer is lost: the node asks again and finds that the new key holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.participant.coordinator_client import CoordinatorClient, RefusedError
from federation.participant.coordinator_line import CoordinatorLine
from privacy.signing import public_key_hex
from tests.coordinators import site


def test_the_new_key_holds_although_the_answer_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, lost = CoordinatorLine._once, []

    def forgetful(self: CoordinatorLine, method: str, path: str, *given: Any) -> tuple[int, bytes]:
        answer = once(self, method, path, *given)
        if path.endswith("/identity") and not lost:
            lost.append(path)
            raise httpx.ReadError("the answer was lost")
        return answer

    monkeypatch.setattr(CoordinatorLine, "_once", forgetful)
    with site(tmp_path / "home", count=1) as place:
        (node,) = place.participants
        client = CoordinatorClient(place.url, place.coordinator.identity, node.key)
        new = Ed25519PrivateKey.generate()
        client.rotate(new)
        assert lost and client.identity == public_key_hex(new)
        roster, _ = client.roster()
        assert [member.identity for member in roster.members] == [client.identity]
        client.close()


def test_a_refused_rotation_stays_refused(tmp_path: Path) -> None:
    with site(tmp_path / "home", count=3) as place:
        one, other, _ = place.participants
        client = CoordinatorClient(place.url, place.coordinator.identity, one.key)
        place.open_round()
        one.answer_all()
        with pytest.raises(RefusedError) as refused:
            client.rotate(Ed25519PrivateKey.generate())
        assert refused.value.code in ("in_round", "identity_known")
        assert client.identity == one.identity != other.identity
        client.close()
