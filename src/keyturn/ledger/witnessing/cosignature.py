"""What a cosigner's signature covers (C2SP tlog-cosignature v1.1.0-rc.1), and ML-DSA-44 (FIPS 204) if it is built in.

The message of Ed25519 holds the moment and the whole text; that of ML-DSA-44 names the cosigner, the log, and the
leaves. Here it always covers a whole checkpoint: from leaf 0 up to its size.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.wire import base64

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

PUBLIC_BYTES = 1312
"""The length of an ML-DSA-44 public key."""

SIGNATURE_BYTES = 2420
"""The length of an ML-DSA-44 signature."""

NAME_BYTES_MAX = 255
SECONDS_MAX = 2**63 - 1

_LABEL = b"subtree/v1\n\0"
HELP_BUILD = "install a cryptography package that is built with OpenSSL 3.5 or later"


def ed25519_message(text: str, seconds: int) -> bytes:
    """Return what a witness signs with Ed25519: a header, the moment, and the whole text."""
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def ml_dsa_message(*, cosigner: str, seconds: int, origin: str, size: int, root: bytes) -> bytes:
    """Return what a cosigner signs with ML-DSA-44: the structure `cosigned_message` over leaves 0 up to `size`.

    Raises MalformedInput for a name or an origin that does not fit into 1 to 255 bytes.
    """
    names = [_short(name) for name in (cosigner, origin)]
    return _LABEL + names[0] + struct.pack(">Q", seconds) + names[1] + struct.pack(">QQ", 0, size) + root


def public_bytes(public: str) -> bytes:
    """Return the bytes of an ML-DSA-44 public key in base64; raises MalformedInput for another length.

    Every string of that length is a key (FIPS 204, algorithm 23), so it takes no library to say so.
    """
    data = base64.decode(public, what="public")
    if len(data) != PUBLIC_BYTES:
        raise MalformedInput(
            f"found an ML-DSA-44 key of {len(data)} bytes; it has {PUBLIC_BYTES}", help="copy the whole verifier key"
        )
    return data


def verify(public: str, message: bytes, sig: bytes) -> bool:
    """Say whether `sig` is the signature over `message`; raises Unavailable where this cannot be known."""
    from cryptography.exceptions import InvalidSignature

    key = _public_key(public_bytes(public))
    if len(sig) != SIGNATURE_BYTES:
        return False
    try:
        key.verify(sig, message)
    except InvalidSignature:
        return False
    return True


def require_ml_dsa() -> None:
    """Raise Unavailable where the cryptography library lacks ML-DSA."""
    _public_key(bytes(PUBLIC_BYTES))


def _public_key(raw: bytes) -> MLDSA44PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

        return MLDSA44PublicKey.from_public_bytes(raw)
    except (ImportError, UnsupportedAlgorithm) as error:
        raise Unavailable("this build of the cryptography library has no ML-DSA-44", help=HELP_BUILD) from error


def _short(name: str) -> bytes:
    data = name.encode()
    if not 1 <= len(data) <= NAME_BYTES_MAX:
        message = f"found a name of {len(data)} bytes; ML-DSA cosignatures carry 1 to {NAME_BYTES_MAX}"
        raise MalformedInput(message, help="give the log or the witness a shorter name")
    return bytes([len(data)]) + data
