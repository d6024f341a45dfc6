"""`alcove coordinator init`, `serve` and `status`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.coordinator.options import DEFAULT_HOME, Home, Place, at_coordinator
from cli.errors import CommandError, readable_home_errors, readable_settings_errors
from cli.options import AsJson, given
from cli.output import say, show, show_json, show_table

if TYPE_CHECKING:
    from api.coordinator.coordinator import Coordinator
    from storage.coordinator_settings import CoordinatorSettings

PREFIX = "ALCOVE_COORDINATOR_"


def init(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Make a coordinator in an empty folder and print its first key, shown this once."""
    from storage.coordinator_settings import CoordinatorSettings

    with readable_settings_errors(home, PREFIX):
        settings = CoordinatorSettings(home=home)

    from api.coordinator.coordinator import Coordinator, create
    from federation.roster import fingerprint

    with readable_home_errors(home, "coordinator.db"):
        first = create(settings).get_secret_value()
        coordinator = Coordinator(settings)
        coordinator.close()
    identity = coordinator.identity
    if as_json:
        shown = {"home": str(home), "key": first, "public_key": identity}
        show_json({**shown, "fingerprint": fingerprint(identity)})
        return
    show(f"There is a coordinator in {home}. Its public key, for everybody to know it by:")
    show(f"\n{fingerprint(identity)}\n")
    show(f"The first admin's key, which is shown this once:\n\n{first}\n")
    say("Back up the folder: without coordinator.key nobody will trust this coordinator again.")


def serve(
    home: Home = DEFAULT_HOME,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0: a free one.", min=0, max=65535)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that serve.", min=1, max=64)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve the coordinator over HTTP until Ctrl-C or SIGTERM."""
    from storage.coordinator_settings import CoordinatorSettings

    overrides = given(host=host, port=port, workers=workers)
    with readable_settings_errors(home, PREFIX):
        settings = CoordinatorSettings(home=home, **overrides)

    from api.coordinator.coordinator import Coordinator
    from cli import logs
    from storage.coordinator_home import CoordinatorHome
    from storage.home import HomeBusyError

    logs.configure("server")
    # Workers open the coordinator themselves, by this.
    os.environ["ALCOVE_COORDINATOR_HOME"] = str(home)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with readable_home_errors(home, "coordinator.db"):
        place = CoordinatorHome(home)
        place.open_key()
        try:
            with place.lock():
                coordinator = Coordinator(settings)
                try:
                    _serve(coordinator, settings, as_json)
                except KeyboardInterrupt:
                    say("stopped")
                finally:
                    coordinator.close()
        except HomeBusyError:
            raise CommandError(f"{home} is served already") from None


def _serve(coordinator: Coordinator, settings: CoordinatorSettings, as_json: bool) -> None:
    from cli.coordinator.server import forget_key, serve, session_key
    from cli.listening import listen, own_certificate, tls_of, url_of

    tls = tls_of(settings)
    home = coordinator.home
    left = left_behind(home.address)
    if left is not None:
        forget_key(coordinator, left)
    with listen(settings.host, settings.port) as listener, session_key(coordinator) as key:
        url = url_of(listener, tls)
        home.announce(url, key, own_certificate(tls))
        try:
            if as_json:
                show_json({"url": url, "home": str(home.root)})
            else:
                has_pages = settings.pages and settings.workers == 1
                show(f"Serving {home.root} on {url}{f', pages on {url}/ui' if has_pages else ''}")
            serve(listener, settings.workers, tls)
        finally:
            home.withdraw()


def left_behind(address: Path) -> str | None:
    """The key that a server has announced that was killed; the folder's lock is held."""
    try:
        return str(json.loads(address.read_bytes())["key"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


@at_coordinator
def status(place: Place, as_json: AsJson = False) -> None:
    """Say whether the coordinator is served, where, and what runs on it."""
    from cli.coordinator.client import local_address

    if place.url is None and (address := local_address(place.home)) is None:
        if as_json:
            show_json({"state": "stopped", "url": None, "fingerprint": None, "federations": None})
        else:
            show(f"{place.home}: stopped")
        return
    with place.client() as client:
        identity = client.get("/v1/audit/coordinator").json()
        found = client.get("/v1/audit/federations").json()["data"]
    where = place.url or (address.url if address is not None else None)
    rows = [(f["name"], f["population"], f["state"], f["reason"]) for f in found]
    if as_json:
        named = [dict(zip(("name", "population", "state", "reason"), r, strict=True)) for r in rows]
        show_json({"state": "serving", "url": where, **identity, "federations": named})
        return
    show(f"serving on {where}")
    show(f"fingerprint: {identity['fingerprint']}")
    if rows:
        show_table(("federation", "population", "state", "reason"), rows)
