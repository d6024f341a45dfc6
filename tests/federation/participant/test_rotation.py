"""A rotation whose answer is lost: the node asks again and finds that the new key holds."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.participant.coordinator_client import CoordinatorClient, RefusedError
from privacy.signing import public_key_hex
from tests.coordinators import site


class Forgetful(CoordinatorClient):
    """Loses the first answer to a rotation."""

    lost = False

    def _once(
        self, method: str, path: str, body: bytes, headers: dict[str, str], seconds: float | None
    ) -> tuple[int, bytes]:
        answer = super()._once(method, path, body, headers, seconds)
        if path.endswith("/identity") and not self.lost:
            self.lost = True
            raise httpx.ReadError("the answer was lost")
        return answer


def test_the_new_key_holds_although_the_answer_was_lost(tmp_path: Path) -> None:
    with site(tmp_path / "home", count=1) as place:
        (node,) = place.participants
        client = Forgetful(place.url, place.coordinator.identity, node.key)
        new = Ed25519PrivateKey.generate()
        client.rotate(new)
        assert client.lost and client.identity == public_key_hex(new)
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
