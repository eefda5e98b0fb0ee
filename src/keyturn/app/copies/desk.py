"""The governor's end of every known copy: admit it, keep its lease, and end it.

`strike` reads no disk and waits for no lock that is held for longer than a system call, because a halt calls it. A copy
counts as stopped only when the kernel says that its process has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.app.copies import record as records
from keyturn.app.copies.record import Record
from keyturn.core.errors import Conflict, KeyturnError, Unavailable
from keyturn.core.terms import Json
from keyturn.sandbox.proof import boottime

PROOF_SECONDS_MAX = 5.0
COPIES_MAX = 1000
DESCRIPTORS_EACH, DESCRIPTORS_SPARE = 4, 256
BEATS = 4
"""How many signs of life a copy gets in the time after which it must end itself."""

ASK_SECONDS = 1.0
"""How often the log is asked which permits were revoked."""

JOIN_SECONDS_MAX = 2.0

BEAT, HALT, LEFT = b"beat\n", b"halt\n", b"left\n"

Row = dict[str, Json]


def copies_max() -> int:
    """How many copies this governor may hold: each takes descriptors, and some must stay for sandboxes and a halt."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return COPIES_MAX if soft < 0 else max(0, min(COPIES_MAX, (soft - DESCRIPTORS_SPARE) // DESCRIPTORS_EACH))


@dataclass(slots=True, eq=False)
class Held:
    """One copy in hand. `line` carries signs of life; `cord` carries nothing, and its end makes the kernel kill.

    Both are None for a copy that an earlier governor knew.
    """

    record: Record
    pidfd: int
    line: socket.socket | None = None
    cord: socket.socket | None = None
    hand: threading.Lock = field(default_factory=threading.Lock)

    def strike(self) -> None:
        """Say *halt*, cut the cord and kill; whatever of this fails, the others still work."""
        line = self.line  # once: who registers may take it away meanwhile
        if line is not None:
            with contextlib.suppress(OSError):
                line.send(HALT, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self.cord is not None:
            with contextlib.suppress(OSError):
                self.cord.shutdown(socket.SHUT_RDWR)
        with self.hand, contextlib.suppress(OSError):  # not ours to kill, or gone: `prove` looks
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def gone(self, seconds: float = 0.0) -> bool:
        """Whether its process was seen to have ended, waiting at most so long; what was let go of was not."""
        return self.pidfd >= 0 and records.gone(self.pidfd, seconds)

    def close(self) -> None:
        """Let go of it; a copy that lives ends itself then."""
        for end in (self.line, self.cord):
            if end is not None:
                end.close()
        with self.hand:  # or a strike could meet whatever gets the number next
            if self.pidfd >= 0:
                os.close(self.pidfd)
            self.pidfd = -1


@dataclass(slots=True)
class Desk:
    """The known copies of one project. Records lie in `folder`."""

    folder: Path
    tell: Callable[[str], None] = lambda _: None
    held: dict[str, Held] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    ended: frozenset[str] = frozenset()
    halts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Take in hand what is on record from before; what cannot be read or seen stays an unknown. Never raises."""
        found, self.unread = records.read_all(self.folder)
        for record in [each for each in found if each.id not in self.held]:
            try:
                pidfd = records.standing(record)
            except Unavailable as fault:
                self.unread.append(fault.message)
                continue
            if pidfd is None:
                records.forget(self.folder, record)
            else:
                self.held[record.id] = Held(record, pidfd)

    def admit(self, connection: socket.socket, permit: str, *, lease_seconds: float) -> Held:
        """Take a copy in hand: known by the kernel's word, on disk before it is told. Raises `Unavailable`, `Conflict`.

        The caller holds the latch's lock, so that a halt comes before or after it, and never in between.
        """
        halts = self.halts
        most = copies_max()
        if len(self.held) >= most:
            raise Conflict(f"{most} copies are known already", help="end some of them, or raise `ulimit -n`")
        record, pidfd = records.peer(connection, permit)
        if record.id in self.held:
            os.close(pidfd)
            raise Conflict(f"process {record.pid} is registered already", help="hold one lease in each process")
        try:
            ours, theirs = socket.socketpair()
        except OSError as fault:
            os.close(pidfd)
            raise Unavailable(
                f"the copy could not be taken in hand: {fault.strerror}", help="register again"
            ) from fault
        copy = Held(record, pidfd, connection, ours)
        with theirs:
            self.held[record.id] = copy
            try:
                records.keep(self.folder, record)
                if self.halts != halts:
                    raise Conflict("a halt came in between", help="see `keyturn status`")
                said = {"state": "held", "copy": record.id, "lease_seconds": lease_seconds}
                socket.send_fds(connection, [json.dumps(said).encode() + b"\n"], [theirs.fileno()])
            except (OSError, KeyturnError) as fault:
                copy.line = None  # the answer is told on it, and then it is closed
                copy.strike()  # it may hold weights and has no lease; a halt that looks now sees its end
                if isinstance(fault, KeyturnError):
                    raise
                raise Unavailable(f"the copy went away: {fault.strerror}", help="register again") from fault
        return copy

    def _let_go(self, copy: Held) -> None:
        """Forget a copy that is gone, or that is not to be known."""
        records.forget(self.folder, copy.record)
        self.held.pop(copy.record.id, None)
        copy.close()

    # -- the end

    def strike(self) -> None:
        """Make every known copy end, now, from any thread."""
        self.halts += 1
        for copy in list(self.held.values()):
            copy.strike()

    def prove(self, seconds: float = PROOF_SECONDS_MAX) -> list[Row]:
        """Look until every copy that was struck is gone, and say so of each, line by line."""
        until, rows = boottime() + seconds, []
        with self.lock:
            for copy in list(self.held.values()):
                ended = copy.gone(max(0.0, until - boottime()))
                rows.append(_row(str(copy.record), "" if ended else "its end was not seen"))
                if ended:
                    self._let_go(copy)
        return rows + [{**_row("a record of one", why), "what": "record"} for why in self.unread]

    # -- the lease

    @contextmanager
    def attending(self, lease_seconds: float, revoked: Callable[[], Collection[str]]) -> Iterator[None]:
        """Give every copy its signs of life from a thread, and end those whose permit was revoked.

        The log is asked from another thread: one that does not answer must not cost anybody the lease.
        """
        done = threading.Event()
        threads = [
            threading.Thread(target=self._attend, args=(done, lease_seconds), name="keyturn-copies", daemon=True),
            threading.Thread(target=self._ask, args=(done, revoked), name="keyturn-revoked", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join(JOIN_SECONDS_MAX)

    def close(self) -> None:
        """Let go of every copy: whoever lives ends itself, and stays on record until it is seen to be gone."""
        with self.lock:
            for copy in list(self.held.values()):
                copy.close()
            self.held.clear()

    def _ask(self, done: threading.Event, revoked: Callable[[], Collection[str]]) -> None:
        while not done.wait(ASK_SECONDS):
            if self.held:
                with contextlib.suppress(KeyturnError, OSError):  # a log that is away revokes nothing
                    self.ended = frozenset(revoked())

    def _attend(self, done: threading.Event, lease_seconds: float) -> None:
        while not done.wait(lease_seconds / BEATS):
            with self.lock:
                told = [self._look_after(copy, self.ended) for copy in list(self.held.values())]
            for each in filter(None, told):  # without the lock: a terminal that is held still must not keep a halt
                with contextlib.suppress(OSError, ValueError):  # nor one that is gone end the signs of life
                    self.tell(each)

    def _look_after(self, copy: Held, revoked: Collection[str]) -> str:
        """One sign of life, or the end: it left, it is gone, its line broke, or its permit was revoked.

        Gives what people are to be told.
        """
        if copy.gone():
            self._let_go(copy)
            return ""
        line = copy.line
        word = _heard(line) if line is not None else b""
        if word == LEFT:
            self._let_go(copy)
        elif copy.record.permit in revoked or word is not None:
            why = "its permit was revoked" if copy.record.permit in revoked else "it no longer listens"
            copy.strike()
            return f"the copy in {copy.record} is ended: {why}"
        elif line is not None:
            with contextlib.suppress(OSError):  # it does not read: its own lease runs out
                line.send(BEAT, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return ""


def _heard(line: socket.socket) -> bytes | None:
    """What a copy said, empty at the end of the line; None where it said nothing."""
    poll = select.poll()
    try:
        poll.register(line, select.POLLIN)
        return line.recv(len(LEFT), socket.MSG_DONTWAIT) if poll.poll(0) else None
    except (OSError, ValueError):  # broken, or closed on our side
        return b""


def _row(name: str, why: str) -> Row:
    return {"what": "copy", "name": name, "state": "UNPROVEN" if why else "STOPPED", "why": why}
