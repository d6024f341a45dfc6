"""Round 0, advertise keys: collect them, then tell everybody the same.

Bonawitz et al. 2017, figure 4, round 0. The server checks what each client will check again, so
that a bad advertisement costs its sender the round and nobody else.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from federation.secagg.config import RoundConfig
from federation.secagg.messages import Advertisement, Directory, KeyEntry, decode_from, encode
from federation.secagg.primitives import check_public_key
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.server.share import Sharing
from federation.secagg.server.stage import Stage
from federation.secagg.transcript import Transcript, check_keys
from federation.secagg.wire import Reader, Writer


@dataclass
class Advertising:
    """The server collects keys."""

    stage: ClassVar[Stage] = Stage.ADVERTISING
    config: RoundConfig
    entries: dict[int, KeyEntry] = field(default_factory=dict)
    _seen: set[bytes] = field(default_factory=set)

    def expected(self) -> frozenset[int]:
        """Everybody on the roster."""
        return frozenset(range(len(self.config.roster)))

    def accept(self, sender: int, data: bytes) -> None:
        """Take an Advertisement.

        Raises:
            Refusal: keys that are unsigned, weak or already advertised.
        """
        keys = decode_from(Advertisement, sender, data, self.config.hash).keys
        check_keys(self.config, sender, keys)
        check_public_key(keys.channel_key)
        check_public_key(keys.mask_key)
        if keys.channel_key == keys.mask_key or self._seen & {keys.channel_key, keys.mask_key}:
            raise Refusal(Reason.REPEATED_KEY, f"client {sender} repeats a public key")
        self.entries[sender] = keys
        self._seen |= {keys.channel_key, keys.mask_key}

    def close(self) -> tuple[Sharing, dict[int, bytes]]:
        """The next state, and the Directory for everybody in it.

        Raises:
            Refusal: the cohort is not one that the threat model covers.
        """
        cohort = len(self.entries)
        self.config.threat_model.check_cohort(cohort, cohort)
        directory = encode(Directory(self.entries), self.config.hash)
        entries = dict(sorted(self.entries.items()))
        state = Sharing(self.config, entries, Transcript(self.config, entries))
        return state, dict.fromkeys(entries, directory)

    def write(self, out: Writer) -> None:
        Directory(self.entries).write(out)

    @classmethod
    def read(cls, config: RoundConfig, source: Reader) -> "Advertising":
        entries = dict(Directory.read(source).entries)
        seen = {key for e in entries.values() for key in (e.channel_key, e.mask_key)}
        return cls(config, entries, seen)
