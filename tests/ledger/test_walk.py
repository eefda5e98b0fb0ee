"""Two processes find in a log exactly what one finds, in the same words, whatever becomes of the second."""

from __future__ import annotations

import sys

import pytest

from keyturn.ledger import tree
from keyturn.ledger.check import check_store
from keyturn.ledger.store import Store
from keyturn.ledger.walk import part, sharing
from keyturn.ledger.walk.part import Found, Task
from tests.ledger.signers import LOG, leaves_of, signed

VKEY = LOG.verifier().vkey
LEVEL = 9
SIZE = 10 * 512 + 77
SIGNED = (1, 511, 512, 513, 700, 2048, 5000, SIZE)

DAMAGE = {
    "nothing": [],
    "an edited entry": ["UPDATE entry SET leaf = x'61' WHERE i = 700"],
    "edited entries everywhere": ["UPDATE entry SET leaf = x'61' WHERE i % 37 = 5"],
    "an edited entry with its hash": [
        f"UPDATE entry SET leaf = x'61', hash = x'{tree.leaf_hash(b'a').hex()}' WHERE i = 4000"
    ],
    "exchanged entries far apart": [
        f"UPDATE entry SET leaf = x'{b'entry 5000'.hex()}' WHERE i = 3",
        f"UPDATE entry SET leaf = x'{b'entry 3'.hex()}' WHERE i = 5000",
    ],
    "a missing entry": ["DELETE FROM entry WHERE i = 700"],
    "the first entry missing": ["DELETE FROM entry WHERE i = 0"],
    "the last entries missing": [f"DELETE FROM entry WHERE i >= {SIZE - 30}"],
    "the end of a part missing": ["DELETE FROM entry WHERE i >= 1010 AND i < 1024"],
    "a part missing and a little around it": ["DELETE FROM entry WHERE i >= 1000 AND i < 2060"],
    "two gaps and an edit behind them": [
        "DELETE FROM entry WHERE i IN (600, 3000)",
        "UPDATE entry SET leaf = x'61' WHERE i = 4711",
    ],
    "every entry missing": ["DELETE FROM entry"],
    "inner hashes changed low and high": ["UPDATE node SET hash = zeroblob(32) WHERE n IN (1, 100)"],
    "a high inner hash changed": ["UPDATE node SET hash = zeroblob(32) WHERE level = 12"],
    "inner hashes lost": ["DELETE FROM node"],
    "an entry too many": [f"INSERT INTO entry VALUES ({SIZE}, zeroblob(32), x'00')"],
    "another root": ["UPDATE state SET root = zeroblob(32)"],
    "another frontier": ["UPDATE state SET frontier = zeroblob(length(frontier))"],
    "a checkpoint that is no note": ["UPDATE checkpoint SET note = x'00' WHERE size = 700"],
}


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(part, "LEVEL", LEVEL)


def filled(path, size=SIZE):
    with Store.open(path, create=True) as store:
        store.append(leaves_of(size), expected=None)
        for at in SIGNED:
            if at <= size:
                store.save_checkpoint(*signed(store, at))


def damaged(path, statements):
    filled(path)
    store = Store.open(path, unchecked=True)
    for statement in statements:
        store._db.execute(statement)
    return store


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_kind_of_damage_is_found_alike_by_one_process_and_by_two(path, small_parts, monkeypatch, kind):
    with damaged(path, DAMAGE[kind]) as store:
        monkeypatch.setattr(part, "LEVEL", 16)
        whole = check_store(store, VKEY, processes=1)
        monkeypatch.setattr(part, "LEVEL", LEVEL)
        alone = check_store(store, VKEY, processes=1)
        both = check_store(store, VKEY, processes=2)
    assert whole == alone == both
    assert bool(both) == (kind != "nothing")


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 2047, 2048, 4096])
def test_a_sound_log_of_any_size_has_no_problems_with_two(path, small_parts, size):
    filled(path, size)
    with Store.open(path) as store:
        assert check_store(store, VKEY, processes=2) == ()


def test_the_helper_does_its_share_from_the_back(path, small_parts, monkeypatch):
    filled(path)
    here, done = [], part.recompute
    monkeypatch.setattr(sharing, "recompute", lambda store, task, n: here.append(n) or done(store, task, n))
    monkeypatch.setattr(sharing._Back, "working_on", lambda self: 3)
    with Store.open(path) as store:
        assert check_store(store, VKEY, processes=2) == ()
    assert here == [0, 1, 2]


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(1)",
        "print('nonsense')",
        "print('[]')",
        "print('{\"part\": 10}')",
        'print(\'{"part": 10, "size": 3, "hashes": [], "heads": []\')',
        "import sys; sys.stdin.read(); print('{')",
    ],
)
def test_a_helper_that_fails_costs_time_and_hides_nothing(path, tmp_path, small_parts, monkeypatch, program):
    second = tmp_path / "second"
    second.write_text(program)
    monkeypatch.setattr(sharing, "SECOND", second)
    with damaged(path, DAMAGE["two gaps and an edit behind them"]) as store:
        assert check_store(store, VKEY, processes=2) == check_store(store, VKEY, processes=1) != ()


def test_a_helper_that_cannot_be_started_costs_nothing_but_time(path, small_parts, monkeypatch):
    filled(path)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Store.open(path) as store:
        assert check_store(store, VKEY, processes=2) == ()


def test_a_helper_is_asked_only_where_it_pays(monkeypatch):
    def worth(size, cores):
        monkeypatch.setattr(sharing.os, "sched_getaffinity", lambda _: set(range(cores)))
        return sharing.processes_for(Task(size, (), 16))

    assert [worth(size, 2) for size in (0, 1000, 983_040, 983_041)] == [1, 1, 1, 2]
    assert worth(10_000_000, 1) == 1


def test_what_a_part_shows_survives_the_way_between_processes():
    digest = tree.leaf_hash(b"a")
    found = Found(tree.Frontier(3, (digest, digest)), {2: (digest,)}, [(1, digest, b"")], [(3, 9)], [(4, 0)], 3)
    assert Found.from_json(found.to_json()) == found


def test_entries_appended_meanwhile_change_nothing(path, small_parts, monkeypatch):
    filled(path)
    done = part.recompute

    def recompute(store, task, n):
        with Store.open(path) as other:
            other.append([b"meanwhile %d" % n], expected=None)
        return done(store, task, n)

    monkeypatch.setattr(sharing, "recompute", recompute)
    with Store.open(path) as store:
        assert check_store(store, VKEY, processes=1) == check_store(store, VKEY, processes=2) == ()
