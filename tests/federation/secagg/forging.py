"""What a dishonest server or a colluder puts in the place of honest keys."""

from collections.abc import Callable

from federation.secagg.messages import Directory, KeyEntry, decode, encode
from federation.secagg.primitives import new_secret, public_key
from federation.secagg.transcript import sign_keys
from tests.federation.secagg.parties import Round, identity

Entries = dict[int, KeyEntry]


def forged_directory(played: Round, change: Callable[[Entries], object]) -> bytes:
    """What the server would send in round 1, after `change` has been at it."""
    outbox = played.until(1)
    entries = dict(decode(Directory, outbox[0], played.config.hash).entries)
    change(entries)
    return encode(Directory(entries), played.config.hash)


def signed_keys(
    played: Round, index: int, channel: bytes | None = None, mask: bytes | None = None
) -> KeyEntry:
    """Keys that the client at `index`, a colluder, signs itself."""
    channel = channel or public_key(new_secret())
    mask = mask or public_key(new_secret())
    return sign_keys(played.config, index, identity(index), channel, mask)
