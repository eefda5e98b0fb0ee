"""The auditor's own copy of a log: fetched, compared with what the log signed, decided again, and only then kept.

An attempt whose root is not the signed one leaves no trace. What is illegal is kept with the rest, because it is the
evidence, and a mark says so for ever. It never signs, and it never believes a head that the log's keys in force at its
size did not sign, by the entries that it decided itself: a key that was replaced convicts nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.errors import Conflict, KeyturnError, TamperDetected, Unavailable, UntrustedInput
from keyturn.core.terms import Instant
from keyturn.ledger import checkpoint, tree
from keyturn.ledger.auditing import fetch
from keyturn.ledger.auditing.fetch import BOUNDS, Bounds, Tiles
from keyturn.ledger.auditing.marks import Marks, Mirrored
from keyturn.ledger.auditing.walk import Pin, Walk, Wrong
from keyturn.ledger.checkpoint import Checkpoint, Keys
from keyturn.ledger.store import LEAF_BYTES_MAX, Head, Store

MARKS_MAX = 100
"""How many illegal things of one fetch are named; the rest are counted."""

MESSAGE_MAX = 1000
CHUNK = 4096
"""How many mirrored entries are read at once."""

TRIES_MAX = 5

_ANEW = "move `mirror.db` away and keep it; `keyturn auditor check DIR` then fetches the whole log anew"


@dataclass(frozen=True, slots=True)
class Advanced:
    """What advancing to a head showed: entries and decisions so far, how many entries were new."""

    entries: int
    decisions: int
    new: int


class Mirror:
    """The copy of one log in one file, with its folded state in memory; threads and processes may share the file."""

    def __init__(self, store: Store, marks: Marks, *, pin: Pin, tiles: Tiles, now: Callable[[], Instant]) -> None:
        self.marks = marks
        self._store, self._pin, self._tiles, self._now = store, pin, tiles, now
        self._walk, self._frontier = Walk(), tree.Frontier()
        self._lock = threading.Lock()
        self.bounds: Bounds = BOUNDS

    @classmethod
    def open(
        cls,
        path: Path,
        marks: Marks,
        *,
        pin: Pin,
        tiles: Tiles,
        now: Callable[[], Instant],
        tell: Callable[[str], None] = lambda _: None,
    ) -> Mirror:
        """The mirror in this file, every entry decided again from the first; an empty one where there is none.

        Raises `TamperDetected` when the file does not hold what was mirrored before.
        """
        mirror = cls(Store.open(path, create=True), marks, pin=pin, tiles=tiles, now=now)
        mirror._walk = Walk(tell)
        try:
            mirror._require_whole()
            mirror._refresh()
        except BaseException:
            mirror.close()
            raise
        return mirror

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    @property
    def decided(self) -> bool:
        """Whether every mirrored entry could be decided again, so that whatever follows can be too."""
        return self._walk.decided

    def keys(self) -> Keys | None:
        """The log's keys over time as far as it was decided; None before its founding was read."""
        return self._walk.log_keys

    def doubt(self, note: bytes) -> str | None:
        """Why the head in this note is not known to be the log's; None when the keys in force at its size signed it.

        Raises as `advance` does when the mirror does not hold what it held.
        """
        with self._lock:
            self._refresh()
            try:
                head = checkpoint.parse_body(note)
                if self._walk.log_keys is None or head.size > self._walk.size:
                    return f"not yet: the {head.size} entries under this head were not decided here"
                _require_signed(note, self._walk)
            except KeyturnError as fault:
                return f"not this log: {fault.message}"
        return None

    def advance(self, note: bytes) -> Advanced:
        """Mirror and decide everything up to the head in this note, which a key of the log's must have signed.

        What is illegal is marked, not raised. Raises `Unavailable` when the entries cannot be had yet,
        `UntrustedInput` when not all keys in force at that size signed it, and `TamperDetected` when the entries do
        not lead to the signed root, or the mirror does not hold what it held; the mirror is then as it was.
        """
        head = checkpoint.parse_body(note)
        with self._lock:
            for _ in range(TRIES_MAX):
                try:
                    return self._advance(head, note)
                except Conflict:
                    continue  # another process of this auditor mirrored meanwhile: go on from what it kept
        raise Unavailable("another process of this auditor keeps mirroring", help="ask again in a moment")

    def _advance(self, head: Checkpoint, note: bytes) -> Advanced:
        self._refresh()
        start = self._walk.size
        if head.size < self._pin.seen_size:
            message = f"{self._pin.seen_size} entries were seen when the log was pinned; this head has {head.size}"
            raise Unavailable(message, help="ask with a newer head")
        if head.size <= start:
            _require_signed(note, self._walk)
            self._compare(head)
            return Advanced(start, self._walk.decisions, 0)
        leaves = list(fetch.entries(self._tiles, start, head.size, bounds=self.bounds))
        frontier = self._frontier.extend(tree.leaf_hashes(leaves))
        if frontier.root() != head.root:
            raise TamperDetected(
                f"the {start} mirrored entries and the fetched ones have the root {frontier.root().hex()}; "
                f"the head of {head.size} that the log signed has {head.root.hex()}",
                help="nothing was kept; tell whoever serves these files, and compare with another witness's head",
            )
        walk = self._ahead(self._walk, self._frontier, leaves)
        _require_signed(note, walk)
        self._mark(walk, head.size)
        if not all(1 <= len(leaf) <= LEAF_BYTES_MAX for leaf in leaves):
            message = "the signed log holds an entry that is empty or too long for any log; it is marked and not kept"
            raise TamperDetected(message, help="`keyturn auditor show DIR` names it")
        self._keep(leaves, walk, frontier, note)
        return Advanced(walk.size, walk.decisions, len(leaves))

    def _keep(self, leaves: Sequence[bytes], walk: Walk, frontier: tree.Frontier, note: bytes) -> None:
        """Marks first, then the entries, then how far: a crash in between is found and made good at the next start."""
        self._store.append(leaves, expected=Head(self._frontier.size, self._frontier.root()))
        self._walk, self._frontier = walk, frontier
        head = Head(frontier.size, frontier.root())
        self._store.save_checkpoint(head.size, head.root, note)
        self.marks.mirror(Mirrored(head, walk.decisions, self._now()))

    def _ahead(self, before: Walk, frontier: tree.Frontier, leaves: Sequence[bytes]) -> Walk:
        """The walk after these entries, compared with what was pinned and with what was mirrored once before."""
        walk, hashes, start = before.fork(), tree.leaf_hashes(leaves), before.size
        for each in leaves:
            walk.take(each)

        def root_at(size: int) -> bytes:
            return frontier.extend(hashes[: size - start]).root()

        if start < max(1, self._pin.seen_size) <= walk.size:
            walk.against(self._pin, root_at)
        kept = self.marks.mirrored()
        if kept is not None and start < kept.head.size <= walk.size and root_at(kept.head.size) != kept.head.root:
            message = f"the first {kept.head.size} entries are not those that were mirrored before"
            walk.wrong(kept.head.size, "log_must_not_be_rewritten", message)
        return walk

    def _mark(self, walk: Walk, size: int) -> None:
        new = [each._replace(message=each.message[:MESSAGE_MAX]) for each in walk.problems[len(self._walk.problems) :]]
        if len(new) > MARKS_MAX:
            more = f"{len(new) - MARKS_MAX} more illegal things were found in the entries that came with it"
            new = [*new[:MARKS_MAX], Wrong(new[MARKS_MAX].entry, "log_must_be_lawful", more)]
        if new:
            self.marks.keep(new, size=size, at=self._now())

    def _compare(self, head: Checkpoint) -> None:
        """A head over what is mirrored already: another root for it, signed, is a second history of the log."""
        held = self._store.root_at(head.size)
        if held == head.root:
            return
        message = (
            f"the log signed the root {head.root.hex()} for its first {head.size} entries; "
            f"those that it had signed before have {held.hex()}"
        )
        self.marks.keep([Wrong(head.size, "log_must_have_one_history", message)], size=self._walk.size, at=self._now())
        raise TamperDetected(message, help="the log has two histories: tell everybody who relies on it")

    def _refresh(self) -> None:
        """Take in what the file holds beyond what is in memory, and compare all of it with the file's own head."""
        head, walk, frontier = self._store.head(), self._walk, self._frontier
        for start in range(walk.size, head.size, CHUNK):
            leaves = list(self._store.leaves(start, min(start + CHUNK, head.size)))
            walk = self._ahead(walk, frontier, leaves)
            frontier = frontier.extend(tree.leaf_hashes(leaves))
        if (frontier.size, frontier.root()) != (head.size, head.root):
            raise TamperDetected("the mirror does not hold the entries that were mirrored", help=_ANEW)
        self._mark(walk, head.size)
        self._walk, self._frontier = walk, frontier

    def _require_whole(self) -> None:
        """Nothing may be missing from the mirror: what is gone could have been what was illegal."""
        kept, head = self.marks.mirrored(), self._store.head()
        if kept is None or not head.size:
            return
        if head.size < kept.head.size:
            message = f"the mirror holds {head.size} entries; {kept.head.size} were mirrored"
            raise TamperDetected(message, help=_ANEW)
        hashes = tree.leaf_hashes(self._store.leaves(0, kept.head.size))
        if tree.Frontier().extend(hashes).root() != kept.head.root:
            message = f"the mirror's first {kept.head.size} entries are not those that were mirrored"
            raise TamperDetected(message, help=_ANEW)


def _require_signed(note: bytes, walk: Walk) -> None:
    """By all keys that the walk knows to be in force at the head's size: they change by entries below it alone."""
    if walk.log_keys is None:
        return
    try:
        checkpoint.open_checkpoint(note, walk.log_keys)
    except UntrustedInput as fault:
        message = f"the keys in force at the head's {checkpoint.parse_body(note).size} entries did not sign it"
        found = "a key that a policy replaced cannot speak for the log; ask for its true head"
        raise UntrustedInput(f"{message}: {fault.message}", help=found) from fault
