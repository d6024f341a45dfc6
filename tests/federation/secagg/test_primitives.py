"""Each primitive, as it is used here, against the vectors of its standard.

Where the protocol fixes an input that a vector varies (HKDF's info, the first counter), the
standard is written out once in this file, checked against the vector, and compared with the code.
"""

import hashlib
import hmac
import pickle
from itertools import pairwise

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray

from federation.secagg.masks import Mask, apply_masks
from federation.secagg.primitives import (
    Label,
    agree,
    derive,
    digest,
    private_key,
    public_key,
    seal,
    sign,
    unseal,
    verify,
)
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret
from federation.secagg.transcript import (
    pair_mask,
    seal_shares,
    seed_commitment,
    self_mask,
    sign_keys,
    survivor_statement,
    unseal_shares,
)
from tests.federation.secagg.parties import because, config, curious, identity

unhex = bytes.fromhex


def hkdf_sha256(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2."""
    extracted = hmac.digest(salt or bytes(32), secret, hashlib.sha256)
    block, output = b"", b""
    for counter in range(1, length // 32 + 2):
        block = hmac.digest(extracted, block + info + bytes((counter,)), hashlib.sha256)
        output += block
    return output[:length]


def aes_ctr_keystream(key: bytes, first_counter: int, blocks: int) -> bytes:
    """NIST SP 800-38A, section 6.5: the cipher applied to successive counters."""
    counters = b"".join((first_counter + i).to_bytes(16) for i in range(blocks))
    return Cipher(AES(key), ECB()).encryptor().update(counters)


def test_x25519_rfc7748_6_1() -> None:
    alice = Secret(unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = Secret(unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    alice_public = unhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    bob_public = unhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = unhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert (public_key(alice), public_key(bob)) == (alice_public, bob_public)
    assert agree(private_key(alice), bob_public).reveal() == shared
    assert agree(private_key(bob), alice_public).reveal() == shared


def test_hkdf_rfc5869_a1_and_a3_and_as_used() -> None:
    okm = hkdf_sha256(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert okm == unhex(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    okm = hkdf_sha256(b"\x0b" * 22, b"", b"", 42)
    assert okm == unhex(
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
    info = b"alcove/secagg/v1/share\0" + b"t" * 32 + b"\0\x01\0\x02"
    derived = derive(Secret(b"\x0b" * 32), Label.SHARE, b"t" * 32, b"\0\x01\0\x02")
    assert derived.reveal() == hkdf_sha256(b"\x0b" * 32, b"", info, 32)


def test_ed25519_rfc8032_7_1_and_as_used() -> None:
    """Test 2 of the RFC: a message of one byte."""
    key = Ed25519PrivateKey.from_private_bytes(
        unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    public = key.public_key().public_bytes_raw()
    assert public == unhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    assert key.sign(b"\x72") == unhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    signature = sign(key, Label.SURVIVORS, b"one", b"two")
    assert signature == key.sign(b"alcove/secagg/v1/survivors\0onetwo")
    verify(public, signature, Label.SURVIVORS, b"one", b"two")
    for wrong in (
        (public, signature, Label.ADVERTISE, b"one", b"two"),
        (public, signature, Label.SURVIVORS, b"one", b"tw0"),
        (public, bytes(64), Label.SURVIVORS, b"one", b"two"),
        (bytes(32), signature, Label.SURVIVORS, b"one", b"two"),
    ):
        with pytest.raises(Refusal, check=because(Reason.BAD_SIGNATURE)):
            verify(*wrong)


def test_aes_gcm_nist_case_16_and_as_used() -> None:
    """Test case 16 of McGrew and Viega's specification, which NIST SP 800-38D refers to."""
    key = Secret(unhex("feffe9928665731c6d6a8f9467308308" * 2))
    nonce = unhex("cafebabefacedbaddecaf888")
    context = unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    plain = unhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    cipher = unhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    )
    tag = unhex("76fc6ece0f4e1768cddf8853bb2d551b")
    assert unseal(key, nonce + cipher + tag, context) == plain
    sealed = seal(key, plain, context)
    assert len(sealed) == 12 + len(plain) + 16
    assert unseal(key, sealed, context) == plain
    for wrong, about in (
        (sealed, context + b"x"),
        (sealed[:-1] + bytes((sealed[-1] ^ 1,)), context),
    ):
        with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
            unseal(key, wrong, about)


def test_nonces_do_not_repeat() -> None:
    key = Secret(bytes(32))
    assert len({seal(key, b"", b"")[:12] for _ in range(1000)}) == 1000


def test_mask_is_aes_256_ctr_from_zero() -> None:
    """SP 800-38A, F.5.5 checks the oracle, and the oracle a mask longer than one chunk."""
    key = unhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = unhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = unhex(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    stream = aes_ctr_keystream(key, int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16), 4)
    assert bytes(a ^ b for a, b in zip(plain, stream, strict=True)) == cipher

    words = 3 * 2**16 + 5
    expected = np.frombuffer(aes_ctr_keystream(key, 0, words // 4 + 1), "<u4")[:words]
    for workers in (1, 2):
        vector: NDArray[np.uint32] = np.zeros(words, np.uint32)
        apply_masks(vector, [Mask(Secret(key), add=True)], workers)
        assert np.array_equal(vector, expected)
        apply_masks(vector, [Mask(Secret(key), add=False)], workers)
        assert not vector.any()


def test_labels_keep_purposes_apart() -> None:
    """No label is another one, or begins as another one does, so no two inputs coincide."""
    labels = sorted(label.value for label in Label)
    assert len(labels) == len(Label.__members__) == 12
    assert not any(later.startswith(earlier) for earlier, later in pairwise(labels))
    assert len({digest(label, b"same") for label in Label}) == 12
    assert len({derive(Secret(b"k" * 32), label, b"same").reveal() for label in Label}) == 12


def test_keys_of_a_round_are_derived_as_documented() -> None:
    """The label, the transcript and the indices, spelt out."""
    transcript, seed, private = b"t" * 32, Secret(b"b" * 32), private_key(Secret(b"a" * 32))
    public = public_key(Secret(b"c" * 32))
    shared = agree(private, public).reveal()

    def expected(secret: bytes, info: bytes) -> bytes:
        return hkdf_sha256(secret, b"", info, 32)

    lower = pair_mask(transcript, private, public, 3, 500)
    upper = pair_mask(transcript, private, public, 500, 3)
    info = b"alcove/secagg/v1/pair-mask\0" + transcript + b"\0\x03\x01\xf4"
    assert lower.key.reveal() == upper.key.reveal() == expected(shared, info)
    assert (lower.add, upper.add) == (True, False)

    own = self_mask(transcript, seed, 500)
    info = b"alcove/secagg/v1/self-mask\0" + transcript + b"\x01\xf4"
    assert own.key.reveal() == expected(b"b" * 32, info)
    info = b"alcove/secagg/v1/commitment\0" + transcript + b"\x01\xf4"
    assert seed_commitment(transcript, seed, 500) == expected(b"b" * 32, info)


def test_signed_statements_are_as_documented() -> None:
    round_config = config(curious(3))
    entry = sign_keys(round_config, 2, identity(2), b"c" * 32, b"s" * 32)
    signed = round_config.hash + b"\0\x02" + b"c" * 32 + b"s" * 32
    assert entry.signature == identity(2).sign(b"alcove/secagg/v1/advertise\0" + signed)
    statement = b"".join(survivor_statement(b"t" * 32, (0, 2, 500)))
    assert statement == b"t" * 32 + b"\0\0\0\x02\x01\xf4"


def test_sealed_shares_open_in_one_direction_of_one_transcript() -> None:
    channel = Secret(b"k" * 32)
    sealed = seal_shares(b"t" * 32, channel, 1, 2, b"plain")
    assert unseal_shares(b"t" * 32, channel, 1, 2, sealed) == b"plain"
    for transcript, src, dst in ((b"T" * 32, 1, 2), (b"t" * 32, 2, 1), (b"t" * 32, 1, 3)):
        with pytest.raises(Refusal, check=because(Reason.BAD_SHARE)):
            unseal_shares(transcript, channel, src, dst, sealed)


def test_a_secret_shows_nothing_and_is_gone_when_wiped() -> None:
    secret = Secret(b"hidden!!")
    assert "hidden" not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    secret.wipe()
    with pytest.raises(ValueError, match="wiped"):
        secret.reveal()
