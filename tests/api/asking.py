"""Questions over HTTP that must be answered, and requests that must not."""

from __future__ import annotations

from typing import Any

import httpx


def refused(answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    message: str = answer.json()["error"]["message"]
    return message


def ask(client: httpx.Client, assistant: str, question: str, **fields: Any) -> httpx.Response:
    headers = fields.pop("headers", {})
    body = {"model": assistant, "messages": [{"role": "user", "content": question}], **fields}
    answer = client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer
