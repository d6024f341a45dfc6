"""Archives and tensors that somebody else made: what is in them comes back, all else is refused."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from storage.archives import pack, unpack
from storage.tensors import read_tensors

LARGEST = {"a.json": 1000, "b.safetensors": 100_000}
FILES = {"a.json": b"{}", "b.safetensors": bytes(range(256)) * 9}


def zipped(
    *files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_files_come_back_from_one_form_of_archive() -> None:
    packed = pack(FILES)
    assert unpack(packed, LARGEST) == FILES
    assert pack(dict(reversed(FILES.items()))) == packed
    assert unpack(zipped(*FILES.items()), LARGEST) == FILES


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"", "no zip archive"),
        (b"PK\x03\x04" + bytes(50), "no zip archive"),
        (pack(FILES)[:-30], "no zip archive"),
        (pack(FILES).replace(b"{}", b"[]"), "no zip archive"),
        (zipped(("../a.json", b"{}")), r"'\.\./a\.json'; accepted"),
        (zipped(("/etc/passwd", b"x")), "accepted are"),
        (zipped(("folder/a.json", b"x")), "accepted are"),
        (zipped(("a.json\x00.bin", b"x"), ("b.bin", b"x")), "'b.bin'"),
        (zipped(("adapter_model.bin", pickle.dumps({}))), "accepted are"),
        (zipped(("a.json", b"{}"), ("a.json", b"{}")), "once each"),
        (zipped(("a.json", bytes(10_000_000))), "more than the 1,000 bytes"),
        (zipped(("a.json", b"{}"), method=zipfile.ZIP_LZMA)[:-60], "no zip archive"),
        (zipped(("a.json", b"{}"), method=zipfile.ZIP_LZMA), "another way than deflate"),
        (zipped(("a.json", b"{}"), method=zipfile.ZIP_BZIP2), "another way than deflate"),
    ],
    # An archive's own bytes hold the time, which two workers see differently.
    ids=lambda given: given if isinstance(given, str) else "archive",
)
def test_archives_of_anything_else_are_refused(archive: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack(archive, LARGEST)


def test_an_encrypted_archive_is_refused() -> None:
    # Bit 0 of the flags, in the local and the central header (APPNOTE.TXT, 4.4.4).
    packed = bytearray(pack({"a.json": b"{}"}))
    packed[6] |= 1
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ValueError, match="encrypted"):
        unpack(bytes(packed), LARGEST)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_damaged_archive_raises_valueerror_or_is_whole(noise: bytes, place: int) -> None:
    packed = pack({"a.json": b"{}", "b.safetensors": b"tensors"})
    damaged = packed[:place] + noise + packed[place + len(noise) :]
    try:
        found = unpack(damaged, LARGEST)
    except ValueError:
        return
    assert found.keys() <= LARGEST.keys()


def test_tensors_come_back() -> None:
    tensors = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.float32([0.5])}
    found = read_tensors(save(tensors), 10_000)
    assert found.keys() == tensors.keys()
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)


def _header(**fields: object) -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **fields}})
    return len(header).to_bytes(8, "little") + header.encode() + bytes(8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({"x": 1}), "no safetensors file"),
        (save({"x": np.float32([np.inf])}), "not finite"),
        (save({"x": np.float32([np.nan])}), "not finite"),
        (save({"x": np.float32([0.0, -3e38])}), "not within 10,000"),
        (save({"x": np.arange(2)}), "is I64"),
        (_header(data_offsets=[0, 80]), "no safetensors file"),
        (_header(shape=[2**40]), "no safetensors file"),
        (_header(shape=[2**62, 4]), "no safetensors file"),
        (bytes([255] * 8) + b"{}", "no safetensors file"),
        (save({"x": np.zeros(30_000, np.float32)}), "at most 100,000 bytes"),
    ],
)
def test_tensors_of_anything_else_are_refused(data: bytes, message: str) -> None:
    read_tensors(_header(), 100_000)
    with pytest.raises(ValueError, match=message):
        read_tensors(data, 100_000)
