"""Signed notes (C2SP signed-note v1.0.0) and timestamped cosignatures (tlog-cosignature v1.1.0-rc.1).

Notes are signed with Ed25519, cosigned with Ed25519 or ML-DSA-44. It signs with a signer that it is handed and opens
with verifiers that it is handed; it never decides how many signatures are enough.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from keyturn.core.errors import MalformedInput, TamperDetected, Unavailable, UntrustedInput
from keyturn.core.keys import lines as lengths
from keyturn.core.keys.vkey import read_vkey
from keyturn.core.terms import Instant
from keyturn.ledger.witnessing import cosignature
from keyturn.wire import base64, signature

ED25519 = 0x01
"""The kind of a key that signs the text of a note."""

COSIGNATURE = 0x04
"""The kind of a key that signs the text with the moment at which it saw it: a witness."""

ML_DSA = 0x06
"""The kind of a key that cosigns a checkpoint, its moment and its own name with ML-DSA-44: a witness, or a log."""

COSIGNING = frozenset({COSIGNATURE, ML_DSA})
"""The kinds whose signatures carry a moment."""

NOTE_BYTES_MAX = lengths.NOTE_BYTES_MAX
SIGNATURES_MAX = lengths.SIGNATURES_MAX

_LINE = re.compile(r"— (\S+) (\S+)")
_HELP = "hand in a signed note: text, an empty line, then lines `— name base64`"
_HELP_KEY = "copy the whole verifier key `name+hash+base64`"


class Signer(Protocol):
    """A named key that signs where it lies, Ed25519 unless it is said to be ML-DSA-44."""

    @property
    def name(self) -> str:
        """The name in front of its signatures: for a log its origin."""

    @property
    def public(self) -> str:
        """The public key, base64 of its raw bytes: 32, or 1312 for ML-DSA-44."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`: 64 bytes, or 2420 for ML-DSA-44."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A known key: its name, its kind (`ED25519`, `COSIGNATURE` or `ML_DSA`), its base64 public key."""

    name: str
    public: str
    kind: int = ED25519

    def __post_init__(self) -> None:
        if not _is_name(self.name) or self.kind not in {ED25519, *COSIGNING}:
            raise MalformedInput(f"found the key name `{self.name}` of kind {self.kind}", help=_HELP_KEY)
        self._typed()

    @property
    def hash(self) -> bytes:
        """The four bytes that lead to this key from a signature: a hint that binds name, kind and key."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed()).digest()[:4]

    @property
    def vkey(self) -> str:
        """The verifier key as C2SP writes it, to be pinned out of band."""
        return f"{self.name}+{self.hash.hex()}+{base64.encode(self._typed())}"

    def _typed(self) -> bytes:
        """The kind and the key, as both the hash and the verifier key take them."""
        raw = cosignature.public_bytes if self.kind == ML_DSA else signature.public_bytes
        return bytes([self.kind]) + raw(self.public)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that verified: whose, and the moment that a cosigner swears to.

    None for a log's own signature, and for one of ML-DSA-44 that swears to no moment (its time is zero).
    """

    verifier: Verifier
    at: Instant | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A note's text, the signatures that verified, the names of signers that we do not know.

    `unchecked` names known ML-DSA-44 keys whose signatures nobody here can check: they count for nothing.
    """

    text: str
    signed: tuple[Signed, ...]
    unknown: tuple[str, ...]
    unchecked: tuple[str, ...] = ()


def parse_vkey(vkey: str) -> Verifier:
    """Read a verifier key; raises MalformedInput for another form or kind, or when its hash is not its own."""
    read = read_vkey(vkey)
    return Verifier(read.name, base64.encode(read.raw), read.kind)


def sign(text: str, signer: Signer) -> bytes:
    """Return `text`, which must end in a newline, as a note with one signature of kind `ED25519`."""
    _require_text(text)
    verifier = Verifier(signer.name, signer.public)
    return f"{text}\n{_line(verifier, signer.sign(text.encode()))}".encode()


def cosign(note: bytes, signer: Signer, *, at: Instant, kind: int = COSIGNATURE) -> bytes:
    """Return `note` with one more line: a cosigner's signature over its text and the moment, in whole seconds.

    Raises MalformedInput when `kind` is `ML_DSA` and the text is no checkpoint, or the moment is its zero.
    """
    text, _ = _split(note)
    verifier = Verifier(signer.name, signer.public, kind)
    seconds = at // 1000
    if kind == ML_DSA and seconds < 1:
        raise MalformedInput("found a cosignature at the moment zero, which would swear to none", help="set the clock")
    return note + _line(verifier, seconds.to_bytes(8, "big") + signer.sign(_cosigned(text, verifier, seconds))).encode()


def open_note(note: bytes, verifiers: Sequence[Verifier]) -> Opened:
    """Return what is in a note that at least one known key signed; a key that signed twice counts once.

    Raises MalformedInput for what is no note, TamperDetected when a known key's signature does not verify (the
    text is not what it signed), UntrustedInput when no known key signed at all (the two are never the same), and
    Unavailable when only keys did whose signatures cannot be checked here.
    """
    text, lines = _split(note)
    signed: dict[Verifier, Signed] = {}
    unknown: list[str] = []
    unchecked: list[str] = []
    for name, hint, sig in lines:
        known = next((each for each in verifiers if each.name == name and each.hash == hint), None)
        if known is None:
            unknown.append(name)
        elif known not in signed:
            try:
                signed[known] = _checked(text, known, sig, note)
            except Unavailable:
                unchecked.append(name)
    if not signed and unchecked:
        message = f"only `{unchecked[0]}` signed this note, with ML-DSA-44, which cannot be checked here"
        raise Unavailable(message, help=cosignature.HELP_BUILD)
    if not signed:
        names = ", ".join(f"`{name}`" for name in unknown[:8])
        raise UntrustedInput(f"no known key signed this note; it is signed by {names}", help="compare the pinned keys")
    return Opened(text, tuple(signed.values()), tuple(unknown), tuple(unchecked))


def merge(note: bytes, lines: Sequence[str]) -> bytes:
    """Return `note` with these signature lines, each in place of an older one of the same key.

    Raises MalformedInput for what is no note or no line. Nothing is verified.
    """
    new = {(name, hint) for name, hint, _ in _lines(lines)}
    merged = _only(note, lambda key: key not in new) + "".join(f"{line}\n" for line in lines).encode()
    _split(merged)
    return merged


def keep(note: bytes, verifiers: Sequence[Verifier]) -> bytes:
    """Return `note` with only the signature lines of these keys. Nothing is verified."""
    known = {(each.name, each.hash) for each in verifiers}
    return _only(note, lambda key: key in known)


def _only(note: bytes, wanted: Callable[[tuple[str, bytes]], bool]) -> bytes:
    text, found = _split(note)
    lines = note.decode("utf-8").rpartition("\n\n")[2].splitlines(keepends=True)
    kept = (line for line, (name, hint, _) in zip(lines, found, strict=True) if wanted((name, hint)))
    return (f"{text}\n" + "".join(kept)).encode()


def named(note: bytes, verifiers: Sequence[Verifier]) -> tuple[Verifier, ...]:
    """Return which of these keys have a signature line in `note`. Nothing is verified: for notes that were opened."""
    found = {(name, hint) for name, hint, _ in _split(note)[1]}
    return tuple(each for each in verifiers if (each.name, each.hash) in found)


def text_of(note: bytes) -> str:
    """Return the text of a note that nobody has verified; for our own notes and for messages only."""
    return _split(note)[0]


def _checked(text: str, known: Verifier, sig: bytes, note: bytes) -> Signed:
    if known.kind == ED25519:
        at, fits = None, signature.verify(known.public, text.encode(), sig)
    else:
        seconds = int.from_bytes(sig[:8], "big")
        fits = seconds <= cosignature.SECONDS_MAX and _fits(text, known, seconds, sig[8:])
        at = Instant(seconds * 1000) if seconds or known.kind == COSIGNATURE else None
    if not fits:
        raise TamperDetected(
            f"the signature of `{known.name}` does not fit the text of the note",
            help="somebody changed the text or forged the signature; keep the note and ask for another copy",
            proof=note.decode("utf-8"),
        )
    return Signed(known, at)


def _fits(text: str, known: Verifier, seconds: int, sig: bytes) -> bool:
    try:
        message = _cosigned(text, known, seconds)
    except MalformedInput:
        return False  # nobody can have signed with ML-DSA what is no checkpoint
    verify = cosignature.verify if known.kind == ML_DSA else signature.verify
    return verify(known.public, message, sig)


def _cosigned(text: str, cosigner: Verifier, seconds: int) -> bytes:
    if cosigner.kind != ML_DSA:
        return cosignature.ed25519_message(text, seconds)
    from keyturn.ledger.checkpoint import parse_text  # it imports this file: a checkpoint is a note

    head = parse_text(text)
    return cosignature.ml_dsa_message(
        cosigner=cosigner.name, seconds=seconds, origin=head.origin, size=head.size, root=head.root
    )


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
