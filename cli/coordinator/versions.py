"""`alcove coordinator version`: shared versions and which of them nodes are told to try."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.coordinator.options import Place, at_coordinator
from cli.options import AsJson
from cli.output import show, show_json, show_table, when

app = typer.Typer(help="List, promote and download shared versions.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The federation.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="The version.", min=0)]


@app.command("list")
@at_coordinator
def list_versions(place: Place, name: Name, as_json: AsJson = False) -> None:
    """List versions, the oldest first."""
    from cli.client import quoted

    with place.client() as client:
        found = client.get(f"/v1/admin/federations/{quoted(name)}/versions").json()
    if as_json:
        show_json(found)
        return
    rows = [
        (v["number"], "yes" if v["promoted"] else None, v["round_id"], when(v["created_at"]),
         v["parameters_hash"])
        for v in found["data"]
    ]  # fmt: skip
    show_table(("version", "promoted", "round", "released", "hash"), rows)


@app.command()
@at_coordinator
def promote(place: Place, name: Name, version: Number, as_json: AsJson = False) -> None:
    """Tell nodes to try this version; whether they do is theirs to decide."""
    _tell(name, f"versions/{version}/promote", place, as_json)


@app.command("roll-back")
@at_coordinator
def roll_back(place: Place, name: Name, as_json: AsJson = False) -> None:
    """Tell nodes to try the version before the promoted one."""
    _tell(name, "roll-back", place, as_json)


@app.command()
@at_coordinator
def download(
    place: Place,
    name: Name,
    version: Number,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
) -> None:
    """Write the parameters of a version: float32, little-endian."""
    from cli.client import quoted

    with place.client() as client:
        path = f"/v1/admin/federations/{quoted(name)}/versions/{version}/parameters"
        output.write_bytes(client.get(path).content)
    show(f"{output}: version {version} of {name}")


def _tell(name: str, action: str, place: Place, as_json: bool) -> None:
    from cli.client import quoted

    with place.client() as client:
        told = client.post(f"/v1/admin/federations/{quoted(name)}/{action}").json()
    if as_json:
        show_json(told)
        return
    show(f"Nodes are told to try version {told['promoted']} of {name}.")
