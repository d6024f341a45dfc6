"""Round 0, advertise keys: two fresh X25519 pairs, signed for this round.

Bonawitz et al. 2017, figure 4, round 0: (c_pk, s_pk) under the signature of d_sk.
"""

from dataclasses import dataclass
from typing import ClassVar

from federation.secagg.client.participant import Participant
from federation.secagg.client.stage import Stage
from federation.secagg.messages import Advertisement, KeyEntry, encode
from federation.secagg.primitives import KEY_BYTES, new_secret, public_key
from federation.secagg.secret import Secret
from federation.secagg.transcript import sign_keys
from federation.secagg.wire import Reader, Writer


@dataclass(frozen=True)
class Advertised:
    """The client has made its keys and waits for everybody's."""

    stage: ClassVar[Stage] = Stage.ADVERTISED
    channel_private: Secret
    mask_private: Secret
    keys: KeyEntry

    def secrets(self) -> tuple[Secret, ...]:
        return self.channel_private, self.mask_private

    def write(self, out: Writer) -> None:
        out.raw(self.channel_private.reveal()).raw(self.mask_private.reveal())
        self.keys.write(out)

    @classmethod
    def read(cls, source: Reader) -> "Advertised":
        return cls(
            Secret(source.raw(KEY_BYTES)), Secret(source.raw(KEY_BYTES)), KeyEntry.read(source)
        )


def advertise(me: Participant) -> tuple[Advertised, bytes]:
    """The first state, and the Advertisement.

    Raises:
        Refusal: NOT_ON_ROSTER.
    """
    channel_private, mask_private = new_secret(), new_secret()
    keys = sign_keys(
        me.config, me.index, me.identity, public_key(channel_private), public_key(mask_private)
    )
    state = Advertised(channel_private, mask_private, keys)
    return state, encode(Advertisement(me.index, keys), me.config.hash)
