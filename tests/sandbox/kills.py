"""Killing a governor at some moment, and seeing who of its own outlives it; the tests and the bench share this."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from keyturn.sandbox.bubblewrap import Bubblewrap
from tests.sandbox import census

DEATH_SECONDS_MAX = 10.0


@dataclass(frozen=True)
class Death:
    """What one kill did: how many lived then, who of them and of those that came still does, and how long it took."""

    lived: int
    survivors: tuple[census.Identity, ...]
    milliseconds: float


@contextmanager
def held(pids: list[int]) -> Iterator[list[int]]:
    """Descriptors of those that are still there."""
    found = []
    for pid in pids:
        try:
            found.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    try:
        yield found
    finally:
        for fd in found:
            os.close(fd)


def kill(governor: int, run_root: Path, *, launcher: bool) -> Death:
    """Kill this governor now, its launcher with it if asked, and watch until nothing of theirs can come or live."""
    with held([governor]) as [mine]:
        signal.pidfd_send_signal(mine, signal.SIGSTOP)  # so that it starts nobody unseen between a look and the kill
        census.within(0.02, lambda: census._fields(f"/proc/{governor}/stat")[0] in "TtDZX")
        with held(census.children(governor)) as launchers:
            seen = census.members(census.unified(run_root))
            signal.pidfd_send_signal(mine, signal.SIGKILL)
            for fd in launchers if launcher else []:
                with suppress(ProcessLookupError):  # a child that was only asked for its version
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            killed = time.monotonic()
            for fd in launchers:
                select.select([fd], [], [], DEATH_SECONDS_MAX)
            empty = census.within(DEATH_SECONDS_MAX, lambda: not census.populated(census.unified(run_root)))
            took = (time.monotonic() - killed) * 1000
            still_there = any(not select.select([fd], [], [], 0)[0] for fd in launchers)
    left = census.members(census.unified(run_root)) | {one for one in seen if census.lives(one)}
    assert not still_there, "a launcher outlives its governor"
    assert empty or left, "the kernel says that somebody lives, and shows nobody"
    return Death(len(seen), tuple(left), took)


def swept(run_root: Path, cache: Path) -> None:
    """Have the next governor clear up behind those that were killed."""
    later = Bubblewrap(run_root, runtime_cache=cache)
    receipt = later.sweep()
    assert receipt.state == "STOPPED"
    assert receipt.processes_before == 0
    later.close()
    assert [place for place in census.cgroups_of(run_root) if place.exists()] == []
