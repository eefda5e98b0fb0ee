"""Stop everything first, then latch, then record: the one stage that acts before it writes."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence

from keyturn.core import events as ev
from keyturn.core.agenda import Resume
from keyturn.core.errors import Conflict, KeyturnError, Unavailable
from keyturn.core.state import State
from keyturn.core.terms import Json
from keyturn.flow.decided import decided
from keyturn.flow.governor import Governor
from keyturn.flow.incident import halting
from keyturn.flow.log import Fact, Log
from keyturn.flow.ports import Alarm, Halter, Latch
from keyturn.wire.blobs.blob import referred

TRIES_MAX = 20
TRACE_SECONDS = 2.0
"""How long an interrupted step waits for the record of the halt that interrupted it."""

REASON_MAX = 500
REACHED_MAX = 100
"""How many lines a receipt lists, since an entry of the log has a bound; what was not seen to stop goes first."""

STOPPED = "STOPPED"
_UNREAD = "a person's halt"
LATCHED = re.compile(r"(?:(h-[0-9a-f]{8}(?:-[0-9]+)?) )?([^:]*(?::[^ :][^:]*)*): (.*)", re.DOTALL)
"""What a latch says: the halt's name, who asked for it, and why."""


def record_or_trip(governor: Governor, facts: Sequence[Fact], alarms: Sequence[Alarm]) -> bool:
    """Record facts, and halt where the policy says so of one of the alarms; says whether it did.

    What raised the alarm is dead already, so the request stands in the same append as the facts: a crash leaves both
    or neither, and the next start does the rest. Without a log the halt acts all the same.
    """
    tripped = halting(governor.policy, alarms)
    if tripped is None:
        governor.log.record(*facts)
        return False
    by, name = f"tripwire:{tripped.kind}", _name()
    try:
        _append(governor.log, lambda: [*facts, *_request(governor.state, name, by, tripped.detail)])
    except KeyturnError:
        act(governor.halter, governor.latch, by=by, reason=tripped.detail, name=name)
        raise
    receipt = act(governor.halter, governor.latch, by=by, reason=tripped.detail, name=name)
    record(governor.log, by=by, reason=tripped.detail, receipt=receipt)
    return True


def act(
    halter: Halter, latch: Latch, *, by: str, reason: str, name: str = "", keep: Callable[[bytes], str] | None = None
) -> ev.Document:
    """Kill, latch, and kill what slipped in between; needs no log, so it works without one.

    The receipt names the halt that the latch stands for, so that log and latch speak of the same one, and says `why`.
    `keep` takes what a person typed out of both, and leaves a reference; without it `reason` is none of their words.
    """
    by, unlatched, why = clean(by), "", clean(reason)
    try:
        first = halter.halt_all(_UNREAD if keep else reason)
    finally:  # whatever went wrong with the kill, nothing may be launched any more
        why = kept(keep, reason) if keep else why
        # A crash from here on leaves the latch: nothing is launched, and the next start records the halt.
        unlatched = _latch(latch, f"{name or _name()} {by}: {why}")
    second = halter.halt_all(why)  # whatever was being launched while the latch was being set
    nothing_new = second.get("state") == STOPPED and second.get("processes_before") in (0, None)
    receipt = {**(first if nothing_new else second), "halt": _named(latch) or name, "why": why}
    if not nothing_new and ("reached" in first or "reached" in second):
        receipt["reached"] = _merged(first.get("reached"), second.get("reached"))
    return unseen(receipt, unlatched) if unlatched else receipt


def _merged(first: Json, second: Json) -> list[Json]:
    """All lines of two receipts in one list; what was looked at twice stands as it was seen last."""
    rows: dict[str, Json] = {}
    for row in [*(first if isinstance(first, list) else []), *(second if isinstance(second, list) else [])]:
        if isinstance(row, dict):
            rows[f"{row.get('what')} {row.get('name')}"] = row
    worst = sorted(rows.values(), key=lambda row: isinstance(row, dict) and row.get("state") == STOPPED)
    return [*(rows.values() if len(rows) <= REACHED_MAX else worst[:REACHED_MAX])]


def _named(latch: Latch) -> str:
    """The halt for which the latch stands; nothing where it cannot be read, because a halt goes on all the same."""
    try:
        return _read(latch.reason() or "")[0]
    except OSError:
        return ""


def beyond(receipt: ev.Document, name: str, why: str) -> ev.Document:
    """The receipt with a runner that is out of reach, line and all, and so UNPROVEN."""
    rows = _merged(receipt.get("reached"), [{"what": "runner", "name": name, "state": "UNPROVEN", "why": why}])
    return {**unseen(receipt, f"governor: {name} governs; {why}"), "reached": rows}


def publish(log: Log, *, witnesses: bool = True) -> str:
    """Publish at once the status that makes loading nodes refuse; what went wrong, if anything: the halt stands."""
    try:
        if witnesses:
            log.publish()
        else:
            log.publish_status()
    except (OSError, KeyturnError) as fault:
        return f"status: the halt is recorded, but not published yet: {fault}"
    return ""


def unseen(receipt: ev.Document, what: str, *, proven: bool = False) -> ev.Document:
    """The receipt with one thing more that is unknown, and so UNPROVEN, unless what was proven stands all the same."""
    known = receipt.get("unknown")
    unknown: list[Json] = [*known, what] if isinstance(known, list) else [what]
    return {**receipt, "state": receipt.get("state") if proven else "UNPROVEN", "unknown": unknown}


def clean(text: str) -> str:
    """The text with a question mark for whatever no file and no log could hold, such as a byte that was no text."""
    return text.encode("utf-8", "replace").decode()


def kept(keep: Callable[[bytes], str], reason: str) -> str:
    """The reference to what somebody typed; what cannot be kept is given up, because a halt waits for no disk."""
    try:
        return keep(reason[:REASON_MAX].encode("utf-8", "replace")) if reason.strip() else ""
    except (OSError, KeyturnError) as fault:
        return f"what was typed could not be kept: {fault}"


def _latch(latch: Latch, why: str) -> str:
    """Set the latch; what went wrong with it, if anything: a full disk must not keep the halt from going on."""
    try:
        latch.set(why)
    except (OSError, KeyturnError) as fault:
        return f"the latch could not be set, so nothing on disk remembers this halt: {fault}"
    return ""


def record(log: Log, *, by: str, reason: str, receipt: ev.Document) -> None:
    """Write the halt down, whoever else is writing."""
    log.refresh()
    by, reason = clean(by), clean(reason)
    named = str(receipt.get("halt") or _name())
    said = {key: value for key, value in receipt.items() if key != "halt"}

    def facts() -> list[Fact]:
        request = _request(log.state, named, by, reason)
        standing = log.state.halt
        name = standing.id if standing else _free(log.state, named)
        return [*request, _settled(name, said)]

    _append(log, facts)


def _append(log: Log, facts: Callable[[], list[Fact]]) -> None:
    """Append facts that depend on whether a halt stands, looking again whenever somebody else wrote."""
    for _ in range(TRIES_MAX):
        try:
            log.append(*facts())
        except Conflict:
            log.refresh()
        else:
            return
    raise Conflict("the log kept moving while a halt was to be recorded", help="`keyturn halt` again; the latch is set")


def _request(state: State, name: str, by: str, reason: str) -> list[Fact]:
    """The request, unless a halt stands already: two halts at once are one."""
    return [] if state.halt else [_requested(_free(state, name), by, reason)]


def _free(state: State, name: str) -> str:
    """This name, or one derived from it if the latch of an earlier halt of that name was left over."""
    taken = sum(halt.id == name or halt.id.startswith(f"{name}-") for halt in state.halts)
    return f"{name}-{taken + 1}" if taken else name


def _name() -> str:
    return f"h-{secrets.token_hex(4)}"


def _read(why: str) -> tuple[str, str, str]:
    """Which halt a latch stands for, who asked for it, and why; a latch that says nothing still stands."""
    match = LATCHED.fullmatch(why)
    return (match[1] or "", match[2], match[3]) if match else ("", why, why)


def _requested(name: str, by: str, reason: str) -> Fact:
    return lambda stamp: ev.HaltRequested(**stamp, halt=name, by=by[:100], reason=reason[:500])


def _settled(name: str, receipt: ev.Document) -> Fact:
    if receipt.get("state") == STOPPED:
        return lambda stamp: ev.HaltProven(**stamp, halt=name, receipt=receipt)
    return lambda stamp: ev.HaltUnproven(**stamp, halt=name, receipt=receipt)


def record_latched(governor: Governor) -> None:
    """Make good what a crash cut short.

    A halt may be latched but not in the log, in the log but not carried out, or lifted in the log with its latch there.
    """
    governor.log.refresh()
    standing, why = governor.state.halt, governor.latch.reason()
    if standing is not None:
        if standing.receipt is None or why is None:
            receipt = act(governor.halter, governor.latch, by=standing.by, reason=standing.reason, name=standing.id)
            if standing.receipt is None:
                record(governor.log, by=standing.by, reason=standing.reason, receipt=receipt)
    elif why is not None:
        name, by, reason = _read(why)
        if not by.startswith("tripwire:") and reason.strip() and referred(reason) is None:
            reason = governor.blobs.keep(reason.encode())  # latched by a release that still latched what was typed
        if any(halt.id == name and halt.resumed for halt in governor.state.halts):
            governor.latch.clear()
        else:
            receipt = {**governor.halter.halt_all(reason), "halt": name, "why": reason}
            record(governor.log, by=by, reason=reason, receipt=receipt)


def trace(governor: Governor) -> None:
    """After an interruption, wait until the halt behind it stands in the log; write it down if nobody does.

    Raises `Unavailable` when nothing tells of a halt: something was stopped, so nothing goes on by itself.
    """
    until = time.monotonic() + TRACE_SECONDS
    while governor.log.refresh().halt is None and time.monotonic() < until:
        if _lifted(governor) and governor.latch.reason() is not None:
            break
        time.sleep(TRACE_SECONDS / 50)
    record_latched(governor)
    if governor.state.halt is None and not _lifted(governor):
        raise Unavailable(
            "a halt stopped what was under way, but neither the latch nor the log tells of it",
            help="make room on the disk, then `keyturn halt` again; nothing goes on by itself",
        )


def _lifted(governor: Governor) -> bool:
    """Whether what interrupted may be no more than the echo of a halt that a quorum has lifted."""
    halts, why = governor.state.halts, governor.latch.reason()
    return bool(halts) and halts[-1].resumed and (why is None or _read(why)[0] == halts[-1].id)


def resume(log: Log, latch: Latch, step: Resume) -> None:
    """Lift the halt that a quorum cleared; the latch goes after the record, so that a crash leaves it set."""
    log.append(
        decided(step.decision, step.dossier.digest),
        lambda stamp: ev.LoopResumed(**stamp, halt=step.halt.id, dossier=step.dossier.digest),
    )
    latch.clear()
    log.refresh()
    if log.state.halt is not None:  # another halt came in between, and found the old latch in its place
        _latch(latch, f"{log.state.halt.id} {log.state.halt.by}: {log.state.halt.reason}")
