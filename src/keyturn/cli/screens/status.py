"""The project at a glance: what waits for whom, and how much of every bound is used."""

from __future__ import annotations

from collections import Counter

from keyturn.cli.screen import Sheet, count, safe, short, until, utc
from keyturn.cli.screens import loop
from keyturn.cli.screens.scale import gauge
from keyturn.cli.screens.stop import last_drill
from keyturn.cli.screens.waiting import TONES, Waiting, age, head
from keyturn.core.audit import pace_bound
from keyturn.core.state import State
from keyturn.core.terms import Instant


def show(sheet: Sheet, state: State, what: Waiting, now: Instant, *, root_hex: str, copies: int = 0) -> None:
    """The status screen: `what` is waited for, `root_hex` names the log's head, so many `copies` are known."""
    name = safe(state.project.name, 60) if state.project else "no project"
    sheet.line(f"keyturn · {name} · {utc(now)}")
    head(sheet, state, what.word, what.sentence, TONES.get(what.word, ""))
    for command, note in what.commands:
        sheet.command(command, note)
    if what.commands:
        sheet.line()
    _lineage(sheet, state)
    _bounds(sheet, state, now)
    _matters(sheet, state)
    sheet.entry("halt drill", *last_drill(state, now))
    if copies:
        sheet.entry("copies", f"{count(copies, 'loaded copy', 'loaded copies')} known here; a halt ends them")
    ahead = 0 if state.settled else state.size - state.published
    tail = f", {ahead} not yet published" if ahead else ", all published"
    sheet.entry("log", f"{count(state.size, 'entry', 'entries')}{tail}, root {root_hex[:16]}…, moved {age(state, now)}")
    _witnesses(sheet, state)


def _witnesses(sheet: Sheet, state: State) -> None:
    """Who cosigned how much of the log, where the policy names anybody to ask."""
    if state.current is None or not state.current.policy.witnesses.parties:
        return
    who = ", ".join(safe(name, 40) for name in state.cosigners)
    behind = state.published - state.witnessed
    late = f"; {count(behind, 'newer entry', 'newer entries')} published since" if behind else ""
    said = f"{count(state.witnessed, 'entry', 'entries')} cosigned by {who}{late}" if who else "nobody has cosigned yet"
    sheet.entry("witnesses", said, "green" if state.is_witnessed else "yellow")


def _lineage(sheet: Sheet, state: State) -> None:
    lineage = state.lineage
    if lineage is None:
        sheet.entry("lineage", "not founded yet")
        return
    parent = lineage.parent
    released = utc(parent.released_at)
    what = f"generation {parent.number} ({safe(parent.candidate, 40)}), level {lineage.level}, released {released}"
    sheet.entry("lineage", what)
    by_status = Counter(candidate.status for candidate in state.candidates.values())
    parts = [f"{by_status[status]} {status}" for status in ("released", "rejected", "shadowed") if by_status[status]]
    parts += [f"{by_status['proposed']} under way"] if by_status["proposed"] else []
    failed = sum(1 for attempt in state.attempts.values() if attempt.outcome and not attempt.candidate)
    parts += [f"{count(failed, 'attempt')} without a candidate"] if failed else []
    sheet.entry("candidates", ", ".join(parts) or "none yet")


def _bounds(sheet: Sheet, state: State, now: Instant) -> None:
    """Pace and warrant: how far the loop may still go by itself."""
    lineage, warrant = state.lineage, state.warrant
    if lineage is not None:
        bound = pace_bound(state)
        full = lineage.unaudited >= bound
        said = f"{lineage.unaudited} of {bound} generations since the audit of generation {lineage.audited.number}"
        sheet.entry("pace", f"{gauge(lineage.unaudited, bound)} {said}", "yellow" if full else "")
    if warrant is not None:
        ended = now >= warrant.expires_at or warrant.used >= warrant.candidates_max
        said = f"{warrant.used} of {count(warrant.candidates_max, 'candidate')}, level ≤ {warrant.level_ceiling}"
        window = f"{'ended' if now >= warrant.expires_at else 'ends'} {until(warrant.expires_at, now)}"
        bar = gauge(warrant.used, warrant.candidates_max)
        sheet.entry("warrant", f"{bar} {said}, {window}", "yellow" if ended else "")
        if warrant.bounds.given:
            tone = "yellow" if loop.used_up(warrant.bounds, warrant.spent) else ""
            sheet.entry("its loop", loop.in_words(warrant.bounds, warrant.spent), tone)
    elif lineage is not None:
        sheet.entry("warrant", "none")


def _matters(sheet: Sheet, state: State) -> None:
    """Incidents and ended permits, where there are any."""
    if state.incidents:
        newest = list(state.incidents.values())[-1]
        exercise = " EXERCISE" if newest.exercise else ""
        said = f"{len(state.incidents)}; newest {safe(newest.id, 20)}{exercise}: {safe(newest.summary, 100)}"
        sheet.entry("incidents", said, "red")
    if state.revoked:
        sheet.entry("revoked", ", ".join(safe(permit, 20) for permit in state.revoked[-5:]), "red")
    if state.current is not None:
        people = len(state.current.policy.people)
        digest = short(state.current.digest)
        sheet.entry("policy", f"number {state.current.version} ({digest}), {count(people, 'person', 'people')}")
