"""Stopping with proof: write the kill first, then look until the kernel says that nothing is left, or say so.

Times run on the clock that suspension does not stop. Nothing may raise before the kill is written.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass

from keyturn.core.errors import KeyturnError
from keyturn.core.terms import Instant
from keyturn.sandbox.port import Receipt, State

PROOF_SECONDS_MAX = 5.0
LOOK_SECONDS = 0.0002


def boottime() -> float:
    """Seconds since the machine started, suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be stopped. `populated` is None where there is no cgroup to ask.

    `inits` are process descriptors of this target's own: another thread cannot close them, and `stop` does. `behind`
    strikes whatever else is to die, once the kill is written and before anything is waited for. `unknown` says what
    cannot be seen to stop at all, and is asked only then: with any of it, nothing proves the stop.
    """

    scope: str
    kill: Callable[[], bool]
    inits: tuple[int, ...]
    populated: Callable[[], bool] | None
    processes: Callable[[], list[int]]
    behind: Callable[[], None] = lambda: None
    unknown: Callable[[], tuple[str, ...]] = tuple


def exited(pidfds: tuple[int, ...], seconds: float = 0.0) -> bool:
    """Whether every process behind these descriptors has ended, waiting at most so long."""
    until = boottime() + seconds
    for fd in pidfds:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        ready = poll.poll(max(0.0, until - boottime()) * 1000)
        if not any(event & select.POLLIN for _, event in ready):
            return False
    return True


def _count(target: Target) -> int:
    """How many processes there are; 0 where the kernel does not say."""
    with contextlib.suppress(OSError):
        return len(target.processes())
    return 0


def _await_empty(populated: Callable[[], bool], until: float) -> bool:
    while populated():
        if boottime() > until:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def stop(target: Target, why: str, *, seconds: float = PROOF_SECONDS_MAX) -> Receipt:
    """Kill it, watch it go, and give the receipt; UNPROVEN when anything was not seen within `seconds`."""
    try:
        return _stop(target, why, seconds)
    finally:
        for fd in target.inits:
            os.close(fd)


def _stop(target: Target, why: str, seconds: float) -> Receipt:
    start = boottime()
    requested = Instant(time.time_ns() // 1_000_000)
    before = _count(target)
    written = _elapsed(start) if target.kill() else None
    target.behind()
    until = start + seconds
    unknown = [*target.unknown()]
    init = _elapsed(start) if exited(target.inits, seconds) else None
    if init is None:
        unknown.append("init: its exit was not seen")
    empty = None
    if target.populated is None:
        unknown.append("cgroup: there is none of ours, so only init and what it holds were seen to end")
    else:
        try:
            empty = _elapsed(start) if _await_empty(target.populated, until) else None
        except KeyturnError as error:
            unknown.append(f"cgroup: {error.message}")
        else:
            if empty is None:
                unknown.append("cgroup: it was still populated when we stopped looking")
    survivors = _count(target) if empty is None else 0
    state: State = "STOPPED" if init is not None and empty is not None and not unknown else "UNPROVEN"
    return Receipt(target.scope, why, requested, written, init, empty, before, survivors, state, tuple(unknown))


def _elapsed(start: float) -> float:
    return round((boottime() - start) * 1000, 3)
