"""Group commit: everybody who waits for an entry to be durable shares one transaction and one data sync.

One thread writes. It takes all that was handed in, appends it, and tells everybody; what comes meanwhile is the next
batch. So the sync itself is the window: no timer delays anybody, and a lone client waits for its own sync only.

It looks at no entry's words, and compares no head: whoever hands in an entry that rests on what the log held must
append it with the store's own compare-and-swap instead.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import accumulate
from types import TracebackType
from typing import Protocol, Self

from keyturn.core.errors import Conflict, KeyturnError, Unavailable
from keyturn.ledger.commit.pending import Future, Outcome, Pending, Placed
from keyturn.ledger.rows import Head

BATCH_ENTRIES_MAX = 4096
BATCH_BYTES_MAX = 4 << 20
"""How much one transaction takes; an entry alone is always below it."""

QUEUED_ENTRIES_MAX = 65_536
QUEUED_BYTES_MAX = 64 << 20
"""How much may wait in memory; beyond it `Unavailable` asks clients to slow down."""

CLASHES_MAX = 5
"""How often a batch is sorted anew because another process took a key in between."""


class Appends(Protocol):
    """What a store must offer; see `keyturn.ledger.store.Store`, whose promises are meant."""

    def append(
        self, leaves: Sequence[bytes], *, expected: Head | None, keys: Sequence[str | None] | None = None
    ) -> Head:
        """Append all leaves durably, or none."""

    def indexes_of(self, keys: Sequence[str]) -> list[int | None]:
        """Where the leaf of each key lies."""

    def leaf(self, index: int) -> bytes:
        """The exact bytes of one leaf."""


class GroupCommit:
    """The one writer of many clients, threads and tasks; a context manager that drains when it ends.

    A failure concerns those whose entries were in the failed transaction, and nobody else: what is left over is
    written. After an error an entry may be there all the same; repeated under its key it is there once.
    """

    def __init__(self, store: Appends) -> None:
        self._store = store
        self._queue: list[Pending] = []
        self._bytes = 0
        self._work = threading.Condition(threading.Lock())
        self._idle = False
        self._closed = ""
        self._thread = threading.Thread(target=self._run, name="keyturn-commit", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def submit(self, leaf: bytes, key: str | None = None) -> Pending:
        """Accept an entry and return it; nothing is durable yet.

        Raises MalformedInput for what no log takes, Unavailable when too much waits or nobody writes any more.
        """
        accepted = Pending(leaf, key)
        self.hand_in((accepted,))
        return accepted

    def append(self, leaf: bytes, key: str | None = None, *, seconds: float | None = None) -> Placed:
        """Hand in an entry and wait until it is durable; raises what `submit` and `Pending.wait` raise."""
        return self.submit(leaf, key).wait(seconds)

    def hand_in(self, pending: Sequence[Pending]) -> None:
        """Accept entries together, all or none of them; raises Unavailable as `submit` does."""
        more = sum(len(each.leaf) for each in pending)
        with self._work:
            if self._closed or not self._thread.is_alive():  # in a forked child nobody writes
                raise Unavailable(self._closed or "nobody writes entries here", help="open the log again")
            if len(self._queue) + len(pending) > QUEUED_ENTRIES_MAX or self._bytes + more > QUEUED_BYTES_MAX:
                raise Unavailable(f"{len(self._queue)} entries wait already", help="wait for those, then try again")
            self._queue.extend(pending)
            self._bytes += more
            if self._idle:
                self._work.notify()

    def close(self) -> None:
        """Write everything that was accepted, tell everybody, and take nothing more."""
        with self._work:
            self._closed = self._closed or "no more entries are taken: the log is being closed"
            self._work.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    # --- the writer

    def _run(self) -> None:
        batch: list[Pending] = []
        try:
            while batch := self._next():
                self._commit(batch)
        except BaseException as fault:
            self._give_up(batch, fault)
            raise

    def _next(self) -> list[Pending]:
        """Everything that waits, up to a transaction's bounds; nothing once all is written and no more will come."""
        with self._work:
            while not self._queue and not self._closed:
                self._idle = True
                self._work.wait()
            self._idle = False
            if len(self._queue) <= BATCH_ENTRIES_MAX and self._bytes <= BATCH_BYTES_MAX:
                batch, self._queue, self._bytes = self._queue, [], 0
                return batch
            bytes_ = accumulate(len(each.leaf) for each in self._queue[:BATCH_ENTRIES_MAX])
            count, total = max((at, sum_) for at, sum_ in enumerate(bytes_, 1) if sum_ <= BATCH_BYTES_MAX)
            batch, self._queue = self._queue[:count], self._queue[count:]
            self._bytes -= total
            return batch

    def _commit(self, batch: list[Pending]) -> None:
        try:
            self._write(batch)
        except KeyturnError as fault:
            _refuse([each for each in batch if each.outcome is None], fault)

    def _write(self, batch: list[Pending]) -> None:
        """Append what can be, refusing those alone whose key stands for other bytes; raises for all that are left."""
        clash = Conflict("")
        for _ in range(CLASHES_MAX):
            try:
                head = self._append(batch)
            except Conflict as fault:
                clash, found = fault, self._clashing(batch)
                _refuse([each for each in batch if each in found], fault)
                batch = [each for each in batch if each not in found]
                if not batch:
                    return
            else:
                _settle(batch, [Placed(index, head) for index in self._places(batch, head)])
                return
        raise clash

    def _append(self, batch: list[Pending]) -> Head:
        keys = [each.key for each in batch]
        return self._store.append([each.leaf for each in batch], expected=None, keys=keys)

    def _places(self, batch: list[Pending], head: Head) -> Sequence[int]:
        """The indexes of a batch after which the log had this head.

        What is new in it ends the log in the batch's order. A key's entry is found by its key; counting back from the
        end, one that lies elsewhere than there was in the log before, or came twice, and took no place.
        """
        keys = [each.key for each in batch if each.key is not None]
        if not keys:
            return range(head.size - len(batch), head.size)
        held = dict(zip(keys, self._store.indexes_of(keys), strict=True))
        places, last = [0] * len(batch), head.size - 1
        for at in reversed(range(len(batch))):
            key = batch[at].key
            index = last if key is None else held[key]
            if index is None:
                raise Unavailable("an entry was appended and its key is not found", help="hand it in again")
            places[at] = index
            last -= index == last
        return places

    def _clashing(self, batch: list[Pending]) -> set[Pending]:
        """Those whose key stands for other bytes, in the log or further up in the batch."""
        keys = list(dict.fromkeys(each.key for each in batch if each.key is not None))
        found = zip(keys, self._store.indexes_of(keys), strict=True)
        held = {key: self._store.leaf(index) for key, index in found if index is not None}
        return {each for each in batch if each.key is not None and held.setdefault(each.key, each.leaf) != each.leaf}

    def _give_up(self, batch: Iterable[Pending], fault: BaseException) -> None:
        """Whatever stopped the writer, everybody hears of it, also those who were never looked at."""
        with self._work:
            self._closed = f"nobody writes entries any more: {fault}"
            left = [*(each for each in batch if each.outcome is None), *self._queue]
            self._queue.clear()
            self._bytes = 0
        lost = Unavailable(self._closed, help="open the log again, and hand in again under the same key")
        _refuse(left, lost)


class Tasks:
    """The clients of one event loop: what they hand in during one turn of it is one batch, and one call wakes all.

    Make it inside the loop.
    """

    def __init__(self, commit: GroupCommit) -> None:
        self._commit = commit
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Pending] = []

    async def append(self, leaf: bytes, key: str | None = None) -> Placed:
        """Hand in an entry and wait until it is durable; raises what `GroupCommit.append` raises.

        A task that is cancelled while it waits leaves its entry behind: accepted is accepted.
        """
        future: Future = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._hand_in)
        self._waiting.append(Pending(leaf, key, future))
        return await future

    def _hand_in(self) -> None:
        pending, self._waiting = self._waiting, []
        try:
            self._commit.hand_in(pending)
        except KeyturnError as fault:
            _refuse(pending, fault)


def _refuse(pending: Sequence[Pending], fault: Exception) -> None:
    _settle(pending, [fault] * len(pending))


def _settle(pending: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
    """Tell everybody: threads at once, the tasks of each loop in one call."""
    tasks: dict[asyncio.AbstractEventLoop, list[Pending]] = {}
    for each, outcome in zip(pending, outcomes, strict=True):
        each.settle(outcome)
        if each.future is not None:
            tasks.setdefault(each.future.get_loop(), []).append(each)
    for loop, waiting in tasks.items():
        # A loop that has ended has nobody who waits; the entries lie where they lie.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_wake, waiting)


def _wake(waiting: Sequence[Pending]) -> None:
    for each in waiting:
        future, outcome = each.future, each.outcome
        if future is None or future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        elif outcome is not None:
            future.set_result(outcome)
