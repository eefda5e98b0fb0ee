"""The fault and the attack while 64 clients wait for one sync: a call fails, or the writer is killed.

What was acknowledged is found where it was said to lie; nothing is found that nobody handed in, and nothing twice.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from keyturn.ledger.check import check_store
from keyturn.ledger.store import Store
from tests.attacks.test_attack_edited_entries import VKEY

WRITER = """
import os, sys, threading
from pathlib import Path
from keyturn.core.errors import Unavailable
from keyturn.ledger.commit.group import GroupCommit
from keyturn.ledger.store import Store

most = int(sys.argv[2])
run = sys.argv[3]

def client(commit, name):
    for n in range(most):
        key = f"{run} {name} {n}"
        try:
            index = commit.append(key.encode() + b" " + b"x" * 700, key).index
        except Unavailable:
            continue
        os.write(1, f"{key} {index}\\n".encode())  # one call, so that lines of many threads never mix

with Store.open(Path(sys.argv[1])) as store, GroupCommit(store) as commit:
    store._db.execute("PRAGMA wal_autocheckpoint = 20")  # so that emptying the journal is met too
    threads = [threading.Thread(target=client, args=(commit, name)) for name in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def founded(tmp_path, name):
    path = tmp_path / name
    Store.open(path, create=True).close()
    return path


def require_all(path, acknowledged, runs, most):
    """Every line that was printed whole is in the log at its index, and the log holds nothing else than was sent."""
    with Store.open(path) as store:
        held = [leaf.rsplit(b" ", 1)[0].decode() for leaf in store.leaves(0, store.head().size)]
        assert len(held) == len(set(held)), "nothing is there twice"
        for run, name, n in (map(int, each.split()) for each in held):
            assert (run in runs, name < 64, n < most) == (True, True, True), "nothing that nobody handed in"
        for line in acknowledged:
            key, index = line.rsplit(" ", 1)
            assert held[int(index)] == key
            assert store.index_of(key) == int(index)
        assert check_store(store, VKEY) == ()
        return len(held)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_a_kill_while_64_clients_wait_loses_nothing_acknowledged(tmp_path, kills):
    path, dice, acknowledged = founded(tmp_path, "log.db"), random.Random(kills), []
    for run in range(kills):
        command = [sys.executable, "-c", WRITER, path, "100000", str(run)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        acknowledged.append(child.stdout.readline().rstrip("\n"))
        time.sleep(dice.uniform(0.0, 0.2))
        child.send_signal(signal.SIGKILL)
        *lines, _ = child.communicate(timeout=20)[0].split("\n")
        acknowledged += lines
        assert require_all(path, acknowledged, range(run + 1), 100_000) >= len(acknowledged)
    assert len(acknowledged) > 64


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("strace") is None, reason="not run: strace makes the calls fail")
@pytest.mark.parametrize(("call", "error"), [("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fdatasync", "EIO")])
def test_any_one_failing_call_while_64_clients_wait_loses_nothing_acknowledged(tmp_path, call, error):
    for when in (1, 2, 3, 5, 8, 13, 21, 34):
        path = founded(tmp_path, f"{when}.db")
        only = ["-P", path, "-P", f"{path}-wal"]
        traced = ["strace", "-f", "-o", tmp_path / "calls", "-e", f"trace={call}", *only]
        failing = ["-e", f"inject={call}:error={error}:when={when}"]
        ran = subprocess.run(
            [*traced, *failing, sys.executable, "-c", WRITER, path, "5", "0"],
            capture_output=True,
            text=True,
            check=True,
        )
        injected = re.findall(r"INJECTED", (tmp_path / "calls").read_text())
        acknowledged = ran.stdout.splitlines()
        found = require_all(path, acknowledged, [0], 5)
        assert len(acknowledged) <= found <= 64 * 5
        assert injected or len(acknowledged) == 64 * 5
    assert acknowledged
