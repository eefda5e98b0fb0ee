"""Who lives where, read from the kernel by other code than ours: what we say of a stop is checked against it.

A process is known by its id and the moment it started, so that a reused id is nobody we knew.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

Identity = tuple[int, str]
EXITING = 0x4
UNIFIED = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]


def _fields(path: str) -> list[str]:
    """What stands behind the name in a `stat` file; nothing where the process is gone."""
    try:
        with open(path) as file:  # noqa: PTH123 - read thousands of times
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def identity(pid: int) -> Identity | None:
    """Who has this process id now."""
    fields = _fields(f"/proc/{pid}/stat")
    return (pid, fields[19]) if fields else None


def lives(one: Identity) -> bool:
    """Whether any thread of this very process may still run its program."""
    pid, started = one
    fields = _fields(f"/proc/{pid}/stat")
    if not fields or fields[19] != started:
        return False
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - read thousands of times
    except OSError:
        return False
    told = [_fields(f"/proc/{pid}/task/{thread}/stat") for thread in threads]
    return any(each and each[0] not in "ZX" and not int(each[6]) & EXITING for each in told)


def cgroups_of(run_root: Path) -> list[Path]:
    """Where the cgroups of the governor that works in `run_root` may lie, in every hierarchy, there or not."""
    tag = hashlib.sha256(os.fsencode(run_root.resolve())).hexdigest()[:12]
    own = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip().lstrip("/")
    delegated = [place for top in UNIFIED for place in (top / own, (top / own).parent)]
    tops = [place for place in (*UNIFIED, *delegated, *Path("/sys/fs/cgroup").glob("*/")) if place.is_dir()]
    return [top / f"keyturn-{tag}" for top in dict.fromkeys(tops)]


def unified(run_root: Path) -> Path:
    """The one among them that is killed and counted; before it is made, any of them."""
    places = cgroups_of(run_root)
    return next((place for place in places if (place / "cgroup.kill").exists()), places[0])


def members(place: Path) -> set[Identity]:
    """Everyone in a cgroup and below who may still act."""
    found: set[Identity] = set()
    for folder, _, _ in os.walk(place):
        try:
            with open(f"{folder}/cgroup.procs") as file:  # noqa: PTH123 - read thousands of times
                pids = [int(word) for word in file.read().split()]
        except OSError:
            continue
        found |= {who for pid in pids if (who := identity(pid)) is not None and lives(who)}
    return found


def populated(place: Path) -> bool:
    """Whether the kernel says that anybody is in it; what is not there is empty."""
    try:
        return "populated 1" in (place / "cgroup.events").read_text()
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The processes that this one started, and that still are its own."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def within(seconds: float, true: Callable[[], bool], pause: float = 0.0005) -> bool:
    """Whether something comes true in time."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
    return True
