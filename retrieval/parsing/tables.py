"""Delimited text and spreadsheets as Markdown tables, one row a line."""

import csv
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, time
from pathlib import Path

from retrieval.parsing.records import ParseLimits, too_much_text

SEPARATOR = "-"  # one dash a column is the shortest delimiter row of GitHub's Markdown tables


def csv_table(text: str) -> str:
    """A CSV or TSV file as one Markdown table; its first row is the header.

    Raises csv.Error where the text is not delimited text.
    """
    sample = text[: 64 * 1024].split("\n")[:50]
    delimiter = max(",;\t|", key=lambda mark: _columns(sample, mark))
    return "\n".join(_markdown(csv.reader(io.StringIO(text), delimiter=delimiter)))


def workbook_tables(path: Path, limits: ParseLimits) -> str:
    """Each visible sheet of an XLSX file as a heading and a Markdown table, values not formulas.

    Read by openpyxl itself: markitdown goes through pandas and HTML, which takes ten times as
    long and writes NaN into empty cells.
    """
    import openpyxl  # type: ignore[import-untyped]

    lines: list[str] = []
    left = limits.text_characters
    with path.open("rb") as file, warnings.catch_warnings():  # a path would be judged by its name
        warnings.simplefilter("ignore")  # styles and extensions that openpyxl does not know
        workbook = openpyxl.load_workbook(file, read_only=True, data_only=True)
        for sheet in workbook.worksheets:
            if sheet.sheet_state != "visible":
                continue
            sheet.reset_dimensions()  # the declared size may be a million empty columns
            rows = ([_cell(value) for value in row] for row in sheet.iter_rows(values_only=True))
            for i, line in enumerate(_markdown(rows)):
                if i == 0:
                    lines += ["", f"## {sheet.title}", ""]
                lines.append(line)
                left -= len(line)
                if left < 0:  # one long shared string can stand in millions of cells
                    raise too_much_text(limits)
        workbook.close()
    return "\n".join(lines).strip()


def _columns(sample: list[str], delimiter: str) -> tuple[int, int]:
    """How many sample rows agree on a column count above one, and that count."""
    try:
        counts = Counter(len(row) for row in csv.reader(sample, delimiter=delimiter) if row)
    except csv.Error:
        return (0, 0)
    counts.pop(1, None)
    return max(((n, columns) for columns, n in counts.items()), default=(0, 0))


def _markdown(rows: Iterable[list[str]]) -> Iterator[str]:
    header = True
    for row in rows:
        cells = [" ".join(cell.replace("|", "\\|").split()) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield "| " + " | ".join(cells) + " |"
            if header:
                yield "|" + f"{SEPARATOR}|" * len(cells)
                header = False


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return format(value, ".15g")  # the digits that a spreadsheet shows
    if isinstance(value, datetime):
        return (
            value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
        )
    return str(value)
