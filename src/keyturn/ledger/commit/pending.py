"""What a client holds between handing in an entry and knowing where it lies.

It knows no store; whoever writes settles it, once, with a place or with an error.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.ledger.commit.states import EntryState
from keyturn.ledger.rows import Head
from keyturn.ledger.stores.port import LEAF_BYTES_MAX

KEY_CHARS_MAX = 200
"""The longest idempotency key."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a durable entry lies, and the head of the log when it was acknowledged."""

    index: int
    head: Head


Outcome = Placed | Exception
Future = asyncio.Future[Placed]


class Pending:
    """One entry that was accepted; `wait` returns once it is durable. Any number of threads may wait for it.

    With a `future`, a task waits for that instead.
    """

    __slots__ = ("_settled", "future", "key", "leaf", "outcome")

    def __init__(self, leaf: bytes, key: str | None, future: Future | None = None) -> None:
        """Take an entry; raises MalformedInput for one that no log takes, so that it spoils nobody's batch."""
        if type(leaf) is not bytes or not 1 <= len(leaf) <= LEAF_BYTES_MAX or key is not None:
            _require(leaf, key)
        self.leaf, self.key, self.future = leaf, key, future
        self.outcome: Outcome | None = None
        if future is None:
            self._settled = threading.Lock()  # held until the outcome is known; far cheaper than an Event
            self._settled.acquire()

    @property
    def state(self) -> EntryState:
        """How far the entry has come, as far as its writer knows; what it was refused for, `wait` raises.

        Whether it is published or witnessed, the log's `Reach` says by the index in its outcome.
        """
        return EntryState.DURABLE if isinstance(self.outcome, Placed) else EntryState.ACCEPTED

    def wait(self, seconds: float | None = None) -> Placed:
        """Return where the entry lies once it is durable, or raise what went wrong with it; for threads, not for tasks.

        Raises Unavailable after `seconds`; the entry may become durable all the same, so repeat it under its key.
        """
        if not self._settled.acquire(timeout=-1 if seconds is None else max(seconds, 0.0)):
            help = "wait on, or hand it in again under its key"
            raise Unavailable(f"the entry was accepted and is not durable after {seconds} seconds", help=help)
        self._settled.release()  # the next who waits
        if isinstance(self.outcome, Placed):
            return self.outcome
        raise self.outcome or RuntimeError("a pending was settled without an outcome")

    def settle(self, outcome: Outcome) -> None:
        """Say what became of the entry; only the writer does, and only once."""
        self.outcome = outcome
        if self.future is None:
            self._settled.release()


def _require(leaf: object, key: object) -> None:
    if not isinstance(leaf, bytes) or not 1 <= len(leaf) <= LEAF_BYTES_MAX:
        found = f"{len(leaf)} bytes" if isinstance(leaf, bytes) else f"the kind {type(leaf).__name__}"
        message = f"found an entry of {found}; 1 to {LEAF_BYTES_MAX} bytes are allowed"
        raise MalformedInput(message, help="keep bulk data outside the log and name it by digest")
    if key is not None and not (isinstance(key, str) and 1 <= len(key) <= KEY_CHARS_MAX and key.isprintable()):
        message = f"found a key that is no text of 1 to {KEY_CHARS_MAX} printable characters"
        raise MalformedInput(message, help="name the entry by its digest or by an id")
