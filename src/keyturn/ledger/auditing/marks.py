"""What an auditor never forgets: every illegal thing that it saw in a log, and how far it had mirrored it.

A mark stays until a person removes it, and who removed it and why stays for ever. It never judges what it keeps.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Instant
from keyturn.ledger.auditing.walk import Wrong
from keyturn.ledger.rows import Head
from keyturn.ledger.schema import translated

BUSY_SECONDS = 10.0

_MARK = """CREATE TABLE IF NOT EXISTS mark (i INTEGER NOT NULL, rule TEXT NOT NULL, message TEXT NOT NULL,
 size INTEGER NOT NULL, found_at INTEGER NOT NULL, pardoned_at INTEGER, reason TEXT,
 PRIMARY KEY (i, rule, message)) STRICT"""
_MIRRORED = """CREATE TABLE IF NOT EXISTS mirrored (id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL,
 root BLOB NOT NULL, decisions INTEGER NOT NULL, at INTEGER NOT NULL) STRICT"""


@dataclass(frozen=True, slots=True)
class Mark:
    """An illegal thing: the entry, the rule, what was found; under a head of which size, and when it was seen.

    `pardoned_at` is None while it stands; afterwards `reason` says why a person removed it.
    """

    entry: int
    rule: str
    message: str
    size: int
    found_at: Instant
    pardoned_at: Instant | None
    reason: str


@dataclass(frozen=True, slots=True)
class Mirrored:
    """How far the log was mirrored: the head, how many gates were decided again, when."""

    head: Head
    decisions: int
    at: Instant


class Marks:
    """The marks in one SQLite file; each call is one durable transaction, whoever else has the file open.

    Every method raises `Unavailable` where the disk does not take it, and `TamperDetected` where the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def found(self) -> None:
        """Make the file where there is none."""
        with self._transaction(create=True) as db:
            for statement in (_MARK, _MIRRORED):
                db.execute(statement)

    def all(self) -> tuple[Mark, ...]:
        """Every mark, pardoned ones too, by entry."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT i, rule, message, size, found_at, pardoned_at, reason FROM mark ORDER BY i, rowid"
            ).fetchall()
        return tuple(
            Mark(
                int(i), str(rule), str(said), int(size), Instant(at), None if gone is None else Instant(gone), why or ""
            )
            for i, rule, said, size, at, gone, why in rows
        )

    def standing(self) -> tuple[Mark, ...]:
        """The marks that nobody removed: with one of them, nothing is cosigned."""
        return tuple(mark for mark in self.all() if mark.pardoned_at is None)

    def keep(self, wrong: Sequence[Wrong], *, size: int, at: Instant) -> None:
        """Remember what is wrong, durably; what is known already stays as it is, a pardon included."""
        rows = [(each.entry, each.rule, each.message, size, at) for each in wrong]
        with self._transaction() as db:
            query = "INSERT OR IGNORE INTO mark (i, rule, message, size, found_at) VALUES (?, ?, ?, ?, ?)"
            db.executemany(query, rows)

    def pardon(self, entry: int, *, reason: str, at: Instant) -> int:
        """Remove the standing marks of one entry and say how many; raises `MalformedInput` where none stands."""
        with self._transaction() as db:
            query = "UPDATE mark SET pardoned_at = ?, reason = ? WHERE i = ? AND pardoned_at IS NULL"
            count = db.execute(query, (at, reason, entry)).rowcount
        if not count:
            raise MalformedInput(f"no mark stands at entry {entry}", help="`keyturn auditor show DIR` lists them")
        return count

    def mirrored(self) -> Mirrored | None:
        """How far the log was mirrored, None before the first time."""
        with self._transaction() as db:
            row = db.execute("SELECT size, root, decisions, at FROM mirrored WHERE id = 1").fetchone()
        return None if row is None else Mirrored(Head(int(row[0]), bytes(row[1])), int(row[2]), Instant(row[3]))

    def mirror(self, done: Mirrored) -> None:
        """Remember how far the log is mirrored now; it never goes backwards."""
        with self._transaction() as db:
            query = (
                "INSERT INTO mirrored (id, size, root, decisions, at) VALUES (1, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET size = excluded.size, root = excluded.root, decisions = excluded.decisions, at = excluded.at"
                " WHERE excluded.size > mirrored.size"
            )
            db.execute(query, (done.head.size, done.head.root, done.decisions, done.at))

    @contextmanager
    def _transaction(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        with translated(self._path, "auditor's findings"):
            uri = f"{self._path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
            try:
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            finally:
                db.close()  # what was not committed is rolled back
