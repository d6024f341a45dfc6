"""Office files are zip archives of XML: look at every byte of them before a parser does."""

import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from retrieval.parsing.records import MEBIBYTE, ParseError, ParseLimits

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

_DEEPEST_XML = 256  # as in libxml2; parsers that build a tree take quadratic time or recurse
_BLANKS_AND_MARKS = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"
_XML_STARTS = (b"<", b"\x4c\x6f\xa7\x94")  # the second is "<?xm" in EBCDIC (XML 1.0, appendix F)
_MOST_MEMBERS = 20_000
_BLOCK = 64 * 1024
_CONTENT_TYPES = "[Content_Types].xml"
_MAIN_PARTS = (
    (DOCX, b"wordprocessingml.document.main+xml", b"ms-word.document.macroenabled.main+xml"),
    (PPTX, b"presentationml.presentation.main+xml", b"presentationml.slideshow.main+xml"),
    (XLSX, b"spreadsheetml.sheet.main+xml", b"ms-excel.sheet.macroenabled.main+xml"),
)
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    # Encrypted members, and methods that zipfile does not know.
    RuntimeError,
)


def inspect_archive(path: Path, limits: ParseLimits) -> str:
    """The media type of an Office file, after reading all of it within `limits.expanded_bytes`.

    Declared sizes are added up first, so members that overlap count each time. Then all is
    decompressed: a member that holds more than it declared does not match its checksum. XML must
    be well formed, not too deep, and without a document type declaration, which the format forbids
    (ECMA-376 part 2, 8.1.4) and which entity bombs and external entities need.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                _refuse_expansion(limits)
            if sum(member.file_size for member in members) > limits.expanded_bytes:
                _refuse_expansion(limits)
            for member in members:
                _inspect_member(archive, member)
            return _media_type(archive)
    except _ZIP_ERRORS as error:
        raise ParseError(
            "broken", f"The file is damaged: its archive cannot be read ({type(error).__name__})."
        ) from error


def _inspect_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 0x1:
        raise ParseError("encrypted", "The file is encrypted: save a copy without a password.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # ECMA-376 part 2 allows no other method; some of them cannot be read in small steps.
        raise ParseError("broken", "The file uses a compression that Office files do not use.")
    blank = True
    parser: expat.XMLParserType | None = None
    with archive.open(member) as stream:
        while block := stream.read(_BLOCK):
            start = block.lstrip(_BLANKS_AND_MARKS)
            if blank and start:
                blank = False
                parser = _strict_xml_parser() if start.startswith(_XML_STARTS) else None
            if parser:
                _feed(parser, block)
    if parser:
        _feed(parser, b"", last=True)


def _strict_xml_parser() -> expat.XMLParserType:
    depth = 0

    def refuse_entities(*_: object) -> NoReturn:
        raise ParseError(
            "broken",
            "The file declares XML entities, which Office files never need: it is refused.",
        )

    def enter(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST_XML:
            raise ParseError("broken", "The file is damaged: its XML is nested too deep.")

    def leave(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse_entities
    parser.StartElementHandler = enter
    parser.EndElementHandler = leave
    return parser


def _feed(parser: expat.XMLParserType, block: bytes, *, last: bool = False) -> None:
    try:
        parser.Parse(block, last)
    except expat.ExpatError as error:
        raise ParseError(
            "broken", f"The file is damaged: part of it is no XML ({error})."
        ) from error


def _media_type(archive: zipfile.ZipFile) -> str:
    names = set(archive.namelist())
    if _CONTENT_TYPES in names:
        with archive.open(_CONTENT_TYPES) as stream:
            types = stream.read(MEBIBYTE).lower()
        for media_type, *main_parts in _MAIN_PARTS:
            if any(part in types for part in main_parts):
                return media_type
    if "mimetype" in names:
        kind = archive.read("mimetype")[:100].decode("latin-1").strip()
        raise ParseError(
            "unsupported_type", f"Files of type {kind} cannot be read: save it as DOCX or PDF."
        )
    raise ParseError(
        "unsupported_type",
        "The file is an archive, not a document: unpack it and add what it holds.",
    )


def _refuse_expansion(limits: ParseLimits) -> NoReturn:
    raise ParseError(
        "expands_too_much",
        f"The file unpacks to more than {limits.expanded_bytes // MEBIBYTE} MiB, which is refused.",
    )
