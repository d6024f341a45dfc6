"""Adapters of an assistant as files, out of the node and into it, where its owner allows that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from safetensors.numpy import load, save
from sqlalchemy import select
from sqlalchemy.orm import undefer

from federation.adapter_spec import AdapterKind
from federation.participant.adoption import ServedLora, ServedMap
from federation.participant.base_models import BaseModel
from federation.participant.service import FederationService
from generation import adapter_files
from generation.adapter_files import combine, read_lora
from personal import versions
from retrieval import query_map_files
from retrieval.query_map import QueryMap
from retrieval.query_map_files import read_query_map
from storage.database import Database
from storage.example_tables import PersonalKind, PersonalState, PersonalVersion

LARGEST = {**adapter_files.LARGEST, **query_map_files.LARGEST}
"""Bytes of each file that is accepted, by its name."""


class Which(StrEnum):
    """Which adapter is exported; both as one, whose update is the sum of theirs."""

    SHARED = "shared"
    PERSONAL = "personal"
    BOTH = "both"


class NotServedError(LookupError):
    """There is no adapter of that kind in use."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Files of an adapter by their names, and the personal version in them, if any."""

    files: Mapping[str, bytes] = field(repr=False)
    version: int | None


class AdapterExchange:
    """Reads and stores adapters of one node. Safe in any thread."""

    def __init__(self, database: Database, federation: FederationService) -> None:
        """`federation` knows the models and the shared adapters in use."""
        self._database = database
        self._federation = federation

    def export(self, assistant_id: int, kind: PersonalKind, which: Which) -> Exported:
        """The files of what is in use: `query_map_files` of a retriever, PEFT's of a generator.

        Raises:
            NotServedError: there is none, or for `BOTH` only one of them.
        """
        model = self._model(kind)
        row = None if which is Which.SHARED else self._served(assistant_id, kind)
        if kind is PersonalKind.RETRIEVER:
            files = self._query_map_files(model, row, which)
        else:
            files = self._lora_files(model, row, which)
        return Exported(files, None if row is None else row.id)

    def store(self, assistant_id: int, files: Mapping[str, bytes]) -> PersonalVersion:
        """Keep an adapter as a personal version, which is served once its owner chooses it.

        Args:
            files: by their names, which also tell the kind; see `LARGEST`.

        Raises:
            ValueError: they are no adapter, or one for another model.
            NotServedError: they are for a generator that is on another server.
        """
        kind = (
            PersonalKind.GENERATOR
            if files.keys() & adapter_files.LARGEST.keys()
            else PersonalKind.RETRIEVER
        )
        model = self._model(kind)
        if kind is PersonalKind.RETRIEVER:
            config, parameters = self._read_query_map(model, files)
        else:
            config, parameters = _read_lora(model, files)
        row = PersonalVersion(
            assistant_id=assistant_id,
            kind=kind,
            state=PersonalState.KEPT,
            config={**config, "imported": True},
            parameters=parameters,
            examples=0,
        )
        with self._database.write() as session:
            session.add(row)
            session.flush()
            versions.remove_oldest(session, row)
            session.refresh(row)
        return row

    def _query_map_files(
        self, model: BaseModel, row: PersonalVersion | None, which: Which
    ) -> dict[str, bytes]:
        if row is None:
            made = self._shared_map().query_map
        else:
            made = QueryMap(**load(row.parameters))
            if which is Which.BOTH:
                shared = self._shared_map()
                _check_beside(row, shared.name)
                # On one basis the sum of W is the sum of maps.
                made = QueryMap(made.basis, shared.query_map.weights + made.weights)
        return query_map_files.query_map_files(made, model.identity)

    def _lora_files(
        self, model: BaseModel, row: PersonalVersion | None, which: Which
    ) -> dict[str, bytes]:
        if row is None:
            made = self._served_lora().lora
        else:
            made = versions.lora_of(row)
            if which is Which.BOTH:
                shared = self._served_lora()
                _check_beside(row, shared.name)
                made = combine(shared.lora, made)
        return replace(made, base_model=model.identity).files()

    def _read_query_map(
        self, model: BaseModel, files: Mapping[str, bytes]
    ) -> tuple[dict[str, Any], bytes]:
        query_map = read_query_map(files, model.identity)
        if query_map.dimension != model.dimension:
            raise ValueError(f"the embedder's vectors have {model.dimension} dimensions")
        served = self._federation.shared_map
        if served is not None and served.query_map.basis.tobytes() != query_map.basis.tobytes():
            raise ValueError("the query map is on another basis than the shared one in use")
        parameters = save({"basis": query_map.basis, "weights": query_map.weights})
        return {"model": model.identity}, parameters

    def _shared_map(self) -> ServedMap:
        served = self._federation.shared_map
        if served is None:
            raise NotServedError("no shared query map is in use")
        return served

    def _served_lora(self) -> ServedLora:
        served = self._federation.shared_lora
        if served is None:
            raise NotServedError("no shared generator adapter is in use")
        return served

    def _served(self, assistant_id: int, kind: PersonalKind) -> PersonalVersion:
        query = (
            select(PersonalVersion)
            .where(
                PersonalVersion.assistant_id == assistant_id,
                PersonalVersion.kind == kind,
                PersonalVersion.state == PersonalState.SERVED,
            )
            .options(undefer(PersonalVersion.parameters))
        )
        with self._database.read() as session:
            row = session.scalars(query).one_or_none()
        if row is None:
            raise NotServedError(f"the assistant has no personal {kind} adapter in use")
        return row

    def _model(self, kind: PersonalKind) -> BaseModel:
        model = self._federation.base_models().get(AdapterKind(kind.value))
        if model is None:
            raise NotServedError("the generator is on another server and takes no adapters")
        return model


def _check_beside(row: PersonalVersion, shared: str) -> None:
    if row.shared != shared:
        raise NotServedError("the personal adapter belongs beside another shared version")


def _read_lora(model: BaseModel, files: Mapping[str, bytes]) -> tuple[dict[str, Any], bytes]:
    from generation.adapter_training import describe_modules
    from generation.weights import find_model

    lora = read_lora(files)
    if not _is_same_model(lora.base_model, model.identity):
        raise ValueError(f"the adapter is for {lora.base_model!r}, and this is {model.identity!r}")
    location = find_model(model.source).location
    lora.check_fits(describe_modules(location, sorted(lora.factors)))
    made = replace(lora, base_model=model.identity)
    return {"model": model.identity, "adapter_config": made.config()}, made.tensors()


def _is_same_model(said: str, identity: str) -> bool:
    """A hub's id or a folder counts by its last part, weights by their hash where it is given."""
    name, _, digest = said.rstrip("/").rpartition("/")[2].partition("@")
    own_name, _, own_digest = identity.rpartition("/")[2].partition("@")
    return name.lower() == own_name.lower() and digest in ("", own_digest)
