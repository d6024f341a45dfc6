"""`alcove node`: make a node, serve it, see how it is."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import CommandError, readable_home_errors, readable_settings_errors
from cli.options import DEFAULT_HOME, AsJson, Home, given
from cli.output import say, show, show_json, show_table

if TYPE_CHECKING:
    from api.node.node import Node
    from cli.server import NodeServer

app = typer.Typer(help="Make a node, serve it, see how it is.", no_args_is_help=True)


@app.command()
def init(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Make a node in an empty folder and print its first key, which is shown this once."""
    from storage.settings import NodeSettings

    with readable_settings_errors(home):
        settings = NodeSettings(home=home)

    from api.node.node import create

    with readable_home_errors(home):
        made = create(settings)
    if as_json:
        show_json({"home": str(home), "key_id": made.key.id, "key": made.token})
        return
    show(f"There is a node in {home}. Its first key, which is shown this once:\n\n{made.token}\n")
    here = "" if home == DEFAULT_HOME.expanduser() else f" --home {home}"
    say(f"Next: `alcove ingest PATH{here}`, `alcove node serve{here}`.")


@app.command()
def serve(
    home: Home = DEFAULT_HOME,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0: a free one.", min=0, max=65535)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve the node over HTTP until Ctrl-C or SIGTERM."""
    from storage.settings import NodeSettings

    with readable_settings_errors(home):
        settings = NodeSettings(home=home, **given(host=host, port=port))

    # Only now what takes seconds to import: a wrong setting is reported at once.
    from api.node.node import Node
    from cli import logs
    from cli.client import running_server
    from cli.listening import listen, own_certificate, tls_of
    from cli.server import NodeServer
    from storage.home import HomeBusyError, NodeHome

    logs.configure("server")
    with readable_home_errors(home):
        try:
            node = Node(settings)
        except HomeBusyError:
            address = running_server(NodeHome(home))
            if address is None:
                raise
            raise CommandError(f"{home} is served already, on {address.url}") from None
    tls = tls_of(settings)
    listener = listen(settings.host, settings.port)
    server = NodeServer(node, listener, participate=True, pages=settings.pages, tls=tls)
    # A service manager's way to stop is the same as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with server:
            _serve(server, node, own_certificate(tls), as_json)
    except KeyboardInterrupt:
        say("stopped")


def _serve(server: NodeServer, node: Node, certificate: str | None, as_json: bool) -> None:
    node.home.announce(server.url, node.session_key.get_secret_value(), certificate)
    try:
        if as_json:
            show_json({"url": server.url, "home": str(node.home.root)})
        else:
            pages = f", pages on {server.url}/ui" if node.settings.pages else ""
            show(f"Serving {node.home.root} on {server.url}{pages}")
        server.wait()
        server.check()
    finally:
        # While the folder is still locked: a server that follows announces itself there.
        node.home.withdraw()


@app.command()
def status(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Say whether the node is served, where, and what its assistants hold."""
    found = _status(home)
    if as_json:
        show_json(found)
        return
    where = f" on {found['url']}" if found["url"] else ""
    show(f"{home}: {found['state']}{where}")
    if found["assistants"]:
        rows = [(a["name"], a["documents"], a["passages"]) for a in found["assistants"]]
        show_table(("assistant", "documents", "passages"), rows)


def _status(home: Path) -> dict[str, Any]:
    from cli.client import RefusedError, open_client, running_server
    from storage.home import HomeBusyError, NodeHome

    place = NodeHome(home)
    with readable_home_errors(home):
        place.require()
    found: dict[str, Any] = {"home": str(home), "state": "stopped", "url": None, "assistants": None}
    address = running_server(place)
    if address is None:
        try:
            with place.lock():
                return found
        except HomeBusyError:
            return {**found, "state": "in use by a command"}
    with open_client(address) as client:
        try:
            assistants = client.get("/v1/assistants").json()["data"]
        except RefusedError as error:
            if error.status != 503:
                raise
            return {**found, "state": "starting", "url": address.url}
    return {**found, "state": "serving", "url": address.url, "assistants": assistants}
