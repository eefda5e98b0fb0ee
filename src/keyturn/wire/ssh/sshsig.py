"""The bytes of a signature by an SSH key: SSHSIG version 1 (OpenSSH's PROTOCOL.sshsig), and its armour.

It reads strictly and never says whether a signature holds; `check` does.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput

MAGIC = b"SSHSIG"
VERSION = 1
BYTES_MAX = 2000
HASHES = ("sha256", "sha512")
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_ARMOR_WIDTH = 70
_HELP = "sign again with `ssh-keygen -Y sign`"


@dataclass(frozen=True, slots=True)
class SshSignature:
    """The parts of one signature: `sig` is 64 bytes of Ed25519 or the pair (r, s) of ECDSA, as SSH spells them.

    `flags` and `counter` are a security key's own words, signed by it; both 0 for other keys.
    """

    key: bytes
    namespace: str
    hash: str
    algorithm: str
    sig: bytes
    flags: int
    counter: int


class Reader:
    """Strings and numbers of RFC 4251, read strictly to the last byte."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, size: int) -> bytes:
        """The next `size` bytes; raises MalformedInput where there are fewer."""
        if size > len(self._rest):
            raise MalformedInput("the SSH signature is cut short", help=_HELP)
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def number(self) -> int:
        """A number of four bytes."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """A string behind its length."""
        return self.take(self.number())

    def end(self) -> None:
        """Raise MalformedInput unless all was read."""
        if self._rest:
            raise MalformedInput(f"{len(self._rest)} bytes follow the SSH signature", help=_HELP)


def parse(blob: bytes) -> SshSignature:
    """Read the bytes of an SSHSIG strictly; raises MalformedInput, so that nothing unsigned finds room in it."""
    if len(blob) > BYTES_MAX:
        raise MalformedInput(f"an SSH signature of {len(blob)} bytes; {BYTES_MAX} is the most", help=_HELP)
    outer = Reader(blob)
    if outer.take(len(MAGIC)) != MAGIC or outer.number() != VERSION:
        raise MalformedInput("found no SSHSIG of version 1", help=_HELP)
    key, namespace, reserved, name = outer.string(), outer.string(), outer.string(), outer.string()
    inner = Reader(outer.string())
    outer.end()
    if reserved:
        raise MalformedInput("the reserved part of the SSH signature is not empty", help=_HELP)
    hash = name.decode("ascii", "replace")
    if hash not in HASHES:
        raise MalformedInput(f"the SSH signature hashes with `{hash[:20]}`; sha256 or sha512 is expected", help=_HELP)
    algorithm, sig = inner.string().decode("ascii", "replace"), inner.string()
    flags, counter = (inner.take(1)[0], inner.number()) if algorithm.startswith("sk-") else (0, 0)
    inner.end()
    return SshSignature(key, namespace.decode("ascii", "replace"), hash, algorithm, sig, flags, counter)


def armor(blob: bytes) -> str:
    """The text that `ssh-keygen -Y` reads and writes."""
    text = base64.b64encode(blob).decode("ascii")
    lines = [text[at : at + _ARMOR_WIDTH] for at in range(0, len(text), _ARMOR_WIDTH)]
    return "\n".join((_BEGIN, *lines, _END, ""))


def unarmor(text: str) -> bytes:
    """The bytes within an armour in its one spelling; raises MalformedInput for others, and for what is no SSHSIG."""
    lines = text.split("\n")
    try:
        blob = base64.b64decode("".join(lines[1:-2]).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        blob = b""
    if armor(blob) != text:
        raise MalformedInput("found no SSH signature in its armour, as `ssh-keygen` writes it", help=_HELP)
    parse(blob)
    return blob
