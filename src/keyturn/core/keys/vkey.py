"""Verifier keys as C2SP signed-note spells them, `name+hash+base64(kind, key)`, and which secret stands behind each.

It reads and compares; it never verifies a signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput

COSIGNATURE = 0x04
"""The kind of a witness's Ed25519 key (C2SP tlog-cosignature `cosignature/v1`)."""

MLDSA_COSIGNATURE = 0x06
"""The kind of a witness's ML-DSA-44 key (C2SP tlog-cosignature `subtree/v1`)."""

KEY_BYTES = {0x01: 32, COSIGNATURE: 32, MLDSA_COSIGNATURE: 1312}
"""How many bytes a key of each kind has; no other kind is known."""

LINE_CHARACTERS_MAX = 3000
_VKEY = re.compile(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")
_HELP = "copy the whole verifier key `name+hash+base64`, as `keyturn witness show` prints it"


@dataclass(frozen=True, slots=True)
class Vkey:
    """A verifier key: its name, its kind (the first byte of what is encoded), the key's own bytes."""

    name: str
    kind: int
    raw: bytes

    @property
    def is_cosigner(self) -> bool:
        """Whether it signs heads of other people's logs, together with the moment at which it saw them."""
        return self.kind in {COSIGNATURE, MLDSA_COSIGNATURE}


def read_vkey(text: str) -> Vkey:
    """Read a verifier key strictly; raises MalformedInput for another form, an unknown kind or a hash not its own."""
    match = _VKEY.fullmatch(text) if len(text) <= LINE_CHARACTERS_MAX else None
    if match is None:
        raise MalformedInput(f"found `{text[:80]}`; a verifier key is expected", help=_HELP)
    name, said, encoded = match.groups()
    try:
        typed = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        typed = b""
    if not typed or base64.b64encode(typed).decode("ascii") != encoded:
        raise MalformedInput(f"the verifier key of `{name[:80]}` is no base64 in its one spelling", help=_HELP)
    if KEY_BYTES.get(typed[0]) != len(typed) - 1:
        message = f"the verifier key of `{name[:80]}` is neither Ed25519 nor ML-DSA-44 of a kind that is known"
        raise MalformedInput(message, help=_HELP)
    own = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4].hex()
    if own != said:
        raise MalformedInput(f"found the key hash `{said}`; `{own}` is expected", help=_HELP)
    return Vkey(name, typed[0], typed[1:])
