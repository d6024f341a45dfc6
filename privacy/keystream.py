"""Random words that protect something: an AES-256-CTR keystream under a key of the system's."""

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

KEY_BYTES = 32


class Keystream:
    """Words read one after another from AES-256 in counter mode (NIST SP 800-38A, section 6.5).

    One key, one stream: the counter starts at zero, so a key must not be used for anything else.
    """

    def __init__(self, key: bytes) -> None:
        """`key`: 32 bytes from `os.urandom`, or derived from such bytes."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"an AES-256 key has {KEY_BYTES} bytes, not {len(key)}")
        self._encryptor = Cipher(AES(key), CTR(bytes(16))).encryptor()

    @classmethod
    def fresh(cls) -> "Keystream":
        """A keystream that nobody has seen."""
        return cls(os.urandom(KEY_BYTES))

    def words(self, count: int) -> NDArray[np.uint64]:
        """The next `count` words, uniform on [0, 2^64)."""
        return np.frombuffer(self._encryptor.update(bytes(8 * count)), dtype="<u8")
