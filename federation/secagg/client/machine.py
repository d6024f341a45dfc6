"""A client of one round: the states in order, each message made once.

A message leaves only after the state that holds it is stored; the same request then gets the same
bytes; another request for the same stage ends the round for this client. A node that computed a
second vector under the same masks would hand the server the difference of the two.

What a pure machine cannot do is notice that it was put back. A state file from a backup is valid in
itself. `restore` therefore takes a number that the caller keeps elsewhere, where it can only grow
(with the odometer, in an fsynced file of its own): the newest stage whose message may have left. An
older state is refused. Restoring that file as well, or cloning the whole machine, goes unnoticed.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from federation.secagg.client.advertise import Advertised, advertise
from federation.secagg.client.consistency import Signed, sign_survivors
from federation.secagg.client.masked import Masked, mask_input
from federation.secagg.client.participant import Participant
from federation.secagg.client.share import Shared, share_keys
from federation.secagg.client.stage import Stage, State
from federation.secagg.client.unmask import Released, release_shares
from federation.secagg.config import RoundConfig
from federation.secagg.messages import Abort, encode
from federation.secagg.primitives import HASH_BYTES, Label, digest, index_bytes, sign
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret
from federation.secagg.wire import Reader, Writer


@dataclass(frozen=True)
class Left:
    """The client has left the round and remembers nothing of it but that."""

    stage: ClassVar[Stage] = Stage.LEFT

    def secrets(self) -> tuple[Secret, ...]:
        return ()

    def write(self, out: Writer) -> None:
        """Nothing is left to write."""

    @classmethod
    def read(cls, source: Reader) -> "Left":
        return cls()


_SAVE_VERSION = 1

_STATES: dict[Stage, type[State]] = {
    s.stage: s for s in (Advertised, Shared, Masked, Signed, Released, Left)
}
S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class Snapshot:
    """What must be stored before a message may leave.

    Attributes:
        stage: the number to keep where it can only grow.
        data: the state, with secrets in clear and the message in it; for a private file that is
            unlinked when the round is over.
    """

    stage: Stage
    data: bytes = field(repr=False)


Persist = Callable[[Snapshot], None]


class Client:
    """One client in one round; not for use by several threads.

    Each method takes the server's bytes and returns the answer's. Before it returns, `persist` has
    been called with the new state and has returned: it must store `data`, then `stage`, durably. If
    it raises, nothing is sent and the client is closed; `restore` continues from what was stored.

    A request that fails any check closes the client: secrets are wiped, `message` becomes a signed
    Abort for the server, the Refusal is raised. Only a repetition is harmless: of the last request,
    which gets the same bytes, and of an earlier one, which is refused (OUT_OF_ORDER).
    """

    def __init__(self, me: Participant, persist: Persist) -> None:
        """Use `start` or `restore`."""
        self._me = me
        self._persist = persist
        self._state: State = Left()
        self._answered: dict[Stage, bytes] = {}
        self._message = b""

    @classmethod
    def start(
        cls,
        config: RoundConfig,
        identity: Ed25519PrivateKey,
        persist: Persist,
        confirmed: frozenset[int] = frozenset(),
    ) -> "Client":
        """Enter a round; `message` is the Advertisement. Once only for each configuration.

        Raises:
            Refusal: NOT_ON_ROSTER.
        """
        client = cls(Participant(config, identity, confirmed), persist)
        client._enter(*advertise(client._me))
        return client

    @classmethod
    def restore(
        cls,
        data: bytes,
        config: RoundConfig,
        identity: Ed25519PrivateKey,
        persist: Persist,
        confirmed: frozenset[int] = frozenset(),
        *,
        newest: int,
    ) -> "Client":
        """Continue from a stored state.

        Args:
            data: of the Snapshot stored last.
            newest: the largest `stage` that `persist` was given in this round.

        Raises:
            Refusal: OLD_STATE, the state is older than `newest`, damaged, another round's or
                another client's. Without a usable state the client is out of the round.
        """
        client = cls(Participant(config, identity, confirmed), persist)
        try:
            stage = client._load(data)
        except (Refusal, ValueError, LookupError) as error:
            raise Refusal(Reason.OLD_STATE, "the saved state cannot be used") from error
        if stage < newest:
            raise Refusal(
                Reason.OLD_STATE, f"the saved state is of stage {stage}, stage {newest} was stored"
            )
        return client

    @property
    def stage(self) -> Stage:
        """How far the client has come."""
        return self._state.stage

    @property
    def message(self) -> bytes:
        """The last message made, for sending again; the Abort once the client has left."""
        return self._message

    def share(self, directory: bytes) -> bytes:
        """Directory -> SealedShares."""
        return self._answer(
            Stage.SHARED, Advertised, directory, lambda s: share_keys(self._me, s, directory)
        )

    def mask(self, delivery: bytes, vector: NDArray[np.uint32]) -> bytes:
        """Delivery -> MaskedInput.

        Args:
            vector: the encoded update with its noise, shape (d,), uint32; not changed, and not
                looked at when the Delivery was answered before.

        Raises:
            ValueError: the vector does not fit the round.
        """
        if vector.dtype != np.uint32 or vector.shape != (self._me.config.dimension,):
            raise ValueError(
                f"the vector must be uint32 of shape ({self._me.config.dimension},), not "
                f"{vector.dtype} of shape {vector.shape}"
            )
        return self._answer(
            Stage.MASKED, Shared, delivery, lambda s: mask_input(self._me, s, delivery, vector)
        )

    def sign(self, survivors: bytes) -> bytes:
        """SurvivorList -> SurvivorSignature."""
        return self._answer(
            Stage.SIGNED, Masked, survivors, lambda s: sign_survivors(self._me, s, survivors)
        )

    def release(self, signatures: bytes) -> bytes:
        """SurvivorSignatures -> ReleasedShares. Nothing secret is left afterwards."""
        return self._answer(
            Stage.RELEASED, Signed, signatures, lambda s: release_shares(self._me, s, signatures)
        )

    def leave(self, reason: Reason = Reason.CLOSED) -> bytes:
        """Wipe everything and return the Abort; for the owner's wish or a deadline that passed."""
        if self.stage != Stage.LEFT:
            self._leave(reason)
        return self._message

    def _answer(
        self,
        stage: Stage,
        expected: type[S],
        request: bytes,
        step: Callable[[S], tuple[State, bytes]],
    ) -> bytes:
        if isinstance(self._state, Left):
            raise Refusal(Reason.CLOSED, "this client has left the round")
        request_hash = hashlib.sha256(request).digest()
        if self._answered.get(stage) == request_hash:
            if stage == self.stage:
                return self._message
            raise Refusal(Reason.OUT_OF_ORDER, f"stage {stage.name} is over")
        try:
            if stage in self._answered:
                raise Refusal(Reason.SECOND_REQUEST, f"stage {stage.name} was answered")
            if not isinstance(self._state, expected):
                raise Refusal(Reason.OUT_OF_ORDER, f"stage {stage.name} has not been reached")
            state, message = step(self._state)
        except Refusal as refusal:
            self._leave(refusal.reason)
            raise
        self._answered[stage] = request_hash
        self._enter(state, message)
        return message

    def _leave(self, reason: Reason) -> None:
        me = self._me
        statement = (me.config.hash, index_bytes(me.index), bytes((reason,)))
        signature = sign(me.identity, Label.ABORT, *statement)
        self._enter(Left(), encode(Abort(me.index, reason, signature), me.config.hash))

    def _enter(self, state: State, message: bytes) -> None:
        """Store first, then forget the old state, then let the message be seen."""
        old, self._state, self._message = self._state, Left(), b""
        try:
            self._persist(Snapshot(state.stage, self._save(state, message)))
        except BaseException:
            _wipe((*old.secrets(), *state.secrets()))
            raise
        kept = {id(secret) for secret in state.secrets()}
        _wipe(secret for secret in old.secrets() if id(secret) not in kept)
        self._state, self._message = state, message

    def _save(self, state: State, message: bytes) -> bytes:
        out = Writer().u8(_SAVE_VERSION).u8(state.stage).raw(self._me.config.hash)
        out.u16(self._me.index).u8(len(self._answered))
        for stage, request_hash in self._answered.items():
            out.u8(stage).raw(request_hash)
        out.sized(message)
        state.write(out)
        body = out.bytes()
        return body + digest(Label.CLIENT_STATE, body)

    def _load(self, data: bytes) -> Stage:
        body = data[:-HASH_BYTES]
        if digest(Label.CLIENT_STATE, body) != data[-HASH_BYTES:]:
            raise ValueError("damaged")
        source = Reader(body)
        if source.u8() != _SAVE_VERSION:
            raise ValueError("another version")
        stage = Stage(source.u8())
        if source.raw(HASH_BYTES) != self._me.config.hash or source.u16() != self._me.index:
            raise ValueError("another round or client")
        for _ in range(source.u8()):
            answered = Stage(source.u8())
            self._answered[answered] = source.raw(HASH_BYTES)
        self._message = source.sized()
        self._state = _STATES[stage].read(source)
        source.end()
        return stage


def _wipe(secrets: Iterable[Secret]) -> None:
    for secret in secrets:
        secret.wipe()
