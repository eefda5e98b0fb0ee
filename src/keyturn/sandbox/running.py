"""One sandbox in the governor's hands: parked first, then running, then ended and looked at.

The lease is renewed only from `tick` and what calls it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable

from keyturn.core.errors import Unavailable, invariant
from keyturn.core.terms import Tier
from keyturn.sandbox.attest import Subject, attest
from keyturn.sandbox.cell import READ_BYTES, Cell, can_act, lives
from keyturn.sandbox.collect import collect
from keyturn.sandbox.command import INIT_SPARE_MS
from keyturn.sandbox.freezing.clock import subject_time
from keyturn.sandbox.port import CLAIM, Attestation, Collected, DecoyOpened, Exit, Reason, Receipt
from keyturn.sandbox.reuse.between import clear, may_serve, restart, standing


class BubblewrapParked:
    """A sandbox that waits for the word. See `port.Parked`."""

    def __init__(self, cell: Cell, subject: Subject, tier: Tier, may_go: Callable[[], bool]) -> None:
        self._cell, self._subject, self._tier, self._may_go = cell, subject, tier, may_go
        self.id = cell.id

    def attest(self) -> Attestation:
        """Read from the kernel what is enforced; see `attest.attest`."""
        self._cell.renew()
        return attest(self._subject, self._tier)

    def tick(self) -> bool:
        """Renew the lease; False when the sandbox is gone."""
        return self._cell.tick()

    def go(self) -> BubblewrapRunning:
        """Let the subject start."""
        if self._cell.closed or not self._may_go() or not self._cell.tick():
            self.close()
            raise Unavailable("the parked sandbox was stopped before it started", help="prepare a new one")
        self._cell.idle = self._cell.spec.waits
        try:
            self._cell.ends.lease.send(b"G", socket.MSG_NOSIGNAL)
        except OSError as error:
            self.close()
            raise Unavailable("the parked sandbox has ended", help="prepare a new one") from error
        return BubblewrapRunning(self._cell)

    def halt(self, why: str) -> Receipt:
        """Stop it now and prove it."""
        self._cell.halted = True
        return self._cell.stop(why)

    def close(self) -> None:
        """Give everything back."""
        self._cell.close()


class BubblewrapRunning:
    """A subject that runs. See `port.Running`."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._started = subject_time()
        self._wall = cell.spec.limits.wall_seconds
        self._ours: frozenset[int] | None = None
        self._cpu_before = 0.0
        self._peak_before = 0
        self._pidfd = -1
        self._spared = self._cleared = False
        self._left = 0
        self._received = 0
        self._exit: Exit | None = None
        self._receipt: Receipt | None = None
        self.id = cell.id
        self.stdin_fd, self.stdout_fd, self.decoy_fd = cell.ends.stdin, cell.ends.stdout, cell.decoys.fd
        self._watch = select.epoll()
        self.wake_fd = self._watch.fileno()
        self._listens = cell.ends.stderr >= 0
        for fd in (cell.ends.lease.fileno(), cell.decoys.fd, cell.ends.stderr):
            if fd >= 0:
                self._watch.register(fd, select.EPOLLIN)

    def begin(self, seconds: float) -> None:
        """Let the time of a subject that `waits` count from now."""
        cell = self._cell
        invariant(cell.spec.waits and self._ours is None, "only what waits begins, and once")
        self._wall = min(seconds, cell.spec.limits.wall_seconds)
        self._ours, self._cpu_before = cell.subjects(), cell.leaf.cpu_seconds() or 0.0
        if cell.spec.limits.cpu_seconds_max is not None:
            cell.cpu_until = self._cpu_before + cell.spec.limits.cpu_seconds_max
        if may_serve(cell):
            self._prepare()
        cell.idle = False
        try:
            cell.ends.lease.send(b"B%d" % (self._wall * 1000 + INIT_SPARE_MS), socket.MSG_NOSIGNAL)
        except OSError as error:
            raise Unavailable("the waiting sandbox has ended", help="take another one") from error
        self._started = subject_time()

    def _prepare(self) -> None:
        """Note all that must be known for a sandbox to serve again."""
        cell = self._cell
        if cell.stood is None:
            cell.stood, cell.memory_bytes = standing(cell.init), cell.leaf.memory_bytes()
        if cell.served > 1:
            self._peak_before = cell.leaf.memory_bytes_peak() or 0
        if len(self._ours or ()) != 1:
            raise Unavailable("who waits in the sandbox is not our runner alone", help="take another one")
        try:
            self._pidfd = os.pidfd_open(min(self._ours or ()))
        except OSError as error:
            raise Unavailable("the waiting runner has ended", help="take another one") from error
        if cell.subjects() != self._ours:
            raise Unavailable("the waiting runner has ended", help="take another one")

    def alive(self) -> bool:
        """Whether what lived at `begin` still does."""
        return bool(self._ours) and all(map(lives, self._ours or ()))

    def beyond(self) -> int:
        """How many processes live in it beside ours."""
        if self._ours is None:
            return self._cell.left_running()
        return len(self._cell.subjects() - self._ours)

    def tick(self) -> bool:
        """Renew the lease and take in what happened."""
        alive = self._exit is None and self._cell.tick()
        if self._listens and self._cell.deaf:
            self._listens = False
            if self._cell.ends.stderr >= 0:
                self._watch.unregister(self._cell.ends.stderr)
        return alive

    def decoys(self) -> tuple[DecoyOpened, ...]:
        """All decoys touched so far."""
        return self._cell.decoys.look()

    def _pause(self, until: float, fd: int, event: int) -> bool:
        """Wait for one of our pipes, renewing; False on time-out or when the sandbox has ended with nothing there."""
        poll = select.poll()
        poll.register(fd, event)
        poll.register(self.wake_fd, select.POLLIN)
        while True:
            alive = self.tick()
            left = min(until - subject_time(), self._cell.spec.lease_seconds / 3)
            ready = dict(poll.poll(max(0.0, left if alive else 0.0) * 1000))
            if fd in ready:
                return True
            if not alive or subject_time() >= until:
                return False

    def send(self, data: bytes, timeout: float) -> None:
        """Write all of `data` to the subject."""
        until, view = subject_time() + timeout, memoryview(data)
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
        if not self._pause(subject_time() + timeout, self.stdout_fd, select.POLLIN):
            if not self._cell.tick():
                return b""
            raise Unavailable(f"the subject wrote nothing within {timeout} seconds", help="see its diagnostics")
        data = os.read(self.stdout_fd, READ_BYTES)
        self._received += len(data)
        most = self._cell.spec.limits.output_bytes_max
        if self._received > most:
            raise Unavailable(
                f"the subject wrote more than {most} bytes", help="raise `output_bytes_max`, or refuse it"
            )
        return data

    def wait(self, timeout: float | None = None, on_tick: Callable[[], bool] | None = None) -> Exit:
        """Wait for the end, then kill what is left and see that it is gone."""
        if self._exit is not None:
            return self._exit
        wall = self._started + self._wall
        until = wall if timeout is None else min(wall, subject_time() + timeout)
        over = False
        while self._cell.tick() and not over:
            if on_tick is not None and not on_tick():
                self._cell.halted = True
                break
            over = subject_time() >= until
            self._watch.poll(max(0.0, min(self._cell.spec.lease_seconds / 3, until - subject_time())))
        self._exit = self._finish(over=over)
        return self._exit

    def _finish(self, *, over: bool) -> Exit:
        """Kill what is left, look until it is gone, and say how it ended."""
        cell = self._cell
        took = subject_time() - self._started
        left = cell.left_running() if cell.word is not None and not cell.silent else 0
        self._receipt = cell.stop("the run is over")
        cell.hear()
        return self._seen(left=left, took=took, over=over)

    def _seen(self, *, left: int, took: float, over: bool) -> Exit:
        cell = self._cell
        cell.drain()
        cell.out_of_memory = cell.out_of_memory or cell.leaf.out_of_memory()
        cell.out_of_time = cell.out_of_time or cell.overran()
        code, killed_by, cpu = self._word()
        measured = cell.leaf.cpu_seconds()
        return Exit(
            reason=self._reason(over=over),
            code=code,
            signal=killed_by,
            cpu_seconds=max(0.0, (measured if measured is not None else cpu) - self._cpu_before),
            wall_seconds=round(took, 4),
            left_running=left,
            decoys=cell.decoys.look(),
            diagnostics=cell.diagnostics,
            memory_bytes_peak=self._peak(),
        )

    def _peak(self) -> int | None:
        """The most memory that this program held; the kernel tells it of all that lived here, so it may be unknown."""
        peak = self._cell.leaf.memory_bytes_peak()
        return peak if peak is None or peak > self._peak_before else None

    def _word(self) -> tuple[int | None, int | None, float]:
        """The code, signal and processor time of the main process, as init saw them."""
        word = self._cell.word
        if word is None or self._spared:
            return None, None, 0.0
        code, cpu = word["code"], word["cpu"]
        invariant(isinstance(code, int) and isinstance(cpu, float), "init tells code and processor time")
        number = int(str(code))
        return (number, None, float(str(cpu))) if number >= 0 else (None, -number, float(str(cpu)))

    def _reason(self, *, over: bool) -> Reason:
        """Why it ended, the worst first."""
        cell = self._cell
        if cell.halted:
            return "halted"
        if cell.out_of_memory:
            return "memory"
        if cell.out_of_time:
            return "cpu"
        if cell.word is not None:
            return "exited"
        if over or cell.last_words == "wall":
            return "wall"
        return "lease" if cell.last_words == "lease" else "lost"

    def collect(self, declared: tuple[tuple[str, int], ...], also: tuple[tuple[str, int], ...] = (CLAIM,)) -> Collected:
        """Copy the declared files out of `/out`."""
        if self._cell.closed or not self._cell.empty():
            raise Unavailable("the sandbox was not seen to be empty, so nothing is collected", help="`wait` first")
        if self._cell.ends.out < 0:
            raise Unavailable("this sandbox has no folder `/out`", help="ask for it with `out=True`")
        return collect(self._cell.ends.out, declared, also)

    def kill(self) -> None:
        """Write the kill and do not wait."""
        self._cell.kill()

    def spare(self) -> None:
        """Kill the program and leave the sandbox standing, where it may serve again."""
        if self._pidfd < 0 or not may_serve(self._cell):
            self.kill()
            return
        self._spared = True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def clear(self) -> None:
        """Have the sandbox cleared, and look at it from outside."""
        if not self._spared or self._left or not self.gone():
            raise Unavailable("a program that was not spared is nobody's predecessor", help="prepare a new sandbox")
        clear(self._cell)
        self._cleared = True

    def again(self) -> BubblewrapRunning:
        """Have the next runner started in what was cleared."""
        if not self._cleared:
            raise Unavailable("the sandbox was not cleared", help="`clear` it first")
        self._cleared = False
        restart(self._cell)
        self._leave()
        return BubblewrapRunning(self._cell)

    def gone(self) -> bool:
        """Whether no process of the subject can do anything any more: the kernel lists none that is not exiting."""
        if self._exit is not None or self._cell.closed:
            return True
        living = self._cell.subjects()
        if self._spared and living - (self._ours or frozenset()):
            self._left = max(self._left, len(living - (self._ours or frozenset())))
            self.kill()
        return not any(map(can_act, living))

    def seen(self) -> Exit:
        """How it ended as far as is seen now."""
        if self._exit is not None:
            return self._exit
        self._cell.hear()
        return self._seen(left=self._left, took=subject_time() - self._started, over=False)

    def halt(self, why: str) -> Receipt:
        """Stop it now, from any thread, and prove it."""
        self._cell.halted = True
        if self._receipt is None:
            self._receipt = self._cell.stop(why)
        return self._receipt

    def close(self) -> None:
        """Kill what is left and give everything back."""
        self._cell.close()
        self._leave()

    def _leave(self) -> None:
        """Give back what is this one's own."""
        if not self._watch.closed:
            self._watch.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
