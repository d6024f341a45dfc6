"""Make the PDF, Word, PowerPoint and Excel examples from the texts in `sources/`.

    python examples/build.py [FOLDER]

The same sources always give the same documents. Needs reportlab, python-docx, python-pptx and
openpyxl, which are installed for development.
"""

import csv
import html
import io
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docx
import openpyxl
import pptx
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import cm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import ListFlowable, Paragraph, SimpleDocTemplate, Table

EXAMPLES = Path(__file__).resolve().parent
FORMATS = {
    "quillbrook-veterinary/aftercare-handbook.md": "pdf",
    "quillbrook-veterinary/emergency-protocols.md": "docx",
    "pellow-starling-law/conveyancing-guide.md": "pdf",
    "pellow-starling-law/terms-of-business.md": "docx",
    "pellow-starling-law/scale-of-fees.csv": "xlsx",
    "skerrowmore-lighthouse/history.md": "pdf",
    "skerrowmore-lighthouse/volunteer-handbook.md": "docx",
    "skerrowmore-lighthouse/school-visit.md": "pptx",
    "tamble-growers/storage-and-delivery.md": "pdf",
    "tamble-growers/rules.md": "docx",
    "tamble-growers/equipment-register.csv": "xlsx",
}
DAY = b"2031-01-01T00:00:00Z"


@dataclass(frozen=True)
class Block:
    """A heading ("h1", "h2"), a paragraph ("p"), a list ("ul", "ol") or a "table"."""

    kind: str
    text: str = ""
    items: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def main(target: Path) -> None:
    for source, suffix in FORMATS.items():
        text = (EXAMPLES / "sources" / source).read_text("utf-8")
        path = (target / source).with_suffix(f".{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MAKERS[suffix](text))
        print(path.relative_to(target))


def blocks(text: str) -> Iterator[Block]:
    """The small part of Markdown that the sources use: one blank line between blocks."""
    for part in text.strip().split("\n\n"):
        lines = part.split("\n")
        if heading := re.fullmatch(r"(#+) (.*)", part):
            yield Block(f"h{len(heading[1])}", heading[2])
        elif all(line.startswith("- ") for line in lines):
            yield Block("ul", items=tuple(line[2:] for line in lines))
        elif all(re.match(r"\d+\. ", line) for line in lines):
            yield Block("ol", items=tuple(line.split(" ", 1)[1] for line in lines))
        elif lines[0].startswith("|"):
            rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
            yield Block("table", rows=(rows[0], *rows[2:]))
        else:
            yield Block("p", " ".join(lines))


def runs(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of a line, and whether they are emphasised."""
    for i, piece in enumerate(re.split(r"\*([^*]+)\*", text)):
        if piece:
            yield piece, i % 2 == 1


def make_pdf(text: str) -> bytes:
    styles = getSampleStyleSheet()
    styles["BodyText"].fontName, styles["BodyText"].fontSize = "Times-Roman", 12
    styles["BodyText"].leading = 17

    def paragraph(line: str, style: str = "BodyText") -> Paragraph:
        marked = "".join(
            f"<i>{html.escape(piece)}</i>" if emphasised else html.escape(piece)
            for piece, emphasised in runs(line)
        )
        return Paragraph(marked, styles[style])

    story, title = [], ""
    for block in blocks(text):
        if block.kind in ("h1", "h2"):
            title = title or block.text
            story.append(paragraph(block.text, "Title" if block.kind == "h1" else "Heading2"))
        elif block.kind == "p":
            story.append(paragraph(block.text))
        elif block.kind == "table":
            cells = [[paragraph(cell) for cell in row] for row in block.rows]
            grid = [
                ("GRID", (0, 0), (-1, -1), 0.4, colors.grey),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ]
            story.append(Table(cells, repeatRows=1, style=grid, spaceBefore=6, spaceAfter=10))
        else:
            bullet = "bullet" if block.kind == "ul" else "1"
            items = [paragraph(item) for item in block.items]
            story.append(ListFlowable(items, bulletType=bullet, start=None))

    class Template(SimpleDocTemplate):
        def afterFlowable(self, flowable: object) -> None:  # noqa: N802 - called by reportlab
            style = getattr(getattr(flowable, "style", None), "name", "")
            if style in ("Title", "Heading2"):
                words = flowable.getPlainText()  # type: ignore[attr-defined]
                self.canv.bookmarkPage(words)
                self.canv.addOutlineEntry(words, words, int(style == "Heading2"))

    def footer(canvas: Canvas, document: SimpleDocTemplate) -> None:
        canvas.setFont("Times-Italic", 9)
        canvas.drawCentredString(A4[0] / 2, 1.3 * cm, f"{title}: page {document.page}")

    buffer = io.BytesIO()
    template = Template(
        buffer,
        pagesize=A4,
        margins=2.5 * cm,
        title=title,
        author="",
        invariant=1,
        pageCompression=0,
    )
    template.build(story, onFirstPage=footer, onLaterPages=footer)
    return buffer.getvalue()


def make_docx(text: str) -> bytes:
    document = docx.Document()
    for block in blocks(text):
        match block.kind:
            case "h1":
                document.add_paragraph(block.text, style="Title")
                document.core_properties.title = block.text
            case "h2":
                document.add_heading(block.text, 1)
            case "table":
                table = document.add_table(0, len(block.rows[0]), style="Table Grid")
                for row in block.rows:
                    for cell, words in zip(table.add_row().cells, row, strict=True):
                        cell.text = words
            case kind:
                style = {"p": None, "ul": "List Bullet", "ol": "List Number"}[kind]
                for line in block.items or (block.text,):
                    paragraph = document.add_paragraph(style=style)
                    for piece, emphasised in runs(line):
                        paragraph.add_run(piece).italic = emphasised or None
    return same_bytes(document)


def make_pptx(text: str) -> bytes:
    deck = pptx.Presentation()
    slide = None
    for block in blocks(text):
        if block.kind in ("h1", "h2"):
            slide = deck.slides.add_slide(deck.slide_layouts[block.kind == "h2"])
            slide.shapes.title.text = block.text
            deck.core_properties.title = deck.core_properties.title or block.text
        elif slide is not None:
            slide.placeholders[1].text = "\n".join(block.items or (block.text,))
    return same_bytes(deck)


def make_xlsx(text: str) -> bytes:
    """Each line that begins with "# " starts a sheet; the rest is CSV."""
    workbook = openpyxl.Workbook()
    del workbook["Sheet"]
    for row in csv.reader(text.splitlines()):
        if row[0].startswith("# "):
            sheet = workbook.create_sheet(row[0][2:])
        else:
            sheet.append(
                [float(cell) if re.fullmatch(r"\d+(\.\d+)?", cell) else cell for cell in row]
            )
    return same_bytes(workbook)


def same_bytes(document: object) -> bytes:
    """Save an Office file without the time of day, which its archive and properties hold."""
    saved, buffer = io.BytesIO(), io.BytesIO()
    document.save(saved)  # type: ignore[attr-defined]
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                stamp = rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*"
                content = re.sub(stamp, rb"\g<1>" + DAY, content)
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            target.writestr(member, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


MAKERS = {"pdf": make_pdf, "docx": make_docx, "pptx": make_pptx, "xlsx": make_xlsx}

if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES)
