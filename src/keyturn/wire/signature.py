"""Ed25519 signatures (RFC 8032), checked; signing happens where a key lies, never here."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from keyturn.core.errors import MalformedInput
from keyturn.wire import base64

SIGNATURE_BYTES = 64
"""The length of an Ed25519 signature."""

_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what precedes the 32 bytes in DER
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_HELP = "enrol the base64 of the 32 raw bytes of an Ed25519 public key made by a key generator"


@lru_cache(maxsize=256)
def public_bytes(public: str) -> bytes:
    """Return the 32 raw bytes of a public key; raises MalformedInput unless it can be one person's key.

    Refused too: a spelling with a coordinate beyond the field, and the points of small order, under which one
    signature verifies for many messages without any secret (RFC 8032 section 5.1.7 leaves that to the caller).
    """
    data = base64.decode(public, what="public")
    if len(data) != 32:
        raise MalformedInput(f"found a public key of {len(data)} bytes; Ed25519 has 32", help=_HELP)
    y = int.from_bytes(data, "little") & (2**255 - 1)
    small = y in {0, 1, _P - 1} or (_D * pow(y, 4, _P) + 2 * y * y - 1) % _P == 0
    if y >= _P or small:
        raise MalformedInput(f"found the weak public key `{public}`, for which anyone could sign", help=_HELP)
    return data


def verify(public: str, message: bytes, sig: bytes) -> bool:
    """Say whether `sig` is the signature of the key `public` (base64 of 32 raw bytes) over `message`.

    Raises MalformedInput for a public key that is none; a signature of any wrong shape is simply false.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = public_bytes(public)
    if len(sig) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(sig, message)
    except InvalidSignature:
        return False
    return True


def key_id(public: str) -> str:
    """Return the SHA-256 of the key's SubjectPublicKeyInfo in hexadecimal: a hint, never an identity."""
    return hashlib.sha256(_SPKI_PREFIX + public_bytes(public)).hexdigest()
