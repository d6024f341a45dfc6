"""Files as people have them, through `parse`: formats, types, encodings."""

import pytest

from retrieval.parsing import ParsedDocument, parse_text
from tests.retrieval import documents
from tests.retrieval.reading import refusal

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def bodies(document: ParsedDocument) -> list[tuple[tuple[str, ...], str]]:
    return [(s.path, document.text[s.start : s.end].strip()) for s in document.sections]


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
