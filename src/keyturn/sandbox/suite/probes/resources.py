# ruff: noqa: PTH118, PTH108 - importing pathlib would slow every probe
"""Resources: more processes, memory, room or priority than was given; everything that is asked for is small."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.suite.probes.attempt import Attempts

PAGE = 4096
BLOCK = bytes(1 << 18)
FILE_BYTES = 1 << 19
"""Less than the most that a single file may hold."""

BURN_SECONDS, BURN_SPARE = 1.0, 1.4
"""For how long to burn processors, and how much more than its share counts as having got through."""


def fork_bomb(tried: Attempts) -> None:
    """Make more processes, and more threads, than may live."""
    reader, writer = os.pipe()
    wanted: int = tried.facts["processes"]
    made: list[int] = []

    def fork() -> None:
        while len(made) < wanted:
            pid = os.fork()
            if pid == 0:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
            made.append(pid)

    tried.tries(f"{wanted} processes", fork)
    os.close(writer)
    for pid in made:
        os.waitpid(pid, 0)
    tried.tries(f"{wanted} threads", start_threads, wanted)


def start_threads(wanted: int) -> None:
    """Let so many threads wait at the same time."""
    over, made = threading.Event(), []
    try:
        for _ in range(wanted):
            made.append(threading.Thread(target=over.wait, daemon=True))
            made[-1].start()
    except RuntimeError as error:  # this is how the standard library tells of EAGAIN
        raise OSError(f"no more than {len(made) - 1}") from error
    finally:
        over.set()
        for thread in made:
            if thread.ident is not None:
                thread.join()


def hog(size: int) -> None:
    """Hold so much memory, every page of it."""
    held = bytearray(size)
    for at in range(0, size, PAGE):
        held[at] = 1


def memory(tried: Attempts) -> None:
    """Hold more memory than was given: in one process, then in several that each hold little."""
    size = tried.facts["memory"]
    tried.report(2)
    tried.tries("one process", hog, size)
    tried.report(2)
    tried.tries("several processes", several, size, 4)


def several(size: int, count: int) -> None:
    """Let so many children hold their share at the same time."""
    ready, go = os.pipe(), os.pipe()
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(MemoryError):
                held = bytearray(size // count)
                for at in range(0, len(held), PAGE):
                    held[at] = 1
                os.write(ready[1], b"!")
            os.close(ready[1])
            os.close(go[1])
            os.read(go[0], 1)
            os._exit(0)
        pids.append(pid)
    os.close(ready[1])
    got = b""
    while data := os.read(ready[0], 16):
        got += data
    os.close(go[1])
    for pid in pids:
        os.waitpid(pid, 0)
    if len(got) != count:
        raise MemoryError


def write_much(path: str, size: int, file_size: int) -> None:
    """Write so many bytes, in files of such a size, and remove them."""
    made: list[int] = []
    try:
        while len(made) * file_size < size:
            number = len(made)
            fd = os.open(f"{path}-{number}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            made.append(fd)
            left = file_size
            while left > 0:
                left -= os.write(fd, BLOCK[:left])
    finally:
        for number, fd in enumerate(made):
            os.close(fd)
            os.unlink(f"{path}-{number}")


def write_memory_file(tried: Attempts, size: int) -> None:
    """Write so many bytes into a file that has no place."""
    fd = tried.call("memfd_create", b"probe", 0)
    try:
        while size > 0:
            size -= os.write(fd, BLOCK)
    finally:
        os.close(fd)


def fill(tried: Attempts) -> None:
    """Fill every place that can be written to, past its size, and make one file past the size of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    tried.report(2)
    for place, size in tried.facts["places"].items():
        tried.tries(place, write_much, os.path.join(place, tried.facts["marker"] + "-fill"), size, FILE_BYTES)
    scratch = os.path.join(tried.facts["scratch"], tried.facts["marker"] + "-file")
    tried.tries("one file", write_much, scratch, tried.facts["file"], tried.facts["file"])
    tried.tries("a memory file", write_memory_file, tried, tried.facts["memory"])


def raise_priority(tried: Attempts) -> None:
    """Come before others on the processors and disks, and lift one's own limits."""
    tried.tries("nice", os.setpriority, os.PRIO_PROCESS, 0, -5)
    tried.tries("real time", os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))
    tried.tries("disk", tried.call, "ioprio_set", 1, 0, 1 << 13 | 4)
    tried.tries("its own limits", lift)


def lift() -> None:
    """Lower a hard limit and raise it again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = min(soft, hard - 1) if hard > 0 else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, low))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    except ValueError as error:  # this is how the standard library tells of EPERM
        raise OSError("EPERM") from error


def burn(tried: Attempts) -> None:
    """Burn more of the processors than was given, in several processes."""
    tried.tries("more processors", burn_for, float(tried.facts["cpus"]))


def burn_for(cpus: float) -> None:
    """Let four children burn for a while; how much of the processors they had."""
    before, until = os.times(), time.monotonic() + BURN_SECONDS
    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            while time.monotonic() < until:
                pass
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    share = used / (after.elapsed - before.elapsed)
    if share < cpus * BURN_SPARE:
        raise OSError(f"held to {share:.1f} processors")


PROBES: dict[str, Callable[[Attempts], None]] = {
    "fork-bomb": fork_bomb,
    "memory": memory,
    "fill": fill,
    "raise-priority": raise_priority,
    "burn": burn,
}
