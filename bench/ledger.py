"""Ours against the least that a disk and SQLite can do, and against pymerkle where it is installed, in one run.

`python -m bench.ledger [FOLDER]` writes to a new folder below FOLDER (default: where temporary files go) and prints
entries per second with the ratio to ours. The order of the rows changes in every round and the best round counts,
so that a busy moment hits nobody alone. Numbers compare within one run only.
"""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from keyturn.ledger import tree
from keyturn.ledger.check import check_store
from keyturn.ledger.note import Verifier
from keyturn.ledger.store import Store

LEAF = b"x" * 292
ROUNDS = 3
BATCHES = {1: 1000, 100: 200, 1000: 60}
LOG = Verifier("bench.example/log", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")


def leaves(count: int, start: int) -> list[bytes]:
    return [LEAF + (start + n).to_bytes(8, "big") for n in range(count)]


def ours(place: Path, batch: int, rounds: int) -> None:
    with Store.open(place / "ours.db", create=True) as store:
        head = store.head()
        for n in range(rounds):
            head = store.append(leaves(batch, n * batch), expected=head)


def bare_file(place: Path, batch: int, rounds: int) -> None:
    with (place / "bare").open("wb", buffering=0) as out:
        for n in range(rounds):
            out.write(b"".join(leaves(batch, n * batch)))
            os.fdatasync(out.fileno())


def bare_sqlite(place: Path, batch: int, rounds: int) -> None:
    with closing(sqlite3.connect(place / "bare.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE entry (i INTEGER PRIMARY KEY, leaf BLOB)")
        for n in range(rounds):
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO entry (leaf) VALUES (?)", [(leaf,) for leaf in leaves(batch, n * batch)])
            db.execute("COMMIT")


def pymerkle(place: Path, batch: int, rounds: int) -> None:
    from pymerkle import SqliteTree

    foreign = SqliteTree(str(place / "pymerkle.db"))
    for n in range(rounds):
        if batch == 1:
            foreign.append_entry(leaves(1, n)[0])
        else:
            foreign.append_entries(leaves(batch, n * batch))
    foreign.get_root()
    foreign.close()


def contestants() -> list[Callable[[Path, int, int], None]]:
    found = [ours, bare_file, bare_sqlite]
    try:
        import pymerkle as _  # noqa: F401 - only to see whether it is there

        found.append(pymerkle)
    except ImportError:
        print("pymerkle is not installed: not run")
    return found


def race(folder: Path) -> None:
    rows = contestants()
    print(f"{'entries per second':24}" + "".join(f"{f'batch {batch}':>22}" for batch in BATCHES))
    best: dict[tuple[str, int], float] = {}
    for batch, rounds in BATCHES.items():
        for _ in range(ROUNDS):
            for row in random.sample(rows, len(rows)):
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    began = time.perf_counter()
                    row(Path(place), batch, rounds)
                    rate = batch * rounds / (time.perf_counter() - began)
                best[row.__name__, batch] = max(rate, best.get((row.__name__, batch), 0.0))
    for row in rows:
        cells = [f"{best[row.__name__, b]:12,.0f} ({best['ours', b] / best[row.__name__, b]:4.2f})" for b in BATCHES]
        print(f"{row.__name__:24}" + "".join(f"{cell:>22}" for cell in cells))
    print("in brackets: ours as a multiple of that row")


def reading(folder: Path, count: int = 100_000) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place, Store.open(Path(place) / "log.db", create=True) as store:
        for start in range(0, count, 10_000):
            head = store.append(leaves(10_000, start), expected=None)
        began = time.perf_counter()
        for n in range(200):
            store.prove_inclusion(n * count // 200, head.size)
        inclusion = (time.perf_counter() - began) / 200
        began = time.perf_counter()
        for n in range(200):
            store.prove_consistency(n * count // 200, head.size)
        consistency = (time.perf_counter() - began) / 200
        began = time.perf_counter()
        problems = check_store(store, LOG.vkey)
        checked = count / (time.perf_counter() - began)
    hashes = [tree.leaf_hash(leaf) for leaf in leaves(count, 0)]
    began = time.perf_counter()
    for left, right in itertools.pairwise(hashes):
        tree.node_hash(left, right)
        tree.leaf_hash(LEAF)
    floor = count / (time.perf_counter() - began)
    print(f"proofs over {count:,}: inclusion {inclusion * 1e3:.2f} ms, consistency {consistency * 1e3:.2f} ms")
    print(f"whole check: {checked:,.0f} entries/s, {checked / floor:.0%} of hashing alone; problems: {len(problems)}")


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir())
    race(where)
    reading(where)
