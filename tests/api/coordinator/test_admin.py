"""What an admin does over HTTP: the routes, their refusals, and what they leave behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.participants import Participant
from federation.adapter_spec import parameters_hash
from federation.enrolment import EnrolmentToken
from federation.roster import read_fingerprint
from privacy.guarantee import epsilons
from tests.api.coordinator.conftest import Staffed
from tests.federation.plans import document_plan, document_request

NUMBERS = itertools.count()
LIMIT = {"unit": "subject", "epsilon": 4.3, "delta": 1e-5}


def refusal(response: httpx.Response, status: int) -> str:
    """The code of a refusal, which must have the one shape."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["message"]
    return str(error["code"])


@pytest.fixture
def population(staffed: Staffed) -> str:
    """A fresh population in which the usual plan fits."""
    name = f"population-{next(NUMBERS)}"
    new = {"name": name, **LIMIT, "plan": document_request(population=name)}
    assert staffed.admin.post("/v1/admin/populations", json=new).status_code == 201
    return name


@pytest.fixture
def federation(staffed: Staffed, population: str) -> str:
    name = f"federation-{next(NUMBERS)}"
    made = create(staffed, population=population, federation=name)
    assert made.status_code == 201, made.text
    return name


def create(staffed: Staffed, **changes: Any) -> httpx.Response:
    return staffed.admin.post("/v1/admin/federations", json=document_request(**changes))


def test_the_whole_way_from_nothing_to_a_running_federation(
    new_coordinator: Callable[[], Staffed],
) -> None:
    staffed = new_coordinator()
    admin = staffed.admin
    new = {"name": "clinics", **LIMIT, "plan": document_request()}
    assert admin.post("/v1/admin/populations", json=new).status_code == 201
    made = admin.post("/v1/admin/tokens", json={"population": "clinics", "label": "Ward 1"}).json()
    token = EnrolmentToken.parse(made["token"])
    assert token.coordinator == read_fingerprint(made["fingerprint"])
    assert token.coordinator == staffed.coordinator.identity
    with httpx.Client(base_url=staffed.url) as http:
        participant = Participant(http, token.coordinator, _never)
        assert participant.enrol(token, "ward 1").status_code == 201
    (listed,) = admin.get("/v1/admin/participants", params={"population": "clinics"}).json()["data"]
    assert (listed["state"], listed["name"]) == ("pending", "ward 1")
    assert read_fingerprint(listed["fingerprint"]) == participant.identity
    roster = admin.get("/v1/admin/populations/clinics/roster").json()
    assert roster["members"] == []
    approved = admin.post(f"/v1/admin/participants/{listed['id']}/approve").json()
    assert approved["state"] == "approved"
    roster = admin.get("/v1/admin/populations/clinics/roster").json()
    assert [member["identity"] for member in roster["members"]] == [participant.identity]
    created = admin.post("/v1/admin/federations", json=document_request()).json()
    assert (created["state"], created["promoted"]) == ("created", 0)
    assert admin.post("/v1/admin/federations/triage/start").json()["state"] == "running"
    revoked = admin.post(f"/v1/admin/participants/{listed['id']}/revoke").json()
    assert revoked["state"] == "revoked"
    assert admin.get("/v1/admin/populations/clinics/roster").json()["members"] == []
    (used,) = admin.get("/v1/admin/tokens").json()["data"]
    assert (used["label"], used["participant_id"]) == ("Ward 1", listed["id"])
    assert token.secret not in admin.get("/v1/admin/tokens").text


def _never(_plan: object) -> Any:
    raise AssertionError("no round is run here")


def test_a_preview_gives_the_core_s_numbers_and_stores_nothing(
    staffed: Staffed, population: str
) -> None:
    request = document_request(population=population, federation="previewed")
    found = staffed.admin.post("/v1/admin/federations/preview", json=request).json()
    core = epsilons(document_plan(population=population, federation="previewed").privacy)
    assert found["total"]["coordinator"]["epsilon"] == core.coordinator.value
    assert found["total"]["release"]["epsilon"] == core.release.value
    assert found["total"]["coordinator"]["two_nodes"] == core.coordinator.two_nodes
    for one in (*found["total"].values(), *found["per_round"].values()):
        assert {one["mode"], one["unit"], one["adjacency"]} == {"document", "subject", "zero-out"}
        assert one["delta"] == 1e-5 and one["trust"]
    assert found["refusal"] is None
    assert found["budget"]["epsilon_committed"] == 0.0
    fit = found["budget"]
    assert 0 < fit["epsilon_after"] <= 4.3
    assert (fit["mode"], fit["unit"], fit["adjacency"]) == ("document", "subject", "zero-out")
    assert fit["trust"] == core.coordinator.trust and fit["delta"] == 1e-5
    assert refusal(staffed.admin.get("/v1/admin/federations/previewed"), 404)
    budget = staffed.admin.get(f"/v1/admin/populations/{population}").json()
    assert budget["epsilon_reserved"] == 0.0


def test_a_preview_says_why_a_plan_does_not_fit(staffed: Staffed, federation: str) -> None:
    population = staffed.admin.get(f"/v1/admin/federations/{federation}").json()["population"]
    request = document_request(population=population, federation="another")
    found = staffed.admin.post("/v1/admin/federations/preview", json=request).json()
    assert "would exceed epsilon 4.3" in found["refusal"]
    nowhere = document_request(population="nowhere")
    found = staffed.admin.post("/v1/admin/federations/preview", json=nowhere).json()
    assert found["budget"] is None and "no population 'nowhere'" in found["refusal"]


def test_a_number_without_a_bound_is_null(staffed: Staffed) -> None:
    request = document_request(epsilon=None, noise_multiplier=0.3)
    found = staffed.admin.post("/v1/admin/federations/preview", json=request)
    assert found.json()["total"]["coordinator"]["epsilon"] is None
    assert any("protects nobody" in text for text in found.json()["warnings"])


def test_a_federation_sets_its_rounds_aside_and_gives_them_back(
    staffed: Staffed, population: str, federation: str
) -> None:
    def budget() -> dict[str, Any]:
        found: dict[str, Any] = staffed.admin.get(f"/v1/admin/populations/{population}").json()
        return found

    before = budget()
    (account,) = before["federations"]
    assert (account["rounds"], account["reserved"], account["charged"]) == (20, 20, 0)
    assert before["reserved"] > 0 and before["epsilon_spent"] == 0.0
    assert before["left"] == pytest.approx(before["capacity"] - before["reserved"])
    assert refusal(create(staffed, population=population, federation="too-much"), 409) == (
        "budget_exceeded"
    )
    stopped = staffed.admin.post(
        f"/v1/admin/federations/{federation}/stop", json={"reason": "not needed"}
    ).json()
    assert (stopped["state"], stopped["reason"]) == ("stopped", "not needed")
    after = budget()
    assert after["reserved"] == 0.0 and after["federations"][0]["released"] == 20


def test_a_federation_moves_through_its_states_only(staffed: Staffed, federation: str) -> None:
    def move(action: str, **body: Any) -> httpx.Response:
        return staffed.admin.post(f"/v1/admin/federations/{federation}/{action}", **body)

    assert refusal(move("pause", json={}), 409) == "wrong_state"
    assert move("start").json()["state"] == "running"
    paused = move("pause", json={"reason": "holidays"}).json()
    assert (paused["state"], paused["reason"]) == ("paused", "holidays")
    assert refusal(move("start"), 409) == "wrong_state"
    resumed = move("resume").json()
    assert (resumed["state"], resumed["reason"]) == ("running", None)
    assert move("stop", json={}).json()["state"] == "stopped"
    assert refusal(move("resume"), 409) == "wrong_state"


def test_version_0_is_there_from_the_start(staffed: Staffed, federation: str) -> None:
    place = f"/v1/admin/federations/{federation}"
    (version,) = staffed.admin.get(f"{place}/versions").json()["data"]
    assert (version["number"], version["promoted"], version["round_id"]) == (0, True, None)
    data = staffed.admin.get(f"{place}/versions/0/parameters").content
    assert parameters_hash(data) == version["parameters_hash"]
    assert np.array_equal(np.frombuffer(data, "<f4"), np.zeros(128))
    assert refusal(staffed.admin.get(f"{place}/versions/1/parameters"), 404) == "unknown_version"
    assert refusal(staffed.admin.post(f"{place}/versions/1/promote"), 404) == "unknown_version"
    assert refusal(staffed.admin.post(f"{place}/roll-back"), 409) == "no_older_version"
    assert staffed.admin.post(f"{place}/versions/0/promote").json() == {"promoted": 0}


def test_the_limit_can_be_changed_and_not_below_what_is_set_aside(
    staffed: Staffed, population: str, federation: str
) -> None:
    place = f"/v1/admin/populations/{population}"
    assert staffed.admin.patch(place, json={"epsilon": 6.0}).json()["epsilon_limit"] == 6.0
    assert refusal(staffed.admin.patch(place, json={"epsilon": 3.7}), 409) == "budget_exceeded"
    assert staffed.admin.get(place).json()["epsilon_limit"] == 6.0
    assert staffed.admin.get(f"/v1/admin/federations/{federation}").status_code == 200


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "Not A Name"}, "invalid_request"),
        ({"epsilon": 0}, "invalid_request"),
        ({"epsilon": 1e9}, "invalid_request"),
        ({"unit": "household"}, "invalid_request"),
        ({"order": 3, "delta": 1e-5, "epsilon": 0.1}, "bad_limit"),
        ({"order": 999}, "bad_limit"),
        ({"order": 8, "plan": document_request()}, "bad_limit"),
        ({"unit": "node", "plan": document_request()}, "bad_limit"),
        ({"plan": document_request(epsilon=None)}, "bad_limit"),
        ({"surprise": 1}, "invalid_request"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(
    staffed: Staffed, changes: dict[str, Any], code: str
) -> None:
    new = {"name": f"population-{next(NUMBERS)}", **LIMIT, **changes}
    assert refusal(staffed.admin.post("/v1/admin/populations", json=new), 400) == code


def test_two_of_one_name_are_refused(staffed: Staffed, population: str, federation: str) -> None:
    again = {"name": population, **LIMIT}
    made = staffed.admin.post("/v1/admin/populations", json=again)
    assert refusal(made, 409) == "population_exists"
    assert refusal(create(staffed, population=population, federation=federation), 409) == (
        "federation_exists"
    )


def test_a_plan_that_makes_no_sense_is_refused_with_the_reason(
    staffed: Staffed, population: str
) -> None:
    made = create(staffed, population=population, cohort=3, threat_model="active", min_survivors=2)
    assert refusal(made, 400) == "bad_plan"
    assert "threshold 3" in made.json()["error"]["message"]
    assert refusal(create(staffed, population="nowhere"), 404) == "unknown_population"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/admin/populations/nowhere",
        "/v1/admin/populations/nowhere/roster",
        "/v1/admin/federations/nothing",
        "/v1/admin/federations/nothing/rounds",
        "/v1/admin/federations/nothing/versions",
    ],
)
def test_what_is_not_there_is_unknown(staffed: Staffed, path: str) -> None:
    assert refusal(staffed.admin.get(path), 404).startswith("unknown_")


def test_what_no_name_can_be_is_refused_at_the_border(staffed: Staffed) -> None:
    nul = staffed.admin.get("/v1/admin/populations/a%00b")
    assert refusal(nul, 400) == "invalid_request"
    label = staffed.admin.post("/v1/admin/keys", json={"role": "admin", "label": "a\x00b"})
    assert refusal(label, 400) == "invalid_request"
    huge = staffed.admin.post(f"/v1/admin/participants/{10**30}/approve")
    assert refusal(huge, 400) == "invalid_request"
    assert refusal(staffed.admin.post("/v1/admin/participants/99/revoke"), 404)


def test_a_token_is_for_a_population_that_exists(staffed: Staffed) -> None:
    made = staffed.admin.post("/v1/admin/tokens", json={"population": "nowhere"})
    assert refusal(made, 404) == "unknown_population"


def test_keys_are_shown_once_and_end_at_once(staffed: Staffed) -> None:
    made = staffed.admin.post("/v1/admin/keys", json={"role": "admin", "label": "second"}).json()
    with httpx.Client(
        base_url=staffed.url, headers={"Authorization": f"Bearer {made['key']}"}
    ) as second:
        assert second.get("/v1/admin/keys").status_code == 200
        secret = made["key"].rpartition("_")[2]
        assert secret not in staffed.admin.get("/v1/admin/keys").text
        assert staffed.admin.delete(f"/v1/admin/keys/{made['id']}").status_code == 204
        assert refusal(second.get("/v1/admin/keys"), 401) == "invalid_api_key"
    gone = staffed.admin.delete(f"/v1/admin/keys/{made['id']}")
    assert refusal(gone, 404) == "key_not_found"
