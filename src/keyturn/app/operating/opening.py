"""Open the log and the place of its static files, wherever the operation says that they lie: the one place that knows.

It makes no log but at a founding, and never takes an empty one for one that was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyturn.app.operating.operation import Operation, read, require_database
from keyturn.core.errors import Conflict, MalformedInput
from keyturn.ledger.places.folder import Folder
from keyturn.ledger.places.port import Place
from keyturn.ledger.store import Store
from keyturn.ledger.stores.port import LogStore

HOME = ".keyturn"
LOG = "log.db"


def open_log(root: Path, *, unchecked: bool = False) -> LogStore:
    """The log of the project in `root`; raises as the store does."""
    operation = read(root)
    if operation.store:
        from keyturn.ledger.postgresql.store import PostgresStore

        return PostgresStore.open(operation.store, unchecked=unchecked, takeover_seconds=operation.takeover_seconds)
    return Store.open(root / HOME / LOG, unchecked=unchecked)


def open_any(where: str) -> LogStore:
    """A log that somebody names: the path of a file, or the address of a database."""
    if not where.startswith("postgresql:"):
        return Store.open(Path(where))
    from keyturn.ledger.postgresql.store import PostgresStore

    require_database(where)
    return PostgresStore.open(where)


def is_shared(root: Path) -> bool:
    """Whether other machines may reach the log of the project in `root`."""
    return bool(read(root).store)


def is_founded(root: Path) -> bool:
    """Whether `root` is the folder of a project: where its log lies elsewhere, its trust file is what shows it."""
    home = root / HOME
    return home.is_dir() and (home / ("trust.json" if read(root).store else LOG)).is_file()


def require_no_log(root: Path) -> None:
    """Raise `Conflict` where a log is kept already, before anybody makes a key or signs for a new one."""
    operation = read(root)
    if (root / HOME / LOG).exists():
        raise Conflict(f"`{root}` holds a project already", help="found it in another folder")
    if operation.store:
        with _new_database(operation):
            pass


@contextmanager
def new_log(root: Path) -> Iterator[LogStore]:
    """An empty log that becomes the project's once the first entries are in it; `Conflict` where there is one."""
    operation, home = read(root), root / HOME
    if operation.store:
        with _new_database(operation) as store:
            yield store
        return
    draft = home / "log.founding.db"
    draft.unlink(missing_ok=True)
    with Store.open(draft, create=True) as made:
        yield made
    draft.rename(home / LOG)


@contextmanager
def _new_database(operation: Operation) -> Iterator[LogStore]:
    from keyturn.ledger.postgresql.store import PostgresStore

    with PostgresStore.open(operation.store, create=True) as store:
        size = store.head().size
        if size:
            message = f"{store.name} has {size} entries already; a project is founded on an empty one"
            raise Conflict(message, help="name another database in `operation.toml`; one database holds one log")
        yield store


def open_place(root: Path, where: str | None, *, create: bool) -> Place:
    """Where static files lie: what was asked for, or else what the operation says; with `create` a folder is made."""
    operation = read(root)
    named = where or operation.tiles
    if not named:
        help = '`keyturn log tiles DIR`, or tiles = "s3://bucket/prefix" under [log] in `operation.toml`'
        raise MalformedInput("it is not said where the static files lie", help=help)
    if named.startswith("s3:"):
        from keyturn.ledger.places.s3 import Bucket

        return Bucket.open(named, endpoint=operation.endpoint)
    folder = Path(named) if where else root / named
    if not create and not folder.is_dir():
        raise MalformedInput(f"there is no folder `{folder}`", help="`keyturn log tiles DIR` makes one")
    return Folder(folder)
