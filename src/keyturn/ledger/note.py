"""Signed notes (C2SP signed-note v1.0.0) and timestamped cosignatures (C2SP tlog-cosignature v1.0.1), Ed25519 only.

It signs with a signer that it is handed and opens with verifiers that it is handed; it never decides how many
signatures are enough.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from keyturn.core.errors import MalformedInput, TamperDetected, UntrustedInput
from keyturn.core.terms import Instant
from keyturn.wire import base64, signature

ED25519 = 0x01
"""The kind of a key that signs the text of a note."""

COSIGNATURE = 0x04
"""The kind of a key that signs the text with the moment at which it saw it: a witness."""

NOTE_BYTES_MAX = 64_000
SIGNATURES_MAX = 100

_LINE = re.compile(r"— (\S+) (\S+)")
_VKEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+(.+)", re.DOTALL)
_HELP = "hand in a signed note: text, an empty line, then lines `— name base64`"
_HELP_KEY = "copy the whole verifier key `name+hash+base64`"


class Signer(Protocol):
    """A named Ed25519 key that signs where it lies; `public` is the base64 of its 32 raw bytes."""

    @property
    def name(self) -> str:
        """The name in front of its signatures: for a log its origin."""

    @property
    def public(self) -> str:
        """The public key, base64 of 32 raw bytes."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature over `message`."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A known key: its name, its kind (`ED25519` or `COSIGNATURE`), its base64 public key."""

    name: str
    public: str
    kind: int = ED25519

    def __post_init__(self) -> None:
        signature.public_bytes(self.public)
        if not _is_name(self.name) or self.kind not in {ED25519, COSIGNATURE}:
            raise MalformedInput(f"found the key name `{self.name}` of kind {self.kind}", help=_HELP_KEY)

    @property
    def hash(self) -> bytes:
        """The four bytes that lead to this key from a signature: a hint that binds name, kind and key."""
        typed = bytes([self.kind]) + signature.public_bytes(self.public)
        return hashlib.sha256(self.name.encode() + b"\n" + typed).digest()[:4]

    @property
    def vkey(self) -> str:
        """The verifier key as C2SP writes it, to be pinned out of band."""
        typed = bytes([self.kind]) + signature.public_bytes(self.public)
        return f"{self.name}+{self.hash.hex()}+{base64.encode(typed)}"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that verified: whose, and for a witness the moment it swears to (otherwise None)."""

    verifier: Verifier
    at: Instant | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A note's text, the signatures that verified, and the names of signers that we do not know."""

    text: str
    signed: tuple[Signed, ...]
    unknown: tuple[str, ...]


def parse_vkey(vkey: str) -> Verifier:
    """Read a verifier key; raises MalformedInput for another form or kind, or when its hash is not its own."""
    match = _VKEY.fullmatch(vkey)
    if not match:
        raise MalformedInput(f"found `{vkey[:80]}`; a verifier key is expected", help=_HELP_KEY)
    typed = base64.decode(match[3], what="verifier key")
    if len(typed) != 33 or typed[0] not in {ED25519, COSIGNATURE}:
        raise MalformedInput(f"found a verifier key of `{match[1]}` that is not Ed25519", help=_HELP_KEY)
    verifier = Verifier(match[1], base64.encode(typed[1:]), typed[0])
    if verifier.hash.hex() != match[2]:
        raise MalformedInput(f"found the key hash `{match[2]}`; `{verifier.hash.hex()}` is expected", help=_HELP_KEY)
    return verifier


def sign(text: str, signer: Signer) -> bytes:
    """Return `text`, which must end in a newline, as a note with one signature of kind `ED25519`."""
    _require_text(text)
    verifier = Verifier(signer.name, signer.public)
    return f"{text}\n{_line(verifier, signer.sign(text.encode()))}".encode()


def cosign(note: bytes, signer: Signer, *, at: Instant) -> bytes:
    """Return `note` with one more line: a witness's signature over its text and the moment, in whole seconds."""
    text, _ = _split(note)
    verifier = Verifier(signer.name, signer.public, COSIGNATURE)
    seconds = at // 1000
    return note + _line(verifier, seconds.to_bytes(8, "big") + signer.sign(_cosigned(text, seconds))).encode()


def open_note(note: bytes, verifiers: Sequence[Verifier]) -> Opened:
    """Return what is in a note that at least one known key signed.

    Raises MalformedInput for what is no note, TamperDetected when a known key's signature does not verify (the
    text is not what it signed), UntrustedInput when no known key signed at all: the two are never the same.
    """
    text, lines = _split(note)
    signed: dict[Verifier, Signed] = {}
    unknown: list[str] = []
    for name, hint, sig in lines:
        known = next((each for each in verifiers if each.name == name and each.hash == hint), None)
        if known is None:
            unknown.append(name)
        elif known not in signed:
            signed[known] = _checked(text, known, sig, note)
    if not signed:
        names = ", ".join(f"`{name}`" for name in unknown[:8])
        raise UntrustedInput(f"no known key signed this note; it is signed by {names}", help="compare the pinned keys")
    return Opened(text, tuple(signed.values()), tuple(unknown))


def text_of(note: bytes) -> str:
    """Return the text of a note that nobody has verified; for our own notes and for messages only."""
    return _split(note)[0]


def _checked(text: str, known: Verifier, sig: bytes, note: bytes) -> Signed:
    at, message = None, text.encode()
    if known.kind == COSIGNATURE:
        seconds = int.from_bytes(sig[:8], "big")
        at, message, sig = Instant(seconds * 1000), _cosigned(text, seconds), sig[8:]
    if not signature.verify(known.public, message, sig):
        raise TamperDetected(
            f"the signature of `{known.name}` does not fit the text of the note",
            help="somebody changed the text or forged the signature; keep the note and ask for another copy",
            proof=note.decode("utf-8"),
        )
    return Signed(known, at)


def _cosigned(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _line(verifier: Verifier, sig: bytes) -> str:
    return f"— {verifier.name} {base64.encode(verifier.hash + sig)}\n"


def _split(note: bytes) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text, and per signature line the name, the four bytes of the hint, the rest."""
    if len(note) > NOTE_BYTES_MAX:
        raise MalformedInput(f"found a note of {len(note)} bytes; {NOTE_BYTES_MAX} is the limit", help=_HELP)
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedInput(f"found no UTF-8 at offset {error.start} of a note", help=_HELP) from error
    head, separator, tail = whole.rpartition("\n\n")
    _require_text(head + "\n")
    if not separator or not tail.endswith("\n"):
        raise MalformedInput("found a note without signature lines", help=_HELP)
    lines = list(_lines(tail[:-1].split("\n")))
    if len(lines) > SIGNATURES_MAX:
        raise MalformedInput(f"found {len(lines)} signatures; {SIGNATURES_MAX} is the limit", help=_HELP)
    return head + "\n", lines


def _lines(lines: Sequence[str]) -> Iterator[tuple[str, bytes, bytes]]:
    for line in lines:
        match = _LINE.fullmatch(line)
        blob = base64.decode(match[2], what="signature line") if match else b""
        if not match or not _is_name(match[1]) or len(blob) < 5:
            raise MalformedInput(f"found `{line[:80]}`; a signature line is expected", help=_HELP)
        yield match[1], blob[:4], blob[4:]


def _require_text(text: str) -> None:
    if not text.endswith("\n") or any(char < " " and char != "\n" for char in text):
        raise MalformedInput("found a note text with a control character or without a last newline", help=_HELP)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(char.isspace() or char < " " for char in name)
