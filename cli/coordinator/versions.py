"""`alcove coordinator version`: shared versions and which of them nodes are told to try."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.coordinator.options import DEFAULT_HOME, Certificate, Home, Key, Url
from cli.options import AsJson
from cli.output import show, show_json, show_table, when

app = typer.Typer(help="List, promote and download shared versions.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The federation.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="The version.", min=0)]


@app.command("list")
def list_versions(
    name: Name,
    home: Home = DEFAULT_HOME,
    url: Url = None,
    key: Key = None,
    certificate: Certificate = None,
    as_json: AsJson = False,
) -> None:
    """List versions, the oldest first."""
    from cli.client import quoted
    from cli.coordinator.client import coordinator_client

    with coordinator_client(home, url, key, certificate) as client:
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
def promote(
    name: Name,
    version: Number,
    home: Home = DEFAULT_HOME,
    url: Url = None,
    key: Key = None,
    certificate: Certificate = None,
    as_json: AsJson = False,
) -> None:
    """Tell nodes to try this version; whether they do is theirs to decide."""
    _tell(name, f"versions/{version}/promote", (home, url, key, certificate), as_json)


@app.command("roll-back")
def roll_back(
    name: Name,
    home: Home = DEFAULT_HOME,
    url: Url = None,
    key: Key = None,
    certificate: Certificate = None,
    as_json: AsJson = False,
) -> None:
    """Tell nodes to try the version before the promoted one."""
    _tell(name, "roll-back", (home, url, key, certificate), as_json)


@app.command()
def download(
    name: Name,
    version: Number,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    home: Home = DEFAULT_HOME,
    url: Url = None,
    key: Key = None,
    certificate: Certificate = None,
) -> None:
    """Write the parameters of a version: float32, little-endian."""
    from cli.client import quoted
    from cli.coordinator.client import coordinator_client

    with coordinator_client(home, url, key, certificate) as client:
        path = f"/v1/admin/federations/{quoted(name)}/versions/{version}/parameters"
        output.write_bytes(client.get(path).content)
    show(f"{output}: version {version} of {name}")


def _tell(
    name: str,
    action: str,
    place: tuple[Path, str | None, str | None, Path | None],
    as_json: bool,
) -> None:
    from cli.client import quoted
    from cli.coordinator.client import coordinator_client

    with coordinator_client(*place) as client:
        told = client.post(f"/v1/admin/federations/{quoted(name)}/{action}").json()
    if as_json:
        show_json(told)
        return
    show(f"Nodes are told to try version {told['promoted']} of {name}.")
