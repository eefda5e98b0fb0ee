"""One sandbox itself: its lease, its streams, what init says of it, and how it is killed and given back.

Killing takes no part in the lease: it works from any thread, at any moment, whatever the governing thread is doing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.sandbox.cgroups import Leaf
from keyturn.sandbox.decoys import Decoys
from keyturn.sandbox.port import Receipt, Spec
from keyturn.sandbox.proof import Target, boottime, exited, stop

WORD_BYTES_MAX = 4096
PF_EXITING = 0x4
READ_BYTES = 65536
SAID_BYTES_MAX = 1 << 20
"""How much a subject that `waits` may write to stderr before nobody listens any more: many of them share one thread."""


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


def unproven_devices(names: Sequence[str]) -> tuple[str, ...]:
    """What a receipt must say of devices that a sandbox saw: whatever they were told to do, they may go on doing."""
    if not names:
        return ()
    return (f"devices: nothing shows that {', '.join(names)} stopped, until this machine starts anew",)


def can_act(pid: int) -> bool:
    """Whether any thread of a killed process may still run a program's code: none that has begun to exit ever does."""
    try:
        tasks = [task.name for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return Path(f"/proc/{pid}").exists()
    return any(lives(task, pid) for task in tasks)


def process_namespace(place: Path) -> str:
    """The process namespace of a process, given its folder in `/proc`; empty where we may not look or it is gone."""
    try:
        return str((place / "ns" / "pid").readlink())
    except OSError:
        return ""


def lives(task: int | str, pid: int | str = "") -> bool:
    """Whether a process has not begun to exit, which is marked before any of its descriptors is closed.

    With `pid`, `task` is one of the threads of that process.
    """
    try:
        fields = (
            Path(f"/proc/{pid}/task/{task}/stat" if pid else f"/proc/{task}/stat")
            .read_text()
            .rpartition(")")[2]
            .split()
        )
    except OSError:
        return False
    return not int(fields[6]) & PF_EXITING


class Cell:
    """What `Parked` and `Running` share: the sandbox itself. `done` is called once, when all is given back."""

    def __init__(
        self, id: str, spec: Spec, *, leaf: Leaf, ends: Ends, decoys: Decoys, folder: Path, done: Callable[[str], None]
    ) -> None:
        self.id, self.spec, self.leaf, self.ends, self.decoys, self.folder = id, spec, leaf, ends, decoys, folder
        self._done = done
        self._lock = threading.Lock()
        self._voice = threading.Lock()
        self.held = self.ready_to_hold = False
        self.idle = True
        self.born = boottime()
        self.closed = False
        self.halted = False
        self.word: dict[str, object] | None = None
        self.last_words = ""
        self.silent = False
        self.renewed = boottime()
        self.diagnostics = b""
        self.said_bytes = 0
        self.out_of_memory = False
        self.cpu_until = spec.limits.cpu_seconds_max
        self.out_of_time = False
        self.namespace = ""
        self.keepers: frozenset[int] = frozenset()
        self.init = 0
        self.cleared = False
        self.served = 1
        self.stood: dict[str, str] | None = None
        self.memory_bytes: int | None = None

    # -- the lease

    def renew(self) -> None:
        """Say *renew*; a sandbox that is gone cannot hear it, which `hear` then sees, and one held still needs none."""
        with self._voice, contextlib.suppress(OSError):
            if not self.held:
                self.ends.lease.send(b"R", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                self.renewed = boottime()

    def announce(self, milliseconds: int) -> None:
        """Say *freeze*, for so long at the most; `ready_to_hold` once init has answered. Nothing follows but *thaw*."""
        with self._voice, contextlib.suppress(OSError):
            self.held, self.ready_to_hold = True, False
            self.ends.lease.send(b"F%d" % milliseconds, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def go_on(self) -> None:
        """Say *thaw*, which waits for init until it can hear again."""
        with self._voice, contextlib.suppress(OSError):
            if self.held:
                self.ends.lease.send(b"T", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            self.held = False

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
            elif word == b"D":
                self.cleared = True
            elif word == b"H":
                self.ready_to_hold = True
            elif word[:1] == b"X":
                self.last_words = word[1:].decode()
            elif not word:
                self.silent = True

    def drain(self) -> None:
        """Keep the tail of what the subject wrote to stderr."""
        most = self.spec.limits.diagnostics_bytes_max
        for _ in range(64):  # a subject that writes without end must not keep us here
            if self.ends.stderr < 0 or self.deaf:
                return
            try:
                data = os.read(self.ends.stderr, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                os.close(self.ends.stderr)
                self.ends.stderr = -1
                return
            self.said_bytes += len(data)
            self.diagnostics = (self.diagnostics + data)[-most:]

    @property
    def deaf(self) -> bool:
        """Whether this one has said so much that nobody listens any more; its pipe fills up, and it waits."""
        return self.spec.waits and self.said_bytes > SAID_BYTES_MAX

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
        if not self.out_of_time and self.overran():
            self.out_of_time = True
            self.kill()
        trouble = self.silent or self.out_of_memory or self.out_of_time or self.halted
        return self.word is None and not trouble

    def overran(self) -> bool:
        """Whether all processes together have used more processor time than they may, as the kernel counts it."""
        used = self.leaf.cpu_seconds() if self.cpu_until is not None else None
        return used is not None and self.cpu_until is not None and used > self.cpu_until

    def exchange(self, stdin: int, stdout: int, stderr: int) -> bool:
        """Let go of a program's pipes and of what it said, and take the next one's; false once all is given back."""
        with self._lock:
            old = (self.ends.stdin, self.ends.stdout, self.ends.stderr)
            new = (stdin, stdout, stderr)
            for fd in new if self.closed else old:
                if fd >= 0:
                    os.close(fd)
            if self.closed:
                return False
            self.ends.stdin, self.ends.stdout, self.ends.stderr = new
        self.word, self.diagnostics, self.said_bytes, self.idle = None, b"", 0, True
        self.served += 1
        return True

    # -- the end

    def pidfds(self) -> tuple[int, ...]:
        """Process descriptors of init and of the monitor outside."""
        return tuple(fd for fd in (self.ends.init_pidfd, self.ends.monitor_pidfd) if fd >= 0)

    def kill(self) -> bool:
        """Kill everything in it, from any thread; without a cgroup, kill init and let the kernel do the rest."""
        with self._lock:
            if self.closed:
                return True
            written = self.leaf.kill()
            if not written:
                for fd in self.pidfds():
                    with contextlib.suppress(OSError):
                        signal.pidfd_send_signal(fd, signal.SIGKILL)
                        written = True
            return written

    def target(self) -> Target:
        """This sandbox as something to stop, with process descriptors of its own."""
        inits, unseen = self.watch()
        populated = self.leaf.populated if self.leaf.folder is not None else None
        unknown = unseen + unproven_devices(self.spec.devices)
        return Target(f"sandbox {self.id}", self.kill, inits, populated, self.processes, unknown=lambda: unknown)

    def watch(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Process descriptors for whoever stops it, and what cannot be watched for want of any; never raises."""
        mine: list[int] = []
        with self._lock:
            try:
                mine.extend(os.dup(fd) for fd in (() if self.closed else self.pidfds()))
            except OSError as error:  # no descriptor is left: the kill is written all the same
                return tuple(mine), (f"init: its exit could not be watched: {error.strerror}",)
        return tuple(mine), ()

    def processes(self) -> list[int]:
        """Every process in it; without a cgroup, those of its process namespace that the kernel shows us."""
        if self.leaf.folder is not None:
            return self.leaf.processes()
        if not self.namespace:
            return []
        places = [place for place in Path("/proc").iterdir() if place.name.isdigit()]
        return [int(place.name) for place in places if process_namespace(place) == self.namespace]

    def subjects(self) -> frozenset[int]:
        """Every process in it that is neither init nor its monitor; raises `Unavailable` where it cannot be read."""
        if self.leaf.folder is None:
            return frozenset(self.processes()) - self.keepers
        try:
            found = (self.leaf.folder / "cgroup.procs").read_text().split()
        except OSError as error:
            raise Unavailable(f"who lives in a sandbox cannot be read: {error.strerror}", help="try again") from error
        return frozenset(map(int, found)) - self.keepers

    def left_running(self) -> int:
        """How many processes there are beside init and its monitor, who is outside the process namespace."""
        ours = 2 if self.leaf.folder is not None else 1
        return max(0, len(self.processes()) - ours)

    def stop(self, why: str) -> Receipt:
        """Kill and prove."""
        return stop(self.target(), why)

    def empty(self) -> bool:
        """Whether all of it was seen to be gone, as far as this machine can show."""
        return self.closed or (exited(self.pidfds()) and (self.leaf.folder is None or not self.leaf.populated()))

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
        self.ends.close()  # without the lock, for which a halt would wait: nobody touches them once it is closed
        self.decoys.close()
        self.leaf.remove()
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        self._done(self.id)
