"""Round 3, consistency check: sign the one survivor list that this client will go by.

Bonawitz et al. 2017, figure 4, round 3. Without it a server could tell every client of other
drop-outs, stay above every client's minimum, and collect enough shares to open the sum of a few.
The signature is asked for in both threat models; what it proves is said in `threat_model`.
"""

from dataclasses import dataclass
from typing import ClassVar

from federation.secagg.client.masked import Masked
from federation.secagg.client.participant import Participant
from federation.secagg.client.stage import Stage
from federation.secagg.messages import (
    INDEX_BYTES,
    SurvivorList,
    SurvivorSignature,
    decode,
    encode,
)
from federation.secagg.primitives import Label, index_bytes, sign
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret
from federation.secagg.transcript import survivor_statement
from federation.secagg.wire import Reader, Writer


@dataclass(frozen=True)
class Signed:
    """The client has settled on the survivors and waits for the others' signatures."""

    stage: ClassVar[Stage] = Stage.SIGNED
    masked: Masked
    survivors: tuple[int, ...]

    def secrets(self) -> tuple[Secret, ...]:
        return self.masked.secrets()

    def write(self, out: Writer) -> None:
        self.masked.write(out)
        out.u16(len(self.survivors)).raw(index_bytes(*self.survivors))

    @classmethod
    def read(cls, source: Reader) -> "Signed":
        return cls(Masked.read(source), tuple(source.rising(INDEX_BYTES)))


def sign_survivors(me: Participant, state: Masked, request: bytes) -> tuple[Signed, bytes]:
    """Answer the SurvivorList with SurvivorSignature.

    Raises:
        Refusal: the list is too short for the threat model, leaves this client out, or names
            someone who cannot have survived.
    """
    survivors = decode(SurvivorList, request, me.config.hash).survivors
    if me.index not in survivors:
        raise Refusal(Reason.NOT_A_SURVIVOR, "this client's input was sent but is not counted")
    if not (state.peers.keys() | state.others | {me.index}).issuperset(survivors):
        raise Refusal(Reason.UNKNOWN_SURVIVOR, "a survivor never shared its secrets")
    me.config.threat_model.check_survivors(len(survivors), me.confirmed_among(survivors))
    statement = survivor_statement(state.transcript, survivors)
    signature = sign(me.identity, Label.SURVIVORS, *statement)
    return (
        Signed(state, survivors),
        encode(SurvivorSignature(me.index, signature), me.config.hash),
    )
