"""Documents made of words that nothing else holds, to be looked for in the bytes of a node."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import select

from storage.node_tables import Chunk
from tests.nodes import Node

# Neither English nor hexadecimal, so that a piece of a word stands nowhere by chance.
RARE_LETTERS = "hjkpqvwxyz"
WORD_LETTERS = 16
# Shorter ones stand by chance in the words that other tests plant in the same database.
PIECE_LETTERS = 9
VECTOR_PIECE_BYTES = 16
VECTOR_STRIDE_BYTES = 64


@dataclass
class Planted:
    """What may give such documents away: their words, hashes and vectors."""

    rng: random.Random
    words: list[str] = field(default_factory=list)
    blobs: set[bytes] = field(default_factory=set)

    def word(self) -> str:
        self.words.append("".join(self.rng.choices(RARE_LETTERS, k=WORD_LETTERS)).capitalize())
        return self.words[-1]

    def text(self, sections: int = 3) -> bytes:
        """A text whose headings and sentences are made of such words."""
        parts = [
            f"# {self.word()}\n\nThe {self.word()} of {self.word()} met {self.word()} on Monday.\n"
            for _ in range(sections)
        ]
        content = "\n".join(parts).encode()
        self.blobs.add(hashlib.sha256(content).digest())
        return content

    def remember_vectors(self, node: Node, document_id: str) -> None:
        """Its vectors as the database and an index of either kind hold them."""
        with node.database.read() as session:
            own = select(Chunk.vector).where(Chunk.document_id == document_id)
            vectors = [np.frombuffer(blob, "<f4") for blob in session.scalars(own)]
        assert vectors
        for vector in vectors:
            for content in (vector.tobytes(), vector.astype(np.float16).tobytes()):
                for at in range(0, len(content), VECTOR_STRIDE_BYTES):
                    self.blobs.add(content[at : at + VECTOR_PIECE_BYTES])

    def needles(self) -> set[bytes]:
        """Hashes, pieces of vectors and all pieces of words: an index may cut a word anywhere."""
        return self.blobs | {piece for word in self.words for piece in pieces(word)}

    def whole(self) -> set[bytes]:
        return {word.encode() for word in self.words}


def pieces(word: str) -> Iterator[bytes]:
    for start in range(len(word) - PIECE_LETTERS + 1):
        yield word[start : start + PIECE_LETTERS].encode()
