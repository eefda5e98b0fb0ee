"""Whose signed decisions count towards a quorum, and what is still missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keyturn.core.candidate import level_of
from keyturn.core.dossier import moment, named, unfit
from keyturn.core.finding import REQUESTS, Finding, Request
from keyturn.core.keys.governor import every_secret
from keyturn.core.keys.public import same_secret
from keyturn.core.policy import GateRow, Policy, seated
from keyturn.core.state import Approval, Dossier, State
from keyturn.core.terms import Gate, Instant, Json


@dataclass(frozen=True, slots=True)
class Quorum:
    """How far a quorum has come: who counts, in which role, what is missing, and why others do not count."""

    counted: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, int], ...]
    discounted: tuple[tuple[str, str], ...]


def quorum(state: State, dossier: Dossier, row: GateRow, now: Instant) -> Quorum:
    """Seat distinct persons; two keys of one person are one person, who takes one seat in a role they signed for."""
    able: dict[str, list[str]] = {}
    discounted: list[tuple[str, str]] = []
    wanted: dict[str, int] = {}
    for seat in row.quorum:
        wanted[seat.role] = wanted.get(seat.role, 0) + seat.persons
    for approval in (approval for approval in dossier.approvals if approval.approve):
        person, role = approval.event.person, approval.event.role
        doubt = why_not(state, dossier, approval, now)
        if not doubt and role not in wanted:
            doubt = f"the role `{role}` has no seat in this quorum"
        if not doubt and role in able.get(person, ()):
            doubt = "this person has been counted already"
        if doubt:
            discounted.append((person, doubt))
        else:
            able.setdefault(person, []).append(role)
    counted = seated(wanted, able)
    filled = list(counted.values())
    missing = tuple((role, n - filled.count(role)) for role, n in wanted.items() if filled.count(role) < n)
    return Quorum(tuple(counted.items()), missing, tuple(discounted))


def why_not(state: State, dossier: Dossier, approval: Approval, now: Instant) -> str:
    """Why this signature does not count now; empty when it does.

    Promises 3, 6 and 7 of the design: the policy of the day, an enrolled person with the role, a key that is theirs
    and may sign, nobody who asked for it, the same gate, lineage and trust root, an index after the evidence, and
    the window.
    """
    event, current, project = approval.event, state.current, state.project
    if current is None or project is None:
        return "there is no policy under which anyone could approve"
    checks = (
        (event.policy == current.digest, "it was given under another policy"),
        (event.policy_version == current.version, "it names another policy number"),
        (event.artifact == artifact_of(dossier.document), "it names another artifact than the dossier"),
        (event.level == dossier.document.get("level"), "it was given for another level"),
        (event.gate == dossier.gate, f"it was given for the gate `{event.gate}`"),
        (event.genesis == project.genesis and event.origin == project.origin, "it was given in another project"),
        (event.lineage == project.name, f"it was given for the lineage `{event.lineage}`"),
        (event.evidence_index > dossier.index, "what was signed is older than the dossier"),
        (approval.index >= event.evidence_index, "it names evidence that was not in the log when it was given"),
        (event.not_before <= now, "its window has not begun"),
        (now < event.not_after, "its window has ended"),
        (same_secret(event.key) not in every_secret(project, state.policies), "the governor's own keys never count"),
        (dossier.requester != f"person:{event.person}", "this person made the request"),
        (_own_separate(state, dossier, current.policy, event.person), "this person signed the warrant"),
    )
    doubt = next((reason for holds, reason in checks if not holds), "")
    return doubt or _key_doubt(current.policy, approval, demo=project.demo)


def artifact_of(document: Mapping[str, Json]) -> str:
    """The root digest in a dossier's document, for what people sign; empty where there is none."""
    body = document.get("candidate")
    root = body.get("root") if isinstance(body, dict) else None
    return root if isinstance(root, str) else ""


def _key_doubt(policy: Policy, approval: Approval, *, demo: bool) -> str:
    """Why this key may not sign for this person; simulated keys are a demo's, as founded, whatever a policy says."""
    person = policy.person(approval.event.person)
    if person is None:
        return "this person is not enrolled"
    if approval.event.role not in person.roles:
        return f"this person does not hold the role `{approval.event.role}`"
    key = next((key for key in person.keys if key.public == approval.event.key), None)
    if key is None:
        return "the key is not a key of this person"
    if key.kind == "simulated" and not demo:
        return "a simulated key counts in a demo only"
    return ""


def _own_separate(state: State, dossier: Dossier, policy: Policy, person: str) -> bool:
    """Under `separate_warrant`, whoever signed the warrant that a candidate was made under may not sign its release."""
    if not policy.separate_warrant or dossier.gate is not Gate.RELEASE:
        return True
    attempt = state.attempts[state.candidates[named(dossier)].attempt]
    warrant = next(warrant for warrant in state.warrants if warrant.id == attempt.warrant)
    return all(approval.event.person != person for approval in state.dossiers[warrant.dossier].approvals)


def last_signature(dossier: Dossier) -> int:
    """Where in the log the last decision on this dossier stands; the dossier itself, while nobody has decided."""
    return max((approval.index for approval in dossier.approvals), default=dossier.index)


def unwitnessed(state: State, dossier: Dossier) -> tuple[str, ...]:
    """What keeps a permit from resting on this dossier: its signatures are not under a head that was witnessed enough.

    Empty where the policy asks for no witnesses (design, section 6: a permit is issued only at *witnessed*).
    """
    if state.current is None or not state.current.policy.witnesses.required:
        return ()
    witnesses, last = state.current.policy.witnesses, last_signature(dossier)
    if state.witnessed <= last:
        return (f"the log is witnessed up to entry {state.witnessed}; the last signature is entry {last}",)
    return witnesses.lacking(state.cosigners)


def supporters(state: State, dossier: Dossier, now: Instant) -> tuple[tuple[str, str], ...]:
    """Everybody whose approval counts, whether or not a seat is left for them, each with the key that signed."""
    counted = (a for a in dossier.approvals if a.approve and not why_not(state, dossier, a, now))
    return tuple((approval.event.person, approval.event.key) for approval in counted)


def refused_by(state: State, dossier: Dossier, now: Instant) -> tuple[Approval, ...]:
    """The refusals that count: one is enough to end a dossier."""
    return tuple(a for a in dossier.approvals if not a.approve and not why_not(state, dossier, a, now))


def row_of(state: State, request: Request) -> GateRow | None:
    """The row that governs this request at the level that applies to it."""
    if state.current is None:
        return None
    return state.current.policy.row(REQUESTS[request.name], level_of(state, request.candidate))


def nobody_must_have_refused(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """One counted refusal ends the dossier."""
    dossier = state.dossiers.get(request.dossier)
    for refusal in refused_by(state, dossier, now) if dossier else ():
        message = f"`{refusal.event.person}` refused in the role `{refusal.event.role}`: {refusal.event.reason[:200]}"
        yield Finding("nobody_must_have_refused", message, "make another candidate; this dossier stays refused")


def dossier_must_be_unused(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """A dossier is sealed once and clears once."""
    dossier = state.dossiers.get(request.dossier)
    if dossier is None:
        yield Finding("dossier_must_be_unused", "no dossier is sealed; one is expected", "wait until it is sealed")
    elif dossier.used:
        yield Finding("dossier_must_be_unused", "this dossier has been used; it clears once", "ask for a new decision")
    elif now >= moment(dossier, "not_after"):
        yield Finding("dossier_must_be_unused", "the dossier's window has ended", "seal a new one: run the loop again")


def dossier_must_fit(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """What people signed for is this request, about these bytes, as things stand now."""
    dossier = state.dossiers.get(request.dossier)
    doubt = unfit(state, dossier, request) if dossier else ""
    if doubt:
        yield Finding("dossier_must_fit", f"the dossier does not fit: {doubt}", "wait until a new one is sealed")


def quorum_must_be_met(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """Every seat of the gate's row is filled by a distinct person who signed for exactly this dossier."""
    dossier, row = state.dossiers.get(request.dossier), row_of(state, request)
    if dossier is None or row is None:
        return
    reached = quorum(state, dossier, row, now)
    for role, number in reached.missing:
        doubts = "".join(f"; `{person}` does not count: {why}" for person, why in reached.discounted)
        message = f"{number} more approval(s) in the role `{role}` are needed{doubts}"
        yield Finding("quorum_must_be_met", message, f"`keyturn approval give {request.dossier[7:15]} --as PERSON`")
