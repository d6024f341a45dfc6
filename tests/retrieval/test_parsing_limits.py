"""Files that are damaged, empty or too large, through `parse`."""

import io
import os
from dataclasses import replace

import openpyxl
import pytest
from reportlab.lib import pdfencrypt
from reportlab.pdfgen import canvas

from retrieval.parsing import ParseError, parse
from tests.retrieval import documents
from tests.retrieval.documents import LIMITS
from tests.retrieval.reading import refusal


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
