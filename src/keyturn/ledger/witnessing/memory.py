"""What a witness must never forget: of each log that it knows, the keys, and the head that it cosigned last.

One SQLite file; several threads and processes may use it at once. A change is on the disk, its folder included, when
`changing` ends. It decides nothing, and never makes a new file in place of one that is gone.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyturn.core.errors import Conflict, KeyturnError, MalformedInput, TamperDetected, Unavailable, invariant
from keyturn.core.terms import Instant
from keyturn.ledger import note
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.note import Verifier
from keyturn.ledger.schema import translated
from keyturn.ledger.tree import HASH_BYTES

APPLICATION_ID = 0x4B54_5731
"""`KTW1`: a witness's memory, first layout."""

BUSY_SECONDS = 10.0
WHAT = "witness's memory"

SCHEMA = (
    "CREATE TABLE witness (id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL) STRICT",
    "CREATE TABLE key (origin TEXT NOT NULL, vkey TEXT NOT NULL, PRIMARY KEY (origin, vkey)) STRICT",
    "CREATE TABLE head (origin TEXT PRIMARY KEY, size INTEGER, root BLOB, note BLOB, at INTEGER) STRICT",
    "CREATE TABLE fork (origin TEXT, root BLOB, ours BLOB, theirs BLOB, at INTEGER, PRIMARY KEY (origin, root)) STRICT",
)

FORKS_MAX = 16
"""How many proofs of one log's lie are kept; one is enough to convince anybody."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The head of a log that was cosigned last, when, and its note with the log's and our own signatures."""

    head: Checkpoint
    at: Instant
    note: bytes


@dataclass(frozen=True, slots=True)
class Fork:
    """Two notes that one log signed over different roots of one size: the one cosigned here, and the other."""

    ours: bytes
    theirs: bytes
    at: Instant


@dataclass(frozen=True, slots=True)
class Log:
    """A log that is known: its origin, its keys, what was cosigned last, if anything was, and its lies.

    One whose last key was taken away has no keys, and still what was cosigned of it.
    """

    origin: str
    keys: tuple[Verifier, ...]
    seen: Seen | None
    forks: tuple[Fork, ...]


class Memory:
    """The memory in one file. Every method raises `Unavailable` and `TamperDetected` as the log's store does."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._path = path
        self._lock = threading.RLock()

    @classmethod
    def create(cls, path: Path, name: str) -> Memory:
        """Make the empty memory of the witness `name`; raises Conflict where there is a file already."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            message = f"there is a {WHAT} at `{path}` already"
            raise Conflict(message, help="a witness that forgets is worse than none; keep it") from None
        memory = cls(_connected(path), path)
        with memory.changing():
            memory._run(f"PRAGMA application_id = {APPLICATION_ID}")
            for statement in SCHEMA:
                memory._run(statement)
            memory._run("INSERT INTO witness VALUES (1, ?)", name)
        return memory

    @classmethod
    def open(cls, path: Path) -> Memory:
        """Open a memory; raises Unavailable where there is none, TamperDetected for another or a damaged file."""
        if not path.is_file():
            message = f"there is no {WHAT} at `{path}`, and a witness that forgot could cosign two histories"
            raise Unavailable(message, help="restore the newest copy; without one, retire this witness and its keys")
        memory = cls(_connected(path), path)
        try:
            made = {row[0] for row in memory._run("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
            if memory._run("PRAGMA application_id")[0][0] != APPLICATION_ID or made != set(SCHEMA):
                message = f"`{path}` is not a {WHAT}"
                raise TamperDetected(message, help="name the folder that `keyturn witness init` made")
        except KeyturnError:
            memory.close()
            raise
        return memory

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._db.close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Be the only one that changes anything, and have it all on the disk at the end, or nothing after an error."""
        with self._lock:
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._run("ROLLBACK")
                raise

    @property
    def name(self) -> str:
        """The witness's name."""
        return str(self._run("SELECT name FROM witness")[0][0])

    def trust(self, origin: str, key: Verifier) -> bool:
        """Know this key of the log `origin` from now on; says whether it is new."""
        with self.changing():
            known = key in self.keys(origin)
            if not known:
                self._run("INSERT INTO key VALUES (?, ?)", origin, key.vkey)
        return not known

    def distrust(self, origin: str, key: Verifier, *, forget: bool = False) -> int:
        """Know this key of the log `origin` no more; returns how many are left. What was cosigned stays.

        Raises `MalformedInput` for a key that is not known, and `Conflict` for the last one, unless with `forget`.
        """
        with self.changing():
            known = self.keys(origin)
            if key not in known:
                message = f"`{key.name}+{key.hash.hex()}` is no key of the log `{origin}` here"
                raise MalformedInput(message, help="`keyturn witness show DIR` lists them; `--origin` names the log")
            if len(known) == 1 and not forget:
                message = f"this is the last key of the log `{origin}`: without it, nothing of that log is cosigned"
                raise Conflict(message, help="trust its new key first, or say `--forget` to end with this log")
            self._run("DELETE FROM key WHERE origin = ? AND vkey = ?", origin, key.vkey)
        return len(known) - 1

    def keys(self, origin: str) -> tuple[Verifier, ...]:
        """The keys of a log in the order of their becoming known; none where the log is unknown."""
        rows = self._run("SELECT vkey FROM key WHERE origin = ? ORDER BY rowid", origin)
        return tuple(note.parse_vkey(row[0]) for row in rows)

    def logs(self) -> tuple[Log, ...]:
        """Every log that is known or was ever cosigned, by origin."""
        query = "SELECT origin FROM key UNION SELECT origin FROM head ORDER BY origin"
        origins = [str(row[0]) for row in self._run(query)]
        return tuple(Log(each, self.keys(each), self.seen(each), self.forks(each)) for each in origins)

    def seen(self, origin: str) -> Seen | None:
        """What was cosigned last of a log; None when nothing ever was."""
        rows = self._run("SELECT size, root, note, at FROM head WHERE origin = ?", origin)
        if not rows:
            return None
        size, root, signed, at = rows[0]
        if size < 0 or len(root) != HASH_BYTES:
            message = f"the {WHAT} `{self._path}` holds a head of `{origin}` that cannot be one"
            raise TamperDetected(message, help="somebody changed the file; restore a copy and compare both")
        return Seen(Checkpoint(origin, size, bytes(root)), Instant(at), bytes(signed))

    def remember(self, seen: Seen) -> None:
        """Keep what is about to be cosigned; only inside `changing`, where it was compared with what is there."""
        invariant(self._db.in_transaction, "a head is compared and kept in one transaction")
        head = seen.head
        self._run(
            "INSERT OR REPLACE INTO head VALUES (?, ?, ?, ?, ?)", head.origin, head.size, head.root, seen.note, seen.at
        )

    def forks(self, origin: str) -> tuple[Fork, ...]:
        """The proofs that a log signed two histories, oldest first."""
        rows = self._run("SELECT ours, theirs, at FROM fork WHERE origin = ? ORDER BY at", origin)
        return tuple(Fork(bytes(ours), bytes(theirs), Instant(at)) for ours, theirs, at in rows)

    def keep_fork(self, head: Checkpoint, fork: Fork) -> None:
        """Keep the proof that a log signed another root than the one cosigned here; once for each root."""
        with self.changing():
            if len(self.forks(head.origin)) < FORKS_MAX:
                row = (head.origin, head.root, fork.ours, fork.theirs, fork.at)
                self._run("INSERT OR IGNORE INTO fork VALUES (?, ?, ?, ?, ?)", *row)

    def _run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, translated(self._path, WHAT):
            return self._db.execute(statement, values).fetchall()


def _connected(path: Path) -> sqlite3.Connection:
    with translated(path, WHAT):
        uri = f"{path.absolute().as_uri()}?mode=rw"
        made = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
        # One file and no other beside it, so that a plain copy is whole. EXTRA is FULL and the folder: otherwise a
        # power cut could bring back the journal, and with it the head before the one that was cosigned.
        made.execute("PRAGMA synchronous = EXTRA")
        return made
