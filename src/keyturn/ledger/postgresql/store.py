"""The log in a PostgreSQL database: several machines append to it, one row orders them, one of them governs.

An append locks the state's row and compares head and root, so that two writers never decide on the same head. Who
governs holds a lock for as long as its session lives, and writes for a term: whoever takes over begins the next one,
and the row that orders all appends makes sure that nothing is written for an earlier term after that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from keyturn.core.errors import Conflict, KeyturnError, TamperDetected, Unavailable
from keyturn.ledger import rows, tree
from keyturn.ledger.postgresql import schema
from keyturn.ledger.postgresql.session import Session, translated
from keyturn.ledger.rows import Database
from keyturn.ledger.stores.port import LogStore

TAKEOVER_SECONDS = 15
"""How long a governor may say nothing before the server ends its session, and a standby may take over."""

_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT 1 FROM state WHERE id = 1 FOR UPDATE"


class PostgresStore(LogStore):
    """The log in one database: unavailable when its server is away, follows another one, or could lose what it wrote.

    A commit whose answer got lost raises `Unavailable` too: whoever reads the log again sees whether it was written.
    """

    def __init__(self, url: str, *, takeover_seconds: int) -> None:
        self.name = f"the log in `{url}`"
        self._url = url
        self._takeover_seconds = takeover_seconds
        self._lock = threading.RLock()
        self._session = Session(url, self.name)
        self._term: int | None = None
        self._over: KeyturnError | None = None

    @classmethod
    def open(
        cls, url: str, create: bool = False, *, unchecked: bool = False, takeover_seconds: int = TAKEOVER_SECONDS
    ) -> PostgresStore:
        """Open the log in the database that a libpq `url` names; with `create`, make an empty one where there is none.

        Raises as opening a file does: Unavailable where there is none, TamperDetected when its tables are not ours or
        contradict each other; with `unchecked` a log that contradicts itself is opened too.
        """
        store = cls(url, takeover_seconds=takeover_seconds)
        try:
            store._prepare(create=create, unchecked=unchecked)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """End the session, and with it the governing: the place is free when this returns."""
        with self._lock:
            if self._term is not None:
                self._session.unlock()
            self._session.close()

    def take_term(self, holder: str) -> int:
        """Begin the next term, if no governor's session lives; raises `Conflict` naming the one that does."""
        with self._lock, translated(self.name):
            if not self._locked():
                term, other = self._governor()
                message = f"another governor ({other}, term {term}) runs this project; one is allowed"
                raise Conflict(message, help="wait for it with `keyturn run --standby`, or stop it")
            with self._writing() as db:
                query = "UPDATE governor SET term = term + 1, holder = ? WHERE id = 1 RETURNING term"
                row = db.execute(query, (holder[:200],)).fetchone()
                if row is None:
                    raise TamperDetected(f"{self.name} has lost its governor's row", help="restore it from a copy")
            self._term = int(row[0])
            return self._term

    def beat(self) -> bool:
        """Say something, so that the server does not end the session of a governor that has nothing to write."""
        if self._term is not None:
            with self._reading() as db:
                db.execute("SELECT 1")
        return self._term is not None

    def other_governor(self) -> str:
        """Who governs in another session now; a term whose session has ended is nobody's."""
        with self._reading() as db:
            query = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()"
            mine = " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND objid = ?"
            held = db.execute(query + mine + " AND classid = 0", (schema.LOCK,)).fetchone()
            return self._governor()[1] if held is not None else ""

    # --- inside

    def _prepare(self, *, create: bool, unchecked: bool) -> None:
        if create:
            with self._transaction("BEGIN") as db:
                db.execute("SELECT pg_advisory_xact_lock(?)", (schema.LOCK + 1,))
                if schema.layout(db) is None:
                    schema.create(db)
                    query = "INSERT INTO state (id, size, root, frontier) VALUES (1, 0, ?, ?)"
                    db.execute(query, (tree.EMPTY_ROOT, b""))
                    db.execute("INSERT INTO governor (id, term, holder) VALUES (1, 0, 'nobody yet')")
        with self._transaction(_READ) as db:
            found = schema.layout(db)
            if found is None:
                help = "no log, no action: restore it, or found a project"
                raise Unavailable(f"there is no log in `{self._url}`", help=help)
            if found != schema.LAYOUT:
                help = "name another database, or restore the log from a copy; do not act without it"
                raise TamperDetected(f"the schema `{schema.SCHEMA}` in `{self._url}` is no log of Keyturn", help=help)
            schema.require_expected(db, self.name)
            if not unchecked:
                rows.require_whole(db, self.name)

    @contextmanager
    def _reading(self) -> Iterator[Database]:
        with self._transaction(_READ) as db:
            yield db

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        with self._transaction(_WRITE) as db:
            self._require_term(db)
            yield db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Database]:
        with self._lock, translated(self.name):
            session = self._begun(begin)
            try:
                yield session
                session.script("COMMIT")
            except BaseException:
                session.roll_back()
                raise

    def _begun(self, begin: str) -> Session:
        """A session in which the transaction has begun: a new one where the old one had ended before."""
        from psycopg import OperationalError

        if self._over is not None:
            raise self._over
        try:
            self._session.script(begin)
        except OperationalError:
            if not self._session.closed:
                self._session.roll_back()
                raise
            self._session = Session(self._url, self.name)
            if self._term is not None:
                self._locked()  # where somebody else has it already, the row says which term it is now
                self._require_term(self._session)
            self._session.script(begin)
        return self._session

    def _locked(self) -> bool:
        """Try for the governor's lock; with it, silence ends the session, so that a frozen governor loses it."""
        row = self._session.execute("SELECT pg_try_advisory_lock(?)", (schema.LOCK,)).fetchone()
        held = row is not None and bool(row[0])
        if held:
            self._session.script(f"SET idle_session_timeout = {self._takeover_seconds * 1000}")
        return held

    def _governor(self) -> tuple[int, str]:
        row = self._session.execute("SELECT term, holder FROM governor WHERE id = 1").fetchone()
        return (int(row[0]), str(row[1])) if row is not None else (0, "unknown")

    def _require_term(self, db: Database) -> None:
        """Refuse to write for a term that is over; whoever takes over locks the same row first."""
        if self._term is None:
            return
        row = db.execute("SELECT term, holder FROM governor WHERE id = 1").fetchone()
        if row is not None and int(row[0]) == self._term:
            return
        now, holder = (int(row[0]), str(row[1])) if row is not None else (0, "unknown")
        message = f"another governor ({holder}) took over in term {now}; this one had term {self._term} and is over"
        self._over = Conflict(message, help="it wrote nothing after that; `keyturn run --standby` waits for its turn")
        raise self._over

    def _write_entries(self, db: Database, start: int, hashes: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        if len(leaves) == 1:
            db.execute("INSERT INTO entry (i, hash, leaf) VALUES (?, ?, ?)", (start, hashes[0], leaves[0]))
        else:
            self._session.copy_entries(zip(count(start), hashes, leaves, strict=False))
