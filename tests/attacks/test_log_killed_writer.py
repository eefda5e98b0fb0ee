"""The attack: the writer is killed at the worst moment. What it acknowledged is there, and nothing is half there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from keyturn.ledger.check import check_store
from keyturn.ledger.store import Store
from tests.attacks.test_attack_edited_entries import VKEY

WRITER = """
import sys
from pathlib import Path
from keyturn.ledger.store import Store

with Store.open(Path(sys.argv[1]), create=True) as store:
    n = store.head().size
    while True:
        batch = [b"entry %d" % (n + at) for at in range(1 + n % 7)]
        n = store.append(batch, expected=None, keys=["k" + leaf.decode() for leaf in batch]).size
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_kills_at_any_moment_lose_no_acknowledged_entry(tmp_path, kills):
    path, dice, least = tmp_path / "log.db", random.Random(kills), 0
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline().strip()
        time.sleep(dice.uniform(0.0, 0.15))
        child.send_signal(signal.SIGKILL)
        acknowledged = child.communicate(timeout=20)[0].split("\n")
        assert child.returncode == -signal.SIGKILL
        least = max([least, *(int(line) for line in acknowledged[:-1] if line)])
        with Store.open(path) as store:
            size = store.head().size
            assert size >= least
            assert list(store.leaves(0, size)) == [b"entry %d" % n for n in range(size)]
            assert store.index_of(f"kentry {size - 1}") == size - 1
            assert check_store(store, VKEY) == ()
    assert least > 100
