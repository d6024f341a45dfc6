"""A running node: its folder, database, documents and generator, opened and closed together."""

from __future__ import annotations

import contextlib
import gc
import hmac
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from pydantic import SecretStr
from sqlalchemy import select

from federation.participant.service import FederationService
from personal.service import PersonalService
from storage import keys
from storage.database import Database
from storage.home import HomeError, NodeHome
from storage.keys import NewKey
from storage.node_tables import Assistant, Key, Scope
from storage.settings import NodeSettings

if TYPE_CHECKING:
    from generation.engine import Engine
    from retrieval.embedding import Embedder
    from retrieval.library import Library
    from retrieval.search import Reranker

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Models:
    """What takes seconds to load and is there when the node is ready."""

    embedder: Embedder
    library: Library
    engine: Engine


class Node:
    """Opens the folder at once and the models when asked to; one process holds a folder."""

    def __init__(self, settings: NodeSettings) -> None:
        """Lock and open the folder.

        Raises:
            HomeError: there is no node in it, or another process holds it.
        """
        self.settings = settings
        self.home = NodeHome(settings.home)
        self.home.require()
        self._resources = contextlib.ExitStack()
        self._resources.enter_context(self.home.lock())
        # Large uploads are spooled; the spool must not leave the private folder.
        self._resources.enter_context(_temporary_folder(str(self.home.uploads)))
        self.database = Database(self.home.database)
        self._resources.callback(self.database.close)
        self.database.migrate()
        self.models: Models | None = None
        self.federation = FederationService(self.database, self.home.root)
        self.personal = PersonalService(self.database, self.home, self.federation)
        # For the owner's own command line; it is stored nowhere by the node and ends with it.
        self.session_key = SecretStr(f"{keys.PREFIX}_session_{secrets.token_urlsafe(32)}")

    def is_session_key(self, token: str) -> bool:
        """Whether `token` is this process's session key; compared in constant time."""
        own = self.session_key.get_secret_value()
        return hmac.compare_digest(token.encode(), own.encode())

    def is_fresh(self) -> bool:
        """Whether there is no assistant yet: the first `load` makes one."""
        with self.database.read() as session:
            return session.scalar(select(Assistant.id).limit(1)) is None

    def load(self, *, participate: bool = False) -> Models:
        """Load the models and open the documents. Takes some 10 s, the first time a minute.

        With `participate` the node takes part in the federations that it has joined.

        Raises:
            EmbedderError, LibraryError, EngineError: something cannot be loaded; says why.
        """
        from generation.engines import open_engine
        from retrieval.embedding import Embedder
        from retrieval.library import DEFAULT_ASSISTANT, Library
        from retrieval.parse_worker import ParseWorker
        from retrieval.parsing import ParseLimits

        settings = self.settings
        embedder = Embedder(settings.embedder)
        tokenizer = self.home.root / "tokenizer.json"
        embedder.save_tokenizer(tokenizer)
        worker = ParseWorker(ParseLimits.of(settings), tokenizer, embedder.max_tokens)
        library = Library(settings, self.database, embedder, worker, self._reranker())
        self._resources.callback(library.close)
        if self.is_fresh():
            library.create_assistant(DEFAULT_ASSISTANT)
        engine = open_engine(settings)
        self.federation.start(settings, embedder, library, engine, participate=participate)
        self.personal.start(settings, embedder, library, engine)
        # A full collection over all that a model's libraries have made would stop every thread, and
        # the event loop with them, for a tenth of a second.
        gc.collect()
        gc.freeze()
        self._resources.callback(gc.unfreeze)
        self.models = Models(embedder, library, engine)
        return self.models

    def close(self) -> None:
        self.personal.close()
        self.federation.close()
        self._resources.close()

    def _reranker(self) -> Reranker | None:
        if self.settings.reranker is None:
            return None
        from retrieval.rerank import CrossEncoderReranker

        return CrossEncoderReranker(self.settings.reranker)


def create(settings: NodeSettings) -> NewKey[Key]:
    """Make a node in the folder of `settings`; returns its first key, which sees everything.

    Raises:
        HomeError: the folder cannot be a node's, or is one already.
    """
    home = NodeHome(settings.home)
    if home.exists():
        raise HomeError(f"there is a node in {home.root} already")
    home.create()
    with home.lock():
        database = Database(home.database)
        try:
            database.migrate()
            with database.write() as session:
                return keys.create(session, "first key", Scope.OWNER, None)
        finally:
            database.close()


@contextlib.contextmanager
def _temporary_folder(folder: str) -> Iterator[None]:
    before = tempfile.tempdir
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
