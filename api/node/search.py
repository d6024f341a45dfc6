"""POST /v1/search: passages of one assistant, and the passages that citations name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from api.bodies import RowBody
from api.errors import ApiError, responses
from api.node.auth import Caller, ModelsDep, NodeDep, unknown_assistant, visible
from api.node.node import Models
from retrieval import documents
from retrieval.filters import FilterError
from retrieval.search import MAX_RESULTS, Hit
from storage.node_tables import Assistant, Chunk, Document

router = APIRouter(prefix="/v1", tags=["Search"], responses=responses(400, 401, 404))

LONGEST_QUESTION = 10_000


class SearchRequest(BaseModel):
    """`filter` is {"field": value} or {"field": {"$op": operand}} with $and and $or around them;
    fields are id, external_id, name, title, media_type, created_at, updated_at and the
    attributes given at upload; operators $eq $ne $in $nin $gt $gte $lt $lte $contains."""

    assistant: str = Field(default="default", max_length=100)
    query: str = Field(min_length=1, max_length=LONGEST_QUESTION)
    limit: int = Field(default=10, ge=1, le=MAX_RESULTS)
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    filter: dict[str, Any] | None = None


class PassageBody(RowBody):
    """A passage; `page` counts from 1, `position` within the document from 0."""

    chunk_id: str
    document_id: str
    external_id: str | None
    name: str
    title: str
    heading: str
    page: int | None
    position: int
    text: str


class Result(PassageBody):
    """`dense` is the cosine, `lexical` the BM25 score; results are ordered by `score`."""

    score: float
    dense: float
    lexical: float


class SearchResults(BaseModel):
    object: Literal["list"] = "list"
    data: list[Result]


@router.post("/search", responses=responses(503))
def search(
    node: NodeDep, models: ModelsDep, caller: Caller, request: SearchRequest
) -> SearchResults:
    """The passages that fit a question best."""
    with node.database.read() as session:
        assistant = visible(session, caller, request.assistant)
    hits = find(models, assistant, request.query, request.limit, request.filter, request.mode)
    return SearchResults(data=[result(hit) for hit in hits])


@router.get("/passages/{chunk_id}")
def get_passage(
    node: NodeDep, caller: Caller, chunk_id: Annotated[str, Path(max_length=100)]
) -> PassageBody:
    """A passage by the id that a citation gave."""
    with node.database.read() as session:
        found = documents.passage(session, caller.assistant_ids, chunk_id)
    if found is None:
        raise ApiError(404, "passage_not_found", f"there is no passage {chunk_id!r} for this key")
    return passage_body(*found)


def find(
    models: Models,
    assistant: Assistant,
    query: str,
    limit: int,
    where: dict[str, Any] | None,
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid",
) -> list[Hit]:
    """Search on behalf of an endpoint: what is wrong with a filter becomes a 400, and an assistant
    that is deleted meanwhile a 404."""
    try:
        return models.library.searcher.search(assistant.id, query, k=limit, mode=mode, where=where)
    except FilterError as error:
        raise ApiError(400, "invalid_filter", str(error), param="filter") from error
    except KeyError as error:
        raise unknown_assistant(assistant.name) from error


def result(hit: Hit) -> Result:
    return Result.of(hit)


def passage_body(chunk: Chunk, document: Document) -> PassageBody:
    return PassageBody.of(
        chunk,
        chunk_id=chunk.public_id,
        document_id=document.id,
        external_id=document.external_id,
        name=document.name,
        title=document.title,
    )
