"""One sandbox in the governor's hands: its lease, its pipes, its end; parked first, then running.

The lease is renewed only from `tick` and what calls it. Killing takes no part in any of that: it works from any thread,
at any moment, whatever the governing thread is doing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.errors import Unavailable, invariant
from keyturn.core.terms import Tier
from keyturn.sandbox.attest import Subject, attest
from keyturn.sandbox.cgroups import Leaf
from keyturn.sandbox.collect import collect
from keyturn.sandbox.decoys import Decoys
from keyturn.sandbox.port import CLAIM, Attestation, Collected, DecoyOpened, Exit, Reason, Receipt, Spec
from keyturn.sandbox.proof import Target, boottime, exited, stop

WORD_BYTES_MAX = 4096
READ_BYTES = 65536


@dataclass(slots=True)
class Ends:
    """The governor's ends of one sandbox; -1 for what is not there."""

    lease: socket.socket
    stdin: int
    stdout: int
    stderr: int
    setup: int
    monitor_pidfd: int = -1
    init_pidfd: int = -1
    out: int = -1

    def close(self) -> None:
        """Close them all."""
        self.lease.close()
        for fd in (self.stdin, self.stdout, self.stderr, self.setup, self.monitor_pidfd, self.init_pidfd, self.out):
            if fd >= 0:
                os.close(fd)


def process_namespace(place: Path) -> str:
    """The process namespace of a process, given its folder in `/proc`; empty where we may not look or it is gone."""
    try:
        return str((place / "ns" / "pid").readlink())
    except OSError:
        return ""


class Cell:
    """What `Parked` and `Running` share: the sandbox itself. `done` is called once, when all is given back."""

    def __init__(
        self, id: str, spec: Spec, *, leaf: Leaf, ends: Ends, decoys: Decoys, folder: Path, done: Callable[[str], None]
    ) -> None:
        self.id, self.spec, self.leaf, self.ends, self.decoys, self.folder = id, spec, leaf, ends, decoys, folder
        self._done = done
        self._lock = threading.Lock()
        self.closed = False
        self.halted = False
        self.word: dict[str, object] | None = None
        self.last_words = ""
        self.silent = False
        self.renewed = boottime()
        self.diagnostics = b""
        self.out_of_memory = False
        self.namespace = ""

    # -- the lease

    def renew(self) -> None:
        """Say *renew*; a sandbox that is gone cannot hear it, which `hear` then sees."""
        with contextlib.suppress(OSError):
            self.ends.lease.send(b"R", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            self.renewed = boottime()

    def hear(self) -> None:
        """Take in what init says: the main process has ended, or it goes, and why."""
        while not self.silent:
            try:
                word = self.ends.lease.recv(WORD_BYTES_MAX, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                word = b""
            if word[:1] == b"E":
                self.word = json.loads(word[1:])
            elif word[:1] == b"X":
                self.last_words = word[1:].decode()
            elif not word:
                self.silent = True

    def drain(self) -> None:
        """Keep the tail of what the subject wrote to stderr."""
        most = self.spec.limits.diagnostics_bytes_max
        for _ in range(64):  # a subject that writes without end must not keep us here
            if self.ends.stderr < 0:
                return
            try:
                data = os.read(self.ends.stderr, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                os.close(self.ends.stderr)
                self.ends.stderr = -1
                return
            self.diagnostics = (self.diagnostics + data)[-most:]

    def tick(self) -> bool:
        """Renew, listen, drain; False once there is nothing left to wait for."""
        if self.closed:
            return False
        self.renew()
        self.hear()
        self.drain()
        self.decoys.look()
        if not self.out_of_memory and self.leaf.out_of_memory():
            self.out_of_memory = True
        return self.word is None and not self.silent and not self.out_of_memory and not self.halted

    # -- the end

    def _pidfds(self) -> tuple[int, ...]:
        """Process descriptors of init and of the monitor outside."""
        return tuple(fd for fd in (self.ends.init_pidfd, self.ends.monitor_pidfd) if fd >= 0)

    def kill(self) -> bool:
        """Kill everything in it, from any thread; without a cgroup, kill init and let the kernel do the rest."""
        with self._lock:
            if self.closed:
                return True
            written = self.leaf.kill()
            if not written:
                for fd in self._pidfds():
                    with contextlib.suppress(OSError):
                        signal.pidfd_send_signal(fd, signal.SIGKILL)
                        written = True
            return written

    def target(self) -> Target:
        """This sandbox as something to stop, with process descriptors of its own."""
        with self._lock:
            inits = () if self.closed else tuple(os.dup(fd) for fd in self._pidfds())
        populated = self.leaf.populated if self.leaf.folder is not None else None
        return Target(f"sandbox {self.id}", self.kill, inits, populated, self.processes)

    def processes(self) -> list[int]:
        """Every process in it; without a cgroup, those of its process namespace that the kernel shows us."""
        if self.leaf.folder is not None:
            return self.leaf.processes()
        if not self.namespace:
            return []
        places = [place for place in Path("/proc").iterdir() if place.name.isdigit()]
        return [int(place.name) for place in places if process_namespace(place) == self.namespace]

    def left_running(self) -> int:
        """How many processes there are beside init and its monitor, who is outside the process namespace."""
        ours = 2 if self.leaf.folder is not None else 1
        return max(0, len(self.processes()) - ours)

    def stop(self, why: str) -> Receipt:
        """Kill and prove."""
        return stop(self.target(), why)

    def empty(self) -> bool:
        """Whether all of it was seen to be gone, as far as this machine can show."""
        return self.closed or (exited(self._pidfds()) and (self.leaf.folder is None or not self.leaf.populated()))

    def close(self) -> None:
        """Kill what is left and give everything back; idempotent."""
        if self.closed:
            return
        if not self.empty():
            self.stop("closed")
        with self._lock:
            first, self.closed = not self.closed, True
        if not first:
            return
        with self._lock:
            self.ends.close()
            self.decoys.close()
            self.leaf.remove()
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        self._done(self.id)


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
        self._started = boottime()
        self._received = 0
        self._exit: Exit | None = None
        self._receipt: Receipt | None = None
        self.id = cell.id
        self.stdin_fd, self.stdout_fd, self.decoy_fd = cell.ends.stdin, cell.ends.stdout, cell.decoys.fd
        self._watch = select.epoll()
        self.wake_fd = self._watch.fileno()
        for fd in (cell.ends.lease.fileno(), cell.decoys.fd, cell.ends.stderr):
            if fd >= 0:
                self._watch.register(fd, select.EPOLLIN)

    def tick(self) -> bool:
        """Renew the lease and take in what happened."""
        return self._exit is None and self._cell.tick()

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
            left = min(until - boottime(), self._cell.spec.lease_seconds / 3)
            ready = dict(poll.poll(max(0.0, left if alive else 0.0) * 1000))
            if fd in ready:
                return True
            if not alive or boottime() >= until:
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
        wall = self._started + self._cell.spec.limits.wall_seconds
        until = wall if timeout is None else min(wall, boottime() + timeout)
        over = False
        while self._cell.tick() and not over:
            if on_tick is not None and not on_tick():
                self._cell.halted = True
                break
            over = boottime() >= until
            self._watch.poll(max(0.0, min(self._cell.spec.lease_seconds / 3, until - boottime())))
        self._exit = self._finish(over=over)
        return self._exit

    def _finish(self, *, over: bool) -> Exit:
        """Kill what is left, look until it is gone, and say how it ended."""
        cell = self._cell
        took = boottime() - self._started
        left = cell.left_running() if cell.word is not None and not cell.silent else 0
        self._receipt = cell.stop("the run is over")
        cell.hear()
        cell.drain()
        cell.out_of_memory = cell.out_of_memory or cell.leaf.out_of_memory()
        code, killed_by, cpu = self._word()
        measured = cell.leaf.cpu_seconds()
        return Exit(
            reason=self._reason(over=over),
            code=code,
            signal=killed_by,
            cpu_seconds=measured if measured is not None else cpu,
            wall_seconds=round(took, 4),
            left_running=left,
            decoys=cell.decoys.look(),
            diagnostics=cell.diagnostics,
            memory_bytes_peak=cell.leaf.memory_bytes_peak(),
        )

    def _word(self) -> tuple[int | None, int | None, float]:
        """The code, signal and processor time of the main process, as init saw them."""
        word = self._cell.word
        if word is None:
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

    def freeze(self) -> None:
        """Hold the subject still."""
        self._cell.leaf.freeze(still=True)

    def thaw(self) -> None:
        """Let it run on."""
        self._cell.leaf.freeze(still=False)

    def halt(self, why: str) -> Receipt:
        """Stop it now, from any thread, and prove it."""
        self._cell.halted = True
        if self._receipt is None:
            self._receipt = self._cell.stop(why)
        return self._receipt

    def close(self) -> None:
        """Kill what is left and give everything back."""
        self._cell.close()
        if not self._watch.closed:
            self._watch.close()
