"""What is looked at between two programs that run in one sandbox, one after another.

Init clears up, and its word that it has is worth nothing by itself; what counts is what the kernel says of the sandbox
from outside. Any doubt raises, and it must then be killed.
"""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.sandbox.attest import status_of
from keyturn.sandbox.cell import Cell
from keyturn.sandbox.freezing.clock import subject_time

CLEAR_SECONDS_MAX = 0.4
"""How long init may take to end a program's last traces."""

MEMORY_BYTES_SPARE = 8 << 20
"""How much more memory than when its first program began a sandbox may hold once it is cleared."""

STATUS = (
    "Uid Gid Groups NSpid PPid TracerPid Threads Umask SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb "
    "NoNewPrivs Seccomp Seccomp_filters Cpus_allowed Mems_allowed VmLck"
)
STAT = {"group": 2, "session": 3, "nice": 16, "realtime": 37, "policy": 38}
"""Where these stand in `/proc/PID/stat`, counted behind the name."""

TEXTS = ("limits", "oom_score_adj", "cgroup", "autogroup")


def standing(init: int) -> dict[str, str]:
    """Everything about init that a program might wish to change, as the kernel tells it; it must stay as it is."""
    place = Path(f"/proc/{init}")
    try:
        found = {name: value for name, value in status_of(init).items() if name in STATUS.split()}
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        found |= {name: fields[at] for name, at in STAT.items()}
        found |= {name: (place / name).read_text() for name in TEXTS if (place / name).exists()}
        found["owner"] = str((place / "environ").stat().st_uid)
    except (OSError, LookupError) as error:
        raise Unavailable(f"how init stands cannot be read: {error}", help="a fresh sandbox is made") from error
    return found | {"descriptors": _descriptors(place)}


def _descriptors(place: Path) -> str:
    """What init holds; nothing where this user may not look."""
    try:
        return ", ".join(sorted(f"{link.name} {link.readlink()}" for link in (place / "fd").iterdir()))
    except PermissionError:
        return ""


def may_serve(cell: Cell) -> bool:
    """Whether this sandbox can have a next program at all; without a cgroup nobody could prove that it is empty."""
    more = cell.served < cell.spec.programs_max
    trouble = cell.closed or cell.halted or cell.silent or cell.deaf or cell.out_of_memory or cell.out_of_time
    return more and not trouble and cell.leaf.folder is not None


def clear(cell: Cell) -> None:
    """End whatever is left of a program, and see that nothing is."""
    until = subject_time() + CLEAR_SECONDS_MAX
    cell.cleared = False
    _say(cell, b"K")
    poll = select.poll()
    poll.register(cell.ends.lease.fileno(), select.POLLIN)
    while not cell.cleared:
        if cell.silent or subject_time() > until:
            raise _doubt("init did not clear it")
        poll.poll(max(1.0, (until - subject_time()) * 1000))
        cell.hear()
    cell.drain()
    if not may_serve(cell) or cell.leaf.out_of_memory():
        raise _doubt("its last program brought it into trouble")
    if cell.decoys.look():
        raise _doubt("a decoy was touched")
    if cell.subjects() or cell.keepers - frozenset(cell.processes()):
        raise _doubt("others than init and its monitor live there")
    if cell.stood is None or standing(cell.init) != cell.stood:
        raise _doubt("init is not as it was")
    memory = cell.leaf.memory_bytes()
    if memory is not None and memory > (cell.memory_bytes or 0) + MEMORY_BYTES_SPARE:
        raise _doubt("memory was left behind")


def restart(cell: Cell) -> None:
    """Have init start the next runner, on new pipes; whoever holds the old ones holds nothing."""
    pairs = [os.pipe() for _ in range(3)]
    (stdin_far, stdin), (stdout, stdout_far), (stderr, stderr_far) = pairs
    theirs = [stdin_far, stdout_far, stderr_far]
    for fd in (stdin, stdout, stderr):
        os.set_blocking(fd, False)
    try:
        if not cell.exchange(stdin, stdout, stderr):
            raise _doubt("it was closed")
        _say(cell, b"N", theirs)
    finally:
        for fd in theirs:
            os.close(fd)


def _say(cell: Cell, word: bytes, fds: list[int] | None = None) -> None:
    if cell.held:
        raise _doubt("it is held still")
    try:
        socket.send_fds(cell.ends.lease, [word], fds or [], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError as error:
        raise _doubt(f"init is gone ({error.strerror})") from error


def _doubt(why: str) -> Unavailable:
    return Unavailable(f"the sandbox cannot be used again: {why}", help="a fresh one is made")
