"""The owner's federation endpoints, and the commands that use them, against a real coordinator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from federation.roster import fingerprint
from tests.api.conftest import Served, Upload
from tests.cli.commands import refusal, run, run_json
from tests.federation.participant.sites import LearningSite, learning_site, until

POLICY = "/v1/federation/policy"
MEMBERSHIPS = "/v1/federation/memberships"


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LearningSite]:
    with learning_site(tmp_path / "coordinator", "another model", others=1) as opened:
        yield opened


class TestMembership:
    def test_an_owner_joins_confirms_peers_pauses_rotates_and_leaves(
        self, owner: httpx.Client, site: LearningSite
    ) -> None:
        new = {"url": site.url, "token": site.token(), "name": "our node"}
        made = owner.post(MEMBERSHIPS, json=new)
        assert made.status_code == 201, made.text
        joined = made.json()
        path = f"{MEMBERSHIPS}/{joined['id']}"

        def membership() -> dict[str, object]:
            listed = owner.get(MEMBERSHIPS).json()["data"]
            found: dict[str, object] = next(m for m in listed if m["id"] == joined["id"])
            return found

        assert joined["state"] == "pending"
        assert joined["coordinator"] == site.plan.coordinator
        site.approve_all()
        until(lambda: membership()["state"] == "active", "the node is approved")
        until(lambda: owner.get(f"{path}/peers").json()["data"], "the roster is there")
        assert membership()["population"] == "clinics"

        peers = {peer["name"]: peer for peer in owner.get(f"{path}/peers").json()["data"]}
        assert peers["our node"]["own"] and not peers["other 0"]["confirmed"]
        assert peers["our node"]["fingerprint"] == joined["fingerprint"]
        other = site.site.participants[0].identity
        heard = fingerprint(other).upper().replace(" ", "")
        confirmed = owner.put(f"{path}/peers", json={"fingerprint": heard}).json()
        assert (confirmed["name"], confirmed["confirmed"]) == ("other 0", True)
        stranger = owner.put(f"{path}/peers", json={"fingerprint": "ab" * 32})
        assert code(stranger) == (404, "peer_not_found")
        assert code(owner.put(f"{path}/peers", json={"fingerprint": "x"})) == (
            400,
            "bad_fingerprint",
        )

        until(
            lambda: any(p["refusals"] for p in owner.get("/v1/federation/plans").json()["data"]),
            "the plan was looked at",
        )
        plan = next(
            p
            for p in owner.get("/v1/federation/plans").json()["data"]
            if p["plan_hash"] == site.plan.hash
        )
        assert not plan["accepted"]
        assert any(reason.startswith("cohort: the plan says 3") for reason in plan["refusals"])
        assert plan["coordinator"]["unit"] == "subject"
        assert plan["coordinator"]["epsilon"] <= plan["alone"]["epsilon"]

        lenient = {"smallest_cohort": 3, "smallest_min_survivors": 3, "largest_delta": 1e-3}
        weighed = owner.post(f"{POLICY}/effect", json=lenient).json()["data"]
        (other_view,) = [one for one in weighed if one["plan_hash"] == site.plan.hash]
        # The node runs another model, which no policy changes.
        assert [reason.split(":")[0] for reason in other_view["refusals"]] == ["base_model"]
        assert owner.get(POLICY).json()["smallest_cohort"] == 10

        assert owner.put(f"{path}/paused", json={"paused": True}).json()["paused"]
        fresh = owner.post(f"{path}/identity")
        assert fresh.status_code == 200, fresh.text
        assert fresh.json()["fingerprint"] != joined["fingerprint"]
        assert owner.delete(path).status_code == 204
        assert membership()["state"] == "left"

    def test_addresses_tokens_and_coordinators_are_checked(
        self, owner: httpx.Client, site: LearningSite
    ) -> None:
        def join(url: str, token: str) -> httpx.Response:
            return owner.post(MEMBERSHIPS, json={"url": url, "token": token, "name": "n"})

        token = site.token()
        plain = join("http://coordinator.example", token)
        assert code(plain) == (400, "federation_refused")
        assert "only https://" in plain.json()["error"]["message"]
        assert code(join("ftp://127.0.0.1", token)) == (400, "federation_refused")
        assert code(join(site.url, "no token")) == (400, "federation_refused")
        wrong = f"{token[:-4]}AAAA"
        assert code(join(site.url, wrong)) == (409, "coordinator_refused")
        assert code(owner.delete(f"{MEMBERSHIPS}/unknown")) == (404, "membership_not_found")
        assert code(owner.get(f"{MEMBERSHIPS}/unknown/peers")) == (404, "membership_not_found")

    def test_only_an_owner_of_the_whole_node_may(
        self, owner: httpx.Client, served: Served, assistant: str
    ) -> None:
        for scope, assistants in (("user", None), ("owner", [assistant])):
            key = owner.post("/v1/keys", json={"scope": scope, "assistants": assistants}).json()
            with served.client(key["key"]) as other:
                assert other.get(MEMBERSHIPS).status_code == 403
                assert other.put(POLICY, json={}).status_code == 403
                assert other.post(f"{POLICY}/effect", json={}).status_code == 403
                assert other.get("/v1/federation/odometer").status_code == 403


class TestPolicy:
    def test_it_is_safe_until_it_is_changed_and_keeps_its_order(self, owner: httpx.Client) -> None:
        found = owner.get(POLICY).json()
        assert found["smallest_cohort"] == 10
        changed = owner.put(POLICY, json={**found, "smallest_cohort": 4})
        assert changed.status_code == 200
        assert owner.get(POLICY).json()["smallest_cohort"] == 4
        senseless = owner.put(POLICY, json={**found, "smallest_cohort": 1})
        assert code(senseless) == (400, "invalid_request")
        assert "at least 2" in senseless.json()["error"]["message"]
        assert owner.put(POLICY, json=found).status_code == 200

    def test_what_was_never_there_is_not_found(self, owner: httpx.Client) -> None:
        assert code(owner.get("/v1/federation/receipts/none")) == (404, "receipt_not_found")
        choice = owner.put(f"/v1/federation/versions/{'ab' * 32}/1", json={"choice": "pin"})
        assert code(choice) == (404, "version_not_found")
        assert owner.get("/v1/federation/contributions").json() == {"data": []}
        assert owner.get("/v1/federation/versions").json() == {"data": []}
        assert owner.get("/v1/federation/odometer").json()["debits"] == 0

    def test_the_models_are_named_as_plans_name_them(self, owner: httpx.Client) -> None:
        models = {one["kind"]: one for one in owner.get("/v1/federation/models").json()["data"]}
        assert models["retriever"]["identity"].startswith("all-MiniLM-L6-v2@")
        assert models["retriever"]["dimension"] == 384
        assert models["generator"]["identity"].startswith("smollm2-135m-instruct@")
        modules = {one["name"]: one for one in models["generator"]["modules"]}
        # SmolLM2-135M: 30 layers, 576 wide, three heads of 64 for the values.
        assert len(modules) == 60
        value = modules["model.layers.29.self_attn.v_proj"]
        assert (value["inputs"], value["outputs"]) == (576, 192)


class TestQuestions:
    def test_they_are_stored_listed_and_removed(
        self, owner: httpx.Client, assistant: str, upload: Upload
    ) -> None:
        path = f"/v1/assistants/{assistant}/questions"
        upload(assistant, {"fees.md": b"# Fees\n\nA berth costs 42 crowns.\n"}, external_id="fees")
        lines = [
            {"question": "What does a berth cost?", "relevant": ["fees"], "answer": "42 crowns"},
            {"question": "Is there a fee?", "relevant": ["fees"]},
        ]
        body = "\n".join(json.dumps(line) for line in lines)
        assert owner.post(path, content=body).json() == {"stored": 2, "personal": []}
        assert owner.post(path, content=json.dumps(lines[0])).json()["stored"] == 1
        found = owner.get(path).json()["data"]
        assert sorted(one["question"] for one in found) == sorted(
            str(line["question"]) for line in lines
        )
        wrong = owner.post(path, content=f"{body}\n{{}}")
        assert code(wrong) == (400, "invalid_question")
        assert "line 3" in wrong.json()["error"]["message"]
        unknown = owner.post(path, content=b'{"question": "a?", "relevant": ["b"]}')
        assert code(unknown) == (400, "invalid_question")
        assert owner.delete(f"{path}/{found[0]['id']}").json()["removed"] == 1
        assert code(owner.delete(f"{path}/{found[0]['id']}")) == (404, "question_not_found")
        assert owner.delete(path, params={"subject": "nobody"}).json()["removed"] == 0
        assert owner.delete(path).json()["removed"] == 1

    def test_another_assistants_key_does_not_see_them(
        self, owner: httpx.Client, served: Served, assistant: str
    ) -> None:
        assert owner.post("/v1/assistants", json={"name": "elsewhere"}).status_code == 201
        given = {"scope": "owner", "assistants": ["elsewhere"]}
        key = owner.post("/v1/keys", json=given).json()["key"]
        with served.client(key) as other:
            assert other.get(f"/v1/assistants/{assistant}/questions").status_code == 404
            assert other.get("/v1/assistants/elsewhere/questions").json()["data"] == []
        owner.delete("/v1/assistants/elsewhere")


def test_the_commands_of_an_owner(served: Served, site: LearningSite, tmp_path: Path) -> None:
    home = served.home
    changed = run_json("federation", "policy", "largest_epsilon=6", home=home)
    assert changed["largest_epsilon"] == 6
    run_json("federation", "policy", "largest_epsilon=4", home=home)
    wrong = run("federation", "policy", "cohort=4", home=home)
    assert "is not TERM=VALUE" in refusal(wrong, 2)
    joined = run_json("node", "join", site.url, site.token(), "--name", "by command", home=home)
    named = ("--membership", joined["id"])
    site.approve_all()
    assert run_json("node", "pause", *named, home=home)["paused"]
    assert not run_json("node", "resume", *named, home=home)["paused"]
    until(lambda: run_json("federation", "peers", *named, home=home)["data"], "the roster is there")
    peer = site.site.participants[0].identity
    confirmed = run_json("federation", "confirm", fingerprint(peer), *named, home=home)
    assert confirmed["confirmed"]
    assert run_json("federation", "odometer", home=home)["epsilon_spent"] == 0
    assert run_json("federation", "contributions", home=home) == {"data": []}
    assert run_json("federation", "receipts", tmp_path / "receipts", home=home) == {"files": []}
    assert "clinics" in run("federation", "status", home=home).stdout
    assert run_json("node", "leave", *named, "--yes", home=home) == {"left": joined["id"]}
