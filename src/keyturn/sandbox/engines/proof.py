"""Stopping a container with proof, as far as an engine's word goes: asked twice, and against what this machine shows.

The kill is asked for first. `STOPPED` needs the engine's word that it has ended, its word again in answer to another
question, and, where its first process is one of this machine's, the kernel's word that this is gone. Anything else,
silence included, is `UNPROVEN`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Instant
from keyturn.sandbox.engines.port import Container
from keyturn.sandbox.port import Receipt
from keyturn.sandbox.proof import boottime, exited

LOOK_SECONDS = 0.01


class Watched:
    """The first process of a container, where this machine shows it: watched by a descriptor, never by its number."""

    def __init__(self, pid: int, marks: tuple[str, ...]) -> None:
        self._fd = -1
        try:
            self._fd = os.pidfd_open(pid) if pid > 0 else -1
            shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/cgroup").read_bytes()
        except OSError:
            shown = b""
        if self._fd >= 0 and not any(
            mark.encode() in shown for mark in marks
        ):  # another machine's number, or a cluster's
            self.close()

    @property
    def here(self) -> bool:
        """Whether this machine shows the process at all."""
        return self._fd >= 0

    def lives(self) -> bool:
        """Whether it is here and has not ended."""
        return self._fd >= 0 and not exited((self._fd,))

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def ended(container: Container, watched: Watched | None) -> str:
    """Why it is not known that the container has ended; empty where nothing is left to ask."""
    try:
        look = container.look()
        if look.state != "ended":
            return f"engine: the container is {look.detail}"
        denied = container.confirm()
    except Unavailable as error:
        return f"engine: {error.message}"
    if denied:
        return f"engine: it said ended, and then: {denied}"
    if watched is not None and watched.lives():
        return "kernel: the container's first process lives, although the engine says that it has ended"
    return ""


def prove(
    containers: Sequence[tuple[Container, Watched | None]],
    scope: str,
    why: str,
    *,
    cut: Callable[[], None],
    seconds: float,
) -> Receipt:
    """Kill them all, end their streams, ask until they have ended, and give the receipt."""
    start, requested = boottime(), Instant(time.time_ns() // 1_000_000)
    unknown, written = [], None
    refused = [fault for container, _ in containers if (fault := _kill(container))]
    if not refused:
        written = _since(start)
    cut()
    until = start + seconds
    faults = {number: ended(*pair) for number, pair in enumerate(containers)}
    while any(faults.values()) and boottime() < until:
        time.sleep(LOOK_SECONDS)
        faults |= {number: ended(*containers[number]) for number, fault in faults.items() if fault}
    unknown = [f"{containers[number][0].name}: {fault}" for number, fault in faults.items() if fault]
    seen = _since(start) if not unknown else None
    return Receipt(
        scope=scope, why=why, requested_at=requested, kill_written_ms=written, init_exited_ms=seen,
        cgroup_empty_ms=seen, processes_before=len(containers), survivors=len(unknown),
        state="UNPROVEN" if unknown else "STOPPED",
        unknown=(*unknown, *(fault for fault in refused if unknown)),
    )  # fmt: skip  # what, when, how many


def _kill(container: Container) -> str:
    """Ask for the kill; why that was refused, which for what has ended already is no matter."""
    try:
        container.kill()
    except Unavailable as error:
        return f"{container.name}: the kill: {error.message}"
    return ""


def _since(start: float) -> float:
    return round((boottime() - start) * 1000, 3)
