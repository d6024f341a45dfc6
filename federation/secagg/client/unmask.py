"""Round 4, unmasking: release one share per peer, once, for the list that enough others signed.

Bonawitz et al. 2017, figure 4, round 4: the share of b for a peer that survived, the share of s_sk
for one that dropped out. Which of the two follows from membership in the one signed list, so no
request can ask for both.
"""

from dataclasses import dataclass
from typing import ClassVar

from federation.secagg.client.consistency import Signed
from federation.secagg.client.participant import Participant
from federation.secagg.client.stage import Stage
from federation.secagg.messages import (
    ReleasedShares,
    ShareKind,
    SurvivorSignatures,
    decode,
    encode,
)
from federation.secagg.primitives import Label, verify
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret
from federation.secagg.transcript import survivor_statement
from federation.secagg.wire import Reader, Writer


@dataclass(frozen=True)
class Released:
    """The client has said all it has to say and holds no secret any more."""

    stage: ClassVar[Stage] = Stage.RELEASED

    def secrets(self) -> tuple[Secret, ...]:
        return ()

    def write(self, out: Writer) -> None:
        """Nothing is left to write."""

    @classmethod
    def read(cls, source: Reader) -> "Released":
        return cls()


def release_shares(me: Participant, state: Signed, request: bytes) -> tuple[Released, bytes]:
    """Answer SurvivorSignatures with ReleasedShares.

    Raises:
        Refusal: fewer than t signatures of surviving neighbours (this client's counts) are under
            this client's list, or one of those sent is not valid.
    """
    signatures = decode(SurvivorSignatures, request, me.config.hash).signatures
    survivors = frozenset(state.survivors)
    peers = state.masked.peers
    signers = survivors & (peers.keys() | {me.index})
    if not signers.issuperset(signatures):
        raise Refusal(Reason.WRONG_PEERS, "a signature of someone who is no surviving neighbour")
    threshold = me.config.threat_model.threshold
    if len(signatures) < threshold:
        raise Refusal(
            Reason.TOO_FEW_SIGNATURES, f"{len(signatures)} signatures; {threshold} are needed"
        )
    statement = survivor_statement(state.masked.transcript, state.survivors)
    for index, signature in signatures.items():
        verify(me.config.roster[index], signature, Label.SURVIVORS, *statement)

    shares = {me.index: (ShareKind.SELF_MASK, state.masked.own_share.reveal())}
    for index, peer in peers.items():
        if index in survivors:
            shares[index] = ShareKind.SELF_MASK, peer.seed_share.reveal()
        else:
            shares[index] = ShareKind.MASK_KEY, peer.key_share.reveal()
    return Released(), encode(ReleasedShares(me.index, shares), me.config.hash)
