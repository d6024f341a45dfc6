"""A few small files as one zip archive in memory; nothing of it is ever unpacked to a disk."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

# The oldest time that the format knows: an archive tells what is in it and not when it was made.
_TIME = (1980, 1, 1, 0, 0, 0)


def pack(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files, by name; the same files make the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _TIME), content)
    return buffer.getvalue()


def unpack(data: bytes, largest: Mapping[str, int]) -> dict[str, bytes]:
    """The files of an archive, which holds none but those named.

    Args:
        largest: bytes that the file of each name may have, unpacked.

    Raises:
        ValueError: `data` is no zip archive, or holds a file of another name, one twice, one that
            is too large or one that is encrypted or damaged.
    """
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if entry.filename not in largest or entry.filename in files:
                    raise ValueError(
                        f"the archive holds {entry.filename[:100]!r}; accepted are, once each:"
                        f" {', '.join(sorted(largest))}"
                    )
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{entry.filename} is compressed by another way than deflate")
                files[entry.filename] = _read(archive, entry, largest[entry.filename])
    # What is encrypted, or needs a newer reader, is a RuntimeError to zipfile.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"no zip archive that can be read: {error}") from error
    return files


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, largest: int) -> bytes:
    # What the entry says of its size is not believed.
    with archive.open(entry) as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{entry.filename} has more than the {largest:,} bytes that are accepted")
    return content
