"""`alcove node join` and its like, and `alcove federation`: learn together with other nodes."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import CommandError
from cli.options import DEFAULT_HOME, AsJson, Home, Yes, confirm
from cli.output import say, show, show_json, show_table, when

if TYPE_CHECKING:
    import httpx

app = typer.Typer(help="See and decide what the node learns with others.", no_args_is_help=True)

MembershipId = Annotated[
    str | None,
    typer.Option("--membership", metavar="ID", help="Which membership, where there are several."),
]
FederationName = Annotated[str, typer.Argument(metavar="FEDERATION")]
VersionNumber = Annotated[int, typer.Argument(metavar="VERSION")]
PATH = "/v1/federation"
MEASURES = {"retriever": "mrr@10", "generator": "loss"}


def join(
    url: Annotated[str, typer.Argument(metavar="URL", help="The coordinator's address.")],
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="From the coordinator's admin.")],
    name: Annotated[str, typer.Option(help="What others see the node called.")] = "node",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Enrol the node with a coordinator. Set the policy before: its limit counts from now on."""
    with _client(home) as client:
        new = {"url": url, "token": token, "name": name}
        made = client.post(f"{PATH}/memberships", json=new).json()
    if as_json:
        show_json(made)
        return
    show(f"{made['id']}: enrolled as {name}, {made['state']}. This node's fingerprint:")
    show(made["fingerprint"])
    say("The admin has to approve it; compare the fingerprint by another way, such as by phone.")


def leave(
    home: Home = DEFAULT_HOME,
    membership: MembershipId = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Leave a coordinator. What was spent stays in the odometer."""
    with _client(home) as client:
        found = _membership(client, membership)
        confirm(f"Leave {found['url']}? Coming back needs a new token.", yes)
        client.delete(f"{PATH}/memberships/{found['id']}")
    if as_json:
        show_json({"left": found["id"]})
        return
    show(f"{found['id']} is left.")


def pause(
    home: Home = DEFAULT_HOME, membership: MembershipId = None, as_json: AsJson = False
) -> None:
    """Enter no new rounds; one that is under way is finished."""
    _set_paused(home, membership, True, as_json)


def resume(
    home: Home = DEFAULT_HOME, membership: MembershipId = None, as_json: AsJson = False
) -> None:
    """Enter rounds again."""
    _set_paused(home, membership, False, as_json)


@app.command()
def status(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show memberships, the plans seen and why some are refused."""
    with _client(home) as client:
        members = client.get(f"{PATH}/memberships").json()["data"]
        plans = client.get(f"{PATH}/plans").json()["data"]
    if as_json:
        show_json({"memberships": members, "plans": plans})
        return
    columns = ("membership", "coordinator", "population", "state", "problem")
    show_table(columns, [_member_row(one) for one in members])
    for plan in plans:
        answer = "accepted" if plan["accepted"] else "refused"
        show(f"\n{plan['federation']} ({plan['adapter']}): {answer}")
        for reason in plan["refusals"]:
            show(f"  {reason}")
        for view in ("coordinator", "release", "alone"):
            show(f"  {view}: {_epsilon(plan[view])}")


@app.command()
def peers(
    home: Home = DEFAULT_HOME, membership: MembershipId = None, as_json: AsJson = False
) -> None:
    """List the other participants with their fingerprints."""
    with _client(home) as client:
        found = _membership(client, membership)
        listed = client.get(f"{PATH}/memberships/{found['id']}/peers").json()
    if as_json:
        show_json(listed)
        return
    rows = [
        (peer["name"], "own" if peer["own"] else _yes(peer["confirmed"]), peer["fingerprint"])
        for peer in listed["data"]
    ]
    show_table(("name", "confirmed", "fingerprint"), rows)


@app.command("confirm")
def confirm_peer(
    fingerprint: Annotated[
        str, typer.Argument(metavar="FINGERPRINT", help="As the peer's owner read it out.")
    ],
    home: Home = DEFAULT_HOME,
    membership: MembershipId = None,
    as_json: AsJson = False,
) -> None:
    """Confirm a peer whose fingerprint you have compared by another way."""
    with _client(home) as client:
        found = _membership(client, membership)
        path = f"{PATH}/memberships/{found['id']}/peers"
        peer = client.put(path, json={"fingerprint": fingerprint}).json()
    if as_json:
        show_json(peer)
        return
    show(f"{peer['name']} is confirmed.")


@app.command()
def policy(
    terms: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TERM=VALUE]...", help="Terms to change, such as smallest_cohort=5."
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show what the node agrees to, or change terms of it. Values are JSON; words may be bare."""
    with _client(home) as client:
        found = client.get(f"{PATH}/policy").json()
        if terms:
            found = client.put(f"{PATH}/policy", json=found | _terms(terms)).json()
    if as_json:
        show_json(found)
        return
    rows = [(name, json.dumps(value)) for name, value in found.items()]
    show_table(("term", "value"), rows)


@app.command()
def odometer(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show how much privacy a subject of this node has spent, over all coordinators."""
    with _client(home) as client:
        found = client.get(f"{PATH}/odometer").json()
    if as_json:
        show_json(found)
        return
    if found["epsilon_limit"] is None:
        show("Nothing was ever joined.")
        return
    show(
        f"epsilon {found['epsilon_spent']:.4g} of at most {found['epsilon_limit']:g} at delta "
        f"{found['delta']:g} for one {found['unit']}, zero-out, after {found['debits']} rounds"
    )


@app.command()
def contributions(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List every round that the node entered and what was sent."""
    with _client(home) as client:
        found = client.get(f"{PATH}/contributions").json()
    if as_json:
        show_json(found)
        return
    columns = ("federation", "round", "seen", "outcome", "bytes", "receipt", "reason")
    rows = [
        (one["federation"], one["round_id"], when(int(one["seen_at"])), one["outcome"],
         one["sent_bytes"], _yes(one["receipt"]), one["reason"])
        for one in found["data"]
    ]  # fmt: skip
    show_table(columns, rows)


@app.command()
def receipts(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write them.")],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Write all receipts as files, for `alcove audit verify --receipts`."""
    with _client(home) as client:
        rounds = client.get(f"{PATH}/contributions").json()["data"]
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for one in rounds:
            if one["receipt"]:
                receipt = client.get(f"{PATH}/receipts/{one['round_id']}").content
                path = folder / f"{one['round_id']}.json"
                path.write_bytes(receipt)
                written.append(str(path))
    if as_json:
        show_json({"files": written})
        return
    show(f"{len(written)} receipts are in {folder}.")


@app.command()
def versions(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the shared versions that the node has tried on its own questions."""
    with _client(home) as client:
        found = client.get(f"{PATH}/versions").json()
    _show_versions(found, as_json)


@app.command()
def models(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Print the models of this node as a coordinator's admin has to name them."""
    from cli.client import node_client

    with node_client(home) as client:
        found = client.get(f"{PATH}/models").json()
    if as_json:
        show_json(found)
        return
    rows = [
        (one["kind"], one["identity"], one["dimension"], len(one["modules"]) or None)
        for one in found["data"]
    ]
    show_table(("kind", "model", "dimension", "modules (--json lists them)"), rows)


@app.command()
def pin(
    federation: FederationName,
    number: VersionNumber,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Serve a version whatever its trial said."""
    _choose(home, federation, number, "pin", as_json)


@app.command()
def refuse(
    federation: FederationName,
    number: VersionNumber,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Never serve a version."""
    _choose(home, federation, number, "refuse", as_json)


def _client(home: Path) -> AbstractContextManager[httpx.Client]:
    from cli.client import Need, node_client

    return node_client(home, Need.NOTHING)


def _membership(client: httpx.Client, wanted: str | None) -> dict[str, Any]:
    """The membership that is meant. Raises CommandError if that is not clear."""
    every = client.get(f"{PATH}/memberships").json()["data"]
    fitting = [
        one for one in every if one["id"] == wanted or (wanted is None and one["state"] != "left")
    ]
    if len(fitting) == 1:
        found: dict[str, Any] = fitting[0]
        return found
    if wanted is not None:
        raise CommandError(f"there is no membership {wanted}")
    names = ", ".join(one["id"] for one in fitting)
    raise CommandError(
        f"say which with --membership: {names}" if fitting else "the node has joined nothing yet"
    )


def _set_paused(home: Path, membership: str | None, paused: bool, as_json: bool) -> None:
    with _client(home) as client:
        found = _membership(client, membership)
        path = f"{PATH}/memberships/{found['id']}/paused"
        changed = client.put(path, json={"paused": paused}).json()
    if as_json:
        show_json(changed)
        return
    show(f"{found['id']} {'is paused' if paused else 'goes on'}.")


def _choose(home: Path, federation: str, number: int, choice: str, as_json: bool) -> None:
    from cli.client import node_client

    with node_client(home) as client:
        known = client.get(f"{PATH}/versions").json()["data"]
        hashes = [
            one["plan_hash"]
            for one in known
            if (one["federation"], one["number"]) == (federation, number)
        ]
        if not hashes:
            raise CommandError(f"the node has no version {number} of {federation}")
        path = f"{PATH}/versions/{hashes[0]}/{number}"
        found = client.put(path, json={"choice": choice}).json()
    _show_versions(found, as_json)


def _show_versions(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    columns = (
        "federation", "version", "state", "pinned", "questions", "measure", "without", "with"
    )  # fmt: skip
    rows = [
        (one["federation"], one["number"], one["state"], _yes(one["pinned"]), one["examples"],
         MEASURES[one["adapter"]], _score(one["before"]), _score(one["after"]))
        for one in found["data"]
    ]  # fmt: skip
    show_table(columns, rows)


def _terms(given: list[str]) -> dict[str, Any]:
    from federation.participant.policy import ConsentPolicy

    known = [field.name for field in fields(ConsentPolicy)]
    terms: dict[str, Any] = {}
    for one in given:
        name, sign, text = one.partition("=")
        if not sign or name not in known:
            raise typer.BadParameter(f"{one!r} is not TERM=VALUE with a term of {', '.join(known)}")
        try:
            terms[name] = json.loads(text)
        except ValueError:
            terms[name] = text.split(",")
    return terms


def _epsilon(found: dict[str, Any]) -> str:
    twice = found["epsilon_two_nodes"]
    both = "" if twice is None else f" ({twice:.4g} if on two nodes)"
    return (
        f"epsilon {found['epsilon']:.4g}{both} at delta {found['delta']:.3g}; mode "
        f"{found['mode']}, unit {found['unit']}, adjacency {found['adjacency']}; assumes that "
        f"{found['trust']}"
    )


def _member_row(one: dict[str, Any]) -> tuple[object, ...]:
    state = "paused" if one["paused"] else one["state"]
    return one["id"], one["url"], one["population"], state, one["problem"]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _score(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
