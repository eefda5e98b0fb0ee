"""Run the containment suite and keep what came of it; and say what a result would have to fit now.

A check that was broken off leaves the last result as it is: it shows nothing either way.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core.terms import Digest
from keyturn.sandbox import suite
from keyturn.sandbox.port import Backend
from keyturn.sandbox.standing import file
from keyturn.sandbox.standing.judging import Kept, Standing, judge

if TYPE_CHECKING:
    from keyturn.sandbox.suite import Checked, Row

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Tell = Callable[[int, int, str], None]
"""Hears how many probes are done, of how many, and which one is next."""


def bound_to(backend: Backend, digest: Digest) -> dict[str, str]:
    """All that a check speaks of: this boot of this machine, this user, this backend as it is now, this suite."""
    return {
        **backend.profile(),
        "boot": BOOT_ID.read_text(encoding="ascii").strip(),
        "user": str(os.geteuid()),
        "suite": digest,
    }


def look(backend: Backend, seconds_max: int) -> Standing:
    """The last check, judged now; starts nothing, and costs little enough to be asked before every launch."""
    kept, why = file.read(file.place())
    return judge(kept, why, bound=bound_to(backend, suite.digest()), now=file.now(), seconds_max=seconds_max)


def ensure(backend: Backend, seconds_max: int, *, tell: Tell, tick: Callable[[], None]) -> Checked | None:
    """Run the suite unless a check stands for a good while; None where nothing was run.

    One that failed is not run again by itself: whoever could repeat it until it holds would have no check. Raises as
    `run` does.
    """
    if not _needed(look(backend, seconds_max)):
        return None
    with file.one_at_a_time(file.place(), tick):
        return _run(backend, tell, tick) if _needed(look(backend, seconds_max)) else None


def _needed(seen: Standing) -> bool:
    return seen.word in {"never", "old"} or (seen.stands and seen.due)


def run(backend: Backend, *, tell: Tell, tick: Callable[[], None]) -> Checked:
    """Run the whole suite on this backend and keep its result; whatever `tell` or `tick` raises breaks it off.

    Raises `Unavailable` where nothing can be launched, or where the result cannot be kept.
    """
    with file.one_at_a_time(file.place(), tick):
        return _run(backend, tell, tick)


def _run(backend: Backend, tell: Tell, tick: Callable[[], None]) -> Checked:
    folder = Path(tempfile.mkdtemp(prefix="keyturn-check-"))
    try:
        checked = suite.check(backend, folder, tell=tell)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tick()  # whoever was halted during the last probe was disturbed, and has nothing to keep
    file.write(file.place(), kept_of(checked, bound_to(backend, checked.suite)))
    return checked


def kept_of(checked: Checked, bound: dict[str, str]) -> Kept:
    """What is kept of a check that was run just now."""
    return Kept(
        tier=checked.tier,
        suite=checked.suite,
        held=checked.held,
        scored=checked.scored,
        controlled=checked.controlled,
        failed=tuple(f"{row.probe} ({row.inside})" for row in failed(checked.rows)),
        residual=checked.residual,
        seconds=round(checked.seconds, 1),
        when=file.now(),
        bound=bound,
    )


def failed(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The probes that were not shown to be held; doubt counts as a breach, and what only informs does not count."""
    return tuple(row for row in rows if row.inside != "held" and row.kind != "information")
