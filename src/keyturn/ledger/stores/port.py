"""The log as every caller sees it, wherever its rows lie: what is asked of it, what it promises, how it is answered.

An adapter says how a transaction begins and ends, how many entries are written at once, and what its database's errors
mean. It never changes or removes a leaf, and never looks at what a leaf says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from keyturn.core.errors import Conflict, MalformedInput, TamperDetected
from keyturn.ledger import checkpoint as checkpoints
from keyturn.ledger import rows, tree
from keyturn.ledger.rows import Database, Head

__all__ = ["LEAF_BYTES_MAX", "Head", "LogStore", "Page"]

LEAF_BYTES_MAX = 60_000
"""The longest leaf, below the 65,535 bytes that C2SP tlog-tiles can carry."""

PAGE = 256
"""How many leaves are read at once, so that a reader never holds a long log in memory."""

SCANNED = 512
"""How many entries a check reads at once: whole subtrees of nine levels, small enough for a processor's cache."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries in order: their indexes, without gaps or with, the hashes kept with them, and their bytes."""

    indexes: Sequence[int]
    hashes: list[bytes]
    leaves: Sequence[bytes]


class LogStore(ABC):
    """A durable log; a thread or process may hold as many of them open as it likes, on one log.

    Every method raises `Unavailable` when the log cannot be read or written now (nothing was written then, and what was
    acknowledged before stays), and `TamperDetected` when it is damaged.
    """

    @abstractmethod
    def close(self) -> None:
        """Close it; nothing that was acknowledged depends on it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- what an adapter brings

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Database]:
        """One consistent view, whatever others append meanwhile."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Database]:
        """The only writer, durable when it ends; on any error nothing is written."""

    @abstractmethod
    def _write_entries(self, db: Database, start: int, hashes: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        """Write entries from the index `start` on, within a transaction."""

    # --- governing

    def take_term(self, holder: str) -> int:
        """Become the log's governor, and say for the how-manieth term; 0 where a lock on this machine alone decides.

        From then on everything that this store writes is written for that term or not at all. Raises `Conflict` naming
        the governor that there is, and for good once a later term has begun.
        """
        return 0

    def beat(self) -> bool:
        """Show that the governor lives, and say whether that is of any use: where it is, not to do so ends its term."""
        return False

    def other_governor(self) -> str:
        """Who else governs on this log now, as it named itself; empty where nobody does or could."""
        return ""

    # --- reading

    def head(self) -> Head:
        """Return the head of the log as it is durable now."""
        with self._reading() as db:
            return rows.state(db)[0]

    def leaf(self, index: int) -> bytes:
        """Return the exact bytes of one leaf; raises MalformedInput when the log has no such index."""
        return next(self.leaves(index, index + 1))

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the exact bytes of the leaves from `start` up to, not including, `end`, in order.

        Raises MalformedInput when the log does not hold them all, TamperDetected when one is missing inside it.
        """
        self._require_range(start, end)
        return self._leaves(start, end)

    def index_of(self, key: str) -> int | None:
        """Return the index of the leaf that was appended under this idempotency key, if there is one."""
        with self._reading() as db:
            row = db.execute("SELECT i FROM idem WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def indexes_of(self, keys: Sequence[str]) -> list[int | None]:
        """Return the index of the leaf of each idempotency key, None for a key that is not there."""
        with self._reading() as db:
            found = [db.execute("SELECT i FROM idem WHERE key = ?", (key,)).fetchone() for key in keys]
        return [None if row is None else int(row[0]) for row in found]

    def root_at(self, size: int) -> bytes:
        """Return the root over the first `size` leaves; raises MalformedInput beyond the log."""
        with self._reading() as db:
            self._require_size(size, rows.state(db)[0].size)
            return tree.root_from(size, rows.nodes(db))

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the leaf at `index` is in the tree of `size` leaves (`tree.check_inclusion`)."""
        with self._reading() as db:
            self._require_size(size, rows.state(db)[0].size)
            return tree.prove_inclusion(index=index, size=size, nodes=rows.nodes(db))

    def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `new` leaves begins with that of `old` (`tree.check_consistency`)."""
        with self._reading() as db:
            self._require_size(new, rows.state(db)[0].size)
            return tree.prove_consistency(old=old, new=new, nodes=rows.nodes(db))

    def checkpoint(self) -> bytes | None:
        """Return the note of the largest signed checkpoint, if there is one."""
        with self._reading() as db:
            row = db.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        return None if row is None else bytes(row[0])

    def checkpoints(self) -> tuple[bytes, ...]:
        """Return the notes of all signed checkpoints, smallest first."""
        with self._reading() as db:
            return tuple(bytes(row[0]) for row in db.execute("SELECT note FROM checkpoint ORDER BY size"))

    def scan(self, end: int, *, start: int = 0) -> Iterator[Page]:
        """Yield the entries from `start` on and below `end` as they lie, gaps included, some at once; for `check`."""
        at = start
        while at < end:
            stop = min(at + SCANNED, end)
            with self._reading() as db:
                query = "SELECT hash, leaf FROM entry WHERE i >= ? AND i < ? ORDER BY i"
                found = db.execute(query, (at, stop)).fetchall()
                indexes: Sequence[int] = range(at, stop)
                if len(found) != len(indexes):
                    numbers = db.execute("SELECT i FROM entry WHERE i >= ? AND i < ? ORDER BY i", (at, stop))
                    indexes = [int(row[0]) for row in numbers]
            if found:
                hashes, leaves = zip(*found, strict=True)
                yield Page(indexes, list(hashes), leaves)
            at = stop

    def kept(self) -> tuple[Head, tree.Frontier, int]:
        """Return head, frontier and number of rows at one moment; for `check`."""
        with self._reading() as db:
            (count,) = db.execute("SELECT count(*) FROM entry").fetchone()
            return *rows.state(db), int(count)

    def kept_hashes(self, level: int, start: int, end: int) -> list[bytes | None]:
        """Return the inner hashes that are kept for these places of one level, None where there is none; for `check`.

        An inner hash is written once, with the entry that completes it, so that no append changes the answer.
        """
        with self._reading() as db:
            query = "SELECT n, hash FROM node WHERE level = ? AND n >= ? AND n < ?"
            held = dict(db.execute(query, (level, start, end)).fetchall())
        return [held.get(n) for n in range(start, end)]

    # --- writing

    def append(
        self, leaves: Sequence[bytes], *, expected: Head | None, keys: Sequence[str | None] | None = None
    ) -> Head:
        """Append all leaves durably, or none, and return the new head.

        With `expected`, raises Conflict when the log's head is another. `keys` gives a leaf an idempotency key: a
        leaf whose key holds the same bytes already is not appended again (`index_of` says where it is), one whose
        key holds other bytes is a Conflict; when every leaf is there already, `expected` is not looked at.
        Raises MalformedInput for a leaf that is empty or longer than `LEAF_BYTES_MAX`.
        """
        keys = (None,) * len(leaves) if keys is None else keys
        _require_leaves(leaves, keys)
        with self._writing() as db:
            head, frontier = rows.state(db)
            new = rows.unknown(db, leaves, keys)
            if not new:
                return head
            if expected is not None and expected != head:
                message = f"the log has {head.size} entries; it had {expected.size} when it was read"
                raise Conflict(message, help="read the log again and decide again")
            return rows.write(db, frontier, new, self._write_entries)

    def save_checkpoint(self, size: int, root: bytes, note: bytes) -> None:
        """Keep a signed checkpoint; a later note of the same size and root (with more witnesses) replaces it.

        Raises TamperDetected when another root was signed for this size, or the log's own root is another: a log
        never signs two histories. Raises MalformedInput when the note says something else than `size` and `root`.
        """
        said = checkpoints.parse_body(note)
        if (said.size, said.root) != (size, root):
            raise MalformedInput(f"the note is of size {said.size}; {size} is expected", help="hand in its own note")
        with self._writing() as db:
            self._require_size(size, rows.state(db)[0].size)
            rows.require_one_history(db, said, note)
            rows.keep_checkpoint(db, said, note)

    # --- inside

    def _leaves(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, PAGE):
            stop = min(at + PAGE, end)
            with self._reading() as db:
                query = "SELECT i, leaf FROM entry WHERE i >= ? AND i < ? ORDER BY i"
                rows = db.execute(query, (at, stop)).fetchall()
            for wanted, index in enumerate((row[0] for row in rows), at):
                if index != wanted:
                    raise _missing(wanted)
            if len(rows) != stop - at:
                raise _missing(at + len(rows))
            yield from (bytes(row[1]) for row in rows)

    def _require_range(self, start: int, end: int) -> None:
        size = self.head().size
        if not 0 <= start <= end <= size:
            message = f"found the range {start} to {end}; the log has {size} entries"
            raise MalformedInput(message, help="ask for entries that are in it")

    def _require_size(self, size: int, held: int) -> None:
        if not 0 <= size <= held:
            raise MalformedInput(f"found the size {size}; the log has {held} entries", help="ask for a size it had")


def _require_leaves(leaves: Sequence[bytes], keys: Sequence[str | None]) -> None:
    if len(leaves) != len(keys):
        raise MalformedInput(f"found {len(keys)} keys for {len(leaves)} entries", help="give one key or None per entry")
    for leaf in leaves:
        if not 1 <= len(leaf) <= LEAF_BYTES_MAX:
            message = f"found an entry of {len(leaf)} bytes; 1 to {LEAF_BYTES_MAX} are allowed"
            raise MalformedInput(message, help="keep bulk data outside the log and name it by digest")


def _missing(index: int) -> TamperDetected:
    message = f"entry {index} is missing from the log"
    return TamperDetected(message, help="run `keyturn verify log` on the file, and restore the log from a copy")
