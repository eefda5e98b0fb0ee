"""Who waits is told the truth: what is acknowledged is durable, once, where it is said to be; nobody hangs."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress

import pytest

from keyturn.core.errors import Conflict, KeyturnError, MalformedInput, Unavailable
from keyturn.ledger import tree
from keyturn.ledger.commit import group
from keyturn.ledger.commit.group import GroupCommit, Tasks
from keyturn.ledger.commit.pending import Placed
from keyturn.ledger.commit.states import EntryState
from keyturn.ledger.store import Head, Store
from tests.ledger import naive
from tests.ledger.test_check import VKEY, check_store

CLIENTS = 64


class Faulty:
    """A store whose calls fail as told: `lost` before anything is written, `kept` after all of it is."""

    def __init__(self, store, plan=(), gate=None):
        self.store, self.plan, self.calls, self.gate, self.batches = store, dict(plan), 0, gate, []

    def append(self, leaves, *, expected, keys=None):
        if self.gate:
            self.gate.wait(20)
        self.calls += 1
        fault = self.plan.get(self.calls)
        if fault == "lost":
            raise Unavailable("the disk failed: lost")
        head = self.store.append(leaves, expected=expected, keys=keys)
        self.batches.append(len(leaves))
        if fault == "kept":
            raise Unavailable("the disk failed: kept")
        if isinstance(fault, BaseException):
            raise fault
        return head

    def indexes_of(self, keys):
        if self.plan.get(self.calls) == "unknown":
            raise Unavailable("the disk failed: unknown")
        return self.store.indexes_of(keys)

    def leaf(self, index):
        return self.store.leaf(index)


def together(commit, clients, act):
    """Let so many threads act at once; returns what each came to: what `act` returned, or its error."""
    found, start = {}, threading.Barrier(clients)

    def run(name):
        start.wait()
        try:
            found[name] = act(name)
        except KeyturnError as fault:
            found[name] = fault

    threads = [threading.Thread(target=run, args=(name,)) for name in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == clients, "nobody waits for ever"
    return found


def test_every_thread_is_told_where_its_entry_lies(store):
    def act(name):
        return [(leaf, commit.append(leaf)) for leaf in (b"%d %d" % (name, n) for n in range(20))]

    with GroupCommit(store) as commit:
        found = together(commit, CLIENTS, act)
    held = list(store.leaves(0, CLIENTS * 20))
    placed = [pair for pairs in found.values() for pair in pairs]
    assert sorted(place.index for _, place in placed) == list(range(CLIENTS * 20))
    for leaf, place in placed:
        assert held[place.index] == leaf
        assert place.index < place.head.size
        assert store.root_at(place.head.size) == place.head.root == naive.mth(held[: place.head.size])
    assert check_store(store, VKEY) == ()


def test_what_waits_together_shares_one_transaction(store):
    gate = threading.Event()
    with GroupCommit(slow := Faulty(store, gate=gate)) as commit:
        pending = [commit.submit(b"%d" % n) for n in range(500)]
        assert {each.state for each in pending} == {EntryState.ACCEPTED}
        gate.set()
        assert [each.wait(20).index for each in pending] == list(range(500))
        assert {each.state for each in pending} == {EntryState.DURABLE}
        assert pending[0].wait(0) == pending[0].wait(0)
    assert sum(slow.batches) == 500
    assert len(slow.batches) <= 2


@pytest.mark.parametrize(("size", "count", "most"), [(1, 10_000, 4096), (60_000, 150, 69)])
def test_a_transaction_is_bounded_in_entries_and_bytes(store, size, count, most):
    gate = threading.Event()
    with GroupCommit(slow := Faulty(store, gate=gate)) as commit:
        pending = [commit.submit((b"%d " % n).ljust(size, b"x")) for n in range(count)]
        gate.set()
        assert [each.wait(30).index for each in pending] == list(range(count))
    assert max(slow.batches) == most


def test_tasks_of_a_loop_are_told_where_their_entries_lie(store):
    async def client(tasks, name):
        return [(leaf, await tasks.append(leaf, f"{name} {n}")) for n in range(10) for leaf in [b"%d %d" % (name, n)]]

    async def main(commit):
        tasks = Tasks(commit)
        return await asyncio.gather(*(client(tasks, name) for name in range(CLIENTS)))

    with GroupCommit(counting := Faulty(store)) as commit:
        found = asyncio.run(main(commit))
    for pairs in found:
        for leaf, place in pairs:
            assert store.leaf(place.index) == leaf
    assert counting.calls <= 30, "what is handed in during one turn of the loop goes together"


def test_a_task_that_is_cancelled_leaves_its_entry_and_harms_nobody(store):
    gate = threading.Event()

    async def main(commit):
        tasks = Tasks(commit)
        first, second = (asyncio.ensure_future(tasks.append(leaf)) for leaf in (b"first", b"second"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    with GroupCommit(Faulty(store, gate=gate)) as commit:
        assert asyncio.run(main(commit)).index == 1
    assert list(store.leaves(0, 2)) == [b"first", b"second"]


def test_a_task_hears_of_a_failure_and_of_a_closed_log(store):
    async def main(commit):
        tasks = Tasks(commit)
        with pytest.raises(Unavailable, match="lost"):
            await tasks.append(b"a")
        with pytest.raises(MalformedInput):
            await tasks.append(b"")
        commit.close()
        with pytest.raises(Unavailable, match="being closed"):
            await tasks.append(b"a")

    with GroupCommit(Faulty(store, {1: "lost"})) as commit:
        asyncio.run(main(commit))


def test_a_loop_that_ended_keeps_nobody_else_waiting(store):
    gate = threading.Event()

    async def main(commit):
        waiting = asyncio.ensure_future(Tasks(commit).append(b"left behind"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting

    with GroupCommit(Faulty(store, gate=gate)) as commit:
        asyncio.run(main(commit))
        pending = commit.submit(b"mine")
        gate.set()
        assert pending.wait(20).index == 1


# --- keys


def test_a_repeated_key_is_recorded_once_and_told_the_same_place(store):
    store.append([b"old"], expected=None, keys=["old"])
    gate = threading.Event()
    with GroupCommit(Faulty(store, gate=gate)) as commit:
        said = [("new", b"new"), (None, b"u"), ("old", b"old"), ("new", b"new"), (None, b"v"), ("last", b"last")]
        pending = [commit.submit(leaf, key) for key, leaf in said]
        gate.set()
        assert [each.wait(20).index for each in pending] == [1, 2, 0, 1, 3, 4]
        assert commit.append(b"old", "old").index == 0
    assert list(store.leaves(0, 5)) == [b"old", b"new", b"u", b"v", b"last"]


def test_a_key_that_stands_for_other_bytes_fails_alone(store):
    store.append([b"theirs"], expected=None, keys=["taken"])
    gate = threading.Event()
    with GroupCommit(Faulty(store, gate=gate)) as commit:
        said = [(None, b"a"), ("taken", b"mine"), ("k", b"b"), ("k", b"c"), ("taken", b"theirs"), (None, b"d")]
        pending = [commit.submit(leaf, key) for key, leaf in said]
        gate.set()
        found = [each.wait(20).index if n not in (1, 3) else None for n, each in enumerate(pending)]
        assert found == [1, None, 2, None, 0, 3]
        for clash in (pending[1], pending[3]):
            with pytest.raises(Conflict, match="already stands for another entry"):
                clash.wait(20)
        with pytest.raises(Conflict):
            commit.append(b"mine", "taken")
    assert list(store.leaves(0, 4)) == [b"theirs", b"a", b"b", b"d"]


def test_another_process_between_two_batches_moves_nobody(store, path):
    with Store.open(path) as other, GroupCommit(store) as commit:
        assert commit.append(b"a", "a") == Placed(0, Head(1, tree.leaf_hash(b"a")))
        other.append([b"b", b"c"], expected=None, keys=["b", None])
        assert commit.append(b"b", "b").index == 1
        assert commit.append(b"d").index == 3
        assert commit.append(b"e", "e").index == 4


@pytest.mark.parametrize(
    ("leaf", "key"),
    [(b"", None), (b"x" * 60_001, None), ("text", None), (b"a", ""), (b"a", "x" * 201), (b"a", "\ud800"), (b"a", 7)],
)
def test_what_no_log_takes_is_refused_at_the_door_and_spoils_no_batch(store, leaf, key):
    with GroupCommit(store) as commit:
        with pytest.raises(MalformedInput) as caught:
            commit.submit(leaf, key)
        assert caught.value.help
        assert commit.append(b"good", "good").index == 0


# --- what the machine does to us


@pytest.mark.parametrize("fault", ["lost", "kept", "unknown"])
@pytest.mark.parametrize("when", [1, 2, 3, 5])
def test_a_fault_at_any_write_loses_nothing_acknowledged_and_a_repeat_is_recorded_once(store, fault, when):
    """64 threads; `kept` was written and reported lost, `unknown` was written and cannot be found at once."""

    def act(name):
        said = []
        for n in range(6):
            leaf, key = b"%d %d" % (name, n), f"{name} {n}"
            try:
                said.append((leaf, commit.append(leaf, key, seconds=20)))
            except Unavailable:
                failed.append(leaf)
                said.append((leaf, commit.append(leaf, key, seconds=20)))
        return said

    failed = []
    with GroupCommit(Faulty(store, {when: fault})) as commit:
        found = together(commit, CLIENTS, act)
    held = list(store.leaves(0, store.head().size))
    assert failed, "the fault was met"
    assert len(held) == len(set(held)) == CLIENTS * 6, "none lost, none invented, none twice"
    assert all(held[place.index] == leaf for pairs in found.values() for leaf, place in pairs)
    assert check_store(store, VKEY) == ()


def test_a_full_disk_fails_those_whose_transaction_it_was_and_nobody_after(store):
    with GroupCommit(store) as commit:
        commit.append(b"before")
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Unavailable, match="the disk is full"):
            commit.append(b"x" * 50_000)
        store._db.execute("PRAGMA max_page_count = 100000")
        assert commit.append(b"after").index == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_dies_fails_everybody_and_takes_nothing_more(store):
    gate = threading.Event()
    commit = GroupCommit(Faulty(store, {1: RuntimeError("a defect")}, gate=gate))
    pending = [commit.submit(b"%d" % n) for n in range(200)]
    gate.set()
    for each in pending:
        with pytest.raises(Unavailable, match="nobody writes entries any more: a defect") as caught:
            each.wait(20)
        assert "under the same key" in caught.value.help
    with pytest.raises(Unavailable, match="nobody writes entries any more"):
        commit.submit(b"later")
    commit.close()


def test_closing_writes_what_was_accepted_and_takes_nothing_more(store):
    commit = GroupCommit(store)
    pending = [commit.submit(b"%d" % n) for n in range(300)]
    commit.close()
    assert {each.state for each in pending} == {EntryState.DURABLE}
    assert store.head().size == 300
    with pytest.raises(Unavailable, match="no more entries are taken"):
        commit.submit(b"late")
    commit.close()


def test_one_who_waits_too_long_is_told_and_the_entry_may_still_come(store):
    gate = threading.Event()
    with GroupCommit(Faulty(store, gate=gate)) as commit:
        pending = commit.submit(b"a", "a")
        with pytest.raises(Unavailable, match=r"is not durable after 0\.01 seconds"):
            pending.wait(0.01)
        gate.set()
        assert pending.wait(20).index == 0


def test_too_much_that_waits_is_refused_whole(store, monkeypatch):
    monkeypatch.setattr(group, "QUEUED_ENTRIES_MAX", 3)
    gate = threading.Event()
    slow = Faulty(store, gate=gate)
    with GroupCommit(slow) as commit:
        first = commit.submit(b"being written")
        while commit._queue:
            pass
        waiting = [commit.submit(b"%d" % n) for n in range(3)]
        with pytest.raises(Unavailable, match="3 entries wait already"):
            commit.submit(b"one too many")
        gate.set()
        assert [each.wait(20).index for each in (first, *waiting)] == [0, 1, 2, 3]
    assert store.head().size == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # later Pythons warn of exactly what is tried here
def test_in_a_forked_child_nobody_writes_and_that_is_said(store):
    with GroupCommit(store) as commit:
        child = os.fork()
        if child == 0:
            try:
                commit.submit(b"never")
            except Unavailable:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
