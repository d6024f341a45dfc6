"""`python -m benchmarks NAME [--json]`: measure one part of Alcove beside its peers."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

from rich.console import Console

import benchmarks
from benchmarks.report import Options, Row, header, print_table


class Benchmark(Protocol):
    """What a module of this package offers."""

    def run(self, options: Options) -> Iterator[Row]:
        """Yield each row as soon as it has been measured."""


def main(arguments: list[str]) -> None:
    """Run the benchmark that the arguments name."""
    framework = {
        "__main__", "generator_answers", "kept", "participants", "personal_clients",
        "personal_generator", "report", "utility_plot",
    }  # fmt: skip
    names = sorted({m.name for m in pkgutil.iter_modules(benchmarks.__path__)} - framework)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=names)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--full", action="store_true", help="peers at full size, nothing reused")
    parser.add_argument("--quick", action="store_true", help="a smaller case, in a minute or two")
    parser.add_argument("--data", type=Path, help="a folder of data sets, one folder each")
    chosen = parser.parse_args(arguments)
    benchmark = cast(Benchmark, importlib.import_module(f"benchmarks.{chosen.name}"))
    rows = benchmark.run(Options(full=chosen.full, quick=chosen.quick, data=chosen.data))
    if chosen.json:
        print(header(), file=sys.stderr)
        for row in rows:
            print(row.as_json(), flush=True)
    else:
        print_table(chosen.name, rows, Console())


if __name__ == "__main__":
    main(sys.argv[1:])
