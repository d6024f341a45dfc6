"""Who gets in: sessions, forged requests, what the browser is told to refuse."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import expect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from api.pages.sessions import MOST_OF_A_KEY
from tests.pages.browser import NARROW, WIDE
from tests.pages.conftest import NewVisit
from tests.pages.nodes import ServedNode

pytestmark = pytest.mark.pages


def signed_in(node: ServedNode, key: str) -> httpx.Client:
    """A client with a session, without a browser."""
    client = httpx.Client(base_url=node.url, headers={"Origin": node.url}, timeout=60)
    answered = client.post("/ui/sign-in", data={"key": key})
    assert (answered.status_code, answered.headers["location"]) == (303, "/ui/")
    return client


def test_a_key_opens_a_session_and_signing_out_ends_it(
    visit_node: NewVisit, node: ServedNode
) -> None:
    with visit_node() as visit:
        visit.page.goto(f"{node.url}/ui/")
        assert visit.page.url.endswith("/ui/sign-in")
        visit.sign_in(node.key)
        (cookie,) = visit.page.context.cookies()
        assert cookie["httpOnly"] is True
        assert (cookie["sameSite"], cookie["path"], cookie["secure"]) == ("Strict", "/ui", False)
        assert node.key not in cookie["value"]
        visit.page.get_by_role("button", name="Sign out").click()
        visit.page.wait_for_url(re.compile("/ui/sign-in"))
        visit.page.context.add_cookies([cookie])
        visit.page.goto(f"{node.url}/ui/")
        assert visit.page.url.endswith("/ui/sign-in")


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("is_dark", [False, True])
def test_the_sign_in_page_can_be_used_by_everybody(
    visit_node: NewVisit, size: tuple[int, int], is_dark: bool
) -> None:
    with visit_node(size=size, is_dark=is_dark) as visit:
        visit.page.goto(f"{visit.url}/ui/sign-in")
        assert visit.violations() == []
        assert visit.overflow() == 0


def test_what_is_no_key_is_refused_in_words(visit_node: NewVisit) -> None:
    with visit_node() as visit:
        visit.page.goto(f"{visit.url}/ui/sign-in")
        for wrong in ("<script>alert(1)</script>", "alcove_000000000000_" + "x" * 43):
            visit.page.get_by_label("Key").fill(wrong)
            with visit.page.expect_response(lambda answer: answer.request.method == "POST"):
                visit.page.get_by_role("button", name="Sign in").click()
            shown = visit.page.get_by_role("alert")
            expect(shown).to_have_text("The key is wrong or was revoked.")
            expect(visit.page.get_by_label("Key")).to_have_value("")
        # The browser calls an answer 401 an error of the page.
        assert all("401" in problem for problem in visit.problems)
        visit.problems.clear()


def test_a_revoked_key_ends_its_sessions(node: ServedNode) -> None:
    key = node.new_key(assistants=["default"])
    client = signed_in(node, key)
    assert client.get("/ui/api/v1/models").status_code == 200
    key_id = key.split("_")[1]
    assert node.owner.delete(f"/v1/keys/{key_id}").is_success
    assert client.get("/ui/api/v1/models").status_code == 401


def test_a_session_may_do_what_its_key_may(node: ServedNode) -> None:
    client = signed_in(node, node.new_key(assistants=["default"]))
    assert client.get("/ui/api/v1/keys").status_code == 403
    owner = signed_in(node, node.key)
    assert owner.get("/ui/api/v1/keys").status_code == 200


def test_a_header_does_not_outdo_the_session(node: ServedNode) -> None:
    """An owner's key in a header, which no page sends, is not looked at."""
    client = signed_in(node, node.new_key(assistants=["default"]))
    headers = {"Authorization": f"Bearer {node.key}"}
    assert client.get("/ui/api/v1/keys", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "origin", [None, "null", "https://elsewhere.example", "http://127.0.0.1:1", "http://[::1"]
)
def test_requests_that_other_sites_make_are_refused(node: ServedNode, origin: str | None) -> None:
    client = signed_in(node, node.key)
    del client.headers["Origin"]
    headers = {} if origin is None else {"Origin": origin}
    for path in ("/ui/api/v1/keys", "/ui/sign-out", "/ui/sign-in", "/ui/documents"):
        answered = client.post(path, headers=headers, json={"label": "forged", "scope": "owner"})
        assert (answered.status_code, answered.text) == (403, "sent by another site")
    assert "forged" not in client.get("/ui/api/v1/keys").text


def test_sockets_need_a_session_and_this_site(node: ServedNode) -> None:
    path = "/ui/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    client = signed_in(node, node.key)
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert client.get(path, headers={**upgrade, **elsewhere}).status_code == 403
    stranger = httpx.Client(base_url=node.url, headers={"Origin": node.url}, timeout=60)
    assert stranger.get(path, headers=upgrade).status_code == 403
    with client.stream("GET", path, headers=upgrade) as response:
        assert response.status_code == 101


def test_nothing_but_the_sign_in_page_is_shown_to_strangers(node: ServedNode) -> None:
    gets = ("", "/", "/documents", "/api/v1/models", "/nothing", "/_nicegui_ws/", "/sign-in-not")
    gets += ("/_nicegui/x",)
    asked = [("GET", path) for path in gets]
    asked.append(("POST", "/_nicegui/client/00000000-0000-0000-0000-000000000000/upload/1"))
    for method, path in asked:
        answered = httpx.request(
            method, f"{node.url}/ui{path}", headers={"Origin": node.url}, timeout=60
        )
        assert (answered.status_code, answered.headers["location"]) == (303, "/ui/sign-in")


def test_a_session_is_not_the_one_that_the_browser_came_with(node: ServedNode) -> None:
    """Session fixation: whoever planted a cookie must not share what is opened with it; and the
    session before is over."""
    client = signed_in(node, node.new_key(assistants=["default"]))
    before = client.cookies.jar
    planted = {cookie.name: cookie.value for cookie in before}
    answered = client.post("/ui/sign-in", data={"key": node.key})
    assert answered.status_code == 303
    assert {cookie.name: cookie.value for cookie in client.cookies.jar} != planted
    late = httpx.Client(base_url=node.url, cookies=planted, timeout=60)
    assert late.get("/ui/api/v1/models").status_code == 303


def test_pages_say_what_browsers_must_refuse(node: ServedNode) -> None:
    client = signed_in(node, node.key)
    headers = client.get("/ui/").headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    data = client.get("/ui/api/v1/models").headers["content-security-policy"]
    assert data == "default-src 'none'; frame-ancestors 'none'; sandbox"
    sign_in = httpx.get(f"{node.url}/ui/sign-in", timeout=60).headers["content-security-policy"]
    assert sign_in == (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def test_a_header_of_proxies_sends_nobody_elsewhere(node: ServedNode) -> None:
    answered = httpx.get(
        f"{node.url}/ui/", headers={"X-Forwarded-Prefix": "//elsewhere.example"}, timeout=60
    )
    assert answered.headers["location"] == "/ui/sign-in"


def test_an_upload_may_be_larger_than_other_bodies(node: ServedNode) -> None:
    client = signed_in(node, node.key)
    content = b"x" * 3_000_000
    path = "/ui/api/v1/assistants/default/documents"
    assert client.post(path, files={"file": ("large.txt", content)}).status_code != 413
    large = {"assistant": "default", "query": "x" * 3_000_000}
    assert client.post("/ui/api/v1/search", json=large).status_code == 413


def test_one_keys_sessions_end_no_others(node: ServedNode) -> None:
    owner, key = signed_in(node, node.key), node.new_key(assistants=["default"])
    first = signed_in(node, key)
    for _ in range(MOST_OF_A_KEY):
        signed_in(node, key)
    assert owner.get("/ui/api/v1/models").status_code == 200
    assert first.get("/ui/api/v1/models").status_code == 303


def test_a_socket_speaks_for_no_page_of_another_session(
    visit_node: NewVisit, node: ServedNode
) -> None:
    """The address of somebody's socket, as a proxy logs it, is worth nothing to anybody else."""
    addresses: list[str] = []
    with visit_node() as visit:
        visit.page.on("websocket", lambda socket: addresses.append(socket.url))
        visit.sign_in(node.key)
        for key in (node.new_key(assistants=["default"]), node.key):
            assert not opens(addresses[-1], signed_in(node, key), node.url)


def opens(address: str, client: httpx.Client, origin: str) -> bool:
    """Whether the server takes a socket of this client for the page that the address names."""
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    with connect(address, origin=Origin(origin), additional_headers={"Cookie": cookie}) as socket:
        assert str(socket.recv()).startswith("0{")
        socket.send("40")
        try:
            return str(socket.recv()).startswith("40")
        except ConnectionClosed:
            return False
