"""What is acknowledged is there, once, in order and provable; what cannot be written is said, and loses nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core.errors import Conflict, MalformedInput, TamperDetected, Unavailable
from keyturn.ledger import checkpoint, note, tree
from keyturn.ledger import store as stores
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.store import Head, Store
from tests.ledger import naive
from tests.ledger.signers import LOG, Key


def leaves_of(count, salt=b""):
    return [salt + b"entry %d" % n for n in range(count)]


def signed(store, size=None, key=LOG):
    size = store.head().size if size is None else size
    root = store.root_at(size)
    return size, root, note.sign(Checkpoint(LOG.name, size, root).body(), key)


def test_no_log_means_no_action(path):
    with pytest.raises(Unavailable, match="there is no log at") as caught:
        Store.open(path)
    assert "no log, no action" in caught.value.help
    assert not path.exists()


def test_a_new_log_is_empty_and_opening_it_again_changes_nothing(path):
    with Store.open(path, create=True) as first:
        assert first.head() == Head.empty() == Head(0, tree.EMPTY_ROOT)
        first.append([b"a"], expected=Head.empty())
    with Store.open(path, create=True) as again:
        assert list(again.leaves(0, 1)) == [b"a"]
        assert again.checkpoint() is None


def test_a_founding_cut_off_before_its_first_transaction_is_made_good(path):
    path.write_bytes(b"")
    with Store.open(path, create=True) as opened:
        assert opened.head() == Head.empty()


@pytest.mark.parametrize("batches", [[1] * 20, [300], [255, 1, 1], [7, 513, 80]])
def test_roots_and_proofs_are_those_of_the_definition(store, batches):
    leaves = leaves_of(sum(batches))
    at, head = 0, Head.empty()
    for count in batches:
        head = store.append(leaves[at : at + count], expected=head)
        at += count
        assert head == store.head() == Head(at, naive.mth(leaves[:at]))
    assert list(store.leaves(0, at)) == leaves
    for size in {1, at // 2 + 1, at - 1 or 1, at}:
        assert store.root_at(size) == naive.mth(leaves[:size])
        assert store.prove_consistency(size, at) == naive.proof(size, leaves)
        for index in {0, size // 2, size - 1}:
            assert store.leaf(index) == leaves[index]
            assert store.prove_inclusion(index, size) == naive.path(index, leaves[:size])


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


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.leaf(3), "found the range 3 to 4; the log has 3 entries"),
        (lambda s: s.leaf(-1), "found the range -1 to 0; the log has 3 entries"),
        (lambda s: s.leaves(2, 1), "found the range 2 to 1; the log has 3 entries"),
        (lambda s: s.root_at(4), "found the size 4; the log has 3 entries"),
        (lambda s: s.prove_inclusion(2, 4), "found the size 4; the log has 3 entries"),
        (lambda s: s.prove_inclusion(2, 2), "found the index 2; 0 to 1 are in the tree"),
        (lambda s: s.prove_consistency(2, 4), "found the size 4; the log has 3 entries"),
        (lambda s: s.prove_consistency(3, 2), "found the sizes 3 and 2; the older is expected first"),
        (lambda s: s.append([b""], expected=None), "found an entry of 0 bytes; 1 to 60000 are allowed"),
        (lambda s: s.append([b"x" * 60_001], expected=None), "found an entry of 60001 bytes; 1 to 60000 are allowed"),
        (lambda s: s.append([b"x"], expected=None, keys=["a", "b"]), "found 2 keys for 1 entries"),
    ],
)
def test_what_the_log_does_not_hold_is_named(store, ask, message):
    store.append(leaves_of(3), expected=None)
    with pytest.raises(MalformedInput) as caught:
        ask(store)
    assert caught.value.message == message
    assert store.head().size == 3


def test_the_longest_leaf_comes_back_as_it_went_in(store):
    leaf = bytes(range(256)) * 234 + b"x" * 96
    assert len(leaf) == stores.LEAF_BYTES_MAX
    store.append([leaf], expected=None)
    assert store.leaf(0) == leaf


# --- compare and swap, and keys


def test_an_append_to_a_log_that_moved_is_a_conflict_and_writes_nothing(store):
    read = store.head()
    moved = store.append([b"theirs"], expected=read)
    with pytest.raises(Conflict) as caught:
        store.append([b"ours"], expected=read)
    assert caught.value.message == "the log has 1 entries; it had 0 when it was read"
    with pytest.raises(Conflict):
        store.append([b"ours"], expected=Head(1, tree.leaf_hash(b"another")))
    assert store.head() == moved
    assert store.append([b"ours"], expected=moved).size == 2


def test_a_key_makes_an_append_safe_to_repeat(store):
    head = store.append([b"a", b"b", b"c"], expected=Head.empty(), keys=["one", None, "three"])
    assert (store.index_of("one"), store.index_of("three"), store.index_of("two")) == (0, 2, None)
    again = store.append([b"a", b"c"], expected=Head.empty(), keys=["one", "three"])
    assert again == head
    assert store.append([b"a", b"d"], expected=head, keys=["one", "four"]).size == 4
    assert store.index_of("four") == 3
    assert store.append([b"e", b"e"], expected=None, keys=["five", "five"]).size == 5


@pytest.mark.parametrize("leaves", [[b"other"], [b"new", b"other"]])
def test_a_key_never_stands_for_two_entries(store, leaves):
    head = store.append([b"a"], expected=None, keys=["one"])
    with pytest.raises(Conflict, match="the key `one` already stands for another entry"):
        store.append(leaves, expected=head, keys=[*["new"] * (len(leaves) - 1), "one"])
    with pytest.raises(Conflict):
        store.append([b"x", b"y"], expected=head, keys=["both", "both"])
    assert store.head() == head
    assert store.index_of("new") is None


# --- checkpoints


def test_the_largest_signed_checkpoint_is_the_one_returned(store):
    store.append(leaves_of(5), expected=None)
    for size in (3, 5, 2):
        store.save_checkpoint(*signed(store, size))
    assert checkpoint.parse_body(store.checkpoint()).size == 5
    assert [checkpoint.parse_body(each).size for each in store.checkpoints()] == [2, 3, 5]


def test_witnesses_may_be_added_to_a_checkpoint(store):
    store.append([b"a"], expected=None)
    size, root, made = signed(store)
    store.save_checkpoint(size, root, made)
    both = note.cosign(made, Key("witness.example"), at=1)
    store.save_checkpoint(size, root, both)
    assert store.checkpoint() == both


def test_a_log_never_keeps_two_roots_for_one_size(store):
    store.append([b"a"], expected=None)
    size, root, made = signed(store)
    store.save_checkpoint(size, root, made)
    other = tree.leaf_hash(b"b")
    forked = note.sign(Checkpoint(LOG.name, 1, other).body(), LOG)
    with pytest.raises(TamperDetected, match="two roots are signed for the size 1") as caught:
        store.save_checkpoint(1, other, forked)
    assert made.decode() in caught.value.proof
    assert forked.decode() in caught.value.proof
    assert store.checkpoint() == made


def test_a_checkpoint_over_other_entries_is_never_kept(store):
    store.append([b"a"], expected=None)
    other = tree.leaf_hash(b"b")
    with pytest.raises(TamperDetected, match="the first 1 entries do not have the root"):
        store.save_checkpoint(1, other, note.sign(Checkpoint(LOG.name, 1, other).body(), LOG))
    size, _, made = signed(store)
    with pytest.raises(MalformedInput):
        store.save_checkpoint(size, other, made)
    ahead = note.sign(Checkpoint(LOG.name, 2, other).body(), LOG)
    with pytest.raises(MalformedInput, match="found the size 2; the log has 1 entries"):
        store.save_checkpoint(2, other, ahead)
    assert store.checkpoint() is None


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


def test_threads_may_share_a_log(store):
    def write(name):
        for n in range(25):
            store.append([b"%d %d" % (name, n)], expected=None)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list(store.leaves(0, 100))
    assert store.head() == Head(100, naive.mth(found))
    for name in range(4):
        mine = [leaf for leaf in found if leaf.startswith(b"%d " % name)]
        assert mine == [b"%d %d" % (name, n) for n in range(25)]


def test_a_reader_sees_what_there_was_when_it_asked(store):
    store.append(leaves_of(600), expected=None)
    reading = store.leaves(0, 600)
    first = next(reading)
    store.append([b"later"], expected=None)
    assert [first, *reading] == leaves_of(600)


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
