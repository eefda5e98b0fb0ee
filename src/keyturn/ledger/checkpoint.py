"""Checkpoints (C2SP tlog-checkpoint v1.0.0): the signed head of a log, as origin, size and root.

It writes and reads no extension lines: what a stranger cannot check does not belong under the log's signature.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput, UntrustedInput, invariant
from keyturn.core.policy import Party, Witnesses
from keyturn.core.terms import NEVER, Instant
from keyturn.ledger import note
from keyturn.ledger.tree import EMPTY_ROOT, HASH_BYTES
from keyturn.wire import base64

SIZE_MAX = 2**53 - 1

_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_HELP = "hand in a checkpoint: the origin, the size and the base64 root hash, one line each, then signatures"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of the log `origin`: how many leaves, and the 32 raw bytes of the root over them."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """Return the text of the note, without signatures."""
        invariant(bool(self.origin) and "\n" not in self.origin, "an origin is one line")
        invariant(0 <= self.size <= SIZE_MAX and len(self.root) == HASH_BYTES, "a head has a size and a root")
        return f"{self.origin}\n{self.size}\n{base64.encode(self.root)}\n"


@dataclass(frozen=True, slots=True)
class Keys:
    """A log's keys over time: verifiers, with the number of entries from which on all of them sign its checkpoints.

    The rows stand in the order of their sizes, and the first begins at 0.
    """

    rows: tuple[tuple[int, tuple[note.Verifier, ...]], ...]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, Sequence[str]]]) -> Keys:
        """From verifier keys; raises MalformedInput for one that is none."""
        return cls(tuple((size, tuple(map(note.parse_vkey, vkeys))) for size, vkeys in rows))

    def at(self, size: int) -> tuple[note.Verifier, ...]:
        """Who must have signed the checkpoint of `size` entries; the current key comes first."""
        return next(verifiers for start, verifiers in reversed(self.rows) if start <= size)


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that the log signed, with the witnesses' cosignatures that verified and swear to a moment.

    `unchecked` names known ML-DSA-44 keys whose lines stand there and cannot be checked on this machine.
    """

    checkpoint: Checkpoint
    witnessed: tuple[note.Signed, ...]
    unchecked: tuple[str, ...] = ()


def sign(head: Checkpoint, *signers: note.Signer, at: Instant = NEVER, second: Sequence[note.Signer] = ()) -> bytes:
    """Return the note over `head` that each of them signed; a signer's name must be the origin, as C2SP recommends.

    Those of `second` sign beside them with ML-DSA-44, and swear to the moment `at`.
    """
    body = head.body()
    for signer in (*signers, *second):
        if signer.name != head.origin:
            message = f"the key `{signer.name}` cannot sign for the log `{head.origin}`"
            raise MalformedInput(message, help="sign with the key that carries the log's origin as its name")
    start = f"{body}\n".encode()
    made = start + b"".join(note.sign(body, signer).removeprefix(start) for signer in signers)
    for signer in second:
        made = note.cosign(made, signer, at=at, kind=note.ML_DSA)
    return made


def open_checkpoint(data: bytes, log: note.Verifier | Keys, witnesses: Sequence[note.Verifier] = ()) -> Published:
    """Return the checkpoint in a note that the key `log` signed, and who witnessed it.

    Where the log's keys change over time, every key that was in force at the checkpoint's size must have signed. Of an
    ML-DSA-44 key that this machine cannot check the line is enough, beside an Ed25519 key that did sign.

    Raises UntrustedInput when the log did not sign it or it is of another origin than the key's name,
    TamperDetected when a known key's signature does not verify, MalformedInput for what is no checkpoint.
    """
    keys = _in_force(data, log)
    opened = note.open_note(data, (*keys, *witnesses))
    signed = {each.verifier for each in opened.signed}
    unchecked = set(opened.unchecked) if any(key in signed for key in keys) else set[str]()
    absent = [key for key in keys if key not in signed and not (key.kind == note.ML_DSA and key.name in unchecked)]
    if absent:
        message = f"the log `{absent[0].name}` did not sign this checkpoint"
        if len(keys) > 1:
            message += f" with its key {absent[0].hash.hex()}; each of its {len(keys)} keys must"
        raise UntrustedInput(message, help="a witness alone, or a key that was replaced, cannot speak for a log")
    head, name = parse_text(opened.text), keys[0].name
    if head.origin != name:
        message = f"this checkpoint is of the log `{head.origin}`; `{name}` is expected"
        raise UntrustedInput(message, help="compare the pinned origin")
    cosigned = (each for each in opened.signed if each.verifier.kind in note.COSIGNING and each.verifier not in keys)
    return Published(head, tuple(each for each in cosigned if each.at is not None), opened.unchecked)


def cosigners(data: bytes, log: note.Verifier | Keys, parties: Sequence[Party]) -> dict[str, Instant]:
    """Return which of these parties cosigned the checkpoint, each with the newest moment to which it swears.

    Any one key of a party will do, and two of them are still one party. Raises as `open_checkpoint` does.
    """
    owners = {note.parse_vkey(key): party.id for party in parties for key in party.keys}
    found: dict[str, Instant] = {}
    for each in open_checkpoint(data, log, tuple(owners)).witnessed:
        owner = owners[each.verifier]
        found[owner] = max(found.get(owner, NEVER), each.at or NEVER)
    return found


def uncheckable(data: bytes, log: note.Verifier | Keys, parties: Sequence[Party]) -> frozenset[str]:
    """Return which of these parties have a line that cannot be checked here: whether they cosigned is not known.

    Raises as `open_checkpoint` does.
    """
    keys = {note.parse_vkey(key): party.id for party in parties for key in party.keys}
    names = set(open_checkpoint(data, log, tuple(keys)).unchecked)
    return frozenset(party for key, party in keys.items() if key.kind == note.ML_DSA and key.name in names)


def _in_force(data: bytes, log: note.Verifier | Keys) -> tuple[note.Verifier, ...]:
    return log.at(parse_body(data).size) if isinstance(log, Keys) else (log,)


def witnesses_of(data: bytes, log: note.Verifier | Keys, table: Witnesses) -> tuple[str, ...]:
    """Return the ids of the independent parties of a policy's table that cosigned; empty means UNWITNESSED.

    Raises as `open_checkpoint` does.
    """
    return table.counted(cosigners(data, log, table.parties))


def newest_shown(notes: Sequence[bytes], log: note.Verifier | Keys, table: Witnesses | None) -> bytes | None:
    """Return the newest of a log's own checkpoints, oldest first, that may be shown to others; None: none of them.

    Where the policy asks for witnesses, it is one that enough of them cosigned. Raises as `open_checkpoint` does.
    """
    if table is None or not table.required:
        return notes[-1] if notes else None
    enough = (each for each in reversed(notes) if not table.lacking(cosigners(each, log, table.parties)))
    return next(enough, None)


def parse_body(data: bytes) -> Checkpoint:
    """Return what a note claims, unverified: for what we signed ourselves and for messages only."""
    return parse_text(note.text_of(data))


def parse_text(text: str) -> Checkpoint:
    """Return what the text of a note claims; raises MalformedInput for what is no checkpoint."""
    lines = text.split("\n")
    if len(lines) != 4 or not lines[0] or lines[3]:
        raise MalformedInput(f"found {len(lines) - 1} lines; a checkpoint has three", help=_HELP)
    if not _SIZE.fullmatch(lines[1]) or int(lines[1]) > SIZE_MAX:
        raise MalformedInput(f"found the size `{lines[1][:40]}`; a plain decimal number is expected", help=_HELP)
    root = base64.decode(lines[2], what="root")
    if len(root) != HASH_BYTES:
        raise MalformedInput(f"found a root of {len(root)} bytes; {HASH_BYTES} are expected", help=_HELP)
    if lines[1] == "0" and root != EMPTY_ROOT:
        raise MalformedInput("found a size of 0 with a root that is not the empty tree's", help=_HELP)
    return Checkpoint(lines[0], int(lines[1]), root)
