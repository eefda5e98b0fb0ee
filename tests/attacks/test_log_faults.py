"""The fault: a write or sync fails, the disk is full or read-only. Nothing acknowledged is lost, nothing invented.

What failed may still be there afterwards, as its bytes may have reached the disk; repeated under its key it is there
once. The kernel's own answers are used: strace makes one call fail, and a small disk in memory is really full.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from itertools import chain

import pytest

from keyturn.core.errors import Unavailable
from keyturn.ledger.check import check_store
from keyturn.ledger.store import Store
from tests.attacks.test_attack_edited_entries import VKEY

COMMITS = 8
SENT = [[b"entry %d of %d " % (at, n) + b"x" * 900 for at in range(1 + n % 3)] for n in range(COMMITS)]
ALL = list(chain.from_iterable(SENT))
KEYS = [[f"key {n} {at}" for at in range(len(batch))] for n, batch in enumerate(SENT)]

WRITER = """
import sys
from pathlib import Path
from keyturn.core.errors import Unavailable
from keyturn.ledger.store import Store
from tests.attacks.test_log_faults import KEYS, SENT

try:
    with Store.open(Path(sys.argv[1]), create=True) as store:
        store._db.execute("PRAGMA wal_autocheckpoint = 6")  # so that emptying the journal fails now and then as well
        for batch, keys in zip(SENT, KEYS):
            store.append(batch, expected=None, keys=keys)
            print("acknowledged", flush=True)
except Unavailable as error:
    print(error.message, flush=True)
"""

NARROW = """
import subprocess, sys
from pathlib import Path
from keyturn.core.errors import Unavailable
from keyturn.ledger.check import check_store
from keyturn.ledger.store import Store
from tests.attacks.test_attack_edited_entries import VKEY

place = Path(sys.argv[1])
path = place / "log.db"
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", place], check=True)
sent, kept = 0, []
def look():
    with Store.open(path) as store:
        assert list(store.leaves(0, store.head().size)) == kept
        assert check_store(store, VKEY) == ()
with Store.open(path, create=True) as store:
    try:
        for sent in range(1000):
            leaf = b"%d " % sent + b"x" * 3000
            store.append([leaf], expected=None)
            kept.append(leaf)
    except Unavailable as error:
        print(error.message.split(":")[0])
    assert list(store.leaves(0, store.head().size)) == kept and len(kept) > 5
look()
subprocess.run(["mount", "-o", "remount,size=8m", place], check=True)
with Store.open(path) as store:
    store.append([leaf], expected=None)
    kept.append(leaf)
look()
subprocess.run(["mount", "-o", "remount,ro", place], check=True)
try:
    with Store.open(path) as store:
        store.append([b"never"], expected=None)
except Unavailable as error:
    print(error.message.split(":")[0])
subprocess.run(["mount", "-o", "remount,rw", place], check=True)
look()
"""


def write(path, *tracing):
    """What one writer printed, with these options of strace."""
    traced = ["strace", "-f", "-y", "-o", path.with_name("calls"), *tracing, sys.executable, "-c", WRITER, path]
    return subprocess.run(traced, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("strace") is None, reason="not run: strace makes the calls fail")
@pytest.mark.parametrize(
    ("call", "error"), [("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fdatasync", "EIO"), ("ftruncate", "EIO")]
)
def test_any_one_failing_call_loses_nothing_acknowledged_and_a_repeat_is_recorded_once(tmp_path, call, error):
    calm = tmp_path / "calm.db"
    assert write(calm, "-e", f"trace={call}", "-P", calm, "-P", f"{calm}-wal") == ["acknowledged"] * COMMITS
    count, said = len(re.findall(rf"{call}\(", (tmp_path / "calls").read_text())), set()
    assert count >= (5 if call == "ftruncate" else 20)
    for when in range(1, count + 1):
        path = tmp_path / f"{when}.db"
        only = ("-P", path, "-P", f"{path}-wal")
        printed = write(path, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}", *only)
        assert "INJECTED" in (tmp_path / "calls").read_text()
        acknowledged = printed.count("acknowledged")
        said.update(line.split(":")[0] for line in printed[acknowledged:])
        with Store.open(path, create=True) as store:
            found = list(store.leaves(0, store.head().size))
            possible = [list(chain.from_iterable(SENT[:n])) for n in (acknowledged, acknowledged + 1)]
            assert found in possible
            assert check_store(store, VKEY) == ()
            for batch, keys in zip(SENT, KEYS, strict=True):
                store.append(batch, expected=None, keys=keys)
            assert list(store.leaves(0, store.head().size)) == ALL
            assert check_store(store, VKEY) == ()
    assert said <= {"the disk failed", "the disk is full", "the log cannot be opened"}


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="not run: only root mounts a small disk")
def test_a_disk_that_is_really_full_and_then_read_only_loses_nothing(tmp_path):
    inside = ["unshare", "--mount", sys.executable, "-c", NARROW, tmp_path]
    ran = subprocess.run(inside, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["the disk is full", "the log cannot be opened"]


class Liar:
    """The log's own connection, whose `when`-th commit reaches the disk and is then reported lost."""

    def __init__(self, db, when):
        self._real, self._left = db, when

    def __getattr__(self, name):
        return getattr(self._real, name)

    def execute(self, statement, *values):
        done = self._real.execute(statement, *values)
        self._left -= statement == "COMMIT"
        if statement == "COMMIT" and self._left == 0:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return done


@pytest.mark.parametrize("when", range(1, 2 * COMMITS, 3))
def test_a_commit_that_was_kept_and_reported_lost_is_there_once_after_its_repeat(tmp_path, when):
    path, acknowledged, failed = tmp_path / "log.db", 0, None
    with Store.open(path, create=True) as store:
        store._db = Liar(store._db, when)
        for batch, keys in zip(SENT, KEYS, strict=True):
            try:
                store.append(batch, expected=None, keys=keys)
            except Unavailable as error:
                failed = error.message
                break
            acknowledged += 1
    with Store.open(path) as store:
        found = list(store.leaves(0, store.head().size))
        assert found in [list(chain.from_iterable(SENT[: acknowledged + more])) for more in (0, 1)]
        for batch, keys in zip(SENT, KEYS, strict=True):
            store.append(batch, expected=None, keys=keys)
        assert list(store.leaves(0, store.head().size)) == ALL
        assert check_store(store, VKEY) == ()
    assert failed is None or failed.startswith("the disk failed")
    assert failed is not None or when > COMMITS
