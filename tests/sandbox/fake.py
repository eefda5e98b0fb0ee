"""A sandbox that contains nothing: the port's promises kept by threads, for tests of what lies above the port.

A subject is a function of a `Room`; which one runs is named by the spec's `argv[1]`. Tier T0, and it says so.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from keyturn.core.errors import Conflict, Unavailable
from keyturn.core.terms import Digest, Instant, Tier
from keyturn.sandbox.freezing.clock import CLOCK, subject_time
from keyturn.sandbox.freezing.held import Held, Look
from keyturn.sandbox.port import (
    CLAIM,
    Attestation,
    Capabilities,
    Collected,
    DecoyOpened,
    Exit,
    Finding,
    How,
    Reason,
    Receipt,
    Runtime,
    Spec,
)


@dataclass
class Room:
    """What a fake subject finds: its pipes, its `/out`, its decoys; `stopped` is set when it was killed."""

    spec: Spec
    stdin: int = -1
    stdout: int = -1
    out: dict[str, bytes] = field(default_factory=dict)
    diagnostics: bytes = b""
    left_running: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    touched: dict[DecoyOpened, None] = field(default_factory=dict)
    decoy_fd: int = -1

    def touch(self, name: str, how: How) -> None:
        """Touch a decoy."""
        self.touched.setdefault(DecoyOpened(name, how))
        os.eventfd_write(self.decoy_fd, 1)


FakeSubject = Callable[[Room], int]


class FakeRunning:
    """See `port.Running`; and, before `go`, `port.Parked`."""

    def __init__(self, backend: FakeBackend, id: str, spec: Spec, subject: FakeSubject) -> None:
        self._backend, self.id, self._spec, self._subject = backend, id, spec, subject
        self.purpose = spec.purpose
        self._room = Room(spec, decoy_fd=os.eventfd(0, os.EFD_NONBLOCK))
        self.stdin_fd = self.stdout_fd = -1
        if spec.purpose == "answer":
            self._room.stdin, self.stdin_fd = os.pipe()
            self.stdout_fd, self._room.stdout = os.pipe()
            os.set_blocking(self.stdin_fd, False)
            os.set_blocking(self.stdout_fd, False)
        self.decoy_fd = self._room.decoy_fd if spec.decoys else -1
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self._wall = spec.limits.wall_seconds
        self._renewed = self._started = subject_time()
        self._code: int | None = None
        self._why: Reason | None = None
        self._thread: threading.Thread | None = None
        self._exit: Exit | None = None
        self._receipt: Receipt | None = None
        self._received = 0
        self._closed = False
        self._began = False

    def begin(self, seconds: float) -> None:
        if not self.tick():
            raise Unavailable("the waiting sandbox has ended", help="take another one")
        self._wall = min(seconds, self._spec.limits.wall_seconds)
        self._began, self._started = True, subject_time()

    def alive(self) -> bool:
        return self._began and self._why is None and self._code is None

    def beyond(self) -> int:
        return self._room.left_running if self._why is None and self._exit is None else 0

    def kill(self) -> None:
        self._stop("lost")

    def spare(self) -> None:
        self._stop("lost")

    def clear(self) -> None:
        raise Unavailable("a fake sandbox serves once", help="prepare a new one")

    def again(self) -> FakeRunning:
        raise Unavailable("a fake sandbox serves once", help="prepare a new one")

    def gone(self) -> bool:
        return self._room.stopped.is_set()

    def seen(self) -> Exit:
        return self._exit or Exit(self._why or "exited", self._code, None, 0.0, 0.0, 0, self.decoys(), b"")

    def attest(self) -> Attestation:
        facts = {"backend": "fake", "argv": [*self._spec.argv], "environment": [*sorted(self._spec.environment)]}
        return Attestation(
            Tier.T0, facts, ("nothing is enforced",) if self._why else (), ("fake: it contains nothing",)
        )

    def go(self) -> FakeRunning:
        if not self.tick():
            raise Unavailable("the parked sandbox was stopped before it started", help="prepare a new one")
        self._started = subject_time()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            code = self._subject(self._room)
        except OSError:  # its pipe was closed under it
            code = 1
        if self._why is None:
            self._code = code
        for fd in (self._room.stdin, self._room.stdout):
            if fd >= 0:
                os.close(fd)
        os.eventfd_write(self.wake_fd, 1)

    def _stop(self, why: Reason) -> None:
        if self._why is None and self._code is None:
            self._why = why
        self._room.stopped.set()

    def tick(self) -> bool:
        now = subject_time()
        if now - self._renewed > self._spec.lease_seconds:
            self._stop("lease")
        counts = self._began or not self._spec.waits
        if self._thread is not None and counts and now - self._started > self._wall:
            self._stop("wall")
        self._renewed = now
        return self._why is None and self._code is None and not self._closed

    def decoys(self) -> tuple[DecoyOpened, ...]:
        return tuple(self._room.touched)

    def _pause(self, fd: int, timeout: float, *, write: bool) -> bool:
        until = subject_time() + timeout
        while True:
            alive = self.tick()
            step = min(self._spec.lease_seconds / 3, max(0.0, until - subject_time())) if alive else 0
            got = select.select([] if write else [fd, self.wake_fd], [fd] if write else [], [], step)
            if fd in got[0] or fd in got[1]:
                return True
            if not alive or subject_time() >= until:
                return False

    def send(self, data: bytes, timeout: float) -> None:
        view = memoryview(data)
        while view:
            if not self._pause(self.stdin_fd, timeout, write=True):
                raise Unavailable(f"the subject did not read within {timeout} seconds")
            try:
                view = view[os.write(self.stdin_fd, view) :]
            except OSError as error:
                raise Unavailable("the subject has closed its input") from error

    def receive(self, timeout: float) -> bytes:
        if not self._pause(self.stdout_fd, timeout, write=False):
            if not self.tick():
                return b""
            raise Unavailable(f"the subject wrote nothing within {timeout} seconds")
        data = os.read(self.stdout_fd, 65536)
        self._received += len(data)
        if self._received > self._spec.limits.output_bytes_max:
            raise Unavailable(f"the subject wrote more than {self._spec.limits.output_bytes_max} bytes")
        return data

    def wait(self, timeout: float | None = None, on_tick: Callable[[], bool] | None = None) -> Exit:
        if self._exit is not None:
            return self._exit
        until = subject_time() + timeout if timeout is not None else float("inf")
        while self.tick():
            if on_tick is not None and not on_tick():
                self._stop("halted")
            if subject_time() >= until:
                self._stop("wall")
            select.select([self.wake_fd], [], [], min(self._spec.lease_seconds / 3, 0.05))
        self._room.stopped.set()
        took = subject_time() - self._started
        self._exit = Exit(
            reason=self._why or "exited",
            code=self._code,
            signal=None,
            cpu_seconds=0.0,
            wall_seconds=took,
            left_running=self._room.left_running if self._why is None else 0,
            decoys=self.decoys(),
            diagnostics=self._room.diagnostics[-self._spec.limits.diagnostics_bytes_max :],
        )
        return self._exit

    def collect(self, declared: tuple[tuple[str, int], ...], also: tuple[tuple[str, int], ...] = (CLAIM,)) -> Collected:
        if self._exit is None and self._receipt is None:
            raise Unavailable("the sandbox was not seen to be empty, so nothing is collected", help="`wait` first")
        if not self._spec.out:
            raise Unavailable("this sandbox has no folder `/out`", help="ask for it with `out=True`")
        allowed, files, findings = dict((*also, *declared)), {}, []
        for name, data in self._room.out.items():
            if name not in allowed:
                findings.append(Finding("only_declared_files", f"`{name}` was not declared"))
            elif len(data) > allowed[name]:
                findings.append(
                    Finding("within_its_size", f"`{name}` has {len(data)} bytes; at most {allowed[name]} are taken")
                )
            else:
                files[name] = data
        absent = [name for name, _ in declared if name not in self._room.out]
        findings += [Finding("every_declared_file", f"`{name}` was declared and is not there") for name in absent]
        return Collected(files, tuple(findings))

    def halt(self, why: str) -> Receipt:
        if self._receipt is None:
            self._stop("halted")
            self._receipt = receipt(f"sandbox {self.id}", why, 1)
        return self._receipt

    def close(self) -> None:
        if self._closed:
            return
        self._stop("halted")
        if self._thread is not None:
            for fd in (self.stdin_fd, self.stdout_fd):
                with contextlib.suppress(OSError):
                    os.close(fd)
            self._thread.join(5)
        for fd in (self.wake_fd, self._room.decoy_fd):
            os.close(fd)
        self._closed = True
        self._backend.live.pop(self.id, None)


def receipt(scope: str, why: str, before: int) -> Receipt:
    """A receipt for what stops at once."""
    return Receipt(scope, why, Instant(time.time_ns() // 1_000_000), 0.0, 0.0, 0.0, before, 0, "STOPPED")


class FakeBackend:
    """See `port.Backend`. `subjects` says what each name in `argv[1]` does."""

    def __init__(self, subjects: Mapping[str, FakeSubject]) -> None:
        self._subjects = subjects
        self.live: dict[str, FakeRunning] = {}
        self._count = 0
        self.held_until = 0.0

    def freeze(self, seconds: float) -> Held:
        if self.held_until:
            raise Conflict("everything is held still already")
        self.held_until = time.monotonic() + seconds
        CLOCK.stop()
        live = len(self.live)
        return Held(f"{live} sandboxes of this governor", Instant(time.time_ns() // 1_000_000), 0.0, live, live, "HELD")

    def thaw(self) -> None:
        if not self.held_until or time.monotonic() > self.held_until:
            raise Conflict("nothing is held still, or no longer")
        self._open()

    def look(self) -> tuple[Look, ...]:
        still = bool(self.held_until)
        return tuple(Look(one.id, one.purpose, False, still, 1, None, None, 0.0) for one in self.live.values())

    def _open(self) -> None:
        self.held_until = 0.0
        CLOCK.go_on()

    def runtime(self, name: str = "python-numpy") -> Runtime:
        return Runtime(name, "/runtime/bin/python3", (), (), Digest("sha256:" + "0" * 64))

    def capabilities(self) -> Capabilities:
        return Capabilities(Tier.T0, {"backend": "fake"}, ("fake: it contains nothing",))

    def profile(self) -> Mapping[str, str]:
        return {"backend": "fake"}

    def prepare(self, spec: Spec) -> FakeRunning:
        if spec.argv[1] not in self._subjects:
            raise Unavailable(f"there is no fake subject `{spec.argv[1]}`")
        self._count += 1
        made = FakeRunning(self, f"{spec.purpose}-{self._count}", spec, self._subjects[spec.argv[1]])
        self.live[made.id] = made
        return made

    def may_kill(self) -> str:
        return ""

    def halt_all(self, why: str, also: Callable[[], None] = lambda: None) -> Receipt:
        also()
        live = list(self.live.values())
        for one in live:
            one.halt(why)
        self._open()
        return receipt(f"{len(live)} sandboxes of this governor", why, len(live))

    def sweep(self, also: Callable[[], None] = lambda: None) -> Receipt:
        also()
        self._open()
        return receipt("what an earlier governor left in our own cgroup", "start", 0)

    def close(self) -> None:
        for one in list(self.live.values()):
            one.close()
        self._open()
