"""`alcove audit`: what an auditor reads at a coordinator, and checks offline from files alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.coordinator.options import Place, at_coordinator
from cli.errors import FAILED, WRONG_USAGE, CommandError
from cli.options import AsJson
from cli.output import say, show, show_json

if TYPE_CHECKING:
    from privacy.verification_report import VerificationReport

app = typer.Typer(help="Read a coordinator's books, and check them offline.", no_args_is_help=True)

_KEY = re.compile(r"[0-9a-f]{64}")
LARGEST_RECEIPT = 1 << 16


@app.command()
def verify(
    ledger: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True,
            help="An exported ledger.",
        ),
    ],
    keys: Annotated[
        list[str],
        typer.Option(
            "--keys", "-k", metavar="K",
            help="A public key of the coordinator: its fingerprint, or a file with one a line. "
            "May be repeated.",
        ),
    ],
    receipts: Annotated[
        list[Path] | None,
        typer.Option(
            "--receipts", "-r", metavar="R", exists=True, readable=True,
            help="Receipts of nodes: a file with one a line, or a folder of such files. May be "
            "repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Check chain, signatures and every epsilon of a ledger; exit code 1 if anything is wrong.

    What was left out of the ledger is found as far as receipts are given.
    """
    from privacy.verification import verify as verify_ledger

    known = frozenset(key for given in keys for key in _read_keys(given))
    with ledger.open("rb") as stream:
        report = verify_ledger(stream, known, _read_receipts(receipts or []))
    if as_json:
        fields: dict[str, Any] = asdict(report)
        show_json({"ok": report.ok, **fields, "statements": report.statements()})
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(FAILED)


@app.command()
@at_coordinator
def budgets(place: Place, as_json: AsJson = False) -> None:
    """Show what every population has spent, reserved and left."""
    from cli.coordinator.populations import show_budgets

    with place.client() as client:
        found = client.get("/v1/audit/budgets").json()
    if as_json:
        show_json(found)
        return
    show_budgets(found["data"])


@app.command()
@at_coordinator
def export(
    place: Place,
    population: Annotated[str, typer.Argument(help="Whose ledger.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
) -> None:
    """Write the ledger of a population to a file, for `alcove audit verify`."""
    from cli.client import quoted

    with place.client() as client:
        file = client.get(f"/v1/audit/ledgers/{quoted(population)}/export").content
        fingerprint = client.get("/v1/audit/coordinator").json()["fingerprint"]
    output.write_bytes(file)
    show(f"{output}: {len(file.splitlines())} records")
    say(f"Signed by {fingerprint}, as the coordinator says; ask a node's owner too.")


@app.command()
@at_coordinator
def statement(
    place: Place,
    federation: Annotated[str, typer.Argument(help="Which federation.")],
    as_json: AsJson = False,
) -> None:
    """Print the privacy statement of a federation."""
    from cli.client import quoted

    path = f"/v1/audit/federations/{quoted(federation)}/statement"
    with place.client() as client:
        answer = client.get(path, params={"form": "json" if as_json else "text"})
    if as_json:
        show_json(answer.json())
        return
    show(answer.text)


def _read_keys(given: str) -> Iterator[str]:
    """Keys of an argument: a fingerprint in any spacing, or a file of them."""
    path = Path(given)
    is_key = _KEY.fullmatch(_squeezed(given))
    lines = [given] if is_key or not path.is_file() else path.read_text().splitlines()
    for line in filter(str.strip, lines):
        key = _squeezed(line)
        if not _KEY.fullmatch(key):
            raise CommandError(
                f"--keys: {line.strip()[:80]!r} is no public key (64 hexadecimal digits), and no "
                "file of them",
                WRONG_USAGE,
            )
        yield key


def _squeezed(text: str) -> str:
    return "".join(text.split()).lower()


def _read_receipts(places: list[Path]) -> Iterator[bytes]:
    for place in places:
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in filter(Path.is_file, files):
            with file.open("rb") as stream:
                # A line that is longer is refused as a receipt in pieces.
                while line := stream.readline(LARGEST_RECEIPT):
                    if line.strip():
                        yield line.strip()


def _print(report: VerificationReport) -> None:
    from privacy.guarantee import ADJACENCY

    show("The ledger is accepted." if report.ok else "The ledger is NOT accepted.")
    show(f"population: {report.population}")
    show(f"records: {report.records}, of rounds charged: {report.rounds_charged}")
    show(f"head: {report.head}")
    if report.epsilon is not None and report.delta is not None:
        modes = ", ".join(report.modes) or "none charged"
        show(
            f"epsilon spent: {report.epsilon:.6g} at delta {report.delta:.3g}; modes {modes}, unit "
            f"{report.unit}, adjacency {ADJACENCY}; towards the coordinator, assuming of the nodes "
            "what each plan says: how many honest ones are in a sum"
        )
        show(f"  by dp-accounting, Renyi: {_shown(report.epsilon_renyi)}")
        show(f"  by dp-accounting, privacy loss distributions: {_shown(report.epsilon_pld)}")
    show("")
    for finding in report.findings:
        where = "" if finding.line is None else f"line {finding.line}: "
        show(f"{finding.code}: {where}{finding.message}")
    for sentence in report.statements():
        show(sentence)


def _shown(epsilon: float | None) -> str:
    return "not computed" if epsilon is None else f"{epsilon:.6g}"
