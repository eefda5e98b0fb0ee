"""The attack: two programs decide on one head of the log and both write. One of them must read again."""

from __future__ import annotations

from keyturn.ledger.check import check_store
from tests.attacks import writers
from tests.attacks.test_attack_edited_entries import VKEY
from tests.servers.logs import open_log


def ready(where, name):
    child = writers.start("decide", where, name)
    assert child.stdout.readline() == "ready\n"
    return child


def test_no_two_entries_are_ever_decided_on_the_same_head(address):
    open_log(address, create=True).close()
    children = [ready(address, name) for name in ("one", "two", "three")]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    conflicts = sum(int(child.communicate(timeout=50)[0]) for child in children)
    assert all(child.returncode == 0 for child in children)
    with open_log(address) as store:
        leaves = list(store.leaves(0, store.head().size))
        assert check_store(store, VKEY) == ()
    assert [int(leaf.split()[2]) for leaf in leaves] == list(range(180))
    assert conflicts > 0, "the writers never met, so this run has shown nothing"
