"""Uploads, jobs, updates, listing and erasure over HTTP."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.api.conftest import Served, Upload
from tests.retrieval import documents
from tests.served import wait


def text(topic: str) -> bytes:
    return f"# About {topic}\n\nThe {topic} is kept in the cellar beside the old loom.\n".encode()


def test_an_upload_becomes_documents(owner: httpx.Client, assistant: str, upload: Upload) -> None:
    job = upload(assistant, {"one.md": text("anvil"), "two.txt": text("bellows")})
    assert job["state"] == "done"
    assert job["progress"] == 1
    assert job["result"] == {"done": 2, "duplicate": 0, "failed": 0}
    listed = owner.get(f"/v1/assistants/{assistant}/documents").json()["data"]
    assert {document["name"] for document in listed} == {"one.md", "two.txt"}
    one = owner.get(f"/v1/assistants/{assistant}/documents/{listed[0]['id']}").json()
    assert one == listed[0]
    passages = owner.get(f"/v1/assistants/{assistant}/documents/{one['id']}/passages").json()
    assert len(passages["data"]) == one["passages"] == 1


def test_bad_files_fail_alone(owner: httpx.Client, assistant: str, upload: Upload) -> None:
    job = upload(
        assistant,
        {
            "good.md": text("lantern"),
            "empty.txt": b"",
            "broken.pdf": b"%PDF-1.7\nnothing",
            "binary.txt": bytes(range(256)) * 40,
            "huge.txt": b"x" * 2_000_001,
            "bomb.docx": documents.swollen_word(30),
        },
    )
    assert job["state"] == "done"
    states = {
        item["name"]: (item["state"], (item["error"] or {}).get("code")) for item in job["items"]
    }
    assert states["good.md"] == ("done", None)
    assert states["empty.txt"] == ("failed", "empty")
    assert states["broken.pdf"] == ("failed", "broken")
    assert states["binary.txt"] == ("failed", "unsupported_type")
    assert states["bomb.docx"] == ("failed", "expands_too_much")
    assert states["huge.txt"] == ("failed", "too_large")
    assert all(item["error"]["message"] for item in job["items"] if item["state"] == "failed")


def test_the_same_content_is_stored_once(
    owner: httpx.Client, assistant: str, upload: Upload
) -> None:
    first = upload(assistant, {"a.md": text("spindle")})["items"][0]
    again = upload(assistant, {"b.md": text("spindle")})["items"][0]
    assert (again["state"], again["document_id"]) == ("duplicate", first["document_id"])
    assert owner.get(f"/v1/assistants/{assistant}").json()["documents"] == 1


def test_an_external_id_is_updated_in_place(
    owner: httpx.Client, assistant: str, upload: Upload
) -> None:
    old = upload(assistant, {"a.md": text("quern")}, external_id="x")["items"][0]
    new = upload(assistant, {"a.md": text("mangle")}, external_id="x")["items"][0]
    assert new["document_id"] == old["document_id"]
    listed = owner.get(f"/v1/assistants/{assistant}/documents", params={"external_id": "x"})
    (document,) = listed.json()["data"]
    assert (document["version"], document["passages"]) == (2, 1)
    search = {"assistant": assistant, "query": "quern", "mode": "lexical"}
    assert owner.post("/v1/search", json=search).json()["data"] == []


def test_any_document_can_be_replaced(owner: httpx.Client, assistant: str, upload: Upload) -> None:
    attributes = json.dumps({"year": 2025})
    old = upload(assistant, {"a.md": text("quern")}, attributes=attributes)["items"][0]
    path = f"/v1/assistants/{assistant}/documents/{old['document_id']}"
    for version, topic in ((2, "mangle"), (3, "treadle")):
        accepted = owner.put(path, files={"file": (f"{topic}.md", text(topic))})
        assert accepted.status_code == 202, accepted.text
        assert wait(owner, accepted.json()["id"])["items"][0]["document_id"] == old["document_id"]
        new = owner.get(path).json()
        assert (new["version"], new["name"]) == (version, f"{topic}.md")
        assert new["attributes"] == {"year": 2025}
    assert owner.get(f"/v1/assistants/{assistant}").json()["documents"] == 1
    unknown = owner.put(f"{path}0", files={"file": ("a.md", b"x")})
    assert unknown.json()["error"]["code"] == "document_not_found"
    upload(assistant, {"other.md": text("bellows")})
    twice = owner.put(path, files={"file": ("b.md", text("bellows"))}).json()
    (item,) = wait(owner, twice["id"])["items"]
    assert item["error"]["code"] == "duplicate_content"


def test_documents_are_found_by_a_part_of_their_name(
    owner: httpx.Client, assistant: str, upload: Upload
) -> None:
    upload(assistant, {"Harbour rules.md": text("quern"), "menu.md": text("mangle")})
    given = {"filter": json.dumps({"name": {"$contains": "HARBOUR"}})}
    listed = owner.get(f"/v1/assistants/{assistant}/documents", params=given).json()["data"]
    assert [document["name"] for document in listed] == ["Harbour rules.md"]


def test_jobs_are_listed_in_pages(
    served: Served, owner: httpx.Client, assistant: str, harbour: str, upload: Upload
) -> None:
    sent = [upload(assistant, {f"{n}.md": text(f"object {n}")}) for n in range(3)]
    erased = owner.delete(
        f"/v1/assistants/{assistant}/documents/{sent[0]['items'][0]['document_id']}"
    ).json()
    path = f"/v1/assistants/{assistant}/jobs"
    first = owner.get(path, params={"limit": 3}).json()
    second = owner.get(path, params={"limit": 3, "after": first["next_after"]}).json()
    found = first["data"] + second["data"]
    assert second["next_after"] is None and len(first["data"]) == 3
    assert {job["id"] for job in found} == {job["id"] for job in [*sent, erased]}
    times = [job["created_at"] for job in found]
    assert times == sorted(times, reverse=True)
    receipts = owner.get(path, params={"kind": "erase"}).json()["data"]
    assert [job["result"] for job in receipts] == [erased["result"]]
    assert owner.get(path, params={"after": "job-0"}).json()["error"]["code"] == "unknown_job"
    given = {"label": "x", "scope": "owner", "assistants": [harbour]}
    key = owner.post("/v1/keys", json=given).json()["key"]
    with served.client(key) as other:
        assert other.get(path).status_code == 404


def test_paging_covers_everything_once(owner: httpx.Client, assistant: str, upload: Upload) -> None:
    upload(assistant, {f"{n}.md": text(f"object number {n}") for n in range(7)})
    seen: list[str] = []
    after: str | None = None
    while True:
        params = {"limit": 3} | ({"after": after} if after else {})
        page = owner.get(f"/v1/assistants/{assistant}/documents", params=params).json()
        seen += [document["name"] for document in page["data"]]
        after = page["next_after"]
        if after is None:
            break
    assert sorted(seen) == [f"{n}.md" for n in range(7)]


def test_passages_come_in_pages_in_order(
    owner: httpx.Client, assistant: str, upload: Upload
) -> None:
    sections = "".join(f"# Part {n}\n\nThe loom has a part number {n}.\n\n" for n in range(60))
    document = upload(assistant, {"a.md": sections.encode()})["items"][0]["document_id"]
    path = f"/v1/assistants/{assistant}/documents/{document}"
    seen: list[int] = []
    page = owner.get(f"{path}/passages").json()
    assert len(page["data"]) == 50
    while True:
        seen += [passage["position"] for passage in page["data"]]
        if page["next_after"] is None:
            break
        params = {"after": page["next_after"], "limit": 7}
        page = owner.get(f"{path}/passages", params=params).json()
        assert len(page["data"]) <= 7
    assert seen == list(range(owner.get(path).json()["passages"]))
    assert len(seen) > 57
    assert owner.get(f"{path}/passages", params={"limit": 201}).status_code == 400


def test_filters_choose_documents(owner: httpx.Client, assistant: str, upload: Upload) -> None:
    upload(assistant, {"a.md": text("red kiln")}, attributes=json.dumps({"year": 2001}))
    upload(assistant, {"b.md": text("blue kiln")}, attributes=json.dumps({"year": 2020}))
    search = {"assistant": assistant, "query": "kiln", "filter": {"year": {"$gte": 2010}}}
    assert [hit["name"] for hit in owner.post("/v1/search", json=search).json()["data"]] == ["b.md"]
    listed = owner.get(
        f"/v1/assistants/{assistant}/documents", params={"filter": json.dumps({"year": 2001})}
    )
    assert [document["name"] for document in listed.json()["data"]] == ["a.md"]


def test_an_erased_document_is_gone_and_has_a_receipt(
    owner: httpx.Client, assistant: str, upload: Upload, served: Served
) -> None:
    rare = "zyxwvutization"
    document = upload(assistant, {"s.md": text(rare)})["items"][0]["document_id"]
    erased = owner.delete(f"/v1/assistants/{assistant}/documents/{document}")
    assert erased.status_code == 200
    receipt = erased.json()["result"]["receipt"]
    assert receipt["documents"] == [{"id": document, "passages": 1, "vectors": 1}]
    assert receipt["adapters"]
    assert receipt["not_covered"]
    holding = [
        path
        for path in served.home.rglob("*")
        if path.is_file() and rare[3:].encode() in path.read_bytes()
    ]
    assert holding == []
    assert owner.get(f"/v1/assistants/{assistant}/documents/{document}").status_code == 404
    assert owner.delete(f"/v1/assistants/{assistant}/documents/{document}").status_code == 404


def test_many_are_erased_with_one_receipt(
    owner: httpx.Client, assistant: str, upload: Upload
) -> None:
    items = upload(assistant, {f"{n}.md": text(f"thing {n}") for n in range(4)})["items"]
    ids = [item["document_id"] for item in items[:3]]
    erased = owner.post(f"/v1/assistants/{assistant}/documents/erase", json={"ids": ids})
    assert [d["id"] for d in erased.json()["result"]["receipt"]["documents"]] == ids
    assert owner.get(f"/v1/assistants/{assistant}").json()["documents"] == 1
    unknown = owner.post(
        f"/v1/assistants/{assistant}/documents/erase",
        json={"ids": [items[3]["document_id"], "doc-0"]},
    )
    assert unknown.status_code == 404
    assert owner.get(f"/v1/assistants/{assistant}").json()["documents"] == 1


def test_deleting_an_assistant_removes_its_text(owner: httpx.Client, served: Served) -> None:
    assert owner.post("/v1/assistants", json={"name": "shortlived"}).status_code == 201
    files = [("file", ("s.md", text("qwertzuiopation")))]
    job = owner.post("/v1/assistants/shortlived/documents", files=files).json()
    wait(owner, job["id"])
    assert owner.delete("/v1/assistants/shortlived").status_code == 204
    assert owner.get("/v1/assistants/shortlived").status_code == 404
    assert owner.get(f"/v1/jobs/{job['id']}").status_code == 404
    holding = [
        path
        for path in served.home.rglob("*")
        if path.is_file() and b"wertzuiopation" in path.read_bytes()
    ]
    assert holding == []


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"attributes": "[1]"}, 400),
        ({"attributes": '{"a": {"b": 1}}'}, 400),
        ({"attributes": "{"}, 400),
        ({"external_id": ["a", "b"]}, 400),
        ({"external_id": ""}, 400),
        ({"attributes": '{"a": NaN}'}, 400),
        ({"attributes": r'{"a": "\ud800"}'}, 400),
    ],
)
def test_wrong_uploads_are_refused_whole(
    owner: httpx.Client, served: Served, assistant: str, form: dict[str, object], status: int
) -> None:
    files = [("file", ("a.md", text("sieve")))]
    refused = owner.post(f"/v1/assistants/{assistant}/documents", files=files, data=form)
    assert refused.status_code == status
    assert list((served.home / "uploads").iterdir()) == []
    assert owner.get(f"/v1/assistants/{assistant}").json()["documents"] == 0


def test_a_weight_is_learned_from_labelled_questions(
    owner: httpx.Client, assistant: str, upload: Upload
) -> None:
    items = upload(assistant, {f"{n}.md": text(f"tool {n:03}") for n in range(25)})["items"]
    questions = [
        {"question": f"Where is tool {n:03} kept?", "document_ids": [item["document_id"]]}
        for n, item in enumerate(items)
    ]
    url = f"/v1/assistants/{assistant}/weight"
    learned = owner.put(url, json={"questions": questions}).json()
    assert learned["weight_source"] == "labels"
    assert 0 <= learned["lexical_weight"] <= 1


def test_a_name_that_is_no_text_is_refused_and_leaves_nothing(
    owner: httpx.Client, served: Served, assistant: str
) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a\\ud800.txt"\r\n\r\n'
    refused = owner.post(
        f"/v1/assistants/{assistant}/documents",
        content=head + b"hello there\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x; charset=unicode_escape"},
    )
    assert refused.status_code == 400
    assert list((served.home / "uploads").iterdir()) == []
