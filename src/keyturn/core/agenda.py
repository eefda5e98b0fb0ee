"""What the governor does next, read off the state alone, so that a restart after any crash simply goes on.

No step is remembered anywhere but in the log: `next_step` is asked again after every entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.core.approval import last_signature, refused_by, unwitnessed
from keyturn.core.audit import pace_bound
from keyturn.core.betting import Process
from keyturn.core.bounds import findings, output_finding
from keyturn.core.candidate import level_of
from keyturn.core.decision import decide, prepare
from keyturn.core.dossier import open_dossier, refusals
from keyturn.core.finding import Decision, Finding, Request
from keyturn.core.policy import Policy
from keyturn.core.state import Candidate, Dossier, Halt, Lineage, State, Warrant
from keyturn.core.terms import NO_DIGEST, Digest, Instant
from keyturn.core.trial import TrialPlan, finished


@dataclass(frozen=True, slots=True)
class Found:
    """Seal the founding dossier, or found the lineage once it is cleared (`decision`)."""

    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Improve:
    """Let the parent make candidate number `attempt`; `resumed` when the intent is in the log already."""

    attempt: int
    parent: Digest
    generation: int
    seed: int
    warrant: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class Try:
    """Run, or go on with, the trial of a candidate for one threshold."""

    candidate: str
    threshold: str


@dataclass(frozen=True, slots=True)
class Seal:
    """Put the candidate's dossier together for people to sign."""

    candidate: str


@dataclass(frozen=True, slots=True)
class Release:
    """Every finding is gone: issue the permit and release."""

    candidate: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Reject:
    """Something stands in the way that no waiting cures."""

    candidate: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for people at a gate: HELD."""

    dossier: Dossier
    decision: Decision


@dataclass(frozen=True, slots=True)
class Grant:
    """The `train` gate cleared: issue the warrant that this dossier describes."""

    dossier: Dossier
    decision: Decision


@dataclass(frozen=True, slots=True)
class Resume:
    """The `resume` gate cleared: lift the halt."""

    halt: Halt
    decision: Decision
    dossier: Dossier


@dataclass(frozen=True, slots=True)
class AwaitAudit:
    """Wait until a person has reviewed what was released: HELD by pace."""

    unaudited: int
    bound: int


@dataclass(frozen=True, slots=True)
class AwaitBudget:
    """Answers have said all that they may: HELD until people amend the policy."""

    finding: Finding


@dataclass(frozen=True, slots=True)
class AwaitWarrant:
    """There is no leave to train: none was given, or it is used up, or its window ended."""

    reason: str


@dataclass(frozen=True, slots=True)
class Halted:
    """A halt stands; only a quorum lifts it. `dossier` and `decision` say how far that has come, once asked for."""

    halt: Halt
    dossier: Dossier | None
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Publish:
    """Put a status leaf on top and sign a checkpoint: something happened that others must be able to see."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Have the newest head cosigned: a permit waits for it, and the policy lets no permit out before."""

    lacking: tuple[str, ...]


Step = (
    Publish
    | Witness
    | Found
    | Improve
    | Try
    | Seal
    | Release
    | Reject
    | Hold
    | Grant
    | Resume
    | AwaitAudit
    | AwaitBudget
    | AwaitWarrant
    | Halted
)


BEFORE_TRIALS = frozenset({"conduct_must_be_clean", "lineage_must_be_complete"})
"""Rules whose findings no trial could change: a candidate that they refuse is not worth a sealed run."""


def next_step(state: State, now: Instant) -> Step:
    """The one thing to do next; asks for a founded project with an adopted policy."""
    if state.published < state.noteworthy:
        return Publish()
    if state.halt is not None:
        return _halted(state, state.halt, now)
    if state.lineage is None:
        return _founding(state, now)
    open_candidate = next((c for c in state.candidates.values() if c.status == "proposed"), None)
    if open_candidate is not None and state.current is not None:
        return _weigh(state, state.current.policy, open_candidate, now)
    return _train(state, state.lineage, now)


def _asked(state: State, request: str, now: Instant) -> Dossier | None:
    """The dossier that waits for people; a refused one waits no more, so that somebody may ask anew."""
    dossier = open_dossier(state, Request(request, NO_DIGEST), now)
    return None if dossier is not None and refused_by(state, dossier, now) else dossier


def _halted(state: State, halt: Halt, now: Instant) -> Step:
    dossier = _asked(state, "ResumeLoop", now)
    if dossier is None or dossier.document.get("halt") != halt.id:
        return Halted(halt, None, None)
    decision = decide(state, Request("ResumeLoop", dossier.digest), now)
    return Resume(halt, decision, dossier) if decision.cleared else Halted(halt, dossier, decision)


def _founding(state: State, now: Instant) -> Step:
    dossier = _asked(state, "FoundLineage", now)
    if dossier is None:
        return Found(None)
    decision = decide(state, Request("FoundLineage", dossier.digest), now)
    if not decision.cleared:
        return Hold(dossier, decision)
    return _witnessing(state, dossier) or Found(decision)


def _weigh(state: State, policy: Policy, candidate: Candidate, now: Instant) -> Step:
    """Refuse at once what conduct forbids; else try every threshold, then ask people, then release or reject."""
    conduct = prepare(state, Request("ReleaseCandidate", candidate.dossier, candidate.name), now).findings
    misbehaved = tuple(f for f in conduct if f.rule in BEFORE_TRIALS)
    if misbehaved:
        return Reject(candidate.name, misbehaved)
    for threshold in policy.thresholds:
        if threshold.id not in candidate.evidence:
            lack = _output_lack(state, policy, f"{candidate.name}/{threshold.id}")
            return AwaitBudget(lack) if lack else Try(candidate.name, threshold.id)
    request = Request("ReleaseCandidate", candidate.dossier, candidate.name)
    prepared = prepare(state, request, now)
    incurable = refusals(prepared.findings)
    if incurable:
        return Reject(candidate.name, incurable)
    if prepared.findings and state.lineage is not None:
        return AwaitAudit(state.lineage.unaudited, pace_bound(state, candidate.name))
    dossier = open_dossier(state, request, now)
    if dossier is None:
        return Seal(candidate.name)
    decision = decide(state, Request(request.name, dossier.digest, candidate.name), now)
    if decision.cleared:
        return _witnessing(state, dossier) or Release(candidate.name, decision)
    incurable = refusals(decision.findings)
    return Reject(candidate.name, incurable) if incurable else Hold(dossier, decision)


def _output_lack(state: State, policy: Policy, trial: str) -> Finding | None:
    """Why nobody may be asked anything more; a trial that needs no more answers is concluded all the same."""
    known = state.trials.get(trial)
    process = known.process if known is not None else None
    if known is not None and process is not None:
        settled = finished(TrialPlan.from_json(known.plan), Process.from_json(process))
        return None if settled else _lack_of(state, policy)
    return _lack_of(state, policy)


def _lack_of(state: State, policy: Policy) -> Finding | None:
    return output_finding(policy.sandbox.output_bytes_lineage_max, state.output, starting=True)


def _witnessing(state: State, dossier: Dossier) -> Step | None:
    """What is left to do before a permit may rest on this dossier; None when nothing is (`unwitnessed`)."""
    lacking = unwitnessed(state, dossier)
    if not lacking:
        return None
    return Publish() if state.published <= last_signature(dossier) else Witness(lacking)


def _train(state: State, lineage: Lineage, now: Instant) -> Step:
    """Go on with a started attempt, or start the next one if pace and warrant allow it."""
    running = next((a for a in state.attempts.values() if not a.outcome), None)
    if running is not None:
        return Improve(running.number, running.parent, running.generation, running.seed, running.warrant, True)
    bound = pace_bound(state)
    if lineage.unaudited >= bound:
        return AwaitAudit(lineage.unaudited, bound)
    warrant = state.warrant
    lack = _why_no_leave(state, warrant, now)
    if warrant is None or lack:
        return _warrant_step(state, lack, now)
    number = len(state.attempts) + 1
    seed = state.current.policy.subject.seed * 1000 + number if state.current else number
    return Improve(number, lineage.parent.root, lineage.parent.number, seed, warrant.id, False)


def _why_no_leave(state: State, warrant: Warrant | None, now: Instant) -> str:
    if warrant is None:
        return "no warrant has been given"
    if warrant.used >= warrant.candidates_max:
        return f"the warrant for {warrant.candidates_max} candidate(s) is used up"
    if now >= warrant.expires_at:
        return "the warrant's window has ended"
    if level_of(state, "") > warrant.level_ceiling:
        return f"the lineage reached level {level_of(state, '')}; the warrant ends at level {warrant.level_ceiling}"
    looped = state.current is not None and state.current.policy.loop is not None
    used_up = findings(warrant.bounds, warrant.spent) if looped else ()
    return used_up[0].message if used_up else ""


def _warrant_step(state: State, lack: str, now: Instant) -> Step:
    dossier = _asked(state, "IssueWarrant", now)
    if dossier is None:
        return AwaitWarrant(lack)
    decision = decide(state, Request("IssueWarrant", dossier.digest), now)
    return Grant(dossier, decision) if decision.cleared else Hold(dossier, decision)
