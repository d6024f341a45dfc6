"""What code is running: the commit and the hash of the installed versions, for the ledger."""

from __future__ import annotations

import hashlib
import re
import subprocess
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

UNKNOWN_COMMIT = "0" * 40
ROOT = Path(__file__).parents[2]


@cache
def code_commit() -> str:
    """The commit of the checkout that this package stands in; zeros if it stands in none."""
    if not (ROOT / ".git").exists():
        return UNKNOWN_COMMIT
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN_COMMIT
    commit = done.stdout.strip()
    return commit if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit) else UNKNOWN_COMMIT


@cache
def lock_hash() -> str:
    """SHA-256 of the sorted lines `name==version` of everything that is installed."""
    found = {f"{d.name.lower().replace('_', '-')}=={d.version}" for d in distributions()}
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(found)).encode()).hexdigest()
