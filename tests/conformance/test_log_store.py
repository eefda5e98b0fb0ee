"""What every store of a log promises, in a file and on a server: what is acknowledged is there, once, provable."""

from __future__ import annotations

import threading

import pytest

from keyturn.core.errors import Conflict, MalformedInput, TamperDetected, Unavailable
from keyturn.ledger import checkpoint, note, tree
from keyturn.ledger.check import check_store
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.commit.group import GroupCommit
from keyturn.ledger.stores.port import LEAF_BYTES_MAX, Head
from tests.ledger import naive
from tests.ledger.signers import LOG, Key, leaves_of, signed
from tests.servers.logs import open_log


@pytest.fixture
def store(address):
    with open_log(address, create=True) as opened:
        yield opened


def test_no_log_means_no_action(address):
    with pytest.raises(Unavailable, match="there is no log") as caught:
        open_log(address)
    assert "no log, no action" in caught.value.help
    with pytest.raises(Unavailable):
        open_log(address)


def test_a_new_log_is_empty_and_opening_it_again_changes_nothing(address):
    with open_log(address, create=True) as first:
        assert first.head() == Head.empty() == Head(0, tree.EMPTY_ROOT)
        first.append([b"a"], expected=Head.empty())
    with open_log(address, create=True) as again:
        assert list(again.leaves(0, 1)) == [b"a"]
        assert again.checkpoint() is None


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
    assert len(leaf) == LEAF_BYTES_MAX
    store.append([leaf], expected=None)
    assert store.leaf(0) == leaf


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
    assert store.indexes_of(["three", "two", "one", "three"]) == [2, None, 0, 2]
    assert store.indexes_of([]) == []
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


def test_two_writers_of_one_log_never_decide_on_the_same_head(address, store):
    with open_log(address) as other:
        read = other.head()
        assert store.append([b"ours"], expected=store.head()).size == 1
        with pytest.raises(Conflict, match="the log has 1 entries; it had 0 when it was read"):
            other.append([b"theirs"], expected=read)
        assert other.append([b"theirs"], expected=other.head()).size == 2
        assert list(store.leaves(0, 2)) == [b"ours", b"theirs"]
        store.save_checkpoint(*signed(store))
        assert other.checkpoint() == store.checkpoint()
        assert check_store(other, LOG.verifier().vkey) == ()


def test_an_append_that_was_refused_leaves_the_store_usable(store):
    with pytest.raises(Conflict):
        store.append([b"a"], expected=Head(7, b"x" * 32))
    with pytest.raises(MalformedInput):
        store.append([b""], expected=None)
    assert store.append([b"a"] * 300, expected=Head.empty(), keys=[f"k{n}" for n in range(300)]).size == 300
    assert store.index_of("k299") == 299
    assert check_store(store, LOG.verifier().vkey) == ()


def test_many_who_wait_at_once_are_each_told_where_their_entry_lies(store):
    def client(name):
        for n in range(5):
            leaf = b"%d %d" % (name, n)
            told[leaf] = commit.append(leaf, leaf.decode() if n % 2 else None, seconds=30).index

    told = {}
    with GroupCommit(store) as commit:
        threads = [threading.Thread(target=client, args=(name,)) for name in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    held = list(store.leaves(0, 80))
    assert {leaf: held.index(leaf) for leaf in held} == told
    assert store.head() == Head(80, naive.mth(held))


def test_a_part_of_the_log_is_scanned_as_it_lies(store):
    store.append(leaves_of(1300), expected=None)
    pages = list(store.scan(1290, start=700))
    assert [index for page in pages for index in page.indexes] == list(range(700, 1290))
    assert [bytes(leaf) for page in pages for leaf in page.leaves] == leaves_of(1300)[700:1290]
