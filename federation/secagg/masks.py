"""Masks: AES-256 keystreams added to and taken from vectors modulo 2^32.

PRG(key) is the keystream of AES-256-CTR from counter zero (NIST SP 800-38A, section 6.5), read as
little-endian 32-bit words. Each key generates one mask and is used for nothing else.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from federation.secagg.secret import Secret

WORD_BYTES = 4
_BLOCK_BYTES = 16
_CHUNK = 1 << 16
"""Words generated at a time: a mask and the part of the vector it goes to stay in the cache."""


@dataclass(frozen=True)
class Mask:
    """One mask of the vector's length: its key, and whether it is added or subtracted."""

    key: Secret
    add: bool


def apply_masks(vector: NDArray[np.uint32], masks: Sequence[Mask], workers: int = 1) -> None:
    """Add and subtract all masks in place, modulo 2^32.

    Args:
        vector: shape (d,), uint32, contiguous.
        masks: any number of them; memory does not grow with it.
        workers: threads, each with its own part of the vector (AES releases the interpreter lock).
    """
    starts = range(0, len(vector), _CHUNK)
    if workers == 1 or len(starts) == 1:
        for start in starts:
            _apply_to_chunk(vector[start : start + _CHUNK], start, masks)
        return
    with ThreadPoolExecutor(workers) as pool:
        parts = [
            pool.submit(_apply_to_chunk, vector[start : start + _CHUNK], start, masks)
            for start in starts
        ]
    for part in parts:
        part.result()


def _apply_to_chunk(chunk: NDArray[np.uint32], start: int, masks: Sequence[Mask]) -> None:
    """`chunk` begins at word `start` of the vector, hence at block start / 4 of each keystream."""
    counter = CTR((start * WORD_BYTES // _BLOCK_BYTES).to_bytes(_BLOCK_BYTES))
    zeros = bytes(len(chunk) * WORD_BYTES)
    buffer = bytearray(len(zeros))
    words = np.frombuffer(buffer, dtype="<u4")
    for mask in masks:
        Cipher(AES(mask.key.reveal()), counter).encryptor().update_into(zeros, buffer)
        operation = np.add if mask.add else np.subtract
        operation(chunk, words, out=chunk)
