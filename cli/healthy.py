"""The image's health check, `python -m cli.healthy`: 0 if a server answers, whatever its role."""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from storage.home import ServedHome

HOMES = ("ALCOVE_HOME", "ALCOVE_COORDINATOR_HOME")
SECONDS = 4.0


def is_healthy(homes: Iterable[Path]) -> bool:
    """Whether a server answers where one of these folders says that one listens."""
    for home in homes:
        with suppress(OSError, ValueError, KeyError):
            at = json.loads(ServedHome(home).address.read_text())
            trust = _trust(at["certificate"])
            with urlopen(f"{at['url']}/health", timeout=SECONDS, context=trust):  # noqa: S310
                return True
    return False


def _trust(certificate: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    from cli.client import pinned  # slow, and seldom needed

    return pinned(certificate)


if __name__ == "__main__":
    sys.exit(0 if is_healthy(Path(os.environ[name]) for name in HOMES if name in os.environ) else 1)
