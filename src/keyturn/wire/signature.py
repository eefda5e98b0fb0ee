"""Signatures, checked: Ed25519 (RFC 8032) here, those of SSH keys in `ssh/check`; signing happens where a key lies.

Which of the two a signature must be, the enrolled key says, never the signature.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from keyturn.core.errors import MalformedInput
from keyturn.core.keys.public import ECDSA, SK_ECDSA, SshKey, is_ssh, read_ssh
from keyturn.wire import base64
from keyturn.wire.ssh import check

SIGNATURE_BYTES = 64
"""The length of an Ed25519 signature."""

_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what precedes the 32 bytes in DER
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_HELP = "enrol the base64 of the 32 raw bytes of an Ed25519 public key made by a key generator"


@lru_cache(maxsize=256)
def public_bytes(public: str) -> bytes:
    """Return the 32 raw bytes of an Ed25519 public key; raises MalformedInput unless it can be one person's key."""
    data = base64.decode(public, what="public")
    if len(data) != 32:
        raise MalformedInput(f"found a public key of {len(data)} bytes; Ed25519 has 32", help=_HELP)
    _require_strong(data, public)
    return data


@lru_cache(maxsize=256)
def ssh_key(public: str) -> SshKey:
    """Return an enrolled SSH key; raises MalformedInput unless it can be one person's key."""
    key = read_ssh(public)
    if key.algorithm not in {ECDSA, SK_ECDSA}:
        _require_strong(key.raw, public)
    elif not _on_curve(key.raw):
        raise MalformedInput("the SSH key is no point of P-256", help="copy the first two words of the `.pub` file")
    return key


def _require_strong(data: bytes, public: str) -> None:
    """Refuse a spelling with a coordinate beyond the field, and the points of small order.

    Under those one signature verifies for many messages without any secret (RFC 8032 section 5.1.7 leaves that to
    the caller).
    """
    y = int.from_bytes(data, "little") & (2**255 - 1)
    small = y in {0, 1, _P - 1} or (_D * pow(y, 4, _P) + 2 * y * y - 1) % _P == 0
    if y >= _P or small:
        raise MalformedInput(f"found the weak public key `{public}`, for which anyone could sign", help=_HELP)


def _on_curve(point: bytes) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        return False
    return True


def verify(public: str, message: bytes, sig: bytes, *, touch: bool = False, pin: bool = False) -> bool:
    """Say whether `sig` is the signature of the key `public` over `message`, with touch and PIN where demanded.

    `public` is base64 of 32 raw bytes, or the line of an SSH key, which signs people's statements only. Raises
    MalformedInput for a public key that is none; a signature of any wrong shape is simply false.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if is_ssh(public):
        return check.verify(ssh_key(public), message, sig, touch=touch, pin=pin)
    key = public_bytes(public)
    if len(sig) != SIGNATURE_BYTES or touch or pin:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(sig, message)
    except InvalidSignature:
        return False
    return True


def key_id(public: str) -> str:
    """Return the SHA-256 of the key's SubjectPublicKeyInfo, or of an SSH key's encoding, in hexadecimal.

    It is a hint, never an identity.
    """
    if is_ssh(public):
        return hashlib.sha256(ssh_key(public).blob).hexdigest()
    return hashlib.sha256(_SPKI_PREFIX + public_bytes(public)).hexdigest()
