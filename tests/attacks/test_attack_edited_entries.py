"""The attack: somebody with the disk changes what was logged. It never stays unnoticed, and is named."""

from __future__ import annotations

import sqlite3

import pytest

from keyturn.core.errors import TamperDetected
from keyturn.ledger import tree
from keyturn.ledger.check import check_store, require_sound
from keyturn.ledger.schema import PAGE_BYTES
from keyturn.ledger.store import Store
from tests.attacks.forging import leaves_in, signed_log, verified
from tests.fakes.world import LogKey, World
from tests.ledger.signers import LOG, leaves_of, signed

VKEY = LOG.verifier().vkey
SIZE = 600


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "log.db"
    with Store.open(place, create=True) as store:
        store.append(leaves_of(SIZE), expected=None, keys=[f"k{n}" for n in range(SIZE)])
        store.save_checkpoint(*signed(store))
    return place


def alter(path, *statements):
    with sqlite3.connect(path, isolation_level=None) as db:
        for statement, values in statements:
            db.execute(statement, values)
    db.close()


def problems(path, known=()):
    with Store.open(path, unchecked=True) as store:
        with pytest.raises(TamperDetected):
            require_sound(store, VKEY, known=known)
        return {each.rule: each for each in reversed(check_store(store, VKEY, known=known))}


def rebuilt(path, leaves):
    """The thorough thief: every leaf, hash, root and frontier made anew, so that the file contradicts nothing in it."""
    with Store.open(path.with_name("forged.db"), create=True) as forged:
        forged.append(leaves, expected=None)
        head, frontier, _ = forged.kept()
        nodes = forged._db.execute("SELECT level, n, hash FROM node").fetchall()
    alter(
        path,
        ("DELETE FROM entry", ()),
        ("DELETE FROM node", ()),
        *[("INSERT INTO entry VALUES (?, ?, ?)", (n, tree.leaf_hash(leaf), leaf)) for n, leaf in enumerate(leaves)],
        *[("INSERT INTO node VALUES (?, ?, ?)", row) for row in nodes],
        ("UPDATE state SET size = ?, root = ?, frontier = ?", (head.size, head.root, b"".join(frontier.hashes))),
    )


def test_an_edited_entry_is_named(path):
    alter(path, ("UPDATE entry SET leaf = ? WHERE i = 7", (b"I approve",)))
    found = problems(path)["entries_must_stay_as_appended"]
    kept, now = tree.leaf_hash(b"entry 7").hex(), tree.leaf_hash(b"I approve").hex()
    assert found.message == f"entry 7 has the hash {now}; {kept} was appended"
    assert "do not act on this log" in found.help


def test_an_edited_entry_with_its_hash_is_found_by_the_root_and_by_the_signature(path):
    alter(path, ("UPDATE entry SET leaf = ?, hash = ? WHERE i = 7", (b"I approve", tree.leaf_hash(b"I approve"))))
    found = problems(path)
    assert found["root_must_follow_from_entries"].message.startswith("the 600 entries have the root ")
    assert found["hashes_must_follow_from_entries"].message == "the kept hash 0 of level 4 is not its entries'"
    assert "connect4.example/log\n600\n" in found["log_must_be_what_was_signed"].proof


def test_a_wholly_rebuilt_log_is_found_by_its_last_signature(path):
    leaves = leaves_of(SIZE)
    rebuilt(path, [*leaves[:7], b"I approve", *leaves[8:]])
    found = problems(path)
    assert set(found) == {"log_must_be_what_was_signed"}
    assert "a signed checkpoint (kept) has" in found["log_must_be_what_was_signed"].message
    assert "connect4.example/log\n600\n" in found["log_must_be_what_was_signed"].proof


def test_two_exchanged_entries_are_named(path):
    swap = "UPDATE entry SET leaf = ? WHERE i = ?"
    alter(path, (swap, (b"entry 9", 3)), (swap, (b"entry 3", 9)))
    with Store.open(path, unchecked=True) as store:
        messages = [p.message for p in check_store(store, VKEY) if p.rule == "entries_must_keep_their_order"]
    assert messages == [
        "entry 3 holds what was appended as entry 9",
        "entry 9 holds what was appended as entry 3",
    ]


def test_a_removed_entry_is_named(path):
    alter(path, ("DELETE FROM entry WHERE i = 300", ()))
    assert problems(path)["log_must_be_whole"].message == "entry 300 is missing; the log says that it has 600"
    with Store.open(path, unchecked=True) as store, pytest.raises(TamperDetected, match="entry 300 is missing"):
        list(store.leaves(0, SIZE))


@pytest.mark.parametrize("level_hash", ["UPDATE node SET hash = zeroblob(32) WHERE n = 1", "DELETE FROM node"])
def test_a_changed_inner_hash_is_named(path, level_hash):
    alter(path, (level_hash, ()))
    assert "hashes_must_follow_from_entries" in problems(path)


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("UPDATE state SET root = zeroblob(32)", ()),
        ("UPDATE state SET frontier = zeroblob(128)", ()),
        ("UPDATE state SET size = 599", ()),
        ("DELETE FROM state", ()),
        ("DELETE FROM entry WHERE i = 599", ()),
        ("INSERT INTO entry VALUES (600, zeroblob(32), x'00')", ()),
        ("CREATE TRIGGER helpful AFTER INSERT ON entry BEGIN DELETE FROM entry WHERE i = 0; END", ()),
        ("DROP TABLE idem", ()),
        ("PRAGMA application_id = 1", ()),
    ],
)
def test_a_log_that_contradicts_itself_is_not_even_opened(path, statement, values):
    alter(path, (statement, values))
    with pytest.raises(TamperDetected) as caught:
        Store.open(path)
    assert caught.value.help


@pytest.mark.parametrize("offset", [0, 20, PAGE_BYTES, 2 * PAGE_BYTES, 5 * PAGE_BYTES])
def test_a_file_with_garbage_in_it_never_passes(path, offset):
    alter(path, ("PRAGMA wal_checkpoint(TRUNCATE)", ()))
    data = bytearray(path.read_bytes())
    data[offset : offset + 600] = b"\xa5" * 600
    path.write_bytes(data)
    with pytest.raises(TamperDetected), Store.open(path) as store:
        require_sound(store, VKEY)


def test_a_file_that_is_no_database_is_no_log(tmp_path):
    place = tmp_path / "log.db"
    place.write_bytes(b"this is not a log " * 100)
    for create in (False, True):
        with pytest.raises(TamperDetected, match="is damaged"):
            Store.open(place, create=create)
    assert place.read_bytes().startswith(b"this is not a log ")


# --- by one who has the log's key and the service key, and makes every hash and signature anew


def change(kind, leaves):
    place = len(leaves) - 4
    if kind == "edited":
        return [*leaves[:place], leaves[place].replace(b"payload", b"Payload", 1), *leaves[place + 1 :]]
    if kind == "reordered":
        return [*leaves[:place], leaves[place + 1], leaves[place], *leaves[place + 2 :]]
    if kind == "doubled":
        return [*leaves[: place + 1], *leaves[place:]]
    return [*leaves[:place], *leaves[place + 1 :]]


@pytest.mark.parametrize("kind", ["edited", "reordered", "doubled", "dropped"])
def test_a_real_log_under_good_signatures_is_found_by_deciding_it_again(tmp_path, capsys, kind):
    world = World.founded(tmp_path / "home")
    world.approve(world.hold().dossier)
    world.run()
    leaves = leaves_in(world.home / "log.db")
    assert verified(capsys, signed_log(tmp_path / "same.db", leaves, LogKey())) == (0, [])
    code, found = verified(capsys, signed_log(tmp_path / "forged.db", change(kind, leaves), LogKey()))
    assert code == 3
    assert found
