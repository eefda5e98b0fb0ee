"""SHA-256 digests as text and as bytes; one spelling, and never another algorithm."""

from __future__ import annotations

import hashlib
import re

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Digest

_SPELLING = re.compile(r"sha256:[0-9a-f]{64}")


def sha256(data: bytes) -> Digest:
    """Return the digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def parse(text: object) -> Digest:
    """Return `text` as a digest; raises MalformedInput for any other spelling, upper case included."""
    if not isinstance(text, str) or not _SPELLING.fullmatch(text):
        found = f"`{text[:80]}`" if isinstance(text, str) else "no text"
        message = f"found {found}; a digest is `sha256:` and 64 lower-case hexadecimal digits"
        raise MalformedInput(message, help="copy the whole digest")
    return Digest(text)


def raw(digest: Digest) -> bytes:
    """Return the 32 bytes of `digest`; raises MalformedInput as `parse` does."""
    return bytes.fromhex(parse(digest)[7:])


def of_raw(data: bytes) -> Digest:
    """Return 32 raw bytes as a digest; raises MalformedInput for another length."""
    if len(data) != 32:
        raise MalformedInput(f"found a hash of {len(data)} bytes; SHA-256 has 32", help="hand in the whole hash")
    return Digest("sha256:" + data.hex())
