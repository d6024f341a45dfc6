"""Round 3, consistency check: collect signatures under the survivor list and show them round.

Bonawitz et al. 2017, figure 4, round 3. Showing the signatures asks the clients for what opens the
sum: a coordinator that charges a budget does it before it closes this state.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from federation.secagg.config import RoundConfig
from federation.secagg.messages import (
    SurvivorSignature,
    SurvivorSignatures,
    decode_from,
    encode,
)
from federation.secagg.primitives import Label, verify
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.server.masked_sum import MaskedSum
from federation.secagg.server.stage import Stage
from federation.secagg.server.unmask import Unmasking
from federation.secagg.transcript import survivor_statement
from federation.secagg.wire import Reader, Writer


@dataclass
class Signing:
    """The server collects signatures."""

    stage: ClassVar[Stage] = Stage.SIGNING
    sum: MaskedSum
    signatures: dict[int, bytes] = field(default_factory=dict)

    def expected(self) -> frozenset[int]:
        """The survivors."""
        return frozenset(self.sum.survivors)

    def accept(self, sender: int, data: bytes) -> None:
        """Take a SurvivorSignature.

        Raises:
            Refusal: BAD_SIGNATURE, it is not one of this survivor list.
        """
        config = self.sum.config
        signature = decode_from(SurvivorSignature, sender, data, config.hash).signature
        statement = survivor_statement(self.sum.transcript.hash, self.sum.survivor_list)
        verify(config.roster[sender], signature, Label.SURVIVORS, *statement)
        self.signatures[sender] = signature

    def close(self) -> tuple[Unmasking, dict[int, bytes]]:
        """The next state, and SurvivorSignatures for every signer with t signers around it.

        A client gets t signatures and no more: verifying them is most of its work in this round.

        Raises:
            Refusal: TOO_FEW_SIGNATURES, fewer than t clients would go on.
        """
        config, signers = self.sum.config, self.signatures.keys()
        threshold = config.threat_model.threshold
        messages = {}
        for index in sorted(signers):
            witnesses = sorted(signers & (self.sum.partners(index) | {index}))[:threshold]
            if len(witnesses) == threshold:
                chosen = {witness: self.signatures[witness] for witness in witnesses}
                messages[index] = encode(SurvivorSignatures(chosen), config.hash)
        if len(messages) < threshold:
            raise Refusal(
                Reason.TOO_FEW_SIGNATURES,
                f"{len(messages)} survivors see {threshold} signatures; {threshold} are needed",
            )
        return Unmasking(self.sum, frozenset(messages)), messages

    def write(self, out: Writer) -> None:
        self.sum.write(out)
        SurvivorSignatures(self.signatures).write(out)

    @classmethod
    def read(cls, config: RoundConfig, source: Reader) -> "Signing":
        masked_sum = MaskedSum.read(config, source)
        return cls(masked_sum, dict(SurvivorSignatures.read(source).signatures))
