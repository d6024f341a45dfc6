"""`alcove coordinator`: make and serve a coordinator, and manage it."""

from __future__ import annotations

import typer

from cli.coordinator import federations, keys, participants, populations, run, tokens, versions

app = typer.Typer(help="Make, serve and manage a coordinator.", no_args_is_help=True)
app.command()(run.init)
app.command()(run.serve)
app.command()(run.status)
app.add_typer(keys.app, name="key")
app.add_typer(tokens.app, name="token")
app.add_typer(participants.app, name="participant")
app.add_typer(populations.app, name="population")
app.add_typer(federations.app, name="federation")
app.add_typer(versions.app, name="version")
