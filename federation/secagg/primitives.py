"""The cryptography of the protocol, each primitive as it is used here and nothing else.

Key agreement is X25519 (RFC 7748), key derivation HKDF-SHA256 (RFC 5869), signatures are Ed25519
(RFC 8032), the mask generator is AES-256 in counter mode (NIST SP 800-38A, 6.5) and shares are
sealed with AES-256-GCM (NIST SP 800-38D). All of it comes from the `cryptography` package.

Every derived key, signature and hash begins with one of the labels below, so that nothing made for
one purpose is valid for another. After the label come fields of fixed length, but for the last.
"""

import hashlib
import os
import struct
from enum import Enum

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federation.secagg.refusal import Reason, Refusal
from federation.secagg.secret import Secret

KEY_BYTES = 32
HASH_BYTES = 32
SIGNATURE_BYTES = 64
NONCE_BYTES = 12
TAG_BYTES = 16


class Label(Enum):
    """The one place where purposes are told apart."""

    CONFIG = b"alcove/secagg/v1/config\0"
    ADVERTISE = b"alcove/secagg/v1/advertise\0"
    DIRECTORY = b"alcove/secagg/v1/directory\0"
    GRAPH = b"alcove/secagg/v1/graph\0"
    SHARE = b"alcove/secagg/v1/share\0"
    SELF_MASK = b"alcove/secagg/v1/self-mask\0"
    COMMITMENT = b"alcove/secagg/v1/commitment\0"
    PAIR_MASK = b"alcove/secagg/v1/pair-mask\0"
    SURVIVORS = b"alcove/secagg/v1/survivors\0"
    ABORT = b"alcove/secagg/v1/abort\0"
    CLIENT_STATE = b"alcove/secagg/v1/client-state\0"
    SERVER_STATE = b"alcove/secagg/v1/server-state\0"


def digest(label: Label, *fields: bytes) -> bytes:
    """SHA-256 of the label and the fields; at most the last field may vary in length."""
    state = hashlib.sha256(label.value)
    for field in fields:
        state.update(field)
    return state.digest()


def new_secret() -> Secret:
    """32 fresh bytes of the operating system's generator."""
    return Secret(os.urandom(KEY_BYTES))


def private_key(private: Secret) -> X25519PrivateKey:
    """An X25519 private key ready for use; making one costs as much as using it."""
    return X25519PrivateKey.from_private_bytes(private.reveal())


def public_key(private: Secret) -> bytes:
    """The X25519 public key of a private key (RFC 7748, section 6.1)."""
    return private_key(private).public_key().public_bytes_raw()


def agree(private: X25519PrivateKey, public: bytes) -> Secret:
    """The X25519 shared secret (RFC 7748, section 6.1).

    Raises:
        Refusal: WEAK_KEY, the secret is all zeros: the public key has small order.
    """
    try:
        return Secret(private.exchange(X25519PublicKey.from_public_bytes(public)))
    except ValueError as error:
        raise Refusal(Reason.WEAK_KEY, "a public key has small order") from error


def check_public_key(public: bytes) -> None:
    """Refuse a key of small order (WEAK_KEY); no private key of ours is needed to see it."""
    agree(_PROBE, public)


def derive(secret: Secret, label: Label, *fields: bytes) -> Secret:
    """A 32-byte key by HKDF-SHA256 with an empty salt; info is the label and the fields."""
    info = b"".join((label.value, *fields))
    return Secret(HKDF(SHA256(), KEY_BYTES, None, info).derive(secret.reveal()))


def seal(key: Secret, plaintext: bytes, context: bytes) -> bytes:
    """nonce || AES-256-GCM(plaintext), bound to `context`; the nonce is random."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key.reveal()).encrypt(nonce, plaintext, context)


def unseal(key: Secret, sealed: bytes, context: bytes) -> bytes:
    """What `seal` took.

    Raises:
        Refusal: BAD_SHARE, it was sealed under another key or context, or was changed.
    """
    try:
        return AESGCM(key.reveal()).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
    except InvalidTag as error:
        raise Refusal(Reason.BAD_SHARE, "a sealed share does not open") from error


def sign(identity: Ed25519PrivateKey, label: Label, *fields: bytes) -> bytes:
    """An Ed25519 signature of the label and the fields (RFC 8032, section 5.1.6)."""
    return identity.sign(b"".join((label.value, *fields)))


def verify(identity: bytes, signature: bytes, label: Label, *fields: bytes) -> None:
    """Check what `sign` made (RFC 8032, section 5.1.7).

    Raises:
        Refusal: BAD_SIGNATURE.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(identity)
        key.verify(signature, b"".join((label.value, *fields)))
    except (InvalidSignature, ValueError) as error:
        raise Refusal(Reason.BAD_SIGNATURE, "a signature does not verify") from error


def index_bytes(*indices: int) -> bytes:
    """Roster indices as 16-bit big-endian fields."""
    return struct.pack(f">{len(indices)}H", *indices)


_PROBE = private_key(new_secret())
