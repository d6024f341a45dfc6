"""OpenAI's shapes of a chat: what is asked, and what comes back at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from api.errors import ApiError
from generation.engine import Role

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


StopString = Annotated[str, Field(max_length=200)]


class ContentPart(BaseModel):
    type: str
    text: str | None = None


class ChatMessage(BaseModel):
    """A turn; `developer` is the newer name of `system`. Turns of tools are left out."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None

    def text(self) -> str:
        """The text parts, one below the other.

        Raises:
            ApiError: a part is not text.
        """
        if isinstance(self.content, list):
            if any(part.type != "text" or part.text is None for part in self.content):
                raise ApiError(
                    400, "unsupported_content", "only text parts can be read", param="messages"
                )
            return "\n".join(part.text or "" for part in self.content)
        return self.content or ""


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """OpenAI's fields that apply; others are ignored. Ours: `filter` (as in /v1/search) and
    `use_context` (false: answer without documents)."""

    model: str = Field(max_length=300)
    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    n: int | None = None
    use_context: bool = True
    filter: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_question(self) -> ChatRequest:
        if self.n not in (None, 1):
            raise ValueError("n: one choice is made for each request")
        if self.messages[-1].role != "user":
            raise ValueError("messages: the last message is the user's")
        return self


class Source(BaseModel):
    """A passage that the answer may stand on; `url` is below the server's address."""

    number: int
    chunk_id: str
    document_id: str
    title: str
    heading: str
    page: int | None
    text: str
    score: float
    url: str


class UrlCitation(BaseModel):
    start_index: int
    end_index: int
    url: str
    title: str


class Annotation(BaseModel):
    type: Literal["url_citation"] = "url_citation"
    url_citation: UrlCitation


class AnswerMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    annotations: list[Annotation]


class Choice(BaseModel):
    index: Literal[0] = 0
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class CompletionUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    sources: list[Source]
