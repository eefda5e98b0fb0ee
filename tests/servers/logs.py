"""A log of either kind by its address, so that one test or one child process serves both."""

from __future__ import annotations

from pathlib import Path

from keyturn.ledger.postgresql.store import PostgresStore
from keyturn.ledger.store import Store


def open_log(where: str, **choices: bool) -> PostgresStore | Store:
    """The log at this path, or in the database of this address."""
    if where.startswith("postgresql:"):
        return PostgresStore.open(where, **choices)
    return Store.open(Path(where), **choices)
