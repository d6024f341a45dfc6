"""One measured comparison, and how it is shown."""

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pysqlite3.dbapi2 as sqlite
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Options:
    """What a benchmark is asked for."""

    full: bool = False
    """Measure the peers at full size, where the default is to scale or reuse a result."""
    quick: bool = False
    """Measure a smaller case, in a minute or two."""
    data: Path | None = None
    """Where data sets lie, one folder each with corpus.jsonl.gz and queries.jsonl.gz."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of ours, beside a peer's where there is one.

    `metric` names what is measured with its unit ("wall time, s"); `peer_name` carries the peer's
    version and anything that makes its number less than a direct measurement.
    """

    benchmark: str
    case: str
    metric: str
    ours: float
    peer: float | None = None
    peer_name: str | None = None
    better: Literal["lower", "higher"] = "lower"

    @property
    def ratio(self) -> float | None:
        """How many times better we are than the peer; above 1 means that we are better."""
        if self.peer is None:
            return None
        worse, best = (self.peer, self.ours) if self.better == "lower" else (self.ours, self.peer)
        return worse / best if best else None

    def as_json(self) -> str:
        """One line of JSON."""
        return json.dumps(
            {
                "benchmark": self.benchmark,
                "case": self.case,
                "metric": self.metric,
                "ours": self.ours,
                "peer": self.peer,
                "peer_name": self.peer_name,
                "ratio": self.ratio,
            }
        )


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The shortest wall time of `repeats` calls, the one least disturbed by the machine."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def versioned(distribution: str) -> str:
    """Name and installed version of a peer, for `Row.peer_name`."""
    return f"{distribution} {importlib.metadata.version(distribution)}"


DISTRIBUTIONS = (
    "alcove", "torch", "transformers", "sentence-transformers", "peft", "faiss-cpu", "fastapi",
    "uvicorn", "SQLAlchemy", "numpy", "scipy", "cryptography",
)  # fmt: skip
"""Those that the numbers depend on most."""


def header() -> str:
    """The machine and the versions that the numbers belong to, on one line."""
    return ", ".join(
        [
            f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
            f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} CPUs ({_processor()})",
            f"SQLite {sqlite.sqlite_version}",
            *(versioned(name) for name in DISTRIBUTIONS),
        ]
    )


def _processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "processor unknown")


def print_table(name: str, rows: Iterable[Row], console: Console) -> None:
    """Show rows for people."""
    table = Table("case", "metric", "ours", "peer", "peer's name", "ratio", title=name)
    for row in rows:
        table.add_row(
            row.case,
            row.metric,
            _number(row.ours),
            _number(row.peer),
            row.peer_name or "",
            _number(row.ratio),
        )
    console.print(table)
    console.print(header(), highlight=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
