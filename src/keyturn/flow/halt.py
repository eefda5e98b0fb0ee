"""Stop everything first, then latch, then record: the one stage that acts before it writes."""

from __future__ import annotations

from keyturn.core import events as ev
from keyturn.core.agenda import Resume
from keyturn.core.errors import Conflict
from keyturn.flow.decided import decided
from keyturn.flow.governor import Governor
from keyturn.flow.log import Fact, Log
from keyturn.flow.ports import Halter, Latch

TRIES_MAX = 20


def halt(governor: Governor, *, by: str, reason: str) -> ev.Document:
    """Kill, latch, kill what slipped in between, record; returns the receipt."""
    return act_and_record(governor.log, governor.halter, governor.latch, by=by, reason=reason)


def act_and_record(log: Log, halter: Halter, latch: Latch, *, by: str, reason: str) -> ev.Document:
    """The halt itself and its record, for who has the log at hand."""
    receipt = act(halter, latch, by=by, reason=reason)
    record(log, by=by, reason=reason, receipt=receipt)
    return receipt


def act(halter: Halter, latch: Latch, *, by: str, reason: str) -> ev.Document:
    """Kill, latch, and kill what slipped in between; needs no log, so it works without one."""
    first = halter.halt_all(reason)
    # A crash from here on leaves the latch: nothing is launched, and the next start records the halt.
    latch.set(f"{by}: {reason}")
    second = halter.halt_all(reason)  # whatever was being launched while the latch was being set
    return first if second.get("processes_before") in (0, None) else second


def record(log: Log, *, by: str, reason: str, receipt: ev.Document) -> None:
    """Write the halt down, whoever else is writing."""
    for _ in range(TRIES_MAX):
        log.refresh()
        standing = log.state.halt
        name = standing.id if standing else f"h-{log.ids.new()[:8]}"
        facts: list[Fact] = [_settled(name, receipt)]
        if standing is None:
            facts.insert(0, _requested(name, by, reason))
        try:
            log.append(*facts)
        except Conflict:
            continue
        return
    raise Conflict("the log kept moving while a halt was to be recorded", help="`keyturn halt` again; the latch is set")


def _requested(name: str, by: str, reason: str) -> Fact:
    return lambda stamp: ev.HaltRequested(**stamp, halt=name, by=by[:100], reason=reason[:500])


def _settled(name: str, receipt: ev.Document) -> Fact:
    if receipt.get("state") == "STOPPED":
        return lambda stamp: ev.HaltProven(**stamp, halt=name, receipt=receipt)
    return lambda stamp: ev.HaltUnproven(**stamp, halt=name, receipt=receipt)


def record_latched(governor: Governor) -> None:
    """A latch without a halt in the log is a halt whose record a crash prevented: make it good."""
    why = governor.latch.reason()
    if why is not None and governor.state.halt is None:
        by, _, reason = why.partition(": ")
        record(governor.log, by=by, reason=reason or by, receipt=governor.halter.halt_all(why))


def resume(log: Log, latch: Latch, step: Resume) -> None:
    """Lift the halt that a quorum cleared; the latch goes after the record, so that a crash leaves it set."""
    log.append(
        decided(step.decision, step.dossier.digest),
        lambda stamp: ev.LoopResumed(**stamp, halt=step.halt.id, dossier=step.dossier.digest),
    )
    latch.clear()
