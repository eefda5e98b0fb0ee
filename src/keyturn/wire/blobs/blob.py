"""A blob: data that an entry of the log names by a salted digest, so that it can be erased and the entry stays.

Its bytes are `keyturn-blob-v1`, a line feed, the salt as 64 hexadecimal digits, a line feed, and the data; its digest
is SHA-256 over exactly these bytes, so that `sha256sum` on the file is the whole check. The first 81 bytes are of fixed
length: no two pairs of salt and data share their bytes, and nothing else that Keyturn hashes begins like this. Whoever
does not know the salt can confirm no guess of the data from the digest.

In an entry stands the reference `withheld:sha256:` and 64 lower-case hexadecimal digits. A text of exactly this form is
always a reference, never what a person typed: what people type goes into a blob whatever it looks like.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput, TamperDetected
from keyturn.core.terms import Digest
from keyturn.wire.digest import parse

MAGIC = b"keyturn-blob-v1\n"
"""How every blob begins; other bytes would be another format."""

SALT_BYTES = 32
DATA_BYTES_MAX = 1 << 20
"""How much one blob holds at most."""

BLOB_BYTES_MAX = len(MAGIC) + 2 * SALT_BYTES + 1 + DATA_BYTES_MAX
MARK = "withheld:"
REFERENCE = re.compile(r"withheld:(sha256:[0-9a-f]{64})")
"""A reference; the whole of a field, or quoted within a finding."""

_HEAD = re.compile(rb"keyturn-blob-v1\n([0-9a-f]{64})\n")
_HELP = "do not rely on it; restore the blob from a copy, or let people erase it"


@dataclass(frozen=True, slots=True)
class Blob:
    """Data and the 32 random bytes that hide it; raises MalformedInput for another salt or too much data."""

    salt: bytes
    data: bytes

    def __post_init__(self) -> None:
        if len(self.salt) != SALT_BYTES or len(self.data) > DATA_BYTES_MAX:
            message = f"found {len(self.salt)} bytes of salt and {len(self.data)} of data"
            raise MalformedInput(
                f"{message}; {SALT_BYTES} and at most {DATA_BYTES_MAX} are expected", help="shorten it"
            )

    @property
    def encoded(self) -> bytes:
        """The exact bytes that are kept and hashed."""
        return MAGIC + self.salt.hex().encode("ascii") + b"\n" + self.data

    @property
    def digest(self) -> Digest:
        """The commitment to salt and data."""
        return commitment(self.salt, self.data)

    @property
    def reference(self) -> str:
        """What stands in an entry in place of the data."""
        return MARK + self.digest

    @property
    def text(self) -> str:
        """The data as text; what is not UTF-8 is shown as such."""
        return self.data.decode("utf-8", "replace")


def commitment(salt: bytes, data: bytes) -> Digest:
    """The digest that binds salt and data: SHA-256 over the blob's bytes; raises MalformedInput as `Blob` does."""
    return Digest("sha256:" + hashlib.sha256(Blob(salt, data).encoded).hexdigest())


def decode(encoded: bytes, digest: Digest) -> Blob:
    """The blob in these bytes; raises TamperDetected unless they are exactly what `digest` commits to."""
    found = "sha256:" + hashlib.sha256(encoded).hexdigest()
    head = _HEAD.match(encoded)
    if found != parse(digest) or head is None or len(encoded) > BLOB_BYTES_MAX:
        message = f"the blob {digest[:15]}… holds other bytes than those that the log names"
        raise TamperDetected(message, help=_HELP, proof=f"expected {digest}, found {found}")
    return Blob(bytes.fromhex(head[1].decode("ascii")), encoded[head.end() :])


def referred(text: object) -> Digest | None:
    """The digest that a field names, where all of the field is a reference; None for any other value."""
    match = REFERENCE.fullmatch(text) if isinstance(text, str) else None
    return Digest(match[1]) if match else None


def reasons_of(event: ev.Event) -> tuple[Digest, ...]:
    """The blobs of people's words that an entry names."""
    values: list[object] = [getattr(event, "reason", "")]
    if isinstance(event, ev.DossierSealed):
        values = [event.document.get("why")]
    return tuple(digest for value in values if (digest := referred(value)) is not None)


def diagnostics_of(event: ev.Event) -> tuple[Digest, ...]:
    """The blob of what the subject printed in an improve step, where one was kept."""
    digest = referred(event.diagnostics) if isinstance(event, ev.ImprovementEnded) else None
    return (digest,) if digest is not None else ()


def named_by(event: ev.Event) -> tuple[Digest, ...]:
    """Every blob that an entry names; what a finding or a receipt quotes stood in an entry before."""
    return (*reasons_of(event), *diagnostics_of(event))


def replaced(text: str, words: Callable[[Digest], str]) -> str:
    """The text with each reference in it replaced by its words; what is put in is not looked at again."""
    return REFERENCE.sub(lambda match: words(Digest(match[1])), text)
