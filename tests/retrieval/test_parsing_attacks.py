"""Files made to do harm, through `parse`: archives, entities, addresses to fetch."""

import struct
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.retrieval import documents
from tests.retrieval.documents import LIMITS
from tests.retrieval.reading import refusal


def test_a_small_word_file_of_200_megabytes(read):
    bomb = documents.swollen_word(200)
    assert len(bomb) < 700_000
    assert refusal(read, bomb, "a.docx").code == "expands_too_much"


def test_sizes_that_the_headers_hide(read):
    limits = replace(LIMITS, expanded_bytes=1 << 20)
    honest = documents.with_member(documents.word(), "word/media/noise.bin", bytes(5 << 20))
    assert refusal(read, honest, "a.docx", limits).code == "expands_too_much"
    lying = honest.replace(struct.pack("<I", 5 << 20), struct.pack("<I", 10))
    assert lying != honest
    assert refusal(read, lying, "a.docx", limits).code == "broken"


def test_members_that_overlap_count_each_time(read):
    """One member under many names, as in D. Fifield, "A better zip bomb" (WOOT 2019)."""
    size = 1 << 20
    single = documents.archive({"a": bytes(size)})
    directory = single.index(b"PK\x01\x02")
    end = single.index(b"PK\x05\x06")
    entry = single[directory:end]
    count = 100
    overlapping = (
        single[:directory]
        + entry * count
        + struct.pack(
            "<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, directory, 0
        )
    )
    limits = replace(LIMITS, expanded_bytes=50 * size)
    assert refusal(read, overlapping, "a.docx", limits).code == "expands_too_much"


def test_very_many_members_are_refused(read):
    many = documents.archive({f"{i}": b"" for i in range(20_001)}, zipfile.ZIP_STORED)
    assert refusal(read, many, "a.docx").code == "expands_too_much"


def test_compression_of_other_archives_is_refused(read):
    packed = documents.archive({"[Content_Types].xml": bytes(10_000)}, zipfile.ZIP_BZIP2)
    assert refusal(read, packed, "a.docx").code == "broken"


_LAUGHS = b'<!DOCTYPE x [<!ENTITY a "lol">' + b"".join(
    b'<!ENTITY %c "%s">' % (letter, b"&%c;" % (letter - 1) * 10) for letter in range(98, 106)
)
_ENTITIES = {
    "laughs": _LAUGHS + b"]><x>&i;</x>",
    "external": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
    "dtd": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("entity", _ENTITIES)
@pytest.mark.parametrize("part", ["word/document.xml", "word/styles.bin", "docProps/core.xml"])
def test_entities_are_refused_in_any_part(read, part, entity, encoding):
    xml = b"<?xml version='1.0'?>".decode() + _ENTITIES[entity].decode()
    bomb = documents.with_member(documents.word(), part, xml.encode(encoding))
    refused = refusal(read, bomb, "a.docx")
    assert refused.code == "broken"
    assert "entities" in refused.message


def test_entities_behind_many_blanks_are_refused(read):
    bomb = b" \n" * 50_000 + _ENTITIES["external"]
    refused = refusal(read, documents.with_member(documents.word(), "word/document.xml", bomb), "a")
    assert "entities" in refused.message


def test_xml_nested_too_deep_is_broken(read):
    deep = documents.word_xml(b"<w:p>" * 50_000 + b"</w:p>" * 50_000)
    bomb = documents.with_member(documents.word(), "word/document.xml", deep)
    assert "nested" in refusal(read, bomb, "a.docx").message


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback and the list of paths that were asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_nothing_is_fetched(read, listener):
    url, asked = listener
    page = (
        f"<html><head><link rel=stylesheet href='{url}/css'><base href='{url}/'></head><body>"
        f"<img src='{url}/png'><iframe src='{url}/frame'></iframe>"
        f"<object data='{url}/object'></object>Text</body></html>"
    )
    read(page.encode(), "a.html")
    relationships = (
        '<?xml version="1.0"?><Relationships xmlns='
        '"http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/image" '
        f'Target="{url}/image.png" TargetMode="External"/></Relationships>'
    )
    picture = (
        b'<w:p><w:r><w:drawing><a:blip xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/'
        b'main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" '
        b'r:link="rId1"/></w:drawing></w:r></w:p><w:p><w:r><w:t>Text</w:t></w:r></w:p>'
    )
    linked = documents.with_member(
        documents.with_member(
            documents.word(), "word/_rels/document.xml.rels", relationships.encode()
        ),
        "word/document.xml",
        documents.word_xml(picture),
    )
    assert read(linked, "a.docx").text == "Text"
    assert asked == []
