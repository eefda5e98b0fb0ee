"""Measure a halt beside what runs, and harm nothing: one sandbox of ours is started and halted, and only that one.

The kill, the waiting and the receipt are those of a real halt; what else a halt needs is tried as far as that is
harmless. It never halts the project, and it refuses while a halt stands.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from keyturn.app import specs
from keyturn.app.copies.receipts import receipt_document
from keyturn.app.sealed import Sealed
from keyturn.app.wiring import FileLatch
from keyturn.core import events as ev
from keyturn.core.errors import Conflict, KeyturnError
from keyturn.core.events import Document
from keyturn.core.lawful.halting import OK
from keyturn.core.policy import Policy
from keyturn.core.terms import Json
from keyturn.flow.log import Log
from keyturn.flow.ports import HeldStill, Interrupted
from keyturn.sandbox.port import Receipt, Running

DAEMONS = 20
READY_SECONDS = 10.0
LOOK_SECONDS = 0.005
STEADY_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Drilled:
    """What a drill showed; `said` is its receipt as data, UNPROVEN where anything would not have worked."""

    said: Document
    checks: Document

    def recorded(self, log: Log, *, by: str) -> Document:
        """Put it into the log, and give the answer for whoever asked.

        A log that does not take it makes the whole UNPROVEN, because a halt would stay out of it too.
        """
        try:
            log.record(
                lambda stamp: ev.HaltDrilled(
                    **stamp, by=by[:100], receipt=self.said, daemons=DAEMONS, checks=self.checks
                )
            )
        except (KeyturnError, OSError) as fault:
            known = self.said["unknown"]
            unknown: list[Json] = [*(known if isinstance(known, list) else []), f"log: {fault}"]
            answer = {**self.said, "state": "UNPROVEN", "unknown": unknown}
            return {**answer, "checks": {**self.checks, "log": str(fault)}, "daemons": DAEMONS}
        return {**self.said, "checks": {**self.checks, "log": OK}, "daemons": DAEMONS}


def drill(sealed: Sealed, latch: FileLatch, policy: Policy) -> Drilled:
    """Start one sandbox full of daemons, halt it, and try the rest.

    Raises `Conflict` while a halt stands or when one comes, and as a launch does.
    """
    if latch.reason() is not None:
        raise Conflict("a halt stands, so nothing is launched, not even a drill", help="`keyturn status`")
    if latch.frozen() is not None:  # the launch would wait for the thaw, and with it whoever asked
        raise Conflict("everything is held still", help="`keyturn thaw` first")
    parked = sealed.backend.prepare(specs.drill(sealed.runtime(policy.subject.runtime), daemons=DAEMONS))
    try:
        problems = parked.attest().problems
        with latch.guard():
            running = parked.go()
    except (Interrupted, HeldStill) as stopped:
        parked.close()
        raise Conflict("a halt or a freeze came before the drill began", help="`keyturn status`") from stopped
    except BaseException:
        parked.close()
        raise
    try:
        alive = _alive(running)
        receipt = running.halt("a drill")
    finally:
        running.close()
    checks: Document = {
        "daemons": OK if alive >= DAEMONS else f"only {alive} of {DAEMONS} came up",
        "attest": OK if not problems else "; ".join(problems)[:500],
        "kill": sealed.backend.may_kill() or OK,
        "latch": _latched(latch),
    }
    if latch.reason() is not None:
        raise Conflict("a real halt came while the drill ran", help="`keyturn status`")
    return Drilled(_said(receipt, checks), checks)


def _alive(running: Running) -> int:
    """How many daemons there are, once all are up or it took too long; the main process is none."""
    until, steady = time.monotonic() + READY_SECONDS, 0
    while running.tick() and steady < STEADY_LOOKS and time.monotonic() < until:
        steady = steady + 1 if running.beyond() == DAEMONS + 1 else 0  # between two forks a process more is there
        time.sleep(LOOK_SECONDS)
    return max(0, running.beyond() - 1)


def _latched(latch: FileLatch) -> str:
    try:
        latch.rehearse()
    except OSError as fault:
        return f"a latch could not be set: {fault.strerror}"
    return OK


def _said(receipt: Receipt, checks: Document) -> Document:
    """The drill's receipt: STOPPED only where everything was seen and would have worked."""
    failed: list[Json] = [f"{name}: {said}" for name, said in checks.items() if said != OK]
    proven = receipt.state == "STOPPED" and not failed
    return {
        **receipt_document(receipt),
        "state": "STOPPED" if proven else "UNPROVEN",
        "unknown": [*receipt.unknown, *failed],
    }
