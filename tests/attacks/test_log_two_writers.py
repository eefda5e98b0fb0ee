"""The attack: two programs decide on one head of the log and both write. One of them must read again."""

from __future__ import annotations

import subprocess
import sys

from keyturn.ledger.check import check_store
from keyturn.ledger.store import Store
from tests.attacks.test_attack_edited_entries import VKEY

WRITER = """
import sys
from pathlib import Path
from keyturn.core.errors import Conflict
from keyturn.ledger.store import Store

name, conflicts, done = sys.argv[2], 0, 0
with Store.open(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    while done < 60:
        head = store.head()
        saw = b"%s saw %d" % (name.encode(), head.size)
        try:
            store.append([saw], expected=head)
            done += 1
        except Conflict:
            conflicts += 1
print(conflicts)
"""


def start(path, name):
    arguments = [sys.executable, "-c", WRITER, path, name]
    child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    return child


def test_no_two_entries_are_ever_decided_on_the_same_head(tmp_path):
    path = tmp_path / "log.db"
    Store.open(path, create=True).close()
    children = [start(path, name) for name in ("one", "two", "three")]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    conflicts = sum(int(child.communicate(timeout=50)[0]) for child in children)
    assert all(child.returncode == 0 for child in children)
    with Store.open(path) as store:
        leaves = list(store.leaves(0, store.head().size))
        assert check_store(store, VKEY) == ()
    assert [int(leaf.split()[2]) for leaf in leaves] == list(range(180))
    assert conflicts > 0, "the writers never met, so this run has shown nothing"
