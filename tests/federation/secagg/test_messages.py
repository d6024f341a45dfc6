"""Every parser: what was encoded comes back, and nothing else is one of its messages."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.secagg.config import RoundConfig
from federation.secagg.messages import (
    SEALED_BYTES,
    Abort,
    Advertisement,
    Delivery,
    Directory,
    KeyEntry,
    MaskedInput,
    Message,
    ReleasedShares,
    SealedShares,
    ShareKind,
    SurvivorList,
    SurvivorSignature,
    SurvivorSignatures,
    decode,
    encode,
)
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.shamir import PRIME
from tests.federation.secagg.parties import active, because, config, curious

ROUND = b"r" * 32

indices = st.integers(0, 2**16 - 1)


def exactly(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


def by_index(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[int, object]]:
    return st.dictionaries(indices, values, max_size=5)


key_entries = st.builds(KeyEntry, exactly(32), exactly(32), exactly(64))
shares = st.tuples(
    st.sampled_from(ShareKind), st.integers(0, PRIME - 1).map(lambda value: value.to_bytes(33))
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Advertisement, indices, key_entries),
    st.builds(Directory, by_index(key_entries)),
    st.builds(SealedShares, indices, exactly(32), by_index(exactly(SEALED_BYTES))),
    st.builds(Delivery, by_index(exactly(SEALED_BYTES))),
    st.builds(MaskedInput, indices, st.binary(max_size=80)),
    st.builds(SurvivorList, st.sets(indices, max_size=5).map(lambda s: tuple(sorted(s)))),
    st.builds(SurvivorSignature, indices, exactly(64)),
    st.builds(SurvivorSignatures, by_index(exactly(64))),
    st.builds(ReleasedShares, indices, by_index(shares)),
    st.builds(Abort, indices, st.sampled_from(Reason), exactly(64)),
)
TYPES: list[type[Message]] = [
    Advertisement,
    Directory,
    SealedShares,
    Delivery,
    MaskedInput,
    SurvivorList,
    SurvivorSignature,
    SurvivorSignatures,
    ReleasedShares,
    Abort,
]


@given(messages)
def test_a_message_comes_back(message: Message) -> None:
    assert decode(type(message), encode(message, ROUND), ROUND) == message


@given(messages, st.data())
def test_a_truncated_or_longer_message_is_malformed(message: Message, data: st.DataObject) -> None:
    encoded = encode(message, ROUND)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:cut], encoded + data.draw(st.binary(min_size=1, max_size=3))):
        with pytest.raises(Refusal, check=because(Reason.MALFORMED)):
            decode(type(message), wrong, ROUND)


@given(messages, st.data())
def test_a_changed_message_is_refused_or_another_message(
    message: Message, data: st.DataObject
) -> None:
    """No two byte strings decode to the same record: what parses, encodes to the same bytes."""
    encoded = bytearray(encode(message, ROUND))
    for _ in range(data.draw(st.integers(1, 3))):
        bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
        encoded[bit // 8] ^= 1 << bit % 8
    try:
        parsed = decode(type(message), bytes(encoded), ROUND)
    except Refusal:
        return
    assert encode(parsed, ROUND) == encoded


@given(st.sampled_from(TYPES), st.binary(max_size=300), st.booleans())
def test_any_bytes_are_parsed_or_refused(
    expected: type[Message], body: bytes, with_header: bool
) -> None:
    data = bytes((1, expected.kind)) + ROUND + body if with_header else body
    try:
        parsed = decode(expected, data, ROUND)
    except Refusal:
        return
    assert encode(parsed, ROUND) == data


@pytest.mark.parametrize("sent", TYPES)
@pytest.mark.parametrize("expected", TYPES)
def test_a_message_of_another_kind_or_version(sent: type[Message], expected: type[Message]) -> None:
    header = bytes((1, sent.kind)) + ROUND
    with pytest.raises(Refusal) as caught:
        decode(expected, header, ROUND)
    assert caught.value.reason is (Reason.MALFORMED if sent is expected else Reason.OUT_OF_ORDER)
    with pytest.raises(Refusal, check=because(Reason.MALFORMED)):
        decode(expected, b"\x02" + header[1:], ROUND)


@pytest.mark.parametrize("kind", [0, 11, 255])
def test_an_unknown_kind(kind: int) -> None:
    with pytest.raises(Refusal, check=because(Reason.MALFORMED)):
        decode(Directory, bytes((1, kind)) + ROUND + bytes(2), ROUND)


@pytest.mark.parametrize(
    ("expected", "before"),
    [
        (Directory, b""),
        (SealedShares, bytes(2 + 32)),
        (Delivery, b""),
        (SurvivorList, b""),
        (SurvivorSignatures, b""),
        (ReleasedShares, bytes(2)),
    ],
)
def test_a_count_larger_than_the_message(expected: type[Message], before: bytes) -> None:
    """Refused before the first of 65,535 entries is looked at, whatever follows."""
    data = bytes((1, expected.kind)) + ROUND + before + b"\xff\xff" + bytes(range(200))
    with pytest.raises(Refusal, match="65535 entries"):
        decode(expected, data, ROUND)


def test_a_length_larger_than_the_message() -> None:
    data = bytes((1, MaskedInput.kind)) + ROUND + b"\0\0" + struct.pack(">I", 2**32 - 1) + b"abc"
    with pytest.raises(Refusal, match="4294967295 bytes expected, 3 left"):
        decode(MaskedInput, data, ROUND)


def test_a_vector_of_another_length() -> None:
    for words in (b"", bytes(4), bytes(11), bytes(16)):
        with pytest.raises(Refusal, check=because(Reason.MALFORMED)):
            MaskedInput(0, words).vector(3)
    assert MaskedInput(0, bytes(range(12))).vector(3).tolist() == [0x10203, 0x4050607, 0x8090A0B]


def test_released_shares_of_neither_kind_or_outside_the_field() -> None:
    header = bytes((1, ReleasedShares.kind)) + ROUND + b"\0\0\0\x01\0\x05"
    with pytest.raises(Refusal, check=because(Reason.MALFORMED)):
        decode(ReleasedShares, header + b"\x03" + bytes(33), ROUND)
    with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
        decode(ReleasedShares, header + b"\x01" + PRIME.to_bytes(33), ROUND)


def test_shares_and_vectors_are_not_printed() -> None:
    for message in (
        ReleasedShares(1, {2: (ShareKind.SELF_MASK, b"hidden".rjust(33))}),
        SealedShares(1, bytes(32), {2: b"hidden".rjust(SEALED_BYTES)}),
        Delivery({2: b"hidden".rjust(SEALED_BYTES)}),
        MaskedInput(1, b"hidden!!"),
    ):
        assert "hidden" not in repr(message)


CONFIGS = [
    config(curious(3)),
    config(curious(10, 7, 2), 1000, max_sum_norm=12345),
    config(active(7)),
    config(curious(400, 360, 20)),
]


@pytest.mark.parametrize("round_config", CONFIGS, ids=lambda c: c.threat_model.kind.name)
def test_a_configuration_comes_back(round_config: RoundConfig) -> None:
    parsed = RoundConfig.from_bytes(round_config.to_bytes())
    assert parsed == round_config
    assert parsed.hash == round_config.hash


@given(st.sampled_from(CONFIGS[:3]), st.data())
def test_a_changed_configuration_is_refused_or_has_another_hash(
    round_config: RoundConfig, data: st.DataObject
) -> None:
    encoded = bytearray(round_config.to_bytes())
    change: Callable[[bytearray], object] = data.draw(
        st.sampled_from([lambda e: e.pop(), lambda e: e.append(0), None])
    )
    if change:
        change(encoded)
    else:
        bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
        encoded[bit // 8] ^= 1 << bit % 8
    try:
        parsed = RoundConfig.from_bytes(bytes(encoded))
    except Refusal as refusal:
        assert refusal.reason in (Reason.MALFORMED, Reason.UNSAFE_PARAMETERS)
        return
    assert parsed.to_bytes() == encoded
    assert parsed.hash != round_config.hash


@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        RoundConfig.from_bytes(data)
    with pytest.raises(Refusal):
        RoundConfig.from_bytes(b"\x01" + data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"session": b"short"}, "session must have 32 bytes"),
        ({"model_hash": b""}, "model_hash must have 32 bytes"),
        ({"round_number": 2**32}, "round_number"),
        ({"round_number": -1}, "round_number"),
        ({"dimension": 0}, "dimension"),
        ({"dimension": 2**28 + 1}, "dimension"),
        ({"max_sum_norm": 2**64}, "max_sum_norm"),
        ({"roster": (b"a" * 32, b"b" * 32)}, "2 identities"),
        ({"roster": (b"a" * 32, b"b" * 32, b"a" * 32)}, "twice"),
        ({"roster": (b"a" * 32, b"b" * 32, b"c" * 31)}, "32 bytes"),
    ],
)
def test_a_senseless_configuration_cannot_be_made(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(curious(3), **change)  # type: ignore[arg-type]
