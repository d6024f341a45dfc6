"""The lexical index of one assistant: an FTS5 table over its passages, ranked by BM25.

Each assistant has its own table: word statistics of one must not shift the scores of another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Select,
    column,
    insert,
    select,
    table,
    text,
)
from sqlalchemy.orm import Session

from storage.node_tables import Chunk, Document

# The words that half of all English questions consist of; dropping them makes a query several
# times faster and slightly better.
STOP_WORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have how i if in "
    "into is it its may me my of on or our shall should so such than that the their them then "
    "there these they this those to was we were what when where which who whom whose why will "
    "with would you your".split()
)
_WORD = re.compile(r"\w+")
# A page of text is no question; each further word makes a search slower.
MAX_WORDS = 64


def name(assistant_id: int) -> str:
    """The table of an assistant."""
    return f"lexical_{int(assistant_id)}"


def create(session: Session, assistant_id: int) -> None:
    """Make the table; `secure-delete` overwrites the words of removed passages (FTS5)."""
    own = name(assistant_id)
    session.execute(
        text(
            f"CREATE VIRTUAL TABLE {own} USING fts5(heading, text, content='chunk', "
            "content_rowid='id', tokenize=\"porter unicode61 remove_diacritics 2\")"
        )
    )
    session.execute(text(f"INSERT INTO {own}({own}, rank) VALUES('secure-delete', 1)"))


def drop(session: Session, assistant_id: int) -> None:
    session.execute(text(f"DROP TABLE {name(assistant_id)}"))


def add(session: Session, assistant_id: int, chunks: Sequence[Chunk]) -> None:
    """Index passages that stand in the database."""
    rows = [{"rowid": chunk.id, "heading": chunk.heading, "text": chunk.text} for chunk in chunks]
    own = table(name(assistant_id), column("rowid"), column("heading"), column("text"))
    if rows:
        session.execute(insert(own), rows)


def remove(session: Session, assistant_id: int, document_id: str) -> None:
    """Take a document's passages out of the index, before their rows are deleted.

    FTS5 keeps no copy of the text here, so it must be told what to remove.
    """
    own = name(assistant_id)
    session.execute(
        text(
            f"INSERT INTO {own}({own}, rowid, heading, text) "  # noqa: S608
            "SELECT 'delete', id, heading, text FROM chunk "
            "WHERE document_id = :document AND assistant_id = :assistant"
        ),
        {"document": document_id, "assistant": assistant_id},
    )


def rebuild(session: Session, assistant_id: int) -> None:
    """Make the index anew from the passages in the database.

    `secure-delete` takes a removed word out of the pages of the index, but not out of the keys
    between them, which are words too (the table `_idx`).
    """
    own = name(assistant_id)
    session.execute(text(f"INSERT INTO {own}({own}) VALUES('delete-all')"))
    session.execute(
        text(
            f"INSERT INTO {own}(rowid, heading, text) "  # noqa: S608
            "SELECT id, heading, text FROM chunk WHERE assistant_id = :assistant ORDER BY id"
        ),
        {"assistant": assistant_id},
    )


def expression(question: str, *, text_only: bool = False) -> str | None:
    """The FTS5 query that any of the question's telling words matches; None without words."""
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(question)))
    telling = [word for word in words if word not in STOP_WORDS] or words
    if not telling:
        return None
    any_of = " OR ".join(f'"{word}"' for word in telling[:MAX_WORDS])
    return f"text : ({any_of})" if text_only else any_of


def ranking(
    assistant_id: int, match: str, documents: ColumnElement[bool] | None = None
) -> Select[int, float]:
    """Rows (chunk id, BM25 score), best first, of passages of the documents that `documents`
    allows (None: of all); the caller limits them.
    """
    own = table(name(assistant_id), column("rowid", Integer), column("rank", Float))
    matching = text(f"{name(assistant_id)} MATCH :match").bindparams(match=match)
    found = select(own.c.rowid, -own.c.rank).where(matching).order_by(own.c.rank, own.c.rowid)
    if documents is None:
        return found
    # Only where it must, since a look-up for each match doubles the time.
    return found.join(Chunk, Chunk.id == own.c.rowid).join(Document).where(documents)
