"""Bytes to clean text: which encoding, which characters stay, which text format it is."""

import codecs
import re
import unicodedata

from retrieval.parsing.records import ParseError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its prefix
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What browsers know (WHATWG Encoding); Python's own list has codecs that are no text encodings.
_WEB_ENCODING = re.compile(
    r"iso8859-\d+|cp125\d|cp866|cp874|koi8-[ru]|mac-(roman|cyrillic)|shift_jis|cp932"
    r"|euc_(jp|kr)|cp949|gbk|gb2312|gb18030|big5"
)
_DECLARED = re.compile(
    rb"(?i)<(?:meta|\?xml)\b[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([\w.:-]+)"
)

_LONGEST_LINE = 300

# Invisible and control characters; tag characters (U+E0000..) can carry hidden instructions.
_REMOVED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff\U000e0000-\U000e007f]"
)
_NEWLINES = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")


def decode(data: bytes) -> str:
    """Decode UTF-8, UTF-16 and UTF-32 (with or without a mark), a declared HTML charset, or Latin.

    Raises ParseError("unsupported_type") where the bytes are not text.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                raise ParseError(
                    "broken", f"The file is marked as {encoding} text, but is not ({error.reason})."
                ) from error
    for encoding in (*_unmarked_unicode(data), *_declared(data), "cp1252", "latin-1"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text and 1000 * len(_CONTROLS.findall(text)) <= len(text):
            return text
    raise ParseError(
        "unsupported_type",
        "The file is neither text nor of a type that can be read "
        "(PDF, DOCX, PPTX, XLSX, HTML, Markdown, CSV, plain text).",
    )


def clean(text: str) -> str:
    """Normalise to NFC with plain newlines, and drop characters that nobody can see."""
    text = _REMOVED.sub("", _NEWLINES.sub("\n", text))
    return unicodedata.normalize("NFC", _SURROGATES.sub("\ufffd", text))


def one_line(text: str) -> str:
    """A title or a heading, clean and of a length that a title has."""
    return " ".join(clean(text[: 4 * _LONGEST_LINE]).split())[:_LONGEST_LINE]


def text_media_type(text: str, name: str) -> str:
    """The media type of a decoded file: HTML shows in the text, the rest only in the name."""
    start = text[:2000].lstrip().lower()
    if start.startswith("{\\rtf"):
        raise ParseError(
            "unsupported_type", "The file is RTF, which cannot be read: save it as DOCX or PDF."
        )
    suffix = name.lower().rpartition(".")[2]
    if re.match(
        r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype html|<html\b)", start, re.DOTALL
    ) or (suffix in ("html", "htm", "xhtml") and re.search(r"<[a-z!/][^>]*>", start)):
        return "text/html"
    if suffix in ("md", "markdown"):
        return "text/markdown"
    return "text/csv" if suffix in ("csv", "tsv") else "text/plain"


def _unmarked_unicode(data: bytes) -> tuple[str, ...]:
    """UTF-16 without a mark shows by the zero half of its Latin characters."""
    head = data[:4096]
    low, high = head[1::2].count(0), head[0::2].count(0)
    if max(low, high) * 4 > len(head) and min(low, high) * 20 < len(head):
        return ("utf-16-le",) if low > high else ("utf-16-be",)
    return ("utf-8",)


def _declared(data: bytes) -> tuple[str, ...]:
    match = _DECLARED.search(data[:2048])
    if match is None:
        return ()
    try:
        encoding = codecs.lookup(match[1].decode("ascii")).name
    except LookupError:
        return ()
    return (encoding,) if _WEB_ENCODING.fullmatch(encoding) else ()
