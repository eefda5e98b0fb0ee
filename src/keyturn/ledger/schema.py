"""The tables of the log's file, how entries are written into it quickly, and what SQLite's errors mean to us.

It never touches a file: the store does, inside `translated`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from keyturn.core.errors import KeyturnError, TamperDetected, Unavailable
from keyturn.ledger.rows import Database

APPLICATION_ID = 0x4B54_4C31
"""`KTL1`: Keyturn's log, first layout."""

PAGE_BYTES = 8192
"""The file's own pages, for a new log: two dozen ordinary entries each, and still little to sync for one."""

ROWS = (100, 20, 4, 1)
"""How many entries one statement writes, the most first; three values each, far below what SQLite can bind."""

_INSERTS = {rows: "INSERT INTO entry (i, hash, leaf) VALUES (?, ?, ?)" + ", (?, ?, ?)" * (rows - 1) for rows in ROWS}

# The hash comes before the leaf, so that reading it never touches the overflow pages of a long leaf.
SCHEMA = (
    "CREATE TABLE entry (i INTEGER PRIMARY KEY, hash BLOB NOT NULL, leaf BLOB NOT NULL) STRICT",
    "CREATE TABLE node (level INTEGER, n INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, n)) STRICT, WITHOUT ROWID",
    "CREATE TABLE idem (key TEXT PRIMARY KEY, i INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, root BLOB NOT NULL, note BLOB NOT NULL) STRICT",
    "CREATE TABLE state (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, frontier BLOB) STRICT",
)

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}
_REMEDIES = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space; everything acknowledged is still there"),
    sqlite3.SQLITE_READONLY: ("the {what} is read-only", "give this user leave to write the file and its folder"),
    sqlite3.SQLITE_PERM: ("the {what} may not be opened", "give this user leave to write the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: ("the {what} cannot be opened", "check that its folder exists and is writable"),
    sqlite3.SQLITE_BUSY: ("another writer holds the {what}", "let the other program finish, then try again"),
    sqlite3.SQLITE_LOCKED: ("another writer holds the {what}", "let the other program finish, then try again"),
    sqlite3.SQLITE_IOERR: ("the disk failed", "look at the disk before you trust it; try again on another"),
    sqlite3.SQLITE_NOMEM: ("there is no memory left", "stop other programs, then try again"),
}


def expected_schema() -> set[str]:
    """Return the statements that a sound log's file was made with; anything more could change what is read."""
    return set(SCHEMA)


def found(db: sqlite3.Connection) -> set[str]:
    """Return the statements that made the tables, indexes, views and triggers of the file."""
    rows = db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {str(row[0]) for row in rows}


def write_entries(db: Database, start: int, hashes: Sequence[bytes], leaves: Sequence[bytes]) -> None:
    """Many rows in one statement, as stepping a statement costs more than the row."""
    at = 0
    for rows in ROWS:
        while len(leaves) - at >= rows:
            values: list[object] = [None] * (3 * rows)
            values[::3] = range(start + at, start + at + rows)
            values[1::3], values[2::3] = hashes[at : at + rows], leaves[at : at + rows]
            db.execute(_INSERTS[rows], values)
            at += rows


@contextmanager
def translated(path: Path, what: str = "log") -> Iterator[None]:
    """Turn SQLite's errors into ours: damage is TamperDetected, everything that may pass is Unavailable.

    `what` is what the file is called in messages.
    """
    try:
        yield
    except KeyturnError:
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _REMEDIES:
            found, remedy = _REMEDIES[code]
            raise Unavailable(f"{found.format(what=what)}: `{path}`", help=remedy) from error
        if code in _DAMAGED or "no such" in str(error):
            message = f"the {what} `{path}` is damaged: {error}"
            raise TamperDetected(message, help=f"restore the {what} from a copy and compare both") from error
        raise
