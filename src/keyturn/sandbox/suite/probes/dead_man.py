# ruff: noqa: PTH208, PTH115 - importing pathlib would slow every probe
"""The dead man's switch: everything that might keep a sandbox alive when its governor is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.suite.probes.attempt import Attempts

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
NO_FILES = 7
FDS_MAX = 16
SECONDS_MAX = 8.0
"""A bare run, which nothing else ends, ends by itself."""


def stop_by_trace(tried: Attempts, number: int) -> None:
    """Attach to the process that holds the lease and keep it stopped."""
    tried.call("ptrace", PTRACE_SEIZE, number, 0, 0)
    tried.call("ptrace", PTRACE_INTERRUPT, number, 0, 0)


def take(tried: Attempts, parent: int) -> None:
    """Take every descriptor of the process that holds the lease, so that its end is not seen when that dies."""
    whole = os.pidfd_open(parent)
    taken = 0
    for number in range(FDS_MAX):
        with contextlib.suppress(OSError):
            tried.call("pidfd_getfd", whole, number, 0)
            taken += 1
    if not taken:
        tried.call("pidfd_getfd", whole, 0, 0)


def overwrite(path: str) -> None:
    """Open its memory for writing, where the code lies that would end it; nothing is written."""
    os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))


def inherited_socket() -> None:
    """Whether a socket that the governor made came along."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                return
    raise OSError("none came along")


def send(number: int, sign: int) -> None:
    """Send a signal; the kernel takes it for process 1 of a sandbox too, and drops it there unless it is awaited."""
    os.kill(number, sign)
    if number == 1:
        raise OSError("taken, and dropped for process 1")


def burn(count: int) -> None:
    """Let as many processes as there may be compete with it for the processors, deaf to every signal."""
    with contextlib.suppress(OSError):
        for _ in range(count):
            if os.fork() == 0:
                os.setsid()
                for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                    signal.signal(number, signal.SIG_IGN)
                until = time.monotonic() + SECONDS_MAX
                while time.monotonic() < until:
                    pass
                os._exit(0)


def disarm(tried: Attempts) -> None:
    """Attack the process that holds the lease in every way, say so, and stay."""
    parent = os.getppid()
    tried.tries("its memory", overwrite, f"/proc/{parent}/mem")
    tried.tries("its descriptors", take, tried, parent)
    tried.tries("its open files", os.listdir, f"/proc/{parent}/fd")
    tried.tries("a socket of the lease", inherited_socket)
    tried.tries("no files for it", tried.call, "prlimit64", parent, NO_FILES, struct.pack("QQ", 0, 0), None)
    tried.tries("its idle class", os.sched_setscheduler, parent, os.SCHED_IDLE, os.sched_param(0))
    tried.tries("its priority", os.setpriority, os.PRIO_PROCESS, parent, 19)
    tried.tries("its processors", os.sched_setaffinity, parent, {min(os.sched_getaffinity(0))})
    tried.tries("interrupting it", send, parent, signal.SIGURG)
    tried.tries("its trace", stop_by_trace, tried, parent)
    tried.tries("stopping it", send, parent, signal.SIGSTOP)
    burn(tried.facts["burners"])
    tried.report(1)
    time.sleep(SECONDS_MAX)


PROBES: dict[str, Callable[[Attempts], None]] = {"disarm": disarm}
