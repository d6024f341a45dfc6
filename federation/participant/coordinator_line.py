"""One identity's line to a coordinator: it dials out, logs in, and repeats what found nobody.

A coordinator does nothing twice that it is asked for twice, so every request may be repeated.
"""

from __future__ import annotations

import json
import random
import threading
from typing import Any
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.enrolment import SessionProof
from federation.signed import Signed
from privacy.signing import Domain, public_key_hex
from storage.settings import LOOPBACK, MEBIBYTE

ATTEMPTS = 4
FIRST_DELAY = 0.25
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
LARGEST_BODY = 256 * MEBIBYTE
LONGEST_REASON = 500
PASSING = frozenset({429, 502, 503, 504})


class CoordinatorError(Exception):
    """What a coordinator sent cannot be believed or used; the message says what."""


class UnreachableError(CoordinatorError):
    """The coordinator did not answer, after several attempts."""


class RefusedError(CoordinatorError):
    """The coordinator refused; `code` is for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class CoordinatorLine:
    """The requests of one identity to one coordinator; for one thread at a time.

    Every method that asks something raises UnreachableError, RefusedError, or CoordinatorError for
    an answer that nobody can use.
    """

    def __init__(
        self,
        url: str,
        coordinator: str,
        key: Ed25519PrivateKey,
        closing: threading.Event | None = None,
    ) -> None:
        """`coordinator` is its public key; `closing` ends waiting between attempts."""
        self.coordinator = coordinator
        self._key = key
        self._closing = closing or threading.Event()
        self._token = ""
        url = check_url(url)
        self._http = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            # A proxy that the environment names is not for this host.
            trust_env=urlsplit(url).hostname not in LOOPBACK,
        )

    @property
    def key(self) -> Ed25519PrivateKey:
        """Of the identity that logs in."""
        return self._key

    @property
    def identity(self) -> str:
        """The public key, hexadecimal."""
        return public_key_hex(self._key)

    def close(self) -> None:
        self._http.close()

    def change_key(self, key: Ed25519PrivateKey) -> None:
        """Speak as another identity from now on."""
        self._key = key
        self._token = ""

    def knows(self, key: Ed25519PrivateKey) -> bool:
        """Whether the coordinator lets this identity log in."""
        other = CoordinatorLine(str(self._http.base_url), self.coordinator, key, self._closing)
        try:
            other._log_in()
        except RefusedError:
            return False
        finally:
            other.close()
        return True

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """The body of the answer to a request of this identity; logs in when it has to.

        Args:
            seconds: how long the answer may take, if not as long as usual.
        """
        for again in (True, False):
            if not self._token:
                self._log_in()
            own = {"Authorization": f"Bearer {self._token}", **(headers or {})}
            try:
                return self.send(method, path, body, own, seconds)
            except RefusedError as error:
                if error.status != 401 or not again:
                    raise
                self._token = ""
        raise AssertionError("unreachable")

    def find(self, path: str) -> bytes | None:
        """What is at this path; None where there is nothing."""
        try:
            return self.request("GET", path)
        except RefusedError as error:
            if error.status != 404:
                raise
            return None

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> bytes:
        """As `request`, outside of any session; asked again, ever later, while nobody answers."""
        kind = "application/json" if body[:1] == b"{" else "application/octet-stream"
        given = {"Content-Type": kind, **(headers or {})}
        problem = ""
        for attempt in range(ATTEMPTS):
            # Nodes that lost the same coordinator must not all come back at once.
            delay = FIRST_DELAY * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311
            if attempt and self._closing.wait(delay):
                break
            try:
                status, data = self._once(method, path, body, given, seconds)
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
                continue
            if status in PASSING:
                problem = f"it answered {status}"
                continue
            if status >= 400:
                raise _refused(status, data)
            return data
        raise UnreachableError(
            f"the coordinator at {self._http.base_url} does not answer: {problem}"
        )

    def _log_in(self) -> None:
        asked = json.dumps({"identity": self.identity}).encode()
        answer = self.send("POST", "/v1/participant/challenges", asked)
        challenge = str(json_object(answer)["challenge"])
        proof = SessionProof(self.coordinator, self.identity, challenge)
        signed = Signed.issue(proof, Domain.SESSION, self._key)
        answer = self.send("POST", "/v1/participant/sessions", signed.to_bytes())
        self._token = str(json_object(answer)["token"])

    def _once(
        self, method: str, path: str, body: bytes, headers: dict[str, str], seconds: float | None
    ) -> tuple[int, bytes]:
        timeout = httpx.Timeout(seconds or READ_SECONDS, connect=CONNECT_SECONDS)
        request = self._http.build_request(
            method, path, content=body, headers=headers, timeout=timeout
        )
        response = self._http.send(request, stream=True)
        try:
            data = bytearray()
            for piece in response.iter_bytes():
                data += piece
                if len(data) > LARGEST_BODY:
                    raise CoordinatorError(f"an answer is longer than {LARGEST_BODY} bytes")
            return response.status_code, bytes(data)
        finally:
            response.close()


def check_url(url: str) -> str:
    """The coordinator's address without a trailing slash.

    Raises:
        ValueError: it is none, or it is plain HTTP to another host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no address; give one like https://coordinator.example")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError(f"{url} is not on this host: only https:// is accepted there")
    return url.rstrip("/")


def json_object(data: bytes) -> dict[str, Any]:
    """An answer that is one. Raises CoordinatorError if it is not."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise CoordinatorError(f"an answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CoordinatorError("an answer is not a JSON object")
    return value


def _refused(status: int, data: bytes) -> RefusedError:
    try:
        error = json.loads(data)["error"]
        return RefusedError(status, str(error["code"]), _shown(str(error["message"])))
    except (ValueError, KeyError, TypeError):
        return RefusedError(status, "http_error", f"the coordinator answered {status}")


def _shown(text: str) -> str:
    """A coordinator's words for logs and terminals, which they must not be able to drive."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:LONGEST_REASON]
    )
