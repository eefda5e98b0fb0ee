"""The durable log: one SQLite file, one transaction and one data sync per append, several writers at once.

It keeps leaves, the hashes that make proofs quick, and the checkpoints that were signed. It never changes or
removes a leaf, and never looks at what a leaf says. Times are for a machine with a disk that honours a sync.

Nothing waits in memory: an entry is *durable* when `append` returns, together with all that were handed in with it,
and *published* once `save_checkpoint` kept a signed head over it. Whoever has many entries hands them in at once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.ledger import rows, schema, tree
from keyturn.ledger.rows import Database
from keyturn.ledger.schema import APPLICATION_ID, PAGE_BYTES, SCHEMA, expected_schema, translated
from keyturn.ledger.stores.port import LEAF_BYTES_MAX, Head, LogStore, Page

__all__ = ["BUSY_SECONDS", "LEAF_BYTES_MAX", "Head", "Page", "Store"]

BUSY_SECONDS = 10.0
"""How long to wait for another writer before saying `Unavailable`."""


class Store(LogStore):
    """The log in one file: unavailable when the disk is full or read-only, or another writer holds the file."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._path = path
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, create: bool = False, *, unchecked: bool = False) -> Store:
        """Open the log at `path`; with `create`, make an empty one where there is none.

        Raises Unavailable where there is none, TamperDetected when the file is no log or contradicts itself; with
        `unchecked` a log that contradicts itself is opened too, so that `check` can say all that is wrong with it.
        """
        if not create and not path.is_file():
            raise Unavailable(f"there is no log at `{path}`", help="no log, no action: restore it, or found a project")
        with translated(path):
            mode = "rwc" if create else "rw"
            uri = f"{path.absolute().as_uri()}?mode={mode}"
            connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
            )
        store = cls(connection, path)
        try:
            store._prepare(create=create, unchecked=unchecked)
        except BaseException:
            connection.close()
            raise
        return store

    @property
    def path(self) -> Path:
        """Where the file lies; another process may open it too."""
        return self._path

    def close(self) -> None:
        """Close the file; nothing that was acknowledged depends on it."""
        with self._lock:
            self._db.close()

    # --- inside

    def _prepare(self, *, create: bool, unchecked: bool) -> None:
        with translated(self._path):
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA trusted_schema = OFF")
            found = self._db.execute("PRAGMA application_id").fetchone()[0]
            if create and found == 0:
                self._found()
            elif self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                message = f"the file `{self._path}` is no log of Keyturn"
                raise TamperDetected(message, help="restore the log from a copy; do not act without it")
        with self._reading() as db:
            if schema.found(self._db) != expected_schema():
                message = f"the log `{self._path}` has other tables or triggers than its schema"
                raise TamperDetected(message, help="restore the log from a copy and compare both")
            if not unchecked:
                rows.require_whole(db, f"the log `{self._path}`")

    def _found(self) -> None:
        self._db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # says nothing to a file that has pages already
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._writing() as db:
            if schema.found(self._db):
                return  # another process founded it between the look and the lock
            for statement in SCHEMA:
                db.execute(statement)
            db.execute("INSERT INTO state (id, size, root, frontier) VALUES (1, 0, ?, x'')", (tree.EMPTY_ROOT,))
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    @contextmanager
    def _reading(self) -> Iterator[Database]:
        """One consistent view, whatever others append meanwhile."""
        with self._transaction("BEGIN") as db:
            yield db

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        """The only writer; on any error nothing is written."""
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Database]:
        with self._lock, translated(self._path):
            self._db.execute(begin)
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _write_entries(self, db: Database, start: int, hashes: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        schema.write_entries(db, start, hashes, leaves)
