# ruff: noqa: PTH118, PTH123 - importing pathlib would slow every probe
"""Quiet channels: by locks and notices on a shared read-only file, by what the host shows of itself, by time."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.suite.probes.attempt import Attempts

READ_LOCK, WRITE_LOCK, NO_LOCK = 0, 1, 2
LOCK = struct.Struct("hhqqi4x")
OPEN_FILE_LOCK, OPEN_FILE_LOOK, LEASE, NOTIFY = 37, 36, 1024, 1026
ALL_EVENTS, NONBLOCK = 0xFFF, 0o4000
EXECUTE_EMPTY_PATH = 0x1000
NO_WAIT = 8
FINE_SECONDS = 0.001
PATH_END = 12
HOST = ("/proc/loadavg", "/proc/stat", "/proc/meminfo", "/proc/uptime", "/proc/vmstat")


def seen_lock(fd: int) -> None:
    """Try for a lock that another holds: that it is refused for this reason is the message."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise


def looked_up(fd: int, command: int) -> None:
    """Ask who holds a lock on a file that the host has locked."""
    answer = fcntl.fcntl(fd, command, LOCK.pack(WRITE_LOCK, 0, 0, 0, 0))
    if LOCK.unpack(answer)[0] == NO_LOCK:
        raise OSError("no lock seen")


def watched(tried: Attempts, folder: str) -> None:
    """Ask for notices of what others do with the shared files."""
    fd = tried.call("inotify_init1", NONBLOCK)
    try:
        tried.call("inotify_add_watch", fd, folder.encode(), ALL_EVENTS)
    finally:
        os.close(fd)


def file_locks(tried: Attempts) -> None:
    """Lock, lease and watch shared read-only files, and look for the locks that the host holds on others."""
    folder = tried.facts["shared"]
    free, held, owned, still = (
        os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC) for name in ("free", "held", "owned", "still")
    )
    tried.tries("flock", fcntl.flock, free, fcntl.LOCK_SH | fcntl.LOCK_NB)
    tried.tries("the host's flock", seen_lock, held)
    whole = LOCK.pack(READ_LOCK, 0, 0, 0, 0)
    tried.tries("fcntl lock", fcntl.fcntl, free, fcntl.F_SETLK, whole)
    tried.tries("open file lock", fcntl.fcntl, free, OPEN_FILE_LOCK, whole)
    tried.tries("the host's fcntl lock", looked_up, owned, fcntl.F_GETLK)
    tried.tries("the host's fcntl lock, by open file", looked_up, owned, OPEN_FILE_LOOK)
    tried.tries("lease", fcntl.fcntl, free, LEASE, READ_LOCK)
    tried.tries("dnotify", notice, folder)
    tried.tries("inotify", watched, tried, folder)
    os.read(still, 1)  # whether that moved its time of last access is looked at from outside
    for fd in (free, held, owned, still):
        os.close(fd)


def notice(folder: str) -> None:
    """Ask for a signal when something happens in the shared folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.fcntl(fd, NOTIFY, 1)
    finally:
        os.close(fd)


def host_telemetry(tried: Attempts) -> None:
    """Read what the kernel tells everybody about the whole machine."""
    for path in HOST:
        tried.tries(path, lambda path: open(path, "rb").close(), path)


def memory_programs(tried: Attempts) -> None:
    """Run a program that was never a file of the runtime."""

    def run() -> None:
        fd = tried.call("memfd_create", b"probe", 0)
        with open("/proc/self/exe", "rb") as file:
            while data := file.read(1 << 18):
                os.write(fd, data)
        words = (ctypes.c_char_p * 3)(b"python", b"-V", None)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        tried.call("execveat", fd, b"", words, None, EXECUTE_EMPTY_PATH)

    tried.tries_apart("memfd_create and execveat", run)


def page_cache(tried: Attempts) -> None:
    """Ask which parts of a shared file lie in memory, which whoever reads them changes for all."""
    fd = os.open(os.path.join(tried.facts["shared"], "free"), os.O_RDONLY | os.O_CLOEXEC)
    room = ctypes.create_string_buffer(16)
    vector = struct.pack("QQ", ctypes.addressof(room), 1)
    tried.tries("a read that never waits", tried.call, "preadv2", fd, vector, 1, 0, 0, NO_WAIT)
    tried.tries("dropping it for all", os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def processor_time(tried: Attempts) -> None:
    """Measure how long a piece of work takes, which tells how busy the others are."""
    least, before = 1.0, time.perf_counter()
    for _ in range(1000):
        now = time.perf_counter()
        least, before = min(least, max(now - before, 1e-9)), now
    tried.saw("a fine clock", "" if least < FINE_SECONDS else "too coarse")


def host_paths(tried: Attempts) -> None:
    """Learn the path at which something lies that the host shows."""
    folder = tried.facts["folder"]

    def listed() -> None:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            if not any(line.split(" ")[3].endswith(folder[-PATH_END:] + "/shared") for line in file):
                raise OSError("not shown")

    tried.tries("in the list of mounts", listed)
    tried.tries("by looking there", os.stat, folder)


PROBES: dict[str, Callable[[Attempts], None]] = {
    "file-locks": file_locks,
    "host-telemetry": host_telemetry,
    "memory-programs": memory_programs,
    "page-cache": page_cache,
    "processor-time": processor_time,
    "host-paths": host_paths,
}
