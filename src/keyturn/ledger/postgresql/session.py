"""One session with a PostgreSQL server: opened with what the log relies on, its errors turned into ours.

It never repeats a statement that may have been done already: only what begins a transaction is tried on a new session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keyturn.core.errors import KeyturnError, TamperDetected, Unavailable
from keyturn.ledger.postgresql.schema import SCHEMA

if TYPE_CHECKING:
    import psycopg

BUSY_SECONDS = 10.0
"""How long to wait for another writer, or for an answer to a connection, before saying `Unavailable`."""

STALLED_SECONDS = 15.0
"""How long a transaction may rest, and a network say nothing, before the server gives up the session."""

ROWS = 1000
"""How many rows one statement inserts; a few values each, far below what the protocol can carry."""

VERSION_LEAST = 14
"""The oldest server: it is the first that ends a session which says nothing."""

DURABLE = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply")}
"""What the server must be set to, or an entry that was acknowledged could be lost."""

_DAMAGED = ("23", "42", "XX001", "XX002", "22", "P0")
"""The states that say that the tables are not as we made them, or that what lies in them is not what we wrote.

`P0` is a function that raised something: we have none, so somebody else's runs where we write.
"""

_REMEDIES = {
    "28": ("the database does not let this user in", "libpq's own means hold the password: `~/.pgpass`, PGPASSWORD"),
    "3D": ("there is no such database", "`createdb` makes one; then found a project in it"),
    "42501": ("this user may not use the log's tables", "let the user that founded the log own them, or grant them"),
    "25006": ("the database is read-only", "name the server that can be written to, not one that follows it"),
    "55P03": ("another writer holds the log", "let the other program finish, then try again"),
    "53100": ("the server's disk is full", "free some space; everything acknowledged is still there"),
    "53": ("the server lacks memory or connections", "see what else it does, then try again"),
    "40": ("the server broke off the transaction", "try again"),
    "57014": ("the statement was cancelled", "try again"),
}
_GONE = "see whether the server runs and can be reached, then read the log again: what was acknowledged is there"


class Session:
    """A connection in which `?` stands for a value, as the log's rows are asked for; one thread at a time."""

    def __init__(self, url: str, name: str) -> None:
        self._name = name
        with translated(name):
            self._db = _connected(url)
            try:
                _prepare(self._db, name)
            except BaseException:
                self._db.close()
                raise

    @property
    def closed(self) -> bool:
        """Whether the server, the network or we ended it."""
        return bool(self._db.closed)

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[tuple[Any, ...]]:
        """Do one statement."""
        return self._db.cursor(binary=True).execute(sql.replace("?", "%s"), parameters or None)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> None:
        """Do one `INSERT ... VALUES (...)` for many rows of values, as one statement, so that it has one answer."""
        insert, _, row = sql.rpartition("VALUES ")
        values = list(parameters)
        for at in range(0, len(values), ROWS):
            some = values[at : at + ROWS]
            whole = f"{insert}VALUES {', '.join([row] * len(some))}"
            self.execute(whole, [each for group in some for each in group])

    def script(self, sql: str) -> None:
        """Do several statements without values, in one message."""
        self._db.execute(sql)

    def copy_entries(self, rows: Iterable[tuple[int, bytes, bytes]]) -> None:
        """Write many entries in one stream."""
        with self._db.cursor().copy("COPY entry (i, hash, leaf) FROM STDIN (FORMAT BINARY)") as stream:
            stream.set_types(["int8", "bytea", "bytea"])
            for row in rows:
                stream.write_row(row)

    def unlock(self) -> None:
        """Let the governor's lock go; the server does it too, but only once it has noticed that the session ended."""
        from psycopg import Error

        try:
            if not self._db.closed:
                self._db.execute("SELECT pg_advisory_unlock_all()")
        except Error:
            self._db.close()

    def roll_back(self) -> None:
        """Undo what was begun; a session that cannot even do that is closed, which undoes it too."""
        from psycopg import Error
        from psycopg.pq import TransactionStatus

        if self._db.closed or self._db.info.transaction_status == TransactionStatus.IDLE:
            return
        try:
            self._db.execute("ROLLBACK")
        except Error:
            self._db.close()

    def close(self) -> None:
        """End it."""
        self._db.close()


def _connected(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        import psycopg
    except ImportError as fault:
        message = "the log lies in PostgreSQL, and the library that speaks with it is not installed"
        raise Unavailable(message, help="`pip install 'keyturn[postgresql]'`") from fault
    return psycopg.connect(
        url,
        autocommit=True,  # transactions begin and end where the store says so
        application_name="keyturn",
        connect_timeout=int(BUSY_SECONDS),
        client_encoding="utf-8",
        keepalives_idle=5,
        keepalives_interval=3,
        keepalives_count=3,
        tcp_user_timeout=int(STALLED_SECONDS * 1000),
    )


def _prepare(db: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
    if db.info.server_version < VERSION_LEAST * 10_000:
        found = db.info.server_version // 10_000
        raise Unavailable(f"{name} is on PostgreSQL {found}; {VERSION_LEAST} or later is expected", help="upgrade it")
    db.execute(
        f"SET search_path = {SCHEMA};"
        f"SET lock_timeout = {int(BUSY_SECONDS * 1000)};"
        f"SET idle_in_transaction_session_timeout = {int(STALLED_SECONDS * 1000)};"
        "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3;"
    )
    if db.execute("SHOW synchronous_commit").fetchone() != ("remote_apply",):
        db.execute("SET synchronous_commit = on")
    for setting, good in DURABLE.items():
        (found,) = db.execute("SELECT current_setting(%s)", (setting,)).fetchone() or ("",)
        if found not in good:
            message = f"{name} is on a server with `{setting} = {found}`: it could lose what it acknowledged"
            raise Unavailable(
                message, help=f"set `{setting} = on` in postgresql.conf; a log is kept on no other server"
            )


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn the library's errors into ours: damage is TamperDetected, everything that may pass is Unavailable."""
    try:
        import psycopg
    except ImportError:  # `_connected` says so
        yield
        return
    try:
        yield
    except KeyturnError:
        raise
    except psycopg.Error as error:
        raise _ours(error, name) from error


def _ours(error: psycopg.Error, name: str) -> KeyturnError:
    state = error.sqlstate or ""
    said = " ".join(str(error).split())[:300]
    for length in (5, 2):
        if state[:length] in _REMEDIES:
            found, remedy = _REMEDIES[state[:length]]
            return Unavailable(f"{found}: {name}: {said}", help=remedy)
    if state.startswith(_DAMAGED):
        help = "restore the database from a copy and compare both"
        return TamperDetected(f"{name} is damaged: {said}", help=help)
    return Unavailable(f"{name} cannot be reached: {said}", help=_GONE)
