"""POST /v1/embeddings: the node's embedder, in OpenAI's shape."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.errors import ApiError, responses
from api.node.auth import Caller, ModelsDep, NodeDep, visible

router = APIRouter(
    prefix="/v1/embeddings", tags=["OpenAI"], responses=responses(400, 401, 404, 503)
)

MOST_INPUTS = 2048
Text = Annotated[str, Field(min_length=1, max_length=1_000_000)]
Token = Annotated[int, Field(ge=0)]


class EmbeddingRequest(BaseModel):
    """`model` is the embedder's name or an assistant's."""

    model: str = Field(max_length=300)
    input: Text | list[Text] | list[Token] | list[list[Token]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


@router.post("", response_model=EmbeddingList)
def embed(node: NodeDep, models: ModelsDep, caller: Caller, request: EmbeddingRequest) -> Response:
    """Unit vectors of texts; base64 is of little-endian float32."""
    embedder = models.embedder
    if request.model != embedder.name:
        with node.database.read() as session:
            visible(session, caller, request.model)
    if request.dimensions not in (None, embedder.dimension):
        raise ApiError(
            400,
            "dimensions",
            f"the embedder's vectors have {embedder.dimension} dimensions",
            param="dimensions",
        )
    texts = _texts(request)
    vectors = embedder.passages(texts)
    tokens = embedder.count_tokens(texts)
    usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
    frame = EmbeddingList(model=request.model, data=[], usage=usage).model_dump_json()
    # A large answer takes a while to spell: in this thread, and one vector at a time, since one
    # call would keep the interpreter from the event loop for as long.
    data = ",".join(
        Embedding(
            index=index,
            embedding=base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if request.encoding_format == "base64"
            else vector.tolist(),
        ).model_dump_json()
        for index, vector in enumerate(vectors)
    )
    return Response(frame.replace('"data":[]', f'"data":[{data}]'), media_type="application/json")


def _texts(request: EmbeddingRequest) -> list[str]:
    given = [request.input] if isinstance(request.input, str) else request.input
    texts = [item for item in given if isinstance(item, str)]
    if len(texts) != len(given):
        raise ApiError(
            400,
            "token_input",
            "input is token ids, which mean nothing to this embedder: send text "
            "(LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)",
            param="input",
        )
    if not 1 <= len(texts) <= MOST_INPUTS:
        raise ApiError(
            400, "inputs", f"send 1 to {MOST_INPUTS} texts, not {len(texts)}", param="input"
        )
    return texts
