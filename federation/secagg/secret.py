"""Bytes that must not be printed, compared or kept longer than needed."""


class Secret:
    """A secret byte string that shows nothing in a log and can be overwritten.

    Overwriting clears this copy only. Python may have made others that it cannot be made to clear:
    slices, integers of the sharing polynomial, the buffers of the cryptographic library.
    """

    __slots__ = ("_bytes",)

    def __init__(self, value: bytes) -> None:
        self._bytes = bytearray(value)

    def reveal(self) -> bytes:
        """A copy of the bytes.

        Raises:
            ValueError: the secret was wiped.
        """
        if not self._bytes:
            raise ValueError("this secret was wiped")
        return bytes(self._bytes)

    def wipe(self) -> None:
        """Overwrite the bytes with zeros and forget their number."""
        self._bytes[:] = bytes(len(self._bytes))
        self._bytes.clear()

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is saved only inside a client's state")
