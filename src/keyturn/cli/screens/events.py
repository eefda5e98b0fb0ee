"""Each event in one line: its index, its moment, who acted, its name, and the one fact that matters.

Never prints an event's own words without `safe`, and knows every event of the closed union.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from keyturn.cli.screen import Sheet, columns, count, pad, safe, short, utc
from keyturn.cli.screens import loop
from keyturn.core import events as ev

WORDS: Final[Mapping[type[ev.Event], Callable[[Any], str]]] = {
    ev.ProjectFounded: lambda e: f"`{e.name}` founded, genesis {short(e.genesis)}" + (", a DEMO" if e.demo else ""),
    ev.PolicyAdopted: lambda e: f"policy {e.version} ({short(e.digest)}) with {count(len(e.signatures), 'signature')}",
    ev.LineageFounded: lambda e: f"the founder is {short(e.root)}, {count(len(e.files), 'file')}",
    ev.WarrantIssued: lambda e: (
        f"leave for {count(e.candidates_max, 'candidate')} up to level {e.level_ceiling} until {utc(e.expires_at)}"
        f"{'; ' + loop.in_words(loop.read(e.bounds), None) if e.bounds else ''}"
    ),
    ev.ImprovementStarted: lambda e: f"attempt {e.attempt} by generation {e.generation} ({short(e.parent)})",
    ev.SandboxAttested: lambda e: f"{e.tier} for {e.purpose}{_problems(e.problems)}",
    ev.ProgramsJudged: loop.batch,
    ev.ImprovementEnded: lambda e: f"attempt {e.attempt}: {e.outcome}{f' ({e.detail})' if e.detail else ''}",
    ev.CandidateProposed: lambda e: f"`{e.candidate}` is {short(e.root)}, {count(len(e.files), 'file')}",
    ev.TrialPlanned: lambda e: f"`{e.trial}`: line {e.plan.get('line')}, at most {e.plan.get('items')} items",
    ev.TrialAdvanced: lambda e: f"`{e.trial}`: items {e.start} to {e.start + len(e.values)}{_faults(e.faults)}",
    ev.AnswersReserved: lambda e: f"`{e.trial}`: {e.output_bytes} bytes set aside for what it may say",
    ev.TrialEnded: lambda e: f"`{e.trial}`: {e.verdict} after {count(e.items, 'item')}",
    ev.EvidenceRecorded: lambda e: f"`{e.trial}`: {e.verdict}, {e.estimate:.3f} [{e.low:.3f}, {e.high:.3f}]",
    ev.LevelRaised: lambda e: f"`{e.candidate}` raises to level {e.level} by `{e.threshold}`",
    ev.DossierSealed: lambda e: f"{short(e.dossier)}: {e.document.get('request')} at gate {e.document.get('gate')}",
    ev.ApprovalGiven: lambda e: f"{e.person} as {e.role} for {short(e.dossier)}: {e.reason}",
    ev.ApprovalRefused: lambda e: f"{e.person} as {e.role} against {short(e.dossier)}: {e.reason}",
    ev.GateDecided: lambda e: (
        f"{e.gate} {'CLEARED' if e.cleared else 'HELD'} for {short(e.dossier)}{_held(e.findings)}"
    ),
    ev.PermitIssued: lambda e: f"{e.permit}: {e.action} of `{e.candidate}` ({short(e.root)}) until {utc(e.not_after)}",
    ev.PermitRevoked: lambda e: f"{e.permit}: {e.reason}",
    ev.CandidateReleased: lambda e: f"`{e.candidate}` is generation {e.generation} ({short(e.root)})",
    ev.CandidateRejected: lambda e: f"`{e.candidate}`{_held(e.findings)}",
    ev.CandidateShadowed: lambda e: f"`{e.candidate}` {'went on' if e.adopted else 'stopped'}{_held(e.findings)}",
    ev.GenerationAudited: lambda e: f"{short(e.root)} by {e.person} as {e.role}: {e.reason}",
    ev.HaltRequested: lambda e: f"{e.halt} by {e.by}: {e.reason}",
    ev.HaltProven: lambda e: f"{e.halt}: STOPPED",
    ev.HaltUnproven: lambda e: f"{e.halt}: UNPROVEN",
    ev.HaltDrilled: lambda e: f"by {e.by}: {e.receipt.get('state')}, {count(e.daemons, 'daemon')}",
    ev.SandboxSwept: lambda e: f"{e.receipt.get('processes_before')} processes, {e.receipt.get('state')}",
    ev.LoopResumed: lambda e: f"{e.halt} lifted by the quorum of {short(e.dossier)}",
    ev.LoopFrozen: lambda e: f"{e.freeze} by {e.by} until {utc(e.until_at)}, {e.held.get('state')}: {e.reason}",
    ev.LoopThawed: lambda e: f"{e.freeze} let go on by {e.by}",
    ev.IncidentOpened: lambda e: f"{e.incident} {e.kind}{' EXERCISE' if e.exercise else ''}: {e.summary}",
    ev.AwarenessSigned: lambda e: f"{e.person} for {e.incident}: {e.moment} is {utc(e.moment_at)}",
    ev.BlobErased: lambda e: f"{short(e.blob)} by the quorum of {short(e.dossier)}: {e.reason}",
    ev.StatusPublished: lambda e: f"number {e.counter}: {_status(e)}",
    ev.CheckpointWitnessed: lambda e: f"{count(e.size, 'entry', 'entries')} cosigned by {', '.join(e.parties)}",
}

TONES: Final[Mapping[type[ev.Event], str]] = {
    ev.HaltRequested: "red",
    ev.HaltUnproven: "red",
    ev.IncidentOpened: "red",
    ev.CandidateRejected: "red",
    ev.ApprovalRefused: "red",
    ev.PermitRevoked: "red",
    ev.CandidateReleased: "green",
    ev.ApprovalGiven: "green",
    ev.LevelRaised: "yellow",
    ev.BlobErased: "yellow",
    ev.StatusPublished: "dim",
    ev.CheckpointWitnessed: "dim",
    ev.TrialAdvanced: "dim",
    ev.AnswersReserved: "dim",
}


def words(event: ev.Event) -> str:
    """The essential fact of an event, safe to print; not yet cut to a width."""
    return safe(WORDS[type(event)](event), 500)


SIGNS: Final[Mapping[str, tuple[str, str]]] = {
    "durable": ("·", "yellow"),
    "published": ("○", ""),
    "witnessed": ("●", "green"),
}
"""What an entry's state looks like, in the order of the states."""


def legend(sheet: Sheet, states: Collection[str]) -> None:
    """What the signs mean, those that were shown."""
    shown = [f"{sheet.paint(sign, tone)} {word}" for word, (sign, tone) in SIGNS.items() if word in states]
    sheet.line("  ".join(shown))


def line(sheet: Sheet, index: int, event: ev.Event, state: str) -> None:
    """The event on one line, cut to the sheet's width, with the sign of its state."""
    tone, (sign, colour) = TONES.get(type(event), ""), SIGNS[state]
    sheet.line(f"{index:>5} {sheet.paint(sign, colour)} {_rest(sheet, event, tone)}")


def _rest(sheet: Sheet, event: ev.Event, tone: str) -> str:
    start = f"{utc(event.at)} {pad(safe(_actor(event), 8), 8)} "
    rest = f"{type(event).__name__} {words(event)}"
    return start + sheet.paint(safe(rest, max(sheet.width - 8 - columns(start), 20)), tone)


def _actor(event: ev.Event) -> str:
    return event.actor.removeprefix("person:")


def _problems(problems: tuple[str, ...]) -> str:
    return f", {count(len(problems), 'problem')}: {problems[0]}" if problems else ""


def _faults(faults: tuple[str, ...]) -> str:
    return f", {count(len(faults), 'fault')}: {faults[0]}" if faults else ""


def _held(findings: tuple[ev.Document, ...]) -> str:
    more = f" (and {len(findings) - 1} more)" if findings[1:] else ""
    return f": {findings[0].get('message')}{more}" if findings else ""


def _status(event: ev.StatusPublished) -> str:
    parts = ["HALTED" if event.halted else "not halted", f"policy {event.policy_version}"]
    return ", ".join([*parts, count(len(event.revoked), "permit") + " revoked"])
