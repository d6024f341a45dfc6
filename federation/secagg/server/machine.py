"""The server of one round: collects messages, closes a stage when its caller decides to.

It neither waits nor times out. The caller hands in what arrives, with the sender that the
connection authenticated, and closes the stage when nobody is awaited or a deadline has passed;
whoever has not answered by then has dropped out.
"""

import hashlib

from federation.secagg.config import RoundConfig
from federation.secagg.messages import Abort, decode_from, is_abort
from federation.secagg.primitives import HASH_BYTES, Label, digest, index_bytes, verify
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.server.advertise import Advertising
from federation.secagg.server.consistency import Signing
from federation.secagg.server.masked import Masking
from federation.secagg.server.share import Sharing
from federation.secagg.server.stage import Stage
from federation.secagg.server.unmask import Aggregate, Unmasking
from federation.secagg.wire import Reader, Writer

Collecting = Advertising | Sharing | Masking | Signing | Unmasking
_STATES: dict[Stage, type[Collecting]] = {
    s.stage: s for s in (Advertising, Sharing, Masking, Signing, Unmasking)
}
_SAVE_VERSION = 1


class Server:
    """One round; not for use by several threads.

    `save` and `restore` may come between any two calls. Messages accepted after the last save are
    simply handed in again; a repetition changes nothing. After `close`, save before anything of
    `outbox` is sent: clients refuse a second version of it.
    """

    def __init__(self, config: RoundConfig) -> None:
        """Wait for advertisements."""
        self.config = config
        self.outbox: dict[int, bytes] = {}
        """What each client is to be sent in this stage; broadcasts share their bytes."""
        self.departed: dict[int, Reason] = {}
        """Clients that said they left."""
        self._state: Collecting | None = Advertising(config)
        self._end = Stage.FAILED
        self._received: dict[int, bytes] = {}

    @property
    def stage(self) -> Stage:
        """What the server is waiting for."""
        return self._state.stage if self._state else self._end

    @property
    def awaiting(self) -> frozenset[int]:
        """Clients that may still send their message of this stage."""
        if self._state is None:
            return frozenset()
        return self._state.expected() - self._received.keys() - self.departed.keys()

    @property
    def survivors(self) -> tuple[int, ...]:
        """Whose input is in the sum, once the list is settled (stages SIGNING and UNMASKING)."""
        if not isinstance(self._state, Signing | Unmasking):
            raise ValueError(f"there is no survivor list in stage {self.stage.name}")
        return self._state.sum.survivor_list

    def receive(self, sender: int, data: bytes) -> None:
        """Take a client's message.

        Args:
            sender: roster index that the connection has proved.
            data: the message.

        Raises:
            Refusal: the message is not taken and the state has not changed; the client may be told
                the reason. A repetition of an accepted message is no error.
        """
        state = self._collecting()
        if not 0 <= sender < len(self.config.roster):
            raise Refusal(Reason.NOT_ON_ROSTER, f"the roster has no place {sender}")
        if is_abort(data):
            self._depart(sender, data)
            return
        message_hash = hashlib.sha256(data).digest()
        if self._received.get(sender) == message_hash:
            return
        if sender in self._received:
            raise Refusal(Reason.SECOND_REQUEST, f"client {sender} sent another message")
        if sender in self.departed:
            raise Refusal(Reason.CLOSED, f"client {sender} has left the round")
        if sender not in state.expected():
            raise Refusal(Reason.OUT_OF_ORDER, f"client {sender} has no part in this stage")
        state.accept(sender, data)
        self._received[sender] = message_hash

    def close(self) -> None:
        """End the stage: nobody else is waited for, `outbox` holds what goes out next.

        Closing SIGNING asks the clients for the shares that open the sum.

        Raises:
            Refusal: the threat model does not allow the round to go on; it has failed.
        """
        state = self._collecting()
        if isinstance(state, Unmasking):
            raise Refusal(Reason.OUT_OF_ORDER, "the last stage is ended by `open`")
        try:
            self._state, self.outbox = state.close()
        except Refusal:
            self._finish(Stage.FAILED)
            raise
        self._received = {}

    def open(self, workers: int = 1) -> Aggregate:
        """Take the masks off the sum.

        Args:
            workers: threads that generate masks.

        Raises:
            Refusal: OUT_OF_ORDER before stage UNMASKING; otherwise the round has failed.
        """
        state = self._collecting()
        if not isinstance(state, Unmasking):
            raise Refusal(Reason.OUT_OF_ORDER, f"nothing to open in stage {self.stage.name}")
        try:
            aggregate = state.open(workers)
        except Refusal:
            self._finish(Stage.FAILED)
            raise
        self._finish(Stage.FINISHED)
        return aggregate

    def save(self) -> bytes:
        """The state. Before UNMASKING it tells no more than the server was sent; from then on it
        holds released shares, which open the sum.

        Raises:
            Refusal: CLOSED, the round is over.
        """
        state = self._collecting()
        out = Writer().u8(_SAVE_VERSION).u8(state.stage).raw(self.config.hash)
        out.u16(len(self.departed))
        for index, reason in self.departed.items():
            out.u16(index).u8(reason)
        out.u16(len(self._received))
        for index, message_hash in self._received.items():
            out.u16(index).raw(message_hash)
        distinct = list(dict.fromkeys(self.outbox.values()))
        numbers = {message: number for number, message in enumerate(distinct)}
        out.u16(len(distinct))
        for message in distinct:
            out.sized(message)
        out.u16(len(self.outbox))
        for index, message in self.outbox.items():
            out.u16(index).u16(numbers[message])
        state.write(out)
        body = out.bytes()
        return body + digest(Label.SERVER_STATE, body)

    @classmethod
    def restore(cls, data: bytes, config: RoundConfig) -> "Server":
        """Continue from what `save` returned.

        Raises:
            Refusal: OLD_STATE, damaged or another round's.
        """
        server = cls(config)
        try:
            server._load(data)
        except (Refusal, ValueError, LookupError) as error:
            raise Refusal(Reason.OLD_STATE, "the saved state cannot be used") from error
        return server

    def _load(self, data: bytes) -> None:
        body = data[:-HASH_BYTES]
        if digest(Label.SERVER_STATE, body) != data[-HASH_BYTES:]:
            raise ValueError("damaged")
        source = Reader(body)
        if source.u8() != _SAVE_VERSION:
            raise ValueError("another version")
        state = _STATES[Stage(source.u8())]
        if source.raw(HASH_BYTES) != self.config.hash:
            raise ValueError("another round")
        for _ in range(source.u16()):
            index = source.u16()
            self.departed[index] = Reason(source.u8())
        for _ in range(source.u16()):
            index = source.u16()
            self._received[index] = source.raw(HASH_BYTES)
        distinct = [source.sized() for _ in range(source.u16())]
        for _ in range(source.u16()):
            index = source.u16()
            self.outbox[index] = distinct[source.u16()]
        self._state = state.read(self.config, source)
        source.end()

    def _collecting(self) -> Collecting:
        if self._state is None:
            raise Refusal(Reason.CLOSED, f"the round has {self._end.name.lower()}")
        return self._state

    def _finish(self, end: Stage) -> None:
        self._state, self._end = None, end
        self.outbox, self._received = {}, {}

    def _depart(self, sender: int, data: bytes) -> None:
        abort = decode_from(Abort, sender, data, self.config.hash)
        statement = (self.config.hash, index_bytes(sender), bytes((abort.reason,)))
        verify(self.config.roster[sender], abort.signature, Label.ABORT, *statement)
        self.departed[sender] = abort.reason
