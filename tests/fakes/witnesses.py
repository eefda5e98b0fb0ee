"""Witnesses without a network: real keys, real signatures, and the one rule that makes a witness worth having.

Each remembers the newest head that it cosigned, cosigns nothing that does not continue it, and can be made silent.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.core.policy import Party
from keyturn.core.terms import Instant
from keyturn.flow.ports import Cosigned
from keyturn.ledger import checkpoint, note, tree

Prove = Callable[[int], tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's Ed25519 key, made from its name."""

    name: str

    @property
    def private(self) -> Ed25519PrivateKey:
        """The key itself."""
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"witness {self.name}".encode()).digest())

    @property
    def public(self) -> str:
        """Its public part, base64."""
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()

    @property
    def vkey(self) -> str:
        """What a policy names."""
        return note.Verifier(self.name, self.public, note.COSIGNATURE).vkey

    def sign(self, message: bytes) -> bytes:
        """A signature."""
        return self.private.sign(message)


def party(id: str, **changes: Any) -> dict[str, Any]:
    """A row of `[[witnesses.parties]]`, independent unless said otherwise."""
    row = {"id": id, "keys": [WitnessKey(f"{id}.example").vkey], "url": f"https://{id}.example", "independent": True}
    return {**row, **changes}


def table(required: int, *ids: str, **changes: Any) -> dict[str, Any]:
    """A `[witnesses]` table with these independent parties."""
    return {"required": required, "parties": [party(id) for id in ids], **changes}


@dataclass(slots=True)
class Witnesses:
    """All witnesses of a test; `silent` names those that do not answer, `now` is their clock."""

    now: Callable[[], Instant]
    silent: set[str] = field(default_factory=set)
    seen: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: int = 0

    def cosign(self, note: bytes, parties: Sequence[Party], *, size: int, prove: Prove) -> Cosigned:
        """As the port's."""
        self.asked += 1
        quiet: dict[str, str] = {}
        for each in parties:
            why = "it does not answer" if each.id in self.silent else self._refusal(each.id, note, prove)
            if why:
                quiet[each.id] = why
            else:
                note = cosigned(note, each.id, self.now())
        return Cosigned(note, quiet)

    def _refusal(self, id: str, data: bytes, prove: Prove) -> str:
        head = checkpoint.parse_body(data)
        old, root = self.seen.get(id, (0, tree.EMPTY_ROOT))
        if old > head.size:
            return f"it has cosigned {old} entries already"
        good = tree.check_consistency(old=old, old_root=root, new=head.size, new_root=head.root, proof=prove(old))
        if not good:
            return "the head does not continue what it cosigned"
        self.seen[id] = (head.size, head.root)
        return ""


def cosigned(data: bytes, id: str, at: Instant) -> bytes:
    """The checkpoint with one more line, by the witness of this id."""
    return note.cosign(data, WitnessKey(f"{id}.example"), at=at)
