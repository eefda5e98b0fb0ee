"""What is read from and written to the log's tables within one transaction of a store, of whichever database.

It never begins or ends a transaction, so that every caller decides what stands or falls together. What it asks is
plain SQL that SQLite and PostgreSQL understand alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from typing import Any, Protocol

from keyturn.core.errors import Conflict, TamperDetected
from keyturn.ledger import tree
from keyturn.ledger.checkpoint import Checkpoint

STRIDE = 4
"""Inner hashes are kept for every fourth level; those between are computed from at most 8 of them."""


class Answer(Protocol):
    """The rows that a statement gave."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> list[Any]:
        """All rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """A connection within a transaction; `?` stands for a value. One of SQLite is one as it is."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Answer:
        """Do one statement."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object:
        """Do one statement for each row of values."""


WriteEntries = Callable[[Database, int, Sequence[bytes], Sequence[bytes]], None]
"""`write_entries(db, start, hashes, leaves)`: the rows of new entries, in the way that is quick for this database."""


@dataclass(frozen=True, slots=True)
class Head:
    """How many leaves there are and the 32 raw bytes of the root over them: what an append compares and swaps."""

    size: int
    root: bytes

    @classmethod
    def empty(cls) -> Head:
        """Return the head of a log without leaves."""
        return cls(0, tree.EMPTY_ROOT)


def state(db: Database) -> tuple[Head, tree.Frontier]:
    """Return the head and the frontier that the next append continues; raises TamperDetected when they are lost."""
    row = db.execute("SELECT size, root, frontier FROM state WHERE id = 1").fetchone()
    if row is None or len(row[2]) != tree.HASH_BYTES * int(row[0]).bit_count():
        raise TamperDetected("the log has lost its state", help="restore the log from a copy and compare both")
    hashes = tuple(bytes(row[2][at : at + tree.HASH_BYTES]) for at in range(0, len(row[2]), tree.HASH_BYTES))
    return Head(int(row[0]), bytes(row[1])), tree.Frontier(int(row[0]), hashes)


def nodes(db: Database) -> tree.Nodes:
    """Return a look-up of complete subtrees, each folded from the kept hashes of at most three levels below."""

    def nodes(level: int, n: int) -> bytes:
        kept = level - level % STRIDE
        count = 1 << level - kept
        start = n * count
        if kept == 0:
            query, where = "SELECT hash FROM entry WHERE i >= ? AND i < ? ORDER BY i", [start, start + count]
        else:
            query = "SELECT hash FROM node WHERE level = ? AND n >= ? AND n < ? ORDER BY n"
            where = [kept, start, start + count]
        hashes = [bytes(row[0]) for row in db.execute(query, where)]
        if len(hashes) != count or any(len(each) != tree.HASH_BYTES for each in hashes):
            message = f"the log has lost hashes of level {kept} between {start} and {start + count}"
            raise TamperDetected(message, help="run `keyturn verify log` on the file, and restore the log from a copy")
        while len(hashes) > 1:
            hashes = [tree.node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
        return hashes[0]

    return nodes


def unknown(db: Database, leaves: Sequence[bytes], keys: Sequence[str | None]) -> list[tuple[bytes, str | None]]:
    """Return the leaves not yet there under their key; raises Conflict when a key stands for other bytes."""
    if all(key is None for key in keys):
        return list(zip(leaves, keys, strict=True))
    new: list[tuple[bytes, str | None]] = []
    seen: dict[str, bytes] = {}
    query = "SELECT entry.leaf FROM idem JOIN entry ON entry.i = idem.i WHERE idem.key = ?"
    for leaf, key in zip(leaves, keys, strict=True):
        row = db.execute(query, (key,)).fetchone() if key is not None and key not in seen else None
        held = bytes(row[0]) if row else seen.get(key) if key is not None else None
        if held is None:
            new.append((leaf, key))
        elif held != leaf:
            message = f"the key `{str(key)[:80]}` already stands for another entry"
            raise Conflict(message, help="use a new key for a new entry; keys are for repeating the same one")
        if key is not None:
            seen[key] = leaf
    return new


def write(
    db: Database, frontier: tree.Frontier, new: Sequence[tuple[bytes, str | None]], write_entries: WriteEntries
) -> Head:
    """Write new leaves after the frontier, with their keys and hashes, and return the head after them."""
    leaves = [leaf for leaf, _ in new]
    hashes, start = tree.leaf_hashes(leaves), frontier.size
    closed: list[tuple[int, int, bytes]] = []

    def complete(level: int, n: int, found: list[bytes]) -> None:
        if level % STRIDE == 0:
            closed.extend(zip(repeat(level), count(n), found, strict=False))

    after = frontier.extend(hashes, complete=complete)
    write_entries(db, start, hashes, leaves)
    named = [(key, start + at) for at, (_, key) in enumerate(new) if key is not None]
    if named:
        db.executemany("INSERT INTO idem (key, i) VALUES (?, ?)", named)
    db.executemany("INSERT INTO node (level, n, hash) VALUES (?, ?, ?)", closed)
    head = Head(after.size, after.root())
    query = "UPDATE state SET size = ?, root = ?, frontier = ? WHERE id = 1"
    db.execute(query, (head.size, head.root, b"".join(after.hashes)))
    return head


def require_one_history(db: Database, said: Checkpoint, note: bytes) -> None:
    """Raise TamperDetected when another root is signed for this size, or the entries have another root."""
    row = db.execute("SELECT root, note FROM checkpoint WHERE size = ?", (said.size,)).fetchone()
    if row is not None and bytes(row[0]) != said.root:
        raise TamperDetected(
            f"two roots are signed for the size {said.size}; a log has one history",
            help="stop publishing; give both notes to the witnesses and to everybody who relies on this log",
            proof=bytes(row[1]).decode("utf-8") + "\n" + note.decode("utf-8"),
        )
    if tree.root_from(said.size, nodes(db)) != said.root:
        raise TamperDetected(
            f"the first {said.size} entries do not have the root that is signed for them",
            help="stop publishing; run `keyturn verify log` on the file and compare with another copy of the log",
            proof=note.decode("utf-8"),
        )


def keep_checkpoint(db: Database, said: Checkpoint, note: bytes) -> None:
    """Keep a signed head; where one of the same size and root is kept, its note gives way to this one."""
    query = """
        INSERT INTO checkpoint (size, root, note) VALUES (?, ?, ?)
        ON CONFLICT (size) DO UPDATE SET note = excluded.note WHERE checkpoint.root = excluded.root"""
    db.execute(query, (said.size, said.root, note))


def require_whole(db: Database, name: str) -> None:
    """Raise TamperDetected for what shows in a moment, at every opening; `check.check_store` compares everything."""
    head, frontier = state(db)
    (last,) = db.execute("SELECT max(i) FROM entry").fetchone()
    held = 0 if last is None else int(last) + 1
    (signed,) = db.execute("SELECT max(size) FROM checkpoint").fetchone()
    found = ""
    if held != head.size:
        found = f"ends with entry {held - 1}; {head.size - 1} is expected"
    elif frontier.root() != head.root or tree.frontier_from(head.size, nodes(db)) != frontier:
        found = "has hashes that do not lead to its root"
    elif signed is not None and signed > head.size:
        found = f"has {head.size} entries; {signed} are signed"
    if found:
        message = f"{name} {found}"
        raise TamperDetected(message, help="run `keyturn verify log` on the file, and restore the log from a copy")
