"""Hear, beside a governor's work, a halt that somebody asked for on another machine; who cannot hear, stops.

It carries halts out and decides none. It never stops listening in silence: a log that cannot be read is a halt here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from keyturn.core.errors import Conflict, KeyturnError, TamperDetected, Unavailable
from keyturn.flow import halt as halts
from keyturn.flow.governor import Governor
from keyturn.flow.log import Log
from keyturn.ledger.history import History
from keyturn.ledger.stores.port import LogStore

LISTEN_SECONDS = 1.0
"""How often a governor looks whether somebody on another machine asked for a halt."""


class Place(Protocol):
    """What is needed of a project: a session of its own with the log's store, and the log opened anew."""

    def store(self) -> AbstractContextManager[LogStore]:
        """The store."""

    def opened(self) -> AbstractContextManager[Log]:
        """The log."""


@contextmanager
def listening(place: Place, governor: Governor) -> Iterator[None]:
    """Listen from a thread while the governor works.

    A fault that may pass is waited out. After any other nobody else's halt would be heard, so everything stops here.
    """
    ear = _Ear(place, governor, governor.log.history.branch(), {halt.id for halt in governor.state.halts})
    with place.store() as store:
        thread = threading.Thread(target=ear.listen, args=(store,), name="keyturn-listen", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ear.done.set()
            thread.join()


@dataclass(slots=True)
class _Ear:
    """How far was heard; the halts in `heard` are carried out, or stood before and are the flow's to make good.

    `tried` is the one that was begun here last, whether or not its kill was written.
    """

    place: Place
    governor: Governor
    history: History
    heard: set[str]
    done: threading.Event = field(default_factory=threading.Event)
    tried: str = ""

    def listen(self, store: LogStore) -> None:
        why = "an error of the program itself"
        try:
            while not self.done.wait(LISTEN_SECONDS):
                self._once(store)
        except KeyturnError as fault:
            why = fault.message
        finally:  # whatever ended it, an error that nobody foresaw too
            if not self.done.is_set():
                self._stop(f"halts of other machines can no longer be heard: {why}")

    def _once(self, store: LogStore) -> None:
        """Read what is new and carry out what it asks for; raises what will not pass by itself."""
        try:
            leaves = self._new(store)
        except (Unavailable, Conflict):
            return  # the server may come back; what was not heard is heard the next time
        self.history.read_all(leaves)
        try:
            self._carry_out()
        except (Unavailable, Conflict):
            return  # tried again if it is not carried out yet; what was latched is recorded at the next start

    def _new(self, store: LogStore) -> list[bytes]:
        size, head = self.history.state.size, store.head().size
        if head < size:
            message = f"the log has lost entries: it holds {head}, and {size} were heard"
            raise TamperDetected(message, help="restore the log from a newer copy, and keep this one as evidence")
        return list(store.leaves(size, head))

    def _carry_out(self) -> None:
        halt, governor = self.history.state.halt, self.governor
        if halt is None or halt.id in self.heard:
            return
        latched = (governor.latch.reason() or "").startswith(f"{halt.id} ")
        if latched and halt.id != self.tried:  # else our own try latched it, and its kill failed
            self.heard.add(halt.id)  # it came through our own door
            return
        self.tried = halt.id
        receipt = halts.act(governor.halter, governor.latch, by=halt.by, reason=halt.reason, name=halt.id)
        self.heard.add(halt.id)  # only now: what failed is tried again
        with self.place.opened() as own:
            halts.record(own, by=halt.by, reason=halt.reason, receipt=receipt)

    def _stop(self, why: str) -> None:
        """No log, no action: kill and latch, again and again until it is done; the next start records it."""
        tell: Callable[[str], None] = self.governor.tell
        tell(f"halts: {why}")
        while True:
            try:
                halts.act(self.governor.halter, self.governor.latch, by="governor", reason=why)
            except (OSError, KeyturnError) as fault:
                tell(f"the halt could not be carried out, and is tried again: {fault}")
            else:
                return
            if self.done.wait(LISTEN_SECONDS):
                return
