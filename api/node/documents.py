"""Documents of an assistant: accepted with 202, listed, read, erased with a receipt."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Path, Query, Response, UploadFile
from pydantic import BaseModel, Field

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import ModelsDep, NodeDep, OwnedAssistant
from api.node.jobs import JobBody, job_body
from api.node.node import Models, Node
from api.node.search import PassageBody, passage_body
from retrieval import documents, jobs
from retrieval.filters import FilterError
from retrieval.jobs import Upload
from retrieval.library import UnknownAssistantError
from storage.files import new_private, sync
from storage.node_tables import Assistant, Document, JobState
from storage.settings import MEBIBYTE, NodeSettings

router = APIRouter(
    prefix="/v1/assistants/{assistant}/documents",
    tags=["Documents"],
    responses=responses(400, 401, 403, 404),
)

COPIED_AT_ONCE = MEBIBYTE
LARGEST_UPLOAD = 2_048 * MEBIBYTE
ERASE_SECONDS = 20.0
LONGEST_NAME = 500


class DocumentBody(RowBody):
    """`version` counts the uploads under one external id. Times are seconds since the epoch."""

    id: str
    external_id: str | None
    name: str
    title: str
    media_type: str
    attributes: dict[str, Any]
    bytes: int
    pages: int | None
    passages: int
    version: int
    created_at: int
    updated_at: int


class DocumentList(BaseModel):
    """`next_after` is the `after` of the next page; null on the last."""

    data: list[DocumentBody]
    next_after: str | None


class PassageList(BaseModel):
    """`next_after` is the `after` of the next page; null on the last."""

    data: list[PassageBody]
    next_after: int | None


class Erasure(BaseModel):
    ids: list[str] = Field(min_length=1, max_length=10_000)


DocumentId = Annotated[str, Path(max_length=100)]


@router.post("", status_code=202, responses=responses(413, 429, 503), max_body_size=LARGEST_UPLOAD)
def upload(
    node: NodeDep,
    models: ModelsDep,
    assistant: OwnedAssistant,
    file: Annotated[list[UploadFile], File(description="one or more files")],
    external_id: Annotated[
        list[str] | None, Form(description="your ids, one for each file, in order")
    ] = None,
    attributes: Annotated[
        str, Form(description="a JSON object for filters, given to every file")
    ] = "{}",
) -> JobBody:
    """Take files over durably; the job reads them. A known external id replaces its document."""
    _check(node, file, external_id)
    return _accept(node, models, assistant, file, external_id, _attributes(attributes))


@router.get("")
def list_documents(
    node: NodeDep,
    assistant: OwnedAssistant,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str | None, Query(max_length=100)] = None,
    external_id: Annotated[str | None, Query(max_length=LONGEST_NAME)] = None,
    filter: Annotated[str | None, Query(description="a filter as JSON")] = None,  # noqa: A002
) -> DocumentList:
    """A page of documents, newest first."""
    where = _json_object(filter, "filter") if filter is not None else {}
    if external_id is not None:
        where = {"$and": [where, {"external_id": external_id}]}
    try:
        with node.database.read() as session:
            page = documents.list_page(session, assistant.id, limit=limit, after=after, where=where)
    except FilterError as error:
        raise ApiError(400, "invalid_filter", str(error), param="filter") from error
    except KeyError as error:
        raise ApiError(
            400, "unknown_document", f"there is no document {after!r} to go on after", param="after"
        ) from error
    return DocumentList(data=[_body(*row) for row in page.documents], next_after=page.next_after)


@router.get("/{document_id}")
def get_document(node: NodeDep, assistant: OwnedAssistant, document_id: DocumentId) -> DocumentBody:
    """One document."""
    with node.database.read() as session:
        found = documents.get(session, assistant.id, document_id)
    if found is None:
        raise _unknown(document_id)
    return _body(*found)


@router.get("/{document_id}/passages")
def get_passages(
    node: NodeDep,
    assistant: OwnedAssistant,
    document_id: DocumentId,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[int, Query(ge=-1, le=2**31, description="a passage's position")] = -1,
) -> PassageList:
    """A page of what the node keeps of a document's text, in order."""
    with node.database.read() as session:
        found = documents.get(session, assistant.id, document_id)
        if found is None:
            raise _unknown(document_id)
        chunks = documents.passages(
            session, assistant.id, document_id, limit=limit + 1, after=after
        )
    shown = [passage_body(chunk, found[0]) for chunk in chunks[:limit]]
    return PassageList(data=shown, next_after=shown[-1].position if len(chunks) > limit else None)


@router.put(
    "/{document_id}", status_code=202, responses=responses(413, 429, 503),
    max_body_size=LARGEST_UPLOAD,
)  # fmt: skip
def replace_document(
    node: NodeDep,
    models: ModelsDep,
    assistant: OwnedAssistant,
    document_id: DocumentId,
    file: Annotated[UploadFile, File()],
) -> JobBody:
    """Put a file in a document's place; its attributes stay. One without an external id gets one.

    The document is served as it was until the job is done.
    """
    _check(node, [file], None)
    with node.database.write() as session:
        found = documents.get(session, assistant.id, document_id)
        if found is None:
            raise _unknown(document_id)
        document = found[0]
        if document.external_id is None:
            document.external_id = f"ext-{secrets.token_hex(8)}"
        external_id, described = document.external_id, document.attributes
    return _accept(node, models, assistant, [file], [external_id], described)


@router.delete("/{document_id}", responses={**responses(503), 202: {"model": JobBody}})
def erase_document(
    models: ModelsDep, assistant: OwnedAssistant, document_id: DocumentId, response: Response
) -> JobBody:
    """Erase a document; the finished job's `result.receipt` says what was removed.

    202 while readers of the database hold the erasure up; ask for the job again then.
    """
    return _erase(models, assistant, [document_id], response)


@router.post("/erase", responses={**responses(503), 202: {"model": JobBody}})
def erase_documents(
    models: ModelsDep, assistant: OwnedAssistant, erasure: Erasure, response: Response
) -> JobBody:
    """Erase many documents with one receipt."""
    return _erase(models, assistant, list(dict.fromkeys(erasure.ids)), response)


def _accept(
    node: Node,
    models: Models,
    assistant: Assistant,
    files: list[UploadFile],
    external_ids: list[str] | None,
    attributes: dict[str, Any],
) -> JobBody:
    """Copy files durably and record the job that reads them."""
    job_id = jobs.new_id()
    folder = models.library.upload_folder(job_id)
    try:
        uploads = [
            _store(
                folder / str(position),
                one,
                external_ids[position] if external_ids else None,
                attributes,
                node.settings,
            )
            for position, one in enumerate(files)
        ]
        sync(folder)
        sync(folder.parent)
        models.library.accept(job_id, assistant.id, uploads)
    except BaseException as error:
        # What no job knows of could be neither listed nor erased.
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, UnknownAssistantError):
            raise ApiError(404, "model_not_found", str(error)) from error
        raise
    with node.database.read() as session:
        job = jobs.get(session, job_id, [assistant.id])
    if job is None:
        raise ApiError(404, "model_not_found", "the assistant was deleted meanwhile")
    return job_body(job)


def _erase(
    models: ModelsDep, assistant: OwnedAssistant, ids: list[str], response: Response
) -> JobBody:
    try:
        job = models.library.erase(assistant.id, ids, ERASE_SECONDS)
    except KeyError as error:
        raise _unknown(str(error.args[0])) from error
    if job.state is not JobState.DONE:
        response.status_code = 202
    return job_body(job)


def _check(node: NodeDep, files: list[UploadFile], external_ids: list[str] | None) -> None:
    settings = node.settings
    if len(files) > settings.max_files_per_upload:
        raise ApiError(
            413, "too_many_files", f"send at most {settings.max_files_per_upload} files at once"
        )
    if external_ids is not None and (
        len(external_ids) != len(files) or len(set(external_ids)) != len(external_ids)
    ):
        raise ApiError(
            400, "external_ids", "give one external_id for each file, no two alike, or none",
            param="external_id",
        )  # fmt: skip
    for text in (*(external_ids or ()), *(one.filename or "" for one in files)):
        if not _is_unicode(text):
            raise ApiError(400, "not_unicode", "a name or an external_id is not valid Unicode")
    if external_ids and not all(0 < len(one) <= LONGEST_NAME for one in external_ids):
        raise ApiError(
            400, "external_ids", f"an external_id has 1 to {LONGEST_NAME} characters",
            param="external_id",
        )  # fmt: skip
    with node.database.read() as session:
        waiting = jobs.pending_bytes(session)
    if waiting + sum(one.size or 0 for one in files) > settings.max_pending_bytes:
        raise ApiError(
            429, "too_much_waiting", "uploads are waiting to be read; send more later",
            retry_after=30,
        )  # fmt: skip


def _attributes(given: str) -> dict[str, Any]:
    described = _json_object(given, "attributes")
    if not _is_unicode(json.dumps(described, ensure_ascii=False)):
        raise ApiError(400, "attributes", "attributes are not valid Unicode", param="attributes")
    for name, value in described.items():
        if not isinstance(value, str | int | float | bool | None):
            raise ApiError(
                400, "attributes", f"the attribute {name!r} is not a text, number, truth value "
                "or null", param="attributes",
            )  # fmt: skip
    if len(given) > 20_000:
        raise ApiError(400, "attributes", "attributes are longer than 20,000 characters")
    return described


def _json_object(given: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(given, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, name, f"{name} is not JSON: {error}", param=name) from error
    if not isinstance(value, dict):
        raise ApiError(400, name, f"{name} is a JSON object", param=name)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _is_unicode(text: str) -> bool:
    """Whether it can be stored: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _store(
    path: FilePath,
    file: UploadFile,
    external_id: str | None,
    attributes: dict[str, Any],
    settings: NodeSettings,
) -> Upload:
    """Copy an upload durably; one that is too large fails its item, not the others."""
    name = (file.filename or "unnamed")[-LONGEST_NAME:]
    if (file.size or 0) > settings.max_file_bytes:
        message = (
            f"{(file.size or 0) / MEBIBYTE:,.0f} MiB; at most "
            f"{settings.max_file_bytes / MEBIBYTE:,.0f} MiB are accepted"
        )
        return Upload(name, None, file.size or 0, external_id, attributes, ("too_large", message))
    size, digest = 0, hashlib.sha256()
    with new_private(path) as target:
        while piece := file.file.read(COPIED_AT_ONCE):
            digest.update(piece)
            size += target.write(piece)
    return Upload(name, path, size, external_id, attributes, content_hash=digest.digest())


def _unknown(document_id: str) -> ApiError:
    return ApiError(404, "document_not_found", f"this assistant has no document {document_id!r}")


def _body(document: Document, passages: int) -> DocumentBody:
    return DocumentBody.of(document, bytes=document.size, passages=passages)
