"""Reading and writing bytes: big-endian fields, every length checked before anything is taken."""

import struct
from collections.abc import Iterator

from federation.secagg.refusal import Reason, Refusal


class Writer:
    """Fields one after another."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def u8(self, value: int) -> "Writer":
        return self._packed(">B", value)

    def u16(self, value: int) -> "Writer":
        return self._packed(">H", value)

    def u32(self, value: int) -> "Writer":
        return self._packed(">I", value)

    def u64(self, value: int) -> "Writer":
        return self._packed(">Q", value)

    def raw(self, value: bytes) -> "Writer":
        """Bytes whose length the reader knows."""
        self._parts.append(value)
        return self

    def sized(self, value: bytes) -> "Writer":
        """Bytes behind their 32-bit length."""
        return self.u32(len(value)).raw(value)

    def bytes(self) -> bytes:
        """All that was written."""
        return b"".join(self._parts)

    def _packed(self, form: str, value: int) -> "Writer":
        self._parts.append(struct.pack(form, value))
        return self


class Reader:
    """Takes fields from bytes that nobody vouches for; a bad length is a Refusal (MALFORMED)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def u8(self) -> int:
        return self.raw(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.raw(2))

    def u32(self) -> int:
        return int.from_bytes(self.raw(4))

    def u64(self) -> int:
        return int.from_bytes(self.raw(8))

    def raw(self, length: int) -> bytes:
        """The next `length` bytes."""
        if length > self.left:
            raise malformed(f"{length} bytes expected, {self.left} left")
        self._position += length
        return self._data[self._position - length : self._position]

    def sized(self) -> bytes:
        """Bytes behind their 32-bit length."""
        return self.raw(self.u32())

    def rising(self, entry_bytes: int) -> Iterator[int]:
        """Yield the 16-bit index that each entry of a counted list begins with.

        The count must fit what is left, with `entry_bytes` for each entry including its index, and
        the indices must rise, which forbids repetition and gives every list one encoding. The
        caller takes the rest of the entry before the next one.
        """
        count = self.u16()
        if count * entry_bytes > self.left:
            raise malformed(f"{count} entries do not fit {self.left} bytes")
        last = -1
        for _ in range(count):
            index = self.u16()
            if index <= last:
                raise malformed("indices must rise")
            last = index
            yield index

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return len(self._data) - self._position

    def end(self) -> None:
        """Refuse bytes behind the last field."""
        if self.left:
            raise malformed(f"{self.left} bytes too many")


def malformed(detail: str) -> Refusal:
    """The refusal of bytes that do not parse."""
    return Refusal(Reason.MALFORMED, detail)
