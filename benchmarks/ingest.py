"""Passages stored per second, beside a bare `SentenceTransformer.encode` of the same text.

Ours includes everything after parsing: vectors, rows, lexical and dense index, each document
durable on its own. Parsing and chunking run in another process and are reported apart.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from sqlalchemy import select

from benchmarks.report import Options, Row, versioned
from retrieval import jobs
from retrieval.embedding import Embedder
from retrieval.jobs import Upload
from retrieval.library import Library
from retrieval.parse_worker import ChunkedDocument, ParseWorker
from retrieval.parsing import ParseLimits
from storage.database import Database
from storage.home import NodeHome
from storage.node_tables import Job
from storage.settings import NodeSettings

SEED = 7
DOCUMENTS = 120
QUICK_DOCUMENTS = 20
REPEATS = 3
"""In turn; of each side the one least disturbed by the machine."""
WORDS = (
    "river stone harbour ledger window copper letter garden engine market winter planet signal "
    "doctor island border silver record forest bridge candle number season teacher valley metal "
    "paper question answer method process travel money water history music science school report"
).split()


class _ParsedAlready:
    """Hands out documents that were parsed before, so that parsing costs this run nothing."""

    def __init__(self, parsed: dict[str, ChunkedDocument]) -> None:
        self._parsed = parsed

    def parse(self, _path: Path, name: str) -> ChunkedDocument:
        return self._parsed[name]

    def close(self) -> None:
        pass


def run(options: Options) -> Iterator[Row]:
    """Parse, then embed bare, then ingest."""
    embedder = Embedder()
    with tempfile.TemporaryDirectory() as folder:
        files = _write(Path(folder), QUICK_DOCUMENTS if options.quick else DOCUMENTS)
        tokenizer = Path(folder) / "tokenizer.json"
        embedder.save_tokenizer(tokenizer)
        limits = ParseLimits.of(NodeSettings(home=Path(folder)))
        with ParseWorker(limits, tokenizer, embedder.max_tokens) as worker:
            worker.parse(files[0], files[0].name)
            start = time.perf_counter()
            parsed = {file.name: worker.parse(file, file.name) for file in files}
            parsing = time.perf_counter() - start
        texts = [chunk.embedded_text for one in parsed.values() for chunk in one.chunks]
        embedder.passages(texts[:64])
        bare = ours = 0.0
        for turn in range(REPEATS):
            start = time.perf_counter()
            embedder.passages(texts)
            bare = max(bare, len(texts) / (time.perf_counter() - start))
            home = Path(folder) / f"home-{turn}"
            ours = max(ours, len(texts) / _ingest(home, embedder, files, parsed))
    case = f"documents={len(files)} passages={len(texts)}"
    peer = f"bare encode, {versioned('sentence-transformers')}"
    yield Row("ingest", case, "passages stored per second", ours, bare, peer, better="higher")
    yield Row("ingest", case, "passages parsed per second", len(texts) / parsing, better="higher")


def _ingest(
    home: Path, embedder: Embedder, files: list[Path], parsed: dict[str, ChunkedDocument]
) -> float:
    """Seconds from the acceptance of the upload to the end of its job."""
    NodeHome(home).create()
    database = Database(NodeHome(home).database)
    database.migrate()
    parser = cast(ParseWorker, _ParsedAlready(parsed))
    library = Library(NodeSettings(home=home), database, embedder, parser)
    assistant = library.create_assistant("default")
    job_id = jobs.new_id()
    uploads = library.upload_folder(job_id)
    given = []
    for position, file in enumerate(files):
        (uploads / str(position)).write_bytes(file.read_bytes())
        given.append(Upload(file.name, uploads / str(position), file.stat().st_size))
    start = time.perf_counter()
    library.accept(job_id, assistant.id, given)
    while True:
        with database.read() as session:
            if session.scalar(select(Job.finished_at).where(Job.id == job_id)) is not None:
                break
        time.sleep(0.05)
    seconds = time.perf_counter() - start
    library.close()
    database.close()
    return seconds


def _write(folder: Path, count: int) -> list[Path]:
    """Markdown files of some five passages each, of very different lengths."""
    chosen = random.Random(SEED)
    files = []
    for number in range(count):
        sections = [f"# Document {number}"]
        for section in range(5):
            words = " ".join(chosen.choices(WORDS, k=chosen.randint(40, 200)))
            sections.append(f"## Section {section}\n\n{words}.")
        file = folder / f"{number}.md"
        file.write_text("\n\n".join(sections))
        files.append(file)
    return files
