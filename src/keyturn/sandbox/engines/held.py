"""One container in the governor's hands: parked first, then running, then ended and asked about.

The lease is renewed only from `tick` and what calls it; the container's own init holds it, so that it dies with us.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from dataclasses import dataclass, field

from keyturn.core.errors import Unavailable, invariant
from keyturn.core.terms import Json, Tier
from keyturn.sandbox.collect import sort_out
from keyturn.sandbox.command import INIT_SPARE_MS
from keyturn.sandbox.engines.link import ENTRIES_MAX, WINDOW_BYTES, Link
from keyturn.sandbox.engines.port import Container, Engine, Order
from keyturn.sandbox.engines.proof import Watched, ended, prove
from keyturn.sandbox.engines.required import compare
from keyturn.sandbox.port import CLAIM, Attestation, Collected, DecoyOpened, Exit, Finding, Reason, Receipt
from keyturn.sandbox.proof import boottime

ANSWER_SECONDS_MAX = 5.0
HAND_OUT_SECONDS_MAX = 30.0
READ_BYTES = 65536


@dataclass(slots=True)
class Held:
    """What `Parked` and `Running` share. `done` is called once, when all is given back."""

    order: Order
    container: Container
    link: Link
    watched: Watched
    engine: Engine
    done: Callable[[str], None]
    key: bytes = b""
    halted: bool = False
    closed: bool = False
    out_of_memory: bool = False
    receipt: Receipt | None = None
    made_at: float = field(default_factory=boottime)

    def tick(self) -> bool:
        """Renew the lease; False once there is nothing left to wait for."""
        if self.closed or self.halted:
            return False
        self.link.say(b"R")
        return self.link.ended is None and not self.link.silent

    def stop(self, why: str) -> Receipt:
        """Kill it, by the engine and by ending its lease, and prove it; what was proven once stays so."""
        if self.receipt is None or self.receipt.state != "STOPPED":
            scope = f"container {self.order.name} of {self.engine.scope}"
            pairs = [(self.container, self.watched)]
            made = prove(pairs, scope, why, cut=self.cut, seconds=self.engine.proof_seconds)
            self.receipt = self.receipt if self.receipt is not None and made.state != "STOPPED" else made
        return self.receipt

    def cut(self) -> None:
        """End the stream, of which init dies even where the engine is out of reach; what is there is read first."""
        self.link.cut()

    def close(self) -> None:
        """Kill what is left and give everything back; idempotent. What is not proven gone stays with the engine."""
        if self.closed:
            return
        receipt = self.stop("closed")
        self.closed = True
        self.link.close()
        self.link.release()
        self.watched.close()
        if receipt.state == "STOPPED":
            with contextlib.suppress(Unavailable):  # a dead container that stays is found by the next sweep
                self.container.remove()
        self.done(self.order.name)


class HeldParked:
    """A container that waits for the word. See `port.Parked`."""

    def __init__(self, held: Held, tier: Tier, *, weaker: tuple[str, ...], may_go: Callable[[], bool]) -> None:
        self._held, self._tier, self._weaker, self._may_go = held, tier, weaker, may_go
        self.id = held.order.name

    def attest(self) -> Attestation:
        """Compare what was ordered with what the engine says and with what init sees inside."""
        held = self._held
        self.tick()
        said = held.container.effective(held.order)
        seen = held.link.parked or {}
        facts, problems, weaker = compare(held.order, seen, gvisor=held.engine.gvisor, bounds=held.engine.bounds)
        look = held.container.look()
        if look.state != "running" or look.restarts:
            problems = (*problems, f"the container is {look.detail}, restarted {look.restarts} times")
        all_facts: dict[str, Json] = {**facts, "engine": dict(said.facts), "runtime": held.order.spec.runtime.digest}
        return Attestation(self._tier, all_facts, (*said.problems, *problems), (*self._weaker, *weaker))

    def tick(self) -> bool:
        """Renew the lease; False when the container is gone."""
        return self._held.tick()

    def go(self) -> HeldRunning:
        """Let the subject start."""
        if not self._may_go() or not self._held.tick():
            self.close()
            raise Unavailable("the parked container was stopped before it started", help="prepare a new one")
        self._held.link.say(b"G")
        if not self._held.link.say(b"W", b"%d" % WINDOW_BYTES):
            self.close()
            raise Unavailable("the parked container has ended", help="prepare a new one")
        return HeldRunning(self._held)

    def halt(self, why: str) -> Receipt:
        """Stop it now and prove it."""
        self._held.halted = True
        return self._held.stop(why)

    def close(self) -> None:
        """Give everything back."""
        self._held.close()


class HeldRunning:
    """A subject that runs in a container. See `port.Running`."""

    def __init__(self, held: Held) -> None:
        self._held, self._link = held, held.link
        self._started = boottime()
        self._wall = held.order.spec.limits.wall_seconds
        self._ours: frozenset[int] | None = None
        self._received = 0
        self._exit: Exit | None = None
        self.id = held.order.name
        self.stdin_fd, self.stdout_fd, self.wake_fd = self._link.stdin, self._link.stdout, self._link.wake_fd
        self.decoy_fd = self._link.decoy_fd if held.order.spec.decoys else -1

    # -- time, and who lives

    def begin(self, seconds: float) -> None:
        """Let the time of a subject that `waits` count from now."""
        invariant(self._held.order.spec.waits and self._ours is None, "only what waits begins, and once")
        self._wall = min(seconds, self._held.order.spec.limits.wall_seconds)
        self._ours = self._link.ask_living(ANSWER_SECONDS_MAX)
        if not self._link.say(b"B", b"%d" % (self._wall * 1000 + INIT_SPARE_MS)):
            raise Unavailable("the waiting container has ended", help="take another one")
        self._started = boottime()

    def alive(self) -> bool:
        """Whether what lived at `begin` still does, as init sees it."""
        if not self._ours or self._link.ended is not None or self._link.silent or self._held.halted:
            return False
        try:
            return self._ours <= self._link.ask_living(ANSWER_SECONDS_MAX)
        except Unavailable:
            return False

    def beyond(self) -> int:
        """How many processes live in it beside ours."""
        living = self._link.ask_living(ANSWER_SECONDS_MAX)
        return len(living - self._ours) if self._ours is not None else len(living)

    def tick(self) -> bool:
        """Renew the lease and take in what happened."""
        return self._exit is None and self._held.tick()

    def decoys(self) -> tuple[DecoyOpened, ...]:
        """All decoys touched so far, as init saw it."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.eventfd_read(self._link.decoy_fd)
        return tuple(self._link.touched)

    # -- streams

    def _pause(self, until: float, fd: int, event: int) -> bool:
        """Wait for one of our pipes, renewing; False on time-out or when the container has ended with nothing there."""
        poll = select.poll()
        poll.register(fd, event)
        while True:
            alive = self.tick()
            left = min(until - boottime(), self._held.order.spec.lease_seconds / 3)
            if poll.poll(max(0.0, left) * 1000):
                return True
            if (not alive and (self._link.silent or event == select.POLLOUT)) or boottime() >= until:
                return False

    def send(self, data: bytes, timeout: float) -> None:
        """Write all of `data` to the subject."""
        until, view = boottime() + timeout, memoryview(data)
        while view:
            if not self._pause(until, self.stdin_fd, select.POLLOUT):
                raise Unavailable(f"the subject did not read within {timeout} seconds", help="see its diagnostics")
            try:
                view = view[os.write(self.stdin_fd, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Unavailable("the subject has closed its input", help="see its diagnostics") from error

    def receive(self, timeout: float) -> bytes:
        """Read what the subject wrote."""
        if not self._pause(boottime() + timeout, self.stdout_fd, select.POLLIN):
            if not self._held.tick():
                return b""
            raise Unavailable(f"the subject wrote nothing within {timeout} seconds", help="see its diagnostics")
        data = os.read(self.stdout_fd, READ_BYTES)
        self._received += len(data)
        most = self._held.order.spec.limits.output_bytes_max
        if self._received > most:
            help = "raise `output_bytes_max`, or refuse it"
            raise Unavailable(f"the subject wrote more than {most} bytes", help=help)
        return data

    # -- the end

    def wait(self, timeout: float | None = None, on_tick: Callable[[], bool] | None = None) -> Exit:
        """Wait for the end, have it hand out what it left, then kill it and see that it is gone."""
        if self._exit is not None:
            return self._exit
        wall = self._started + self._wall
        until = wall if timeout is None else min(wall, boottime() + timeout)
        poll = select.poll()
        for fd in (self.wake_fd, self.decoy_fd):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        over = False
        while self._held.tick() and not over:
            if on_tick is not None and not on_tick():
                self._held.halted = True
                break
            over = boottime() >= until
            poll.poll(max(0.0, min(self._held.order.spec.lease_seconds / 3, until - boottime())) * 1000)
            self.decoys()
        self._exit = self._finish(over=over)
        return self._exit

    def _finish(self, *, over: bool) -> Exit:
        held, took = self._held, boottime() - self._started
        if self._link.ended is not None and not held.halted:
            self._have_handed_out()
        with contextlib.suppress(Unavailable):
            held.out_of_memory = held.out_of_memory or held.container.look().out_of_memory
        held.stop("the run is over")
        with contextlib.suppress(Unavailable):  # some engines know only once all has ended
            held.out_of_memory = held.out_of_memory or held.container.look().out_of_memory
        return self._seen(took=took, over=over)

    def _have_handed_out(self) -> None:
        """Let init end everything but itself and hand out the rest, within its time and a bound of ours."""
        self._link.say(b"K")
        until = boottime() + HAND_OUT_SECONDS_MAX
        while not self._link.handed_out and not self._link.silent and not self._held.halted and boottime() < until:
            self._link.say(b"R")
            self._link.wait_for(lambda: self._link.handed_out, self._held.order.spec.lease_seconds / 3)

    def _seen(self, *, took: float, over: bool) -> Exit:
        word = self._link.ended if not self._held.halted or self._link.handed_out else None
        code, cpu, left = _word(word)
        return Exit(
            reason=self._reason(over=over),
            code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            cpu_seconds=cpu,
            wall_seconds=round(took, 4),
            left_running=left,
            decoys=self.decoys(),
            diagnostics=self._link.diagnostics,
            memory_bytes_peak=None,
        )

    def _reason(self, *, over: bool) -> Reason:
        """Why it ended, the worst first."""
        if self._held.halted:
            return "halted"
        if self._held.out_of_memory:
            return "memory"
        if self._link.ended is not None:
            return "exited"
        if over or self._link.last_words == "wall":
            return "wall"
        return "lease" if self._link.last_words == "lease" else "lost"

    def collect(self, declared: tuple[tuple[str, int], ...], also: tuple[tuple[str, int], ...] = (CLAIM,)) -> Collected:
        """Take the declared files from what init handed out of `/out` when nothing of the subject lived any more."""
        if not self._held.order.spec.out:
            raise Unavailable("this container has no folder `/out`", help="ask for it with `out=True`")
        receipt = self._held.receipt
        if receipt is None or receipt.state != "STOPPED" or not self._link.handed_out:
            help = "`wait` first; what was stopped from outside hands nothing out"
            raise Unavailable("the container was not seen to end after it had handed out its files", help=help)
        found = {name: data for name, _, data in self._link.entries}

        def copy(name: str, status: os.stat_result, most: int) -> bytes | Finding:
            data = found[name]
            if isinstance(data, bytes) and len(data) == status.st_size and len(data) <= most:
                return data
            return Finding(
                "readable", f"a declared file was not handed out whole{f': {data}' if isinstance(data, str) else ''}"
            )

        listed = [(name, os.stat_result((mode, 0, 0, links, 0, 0, size, 0, 0, 0)))
                  for name, (mode, links, size), _ in self._link.entries]  # fmt: skip  # one row per entry
        return sort_out(listed[:ENTRIES_MAX], copy, declared, also, whole=len(listed) <= ENTRIES_MAX)

    def kill(self) -> None:
        """Have it killed and do not wait."""
        try:
            self._held.container.kill()
        except Unavailable:
            self._held.cut()
        self._held.halted = True

    def spare(self) -> None:
        """A container serves once: this is `kill`."""
        self.kill()

    def clear(self) -> None:
        """A container serves once; always raises `Unavailable`."""
        raise Unavailable("a container serves one program", help="prepare a new one")

    def again(self) -> HeldRunning:
        """A container serves once; always raises `Unavailable`."""
        raise Unavailable("a container serves one program", help="prepare a new one")

    def gone(self) -> bool:
        """Whether the engine says, and this machine does not deny, that nothing of it lives."""
        receipt = self._held.receipt
        proven = receipt is not None and receipt.state == "STOPPED"
        return proven or self._held.closed or not ended(self._held.container, self._held.watched)

    def seen(self) -> Exit:
        """How it ended as far as is seen now."""
        return self._exit or self._seen(took=boottime() - self._started, over=False)

    def halt(self, why: str) -> Receipt:
        """Stop it now, from any thread, and prove it."""
        if self._exit is None:
            self._held.halted = True
        return self._held.stop(why)

    def close(self) -> None:
        """Kill what is left and give everything back."""
        self._held.close()


def _word(word: dict[str, object] | None) -> tuple[int | None, float, int]:
    """Code, processor time and number of those left behind, as init told them."""
    if word is None:
        return None, 0.0, 0
    return int(str(word["code"])), float(str(word["cpu"])), int(str(word["left"]))
