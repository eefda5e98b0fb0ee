"""Permits and checks of what others hand over: the verdict first, then every doubt by its number."""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.cli.screen import Sheet, count, safe, until, utc
from keyturn.cli.screens.waiting import head
from keyturn.core.events import PermitIssued, StatusPublished
from keyturn.core.state import State
from keyturn.core.terms import Instant

Doubts = Sequence[tuple[int, str, str]]


def standing(state: State, permit: PermitIssued, now: Instant) -> tuple[str, str, str]:
    """The word for a permit as the log stands, its tone, and why."""
    if permit.permit in state.revoked:
        return "REVOKED", "red", "it was revoked before its time"
    if state.halt is not None:
        return "HALTED", "red", "a halt stands; nothing may load"
    if now >= permit.not_after:
        return "EXPIRED", "red", f"it ended {until(permit.not_after, now)}"
    return "VALID", "green", f"until {utc(permit.not_after)} ({until(permit.not_after, now)})"


def show(sheet: Sheet, state: State, permit: PermitIssued, now: Instant) -> None:
    """The screen of one permit."""
    word, tone, why = standing(state, permit, now)
    head(sheet, state, word, f"permit `{safe(permit.permit, 40)}`: {why}", tone)
    details(sheet, permit)
    dossier = state.dossiers.get(permit.dossier)
    for approval in dossier.approvals if dossier else ():
        if approval.approve:
            event = approval.event
            said = f"{safe(event.person, 40)} as {safe(event.role, 30)} at {utc(event.at)}"
            sheet.entry("signed by", said, "green")


def details(sheet: Sheet, permit: PermitIssued) -> None:
    """What a permit allows, exactly."""
    sheet.entry("allows", f"{safe(permit.action, 30)} of `{safe(permit.candidate, 60)}` on level {permit.level}")
    sheet.entry("scope", safe(permit.scope))
    sheet.entry("artifact", safe(permit.root.removeprefix("sha256:"), 66))
    sheet.entry("lineage", f"{safe(permit.lineage, 60)} in the log {safe(permit.origin, 80)}")
    sheet.entry("window", f"{utc(permit.not_before)} to {utc(permit.not_after)}")
    if permit.simulated:
        sheet.entry("people", "SIMULATED PEOPLE decided this: it is worth nothing outside a demo", "yellow")


def verified(
    sheet: Sheet,
    *,
    doubts: Doubts,
    permit: PermitIssued | None,
    status: StatusPublished | None,
    people: Sequence[str],
    witnesses: Sequence[str],
    words: Sequence[str],
    weights: str,
) -> None:
    """What a bundle is worth here and now; `words` are the banners that apply, `weights` what was hashed."""
    ok = not doubts
    word, tone = ("VERIFIED", "green") if ok else ("REFUSED", "red")
    what = (
        f"{weights} match the permit" if ok and weights else "the bundle holds" if ok else count(len(doubts), "doubt")
    )
    sheet.line(f"{sheet.paint(word, 'bold', tone)}  {sheet.paint(what, 'bold')}")
    if words:
        sheet.line(sheet.paint(" · ".join(words), "yellow"))
    sheet.rule()
    for check, message, help in doubts:
        sheet.say(f"✖ {check}. {safe(message, 400)}", "red", hang=5)
        if help:
            sheet.say(f"help: {safe(help, 300)}", "dim", indent=5)
    if permit is not None:
        details(sheet, permit)
        sheet.entry("signed by", ", ".join(safe(person, 40) for person in people) or "nobody who counts")
        if witnesses:
            sheet.entry("witnesses", ", ".join(safe(name, 40) for name in witnesses), "green")
    if status is not None:
        halted = "HALTED" if status.halted else "not halted"
        said = f"number {status.counter} of {utc(status.at)}: {halted}, policy {status.policy_version}"
        sheet.entry("status", f"{said}, {count(len(status.revoked), 'permit')} revoked", "red" if status.halted else "")


def witnessed(sheet: Sheet, who: Sequence[str]) -> None:
    """Who else signed the head that is shown; and where nobody independent did, what that means."""
    if who:
        sheet.say(f"WITNESSED by {', '.join(safe(name, 80) for name in who)}", "green")
    else:
        sheet.say("UNWITNESSED: this shows a log that agrees with itself, not that nobody holds another one", "yellow")


def replayed(
    sheet: Sheet,
    *,
    entries: int,
    decisions: int,
    problems: Doubts | Sequence[tuple[int, str, str]],
    root: str,
    witnesses: Sequence[str],
) -> None:
    """What deciding a whole log again showed."""
    ok = not problems
    word, tone = ("EQUAL", "green") if ok else ("TAMPERED OR BROKEN", "red")
    said = "every entry and decision holds again" if ok else count(len(problems), "problem")
    sheet.line(f"{sheet.paint(word, 'bold', tone)}  {sheet.paint(said, 'bold')}")
    witnessed(sheet, witnesses)
    sheet.rule()
    for index, rule, message in problems:
        sheet.say(f"✖ entry {index}: {safe(rule, 60)}: {safe(message, 400)}", "red", hang=4)
    sheet.entry("entries", f"{entries}, with {count(decisions, 'decision')}")
    sheet.entry("root", safe(root, 66))
