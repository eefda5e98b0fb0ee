# ruff: noqa: PTH123, PTH208 - importing pathlib would slow every probe
"""Processes: those of the host, the one that holds this sandbox, and those that try to outlive it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.suite.probes.attempt import Attempts

PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
DAEMONS = 3
DAEMON_SECONDS_MAX = 8.0
"""A daemon that nobody ends, in a bare run, ends by itself."""


def host_processes(tried: Attempts) -> None:
    """Look for a process of the host by its number and by its command line."""
    number = tried.facts["process"]
    tried.tries("its folder in /proc", os.stat, f"/proc/{number}/cmdline")
    found = False
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            found = found or file.read().split(b"\0")[-2:-1] == [tried.facts["process_name"].encode()]
    tried.saw("its command line", "" if found else "not there")
    tried.tries("its priority", os.getpriority, os.PRIO_PROCESS, number)


def signal_host(tried: Attempts) -> None:
    """Signal a process of the host."""
    number = tried.facts["process"]

    def by_descriptor() -> None:
        fd = os.pidfd_open(number)
        signal.pidfd_send_signal(fd, 0)
        os.close(fd)

    tried.tries("pidfd_open", by_descriptor)
    tried.tries("its group", os.killpg, number, 0)
    tried.tries("kill", os.kill, number, signal.SIGUSR1)


def attach(tried: Attempts, number: int) -> None:
    """Attach to a process without stopping it, and let go."""
    tried.call("ptrace", PTRACE_SEIZE, number, 0, 0)
    with contextlib.suppress(OSError):
        tried.call("ptrace", PTRACE_DETACH, number, 0, 0)


def attach_to_init(tried: Attempts) -> None:
    """Attach to the process that holds this sandbox."""
    tried.tries("ptrace", attach, tried, os.getppid())


def init_memory(tried: Attempts) -> None:
    """Open the memory, the environment and the descriptors of the process that holds this sandbox."""
    place = f"/proc/{os.getppid()}"
    for name, flags in {"mem": os.O_RDWR, "environ": os.O_RDONLY, "maps": os.O_RDONLY, "auxv": os.O_RDONLY}.items():
        tried.tries(name, read_some, f"{place}/{name}", flags)
    for name in ("fd", "map_files"):
        tried.tries(name, os.listdir, f"{place}/{name}")
    for name in ("root", "cwd", "fd/0"):
        tried.tries(name, os.readlink, f"{place}/{name}")


def read_some(path: str, flags: int) -> None:
    """Open a file of `/proc`, and read a little where that is what it is for."""
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        if flags == os.O_RDONLY:
            os.read(fd, 1)
    finally:
        os.close(fd)


def steal_descriptors(tried: Attempts) -> None:
    """Take a descriptor out of the process that holds this sandbox, and read its memory."""
    parent = os.getppid()

    def take() -> None:
        fd = os.pidfd_open(parent)
        os.close(tried.call("pidfd_getfd", fd, 0, 0))

    tried.tries("pidfd_getfd", take)
    word = ctypes.create_string_buffer(8)
    here = struct.pack("QQ", ctypes.addressof(word), 8)
    tried.tries("process_vm_readv", tried.call, "process_vm_readv", parent, here, 1, here, 1, 0)
    for number in range(8):
        tried.tries(f"/proc fd {number}", read_some, f"/proc/{parent}/fd/{number}", os.O_WRONLY)


def detach(seconds: float) -> None:
    """Become a daemon that ignores every signal and outlives its parent's wish; does not return."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    os.setsid()
    if os.fork():
        os._exit(0)
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.05)
    os._exit(0)


def daemons(tried: Attempts) -> None:
    """Leave daemons behind that hold standard output, then end or stay."""
    for _ in range(DAEMONS):
        pid = os.fork()
        if pid == 0:
            detach(DAEMON_SECONDS_MAX)
        os.waitpid(pid, 0)
    tried.report(1)
    if tried.facts["step"] == "stay":
        time.sleep(DAEMON_SECONDS_MAX)


PROBES: dict[str, Callable[[Attempts], None]] = {
    "host-processes": host_processes,
    "signal-host": signal_host,
    "attach-to-init": attach_to_init,
    "init-memory": init_memory,
    "steal-descriptors": steal_descriptors,
    "daemons": daemons,
}
