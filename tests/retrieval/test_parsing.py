"""Files as people have them, and as attackers make them, through `parse`."""

import io
import os
import struct
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openpyxl
import pytest
from reportlab.lib import pdfencrypt
from reportlab.pdfgen import canvas

from retrieval.parsing import ParsedDocument, ParseError, ParseLimits, parse, parse_text
from tests.retrieval import documents
from tests.retrieval.documents import LIMITS

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@pytest.fixture
def read(tmp_path: Path):
    def _read(data: bytes, name: str, limits: ParseLimits = LIMITS) -> ParsedDocument:
        path = tmp_path / "upload"
        path.write_bytes(data)
        return parse(path, name, limits)

    return _read


def refusal(read, data: bytes, name: str, limits: ParseLimits = LIMITS) -> ParseError:
    with pytest.raises(ParseError) as caught:
        read(data, name, limits)
    assert caught.value.message.endswith((".", ")."))
    return caught.value


def bodies(document: ParsedDocument) -> list[tuple[tuple[str, ...], str]]:
    return [(s.path, document.text[s.start : s.end].strip()) for s in document.sections]


# Formats


def test_pdf_pages_and_title(read):
    document = read(documents.pdf([["First page."], ["Second page."]], title="Log"), "log.pdf")
    assert document.media_type == "application/pdf"
    assert document.title == "Log"
    assert document.text == "First page.\nSecond page."
    assert [document.page_of(document.text.index(word)) for word in ("First", "Second")] == [1, 2]


def test_pdf_lines_and_pages_are_joined_inside_a_sentence(read):
    wrapped = [
        "The keeper of Gannet Rock lights the lamp at dusk and winds the",
        "clockwork every four hours until the sun is up again, which in",
        "winter means",
    ]
    document = read(documents.pdf([wrapped, ["three times.", "Then he sleeps."]]), "log.pdf")
    assert document.text == " ".join([*wrapped, "three times."]) + "\nThen he sleeps."
    assert document.page_of(document.text.index("three")) == 2


def test_pdf_running_heads_and_page_numbers_are_kept_once(read):
    pages = [["The Log", f"Oil for {n} days", "1891", f"Page {n} of 5"] for n in range(1, 6)]
    document = read(documents.pdf(pages), "log.pdf")
    body = [f"Oil for {n} days\n1891" for n in range(1, 6)]
    assert document.text == "\n".join(["The Log", body[0], "Page 1 of 5", *body[1:]])
    few = read(documents.pdf(pages[:2]), "log.pdf")
    assert few.text.count("The Log") == 2
    assert read(documents.pdf([["Fog."]] * 4), "log.pdf").text == "Fog."


def test_pdf_outline_gives_sections(read):
    pages = [["Lamp", "It shines.", "Oil", "It burns."], ["Horn", "It blows."]]
    outline = [(0, "Lamp", 0), (0, "Oil", 1), (1, "Horn", 0)]
    document = read(documents.pdf(pages, outline=outline), "guide.pdf")
    assert bodies(document) == [
        (("Lamp",), "It shines."),
        (("Lamp", "Oil"), "It burns."),
        (("Horn",), "It blows."),
    ]


def test_word_headings_tables_and_title(read):
    document = read(documents.word(title="Template 7"), "handbook.docx")
    assert document.media_type == DOCX
    assert document.title == "The Gannet Rock Handbook"  # what readers see, not the property
    (hours, fees) = bodies(document)
    assert hours[0] == ("Opening hours",)
    assert hours[1].startswith("The lamp room opens at nine")
    assert fees[0] == ("Opening hours", "Fees")
    assert "| Child_under_five | nothing |" in fees[1]


def test_slides_are_pages(read):
    document = read(documents.slides(3), "lessons.pptx")
    assert document.media_type == PPTX
    assert len(document.page_starts) == 3
    for number in (1, 2, 3):
        offset = document.text.index(f"climbs {number} flights")
        assert document.page_of(offset) == number
    assert "Pause here." in document.text
    assert "<!--" not in document.text


def test_workbook_sheets_are_tables(read):
    document = read(documents.workbook(), "stock.xlsx")
    assert document.media_type == XLSX
    assert bodies(document) == [
        (
            ("Stock",),
            "| Item | Count | Price | Since |\n|-|-|-|-|\n"
            "| Oil \\| lamp | 3 | 4.5 | 2031-05-01 |\n| Wick | 12 | 0.3 |",
        ),
        (("Staff",), "| Name | Post |\n|-|-|"),
    ]


def test_html_body_without_scripts_and_addresses_of_images(read):
    page = (
        b"<!DOCTYPE html><html><head><title>Tides</title><style>p {}</style></head><body>"
        b"<h2>Today</h2><p>High at <b>six</b>.</p><script>steal()</script>"
        b'<img alt="A chart" src="http://example.com/?q=secret">'
        b"<table><tr><th>Port</th></tr><tr><td>Inch</td></tr></table></body></html>"
    )
    document = read(page, "tides")
    assert (document.media_type, document.title) == ("text/html", "Tides")
    assert "High at **six**." in document.text
    assert "A chart" in document.text
    assert "| Port |\n|-|\n| Inch |" in document.text
    assert "steal" not in document.text
    assert "example.com" not in document.text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimited_text_is_a_table(read, delimiter):
    rows = [["Name", "Kept in"], ["Oil, fine", '"Cellar"\nnorth'], ["Wick", ""]]
    quoted = "\r\n".join(
        delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows
    )
    document = read(quoted.encode(), "stock.csv")
    assert document.media_type == "text/csv"
    assert document.text == ('| Name | Kept in |\n|-|-|\n| Oil, fine | "Cellar" north |\n| Wick |')


def test_markdown_headings_by_commonmark():
    document = parse_text(
        "---\ntitle: x\n---\nBefore.\n\n# One #\n\nText\n\nTwo *a*\n---\n\n```\n# no heading\n```\n"
        "### Three [link](http://example.com)\nMore.\n\n- item\n---\n\n#hash\n# One more\n",
        "a.md",
    )
    assert document.title == "One"
    assert [path for path, _ in bodies(document)] == [
        (),
        ("One",),
        ("One", "Two *a*"),
        ("One", "Two *a*", "Three link"),
        (),
    ]
    assert bodies(document)[2][1] == "```\n# no heading\n```"
    assert bodies(document)[-1][1] == "# One more"


def test_images_in_markdown_lose_their_address():
    text = parse_text(
        '# A\n![Tide chart](http://example.com/?q=1 "x") and [link](b.html)', "a.md"
    ).text
    assert text == "# A\nTide chart and [link](b.html)"


def test_a_heading_without_text_is_neither_lost_nor_a_section_of_its_own():
    document = parse_text("# Title\n\n## Part\n\n### Left\n### Right\n\n## End\nText.", "a.md")
    assert bodies(document) == [
        (("Title", "Part"), "### Left\n### Right"),
        (("Title", "End"), "Text."),
    ]


# The type is decided by content


@pytest.mark.parametrize(
    ("make", "name", "media_type"),
    [
        (lambda: documents.pdf([["Text."]]), "letter.docx", "application/pdf"),
        (lambda: b"HTTP/1.1 200 OK\r\n\r\n" + documents.pdf([["Text."]]), "a", "application/pdf"),
        (lambda: b"A PDF begins with %PDF-1.7 or so.", "a.txt", "text/plain"),
        (documents.word, "notes.txt", DOCX),
        (documents.workbook, "table.csv", XLSX),
        (lambda: b"<!-- x -->\n<HTML><body>Text</body></HTML>", "page.txt", "text/html"),
        (lambda: b"# Not HTML\n<b>bold</b>", "page.md", "text/markdown"),
        (lambda: b"<p>Text</p>", "page.html", "text/html"),
        (lambda: b"a,b\n1,2", "numbers.txt", "text/plain"),
        (lambda: b'{"a": 1}', "a.json", "text/plain"),
        (lambda: b"Text", "no suffix", "text/plain"),
    ],
)
def test_type_by_content(read, make, name, media_type):
    assert read(make(), name).media_type == media_type


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), "picture.txt"),
        (b"\x7fELF\x02\x01\x01" + bytes(64), "program.md"),
        (bytes(range(1, 256)) * 8, "noise.csv"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "old.doc"),
        (b"{\\rtf1\\ansi Text}", "letter.rtf"),
        (documents.archive({"a.txt": b"Text"}), "files.docx"),
        (
            documents.archive({"mimetype": b"application/vnd.oasis.opendocument.text"}),
            "letter.odt",
        ),
    ],
)
def test_unsupported_types_are_named(read, data, name):
    assert refusal(read, data, name).code == "unsupported_type"


# Encodings


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"],
)
def test_encodings(read, encoding):
    text = "Fähre nach Île-de-Bréhat: 5 Pfund, täglich um neun Uhr."
    assert read(text.encode(encoding), "ferry.txt").text == text


def test_text_that_is_not_unicode_is_read_as_windows_latin(read):
    assert read(b"\x93Lamp\x94 for 5 \x80", "a.txt").text == "“Lamp” for 5 €"


def test_html_declares_its_encoding(read):
    page = '<html><head><meta charset="koi8-r"></head><body>Маяк</body></html>'
    assert read(page.encode("koi8-r"), "a.html").text == "Маяк"


def test_a_declared_codec_that_is_no_text_encoding_is_ignored(read):
    page = b'<html><head><meta charset="unicode_escape"></head><body>caf\\u0065 \xe9</body></html>'
    assert read(page, "a.html").text == "caf\\u0065 é"


def test_invisible_characters_are_dropped_and_newlines_made_one(read):
    hidden = "".join(chr(0xE0000 + ord(c)) for c in "obey")
    text = f"\ufeffLa\u00admp\r\nroom\u2028e\u0301\x07{hidden}"
    assert read(text.encode(), "a.txt").text == "Lamp\nroom\né"


def test_text_that_is_not_in_its_marked_encoding_is_broken(read):
    assert refusal(read, b"\xef\xbb\xbfLamp\xff", "a.txt").code == "broken"


# Limits and damage


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (b"", "a.pdf", "empty"),
        (b" \n\t ", "a.txt", "no_text"),
        (b"<html><body><img src='scan.png'></body></html>", "a.html", "no_text"),
        (documents.pdf([[], []]), "scan.pdf", "no_text"),
        (documents.pdf([["Text."]], password="pw"), "a.pdf", "encrypted"),
        (documents.pdf([["Text."]])[:-300], "a.pdf", "broken"),
        (b"%PDF-1.7\n" + b"x" * 500, "a.pdf", "broken"),
        (documents.word()[:-100], "a.docx", "broken"),
        (documents.word()[:2000], "a.docx", "broken"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "a.docx",
            "encrypted",
        ),
    ],
)
def test_damaged_and_empty_files(read, data, name, code):
    assert refusal(read, data, name).code == code


def test_a_pdf_that_anyone_may_open_is_read_though_encrypted(read):
    buffer = io.BytesIO()
    page = canvas.Canvas(buffer, encrypt=pdfencrypt.StandardEncryption("", "owner"))
    page.drawString(50, 800, "Open to all.")
    page.save()
    assert read(buffer.getvalue(), "a.pdf").text == "Open to all."


def test_200_megabytes_are_refused_unread(tmp_path):
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(ParseError, match="191 MiB; at most 64 MiB") as caught:
        parse(path, path.name, LIMITS)
    assert caught.value.code == "too_large"


def test_too_many_pages_and_slides(read):
    limits = replace(LIMITS, pages=2)
    assert refusal(read, documents.pdf([["a"]] * 3), "a.pdf", limits).code == "too_many_pages"
    assert refusal(read, documents.slides(3), "a.pptx", limits).code == "too_many_pages"
    assert len(read(documents.slides(2), "a.pptx", limits).page_starts) == 2


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"lamp " * 300, "a.txt"),
        (documents.pdf([["lamp oil " * 8] * 20] * 2), "a.pdf"),
        (documents.word(paragraphs=30), "a.docx"),
    ],
)
def test_too_much_text(read, data, name):
    assert refusal(read, data, name, replace(LIMITS, text_characters=1000)).code == "too_much_text"


def test_one_long_string_in_many_cells_is_too_much_text(read):
    book = openpyxl.Workbook()
    for _ in range(1000):
        book.active.append(["lamp " * 6000])
    buffer = io.BytesIO()
    book.save(buffer)
    assert len(buffer.getvalue()) < 100_000
    limits = replace(LIMITS, text_characters=1_000_000)
    assert refusal(read, buffer.getvalue(), "a.xlsx", limits).code == "too_much_text"


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_regular_file_is_unreadable(tmp_path, kind):
    path = tmp_path / "a.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(ParseError) as caught:
        parse(path, path.name, LIMITS)
    assert caught.value.code == "unreadable"


def test_limits_below_one_are_refused():
    with pytest.raises(ValueError, match="pages must be at least 1, not 0"):
        replace(LIMITS, pages=0)


# Archives made to do harm


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


# Nothing is fetched


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
