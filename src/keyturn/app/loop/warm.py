"""Sandboxes kept warm: parked, attested, let go, and heard to be ready, before anybody needs one.

In a warm sandbox our runner waits, alone, in a process in which not one instruction of a program has run. Where a
program ended as it should, its sandbox is cleared, looked at from outside, and serves again; on any doubt it is killed
instead. All this is done by a few threads behind the one that governs, which alone keeps the leases of what is ready.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.flow.ports import Attested, Interrupted
from keyturn.sandbox.port import Backend, Parked, Running, Spec
from keyturn.wire.frames import FrameReader, encode_frame

HANDS = 2
FAULTS_MAX = 3
"""After so many sandboxes in a row that could not be made, making more is no use."""

READY_SECONDS_MAX = 20.0
PROGRAMS_MAX = 100
"""How many programs one sandbox serves at the most, one after another."""

HELLO = encode_frame({"type": "hello"})


@dataclass(frozen=True, slots=True)
class Warm:
    """A sandbox whose runner waits; None where the kernel enforced less than was asked, and so nothing was let go."""

    attested: Attested
    running: Running | None


@dataclass(slots=True)
class Pool:
    """The warm sandboxes of one step; only the governing thread calls this. `bell` rings when there may be news."""

    backend: Backend
    spec: Spec
    attest: Callable[[Parked], Attested]
    guard: Callable[[], AbstractContextManager[None]]
    size: int
    bell: int = field(default_factory=lambda: os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    hands: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(HANDS, "keyturn-warm"))
    turners: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(HANDS, "keyturn-again"))
    brooms: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "keyturn-clear"))
    coming: list[Future[Warm]] = field(default_factory=list)
    turning: list[Future[Warm | Running]] = field(default_factory=list)
    ready: list[Warm] = field(default_factory=list)
    clearing: list[Future[None]] = field(default_factory=list)
    faults: int = 0

    def fill(self, wanted: int = 0, coming_back: int = 0) -> None:
        """Begin to make as many as are lacking."""
        for _ in range(self.lacks(wanted, coming_back)):
            made = self.hands.submit(make, self.backend, self.spec, self.attest, self.guard)
            made.add_done_callback(lambda _: os.eventfd_write(self.bell, 1))
            self.coming.append(made)

    def lacks(self, wanted: int = 0, coming_back: int = 0) -> int:
        """How many are neither there nor on their way, though as many as `wanted` are asked for at once.

        Those that are in use and may well serve again make up for a spare one, and not for one that is asked for.
        """
        here = len(self.ready) + len(self.coming) + len(self.turning)
        return max(0, wanted - here, self.size - here - coming_back)

    def again(self, running: Running, attested: Attested) -> None:
        """Begin to make a sandbox ready for its next program, in which the last one ended as it should."""
        turned = self.turners.submit(turn, running, attested, self.guard)
        turned.add_done_callback(lambda _: os.eventfd_write(self.bell, 1))
        self.turning.append(turned)

    def gather(self) -> None:
        """Take in what was made; raises what kept it from being made, `Interrupted` at once, faults when they last.

        Raises `Unavailable` as well where a sandbox that was used could not be seen to end.
        """
        try:
            os.eventfd_read(self.bell)
        except BlockingIOError:
            pass
        for cleared in [each for each in self.clearing if each.done()]:
            self.clearing.remove(cleared)
            cleared.result()
        for turned in [each for each in self.turning if each.done()]:
            self.turning.remove(turned)
            self._take_in(turned)
        for made in [each for each in self.coming if each.done()]:
            self.coming.remove(made)
            fault = made.exception()
            if fault is None:
                self.faults = 0
                self.ready.append(made.result())
                continue
            self.faults += 1
            if not isinstance(fault, KeyturnError) or self.faults >= FAULTS_MAX:
                raise fault

    def _take_in(self, turned: Future[Warm | Running]) -> None:
        found = turned.result()
        if isinstance(found, Warm):
            self.ready.append(found)
        else:
            self.clear(found)

    def take(self) -> Warm | None:
        """One that is alive, the oldest first, or None; another one is begun in its place."""
        while self.ready:
            warm = self.ready.pop(0)
            if warm.running is None or warm.running.tick():
                return warm
            self.clear(warm.running)
        return None

    def tick(self) -> None:
        """Renew every lease; what died meanwhile is cleared away, and the next `fill` makes up for it."""
        for warm in [each for each in self.ready if each.running is not None and not each.running.tick()]:
            self.ready.remove(warm)
            if warm.running is not None:
                self.clear(warm.running)

    def clear(self, running: Running) -> None:
        """Kill what is left, have it proven, and give everything back, without anybody waiting for it."""
        running.kill()
        self.clearing.append(self.brooms.submit(_cleared, running))

    def close(self) -> None:
        """Kill and clear every one of them, and wait for whatever is being cleared."""
        for made in self.coming:
            made.cancel()
        for executor in (self.hands, self.turners):
            executor.shutdown(wait=True)
        for turned in self.turning:
            self._take_in(turned)
        self.turning = []
        for made in [each for each in self.coming if not each.cancelled() and each.exception() is None]:
            self.ready.append(made.result())
        for running in [each.running for each in self.ready if each.running is not None]:
            self.clear(running)
        self.coming, self.ready = [], []
        self.brooms.shutdown(wait=True)
        os.close(self.bell)


def _cleared(running: Running) -> None:
    receipt = running.halt("its program was judged")
    running.close()
    if receipt.init_exited_ms is None:
        raise Unavailable(f"{receipt.scope} was not seen to end: {'; '.join(receipt.unknown)}", help="`keyturn doctor`")


def turn(running: Running, attested: Attested, guard: Callable[[], AbstractContextManager[None]]) -> Warm | Running:
    """The sandbox with its next runner ready, under the latch's lock; on any doubt the old one, which is to be killed.

    A halt is a doubt like any other: whoever governs learns of it elsewhere.
    """
    try:
        running.clear()
        with guard():
            fresh = running.again()
    except (KeyturnError, OSError, Interrupted):
        return running
    try:
        greet(fresh)
    except (KeyturnError, OSError):
        return fresh
    return Warm(attested, fresh)


def make(
    backend: Backend,
    spec: Spec,
    attest: Callable[[Parked], Attested],
    guard: Callable[[], AbstractContextManager[None]],
) -> Warm:
    """Park, attest, let go under the latch's lock, and hear that the runner is ready."""
    parked = backend.prepare(spec)
    try:
        attested = attest(parked)
        if attested.problems:
            parked.close()
            return Warm(attested, None)
        with guard():
            running = parked.go()
        greet(running)
    except BaseException:
        parked.close()
        raise
    return Warm(attested, running)


def greet(running: Running) -> None:
    """Say hello and wait for `ready`; what else comes is our own fault, because only our runner is in there."""
    reader = FrameReader(bytes_max_total=4096, frames_max=1)
    running.send(HELLO, READY_SECONDS_MAX)
    while True:
        data = running.receive(READY_SECONDS_MAX)
        frames = reader.feed(data) if data else [{}]
        if frames and frames[0].get("type") != "ready":
            said = running.wait(0.0).diagnostics.decode(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(
                f"the runner of programs did not become ready: {''.join(said)[:300] or 'it ended without a word'}",
                help="see `keyturn doctor`",
            )
        if frames:
            return
