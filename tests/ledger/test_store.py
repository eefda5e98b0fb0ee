"""The log in one file: what cannot be written is said and loses nothing; the rest is in tests/conformance."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.errors import Unavailable
from keyturn.ledger import store as stores
from keyturn.ledger import tree
from keyturn.ledger.store import Head, Store
from tests.ledger.signers import leaves_of


def test_no_log_means_no_action(path):
    with pytest.raises(Unavailable, match="there is no log at") as caught:
        Store.open(path)
    assert "no log, no action" in caught.value.help
    assert not path.exists()


def test_a_founding_cut_off_before_its_first_transaction_is_made_good(path):
    path.write_bytes(b"")
    with Store.open(path, create=True) as opened:
        assert opened.head() == Head.empty()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.data())
def test_proofs_from_any_history_of_batches_check(tmp_path_factory, batches, data):
    place = tmp_path_factory.mktemp("log") / "log.db"
    with Store.open(place, create=True) as store:
        for number, count in enumerate(batches):
            head = store.append(leaves_of(count, b"%d " % number), expected=None)
        size = data.draw(st.integers(1, head.size))
        index = data.draw(st.integers(0, size - 1))
        old = data.draw(st.integers(0, size))
        root, older = store.root_at(size), store.root_at(old)
        inclusion, consistency = store.prove_inclusion(index, size), store.prove_consistency(old, size)
        leaf = tree.leaf_hash(store.leaf(index))
    assert tree.check_inclusion(index=index, size=size, leaf=leaf, proof=inclusion, root=root)
    assert tree.check_consistency(old=old, old_root=older, new=size, new_root=root, proof=consistency)


# --- what the machine does to us


def test_a_full_disk_is_said_and_loses_nothing(store):
    head = store.append(leaves_of(10), expected=None)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable, match="the disk is full") as caught:
        store.append([b"x" * 50_000], expected=head)
    assert "free some space" in caught.value.help
    assert store.head() == head
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.append([b"x" * 50_000], expected=head).size == 11


FILLING = """
import resource, sys
from keyturn.core.errors import Unavailable
from keyturn.ledger.store import Store
from pathlib import Path
store = Store.open(Path(sys.argv[1]), create=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for n in range(1000):
    try:
        store.append([b"%d " % n + b"x" * 3000], expected=None)
    except Unavailable as error:
        assert store.head().size == n, "what failed must not be there"
        print("unavailable", n)
        break
    print(n, flush=True)
"""


def test_a_file_that_may_not_grow_loses_nothing_that_was_acknowledged(path):
    ran = subprocess.run([sys.executable, "-c", FILLING, path], capture_output=True, text=True, check=True)
    *acknowledged, last = ran.stdout.split("\n")[:-1]
    assert last == f"unavailable {len(acknowledged)}"
    assert len(acknowledged) > 5
    with Store.open(path) as opened:
        assert [leaf.split(b" ")[0] for leaf in opened.leaves(0, opened.head().size)] == [
            n.encode() for n in acknowledged
        ]


def test_a_read_only_log_says_so(store):
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(Unavailable, match="the log is read-only"):
        store.append([b"a"], expected=None)
    assert store.head() == Head.empty()


def test_another_writer_makes_us_wait_and_then_say_so(path, monkeypatch):
    monkeypatch.setattr(stores, "BUSY_SECONDS", 0.1)
    with Store.open(path, create=True) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another writer holds the log"):
            store.append([b"a"], expected=None)
        assert store.head() == Head.empty()
        other.execute("ROLLBACK")
        other.close()
        assert store.append([b"a"], expected=Head.empty()).size == 1


def test_a_folder_that_is_not_there_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match="the log cannot be opened"):
        Store.open(tmp_path / "none" / "log.db", create=True)


def test_every_commit_is_synced(store):
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.slow
def test_proofs_over_a_hundred_thousand_entries_take_milliseconds(store):
    for start in range(0, 100_000, 10_000):
        head = store.append([b"%d" % n for n in range(start, start + 10_000)], expected=None)
    began = time.perf_counter()
    for index in range(0, 100_000, 1000):
        proof = store.prove_inclusion(index, head.size)
        leaf = tree.leaf_hash(b"%d" % index)
        assert tree.check_inclusion(index=index, size=head.size, leaf=leaf, proof=proof, root=head.root)
        store.prove_consistency(index, head.size)
    assert (time.perf_counter() - began) / 200 < 0.02
