"""Who signs, with which key; and what they typed, as a blob that only a reference to goes into the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.wiring import salted
from keyturn.core.errors import MalformedInput
from keyturn.keys import keyfile, signing
from keyturn.ledger.blobs.store import BlobStore
from keyturn.wire.blobs.blob import Blob

REASON_MAX = 500
"""How many characters a reason may have."""


@dataclass(frozen=True, slots=True)
class Signing:
    """Who acts, in which role (None: the first that fits), and where their key and its passphrase are."""

    person: str
    role: str | None
    keys: Path
    passphrase_file: Path | None
    unseen: bool = False
    """Whether an SSH key may sign without a terminal on which the message was shown."""

    def sign(self, person: str, message: bytes, typed: Typed | None = None) -> tuple[str, bytes]:
        """The person's public key and its signature over `message`, made in a process of its own.

        That process shows the words of `typed`, to which the message refers, and computes the reference again.
        """
        path = keyfile.path_of(self.keys, person)
        blob = typed.blob if typed is not None else None
        asked = {"passphrase_file": self.passphrase_file, "unseen": self.unseen}
        made = signing.sign_in_child(path, message, blob=blob, **asked)  # type: ignore[arg-type]  # two fields of this class
        return keyfile.read_public(path).public, made


@dataclass(frozen=True, slots=True)
class Typed:
    """What a person typed: `reference` stands in entries, `keep` makes the words durable before one names them."""

    blob: Blob | None
    keep: Callable[[], None]

    @property
    def reference(self) -> str:
        """What an entry holds; an empty reason stays empty."""
        return self.blob.reference if self.blob is not None else ""


def typed(store: BlobStore, text: str, *, most: int = REASON_MAX) -> Typed:
    """Salt what was typed, whatever it looks like; raises MalformedInput where it is too long."""
    words = text.strip()
    if len(words) > most:
        raise MalformedInput(f"a reason of 1 to {most} characters is expected", help="`--reason TEXT`")
    if not words:
        return Typed(None, lambda: None)
    blob = salted(words.encode("utf-8", "replace"))
    return Typed(blob, lambda: store.put(blob))
