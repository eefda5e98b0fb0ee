"""The containment suite: try every probe inside and bare, and say what the sandbox was shown to hold.

It works through the port only, so that any backend is held to it. Doubt never counts as held.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from keyturn.core.terms import Digest, Tier
from keyturn.sandbox.port import Attestation, Backend
from keyturn.sandbox.suite.canaries import Canaries
from keyturn.sandbox.suite.places import Bare, How, Place, Sealed
from keyturn.sandbox.suite.scenes import Met, Unfinished, play, words
from keyturn.sandbox.suite.score import FLOORS, Checked, Control, Inside, Row, checked
from keyturn.sandbox.suite.table import ALWAYS, PROBES, Probe

Tell = Callable[[int, int, str], None]
NAMED_MAX = 6
"""How many attempts one answer names."""


@functools.cache
def digest() -> Digest:
    """One digest over every file of the suite: its programs, its table and how it is played and judged."""
    here = Path(__file__).parent
    sums = [
        f"{path.relative_to(here)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in sorted(here.rglob("*.py"))
    ]
    return Digest("sha256:" + hashlib.sha256("".join(sums).encode()).hexdigest())


def attested(sealed: Sealed, backend: Backend) -> Attestation:
    """What the backend's own attestation says of a sandbox like those of the probes; raises `Unavailable`."""
    parked = backend.prepare(sealed.spec(words(PROBES[0], sealed), How()))
    try:
        return parked.attest()
    finally:
        parked.close()


def grouped(met: Met) -> str:
    """What was met, by answer: `EACCES (mem, maps); ENOENT (fd)`."""
    by: dict[str, list[str]] = {}
    for attempt, answer in met.items():
        by.setdefault(answer, []).append(attempt)
    parts = []
    for answer, attempts in by.items():
        named = ", ".join(attempts[:NAMED_MAX])
        more = f" and {len(attempts) - NAMED_MAX} more" if len(attempts) > NAMED_MAX else ""
        parts.append(f"{answer} ({named}{more})" if len(met) > 1 else f"{answer}: {named}")
    return "; ".join(parts)


def tried(probe: Probe, place: Place) -> tuple[Inside, str]:
    """Play a probe and judge it, inside or bare: what got through is a breach, what did not end is unsure."""
    try:
        met = play(probe, place)
    except Unfinished as doubt:
        return "unsure", str(doubt)
    if not met:
        return "unsure", "it tried nothing"
    refused = {attempt: answer for attempt, answer in met.items() if answer}
    if len(refused) == len(met):
        return "held", grouped(met)
    rest = f"; else {grouped(refused)}" if refused else ""
    return "breach", f"got through: {', '.join(attempt for attempt in met if attempt not in refused)}{rest}"


def controlled(probe: Probe, bare: Place) -> tuple[Control, str]:
    """The same attempt outside: it succeeds where any part of it gets through."""
    judged, detail = tried(probe, bare)
    if judged == "breach":
        return "succeeds", detail
    if judged == "unsure":
        return "fails", f"the control did not run to its end: {detail}"
    why = "" if os.geteuid() == 0 else "; the governor is an ordinary user, and what it may not do shows nothing"
    return "fails", f"this machine refuses it without a sandbox too: {detail}{why}"


def row(probe: Probe, sealed: Sealed, control: Future[tuple[Control, str]]) -> Row:
    """One row of the result."""
    inside, detail = tried(probe, sealed)
    outside, control_detail = control.result()
    return Row(
        probe.number, probe.id, probe.what, probe.kind, inside, detail, outside, control_detail, FLOORS[probe.kind]
    )


def residual(rows: tuple[Row, ...]) -> tuple[str, ...]:
    """The channels that remain: those that are always there, and those that a probe found open or could not tell."""
    open_ones = {row.probe for row in rows if row.kind == "information" and row.inside != "held"}
    return (*ALWAYS, *(probe.residual for probe in PROBES if probe.id in open_ones))


def check(backend: Backend, folder: Path, *, tell: Tell) -> Checked:
    """Run every probe on this backend; `tell` hears how many are done, of how many, and which is next.

    `folder` is where the canaries lie for as long as it runs. Raises `Unavailable` where no sandbox can be built at
    all; whatever `tell` raises breaks the check off. It governs from this thread; the controls run beside it.
    """
    started = time.monotonic()
    pool = ThreadPoolExecutor(1, "keyturn-control")
    try:
        with Canaries(folder / "inside") as inside, Canaries(folder / "outside") as outside:
            sealed, bare = Sealed(backend, inside), Bare(outside)
            seen = attested(sealed, backend)
            controls = [pool.submit(controlled, probe, bare) for probe in PROBES]
            rows = []
            try:
                for done, (probe, control) in enumerate(zip(PROBES, controls, strict=True)):
                    tell(done, len(PROBES), probe.id)
                    rows.append(row(probe, sealed, control))
            finally:
                pool.shutdown(cancel_futures=True)
        tell(len(PROBES), len(PROBES), "")
    finally:
        pool.shutdown(cancel_futures=True)
    return checked(
        tuple(rows),
        attested=Tier.T0 if seen.problems else seen.tier,
        weaker=seen.weaker,
        residual=residual(tuple(rows)),
        suite=digest(),
        seconds=time.monotonic() - started,
    )
