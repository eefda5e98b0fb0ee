"""`evolve(state, event) -> state`: the only place where state changes.

The log is the only truth: a state is always the fold of `evolve` over the log's events in order, the same on every
machine. An event that cannot follow is refused, never repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from keyturn.core import events as ev
from keyturn.core.bounds import Bounds
from keyturn.core.candidate import level_of
from keyturn.core.dossier import named
from keyturn.core.errors import MalformedInput, TamperDetected
from keyturn.core.policy import Adopted, Policy
from keyturn.core.policy_reading import read_policy
from keyturn.core.programs import charged, tallied
from keyturn.core.state import (
    Approval,
    Attempt,
    Candidate,
    Dossier,
    Evidence,
    Freeze,
    Generation,
    Halt,
    Incident,
    Lineage,
    State,
    Trial,
    Warrant,
)
from keyturn.core.terms import Digest, Gate, Instant, Tier, Verdict

K = TypeVar("K")
V = TypeVar("V")

NOTEWORTHY = (
    ev.DossierSealed,
    ev.CandidateReleased,
    ev.GenerationAudited,
    ev.PermitRevoked,
    ev.HaltProven,
    ev.HaltUnproven,
    ev.LoopResumed,
)
"""What must soon stand under a published checkpoint: people sign it, or loading nodes depend on it."""


def evolve(state: State, event: ev.Event) -> State:
    """The state after `event`; raises `TamperDetected` when the event cannot stand at this place."""
    _must(state.project is not None or isinstance(event, ev.ProjectFounded), event, "before the project is founded")
    handle = _HANDLERS.get(type(event))
    try:
        after = handle(state, event) if handle is not None else state
    except MalformedInput as fault:
        raise _cannot_stand(event, f"that cannot be read ({fault.message})") from fault
    noteworthy = state.size + 1 if isinstance(event, NOTEWORTHY) else state.noteworthy
    last_at = Instant(max(state.last_at, event.at))
    return replace(after, size=state.size + 1, last_at=last_at, noteworthy=noteworthy)


def _must(holds: bool, event: ev.Event, what: str) -> None:
    if not holds:
        raise _cannot_stand(event, what)


def _cannot_stand(event: ev.Event, what: str) -> TamperDetected:
    return TamperDetected(
        f"the log holds `{type(event).__name__}` {what}, where it cannot stand",
        help="compare the log with a copy or a witnessed head; do not act on it",
    )


def _with(mapping: Mapping[K, V], key: K, value: V) -> dict[K, V]:
    return {**mapping, key: value}


def _project_founded(state: State, event: ev.ProjectFounded) -> State:
    _must(state.size == 0, event, "after its first entry")
    return replace(state, project=event)


def _policy_adopted(state: State, event: ev.PolicyAdopted) -> State:
    _must(event.version == len(state.policies) + 1, event, f"as policy {event.version}, out of turn")
    policy = read_policy(event.document)
    if not isinstance(policy, Policy):
        first = policy[0]
        raise TamperDetected(f"the log holds a policy that is none: {first.message}", help="do not act on this log")
    demo = state.project is not None and state.project.demo
    _must(policy.demo == demo, event, "that changes whether this is a demo")
    adopted = Adopted(event.version, Digest(event.digest), policy, state.size)
    dossiers = _used(state, event.dossier) if event.dossier else state.dossiers
    return replace(state, policies=(*state.policies, adopted), dossiers=dossiers)


def _used(state: State, digest: str) -> Mapping[str, Dossier]:
    """The dossiers, this one marked as used: what was cleared once is not cleared again."""
    dossier = state.dossiers.get(digest)
    return state.dossiers if dossier is None else _with(state.dossiers, digest, replace(dossier, used=True))


def _lineage_founded(state: State, event: ev.LineageFounded) -> State:
    _must(state.lineage is None, event, "a second time")
    founder = Generation(0, "founder", event.root, event.files, audited_by="the founding quorum", released_at=event.at)
    lineage = Lineage(event.lineage, (founder,))
    return replace(state, lineage=lineage, dossiers=_used(state, event.dossier))


def _warrant_issued(state: State, event: ev.WarrantIssued) -> State:
    window = (event.candidates_max, event.level_ceiling, event.not_before, event.expires_at)
    warrant = Warrant(event.warrant, event.dossier, *window, Bounds.from_json(event.bounds))
    return replace(state, warrants=(*state.warrants, warrant), dossiers=_used(state, event.dossier))


def _improvement_started(state: State, event: ev.ImprovementStarted) -> State:
    _must(event.attempt == len(state.attempts) + 1, event, f"as attempt {event.attempt}, out of turn")
    attempt = Attempt(event.attempt, event.parent, event.generation, event.seed, event.warrant, event.at)
    warrants = tuple(replace(w, used=w.used + 1) if w.id == event.warrant else w for w in state.warrants)
    return replace(state, attempts=_with(state.attempts, event.attempt, attempt), warrants=warrants)


def _sandbox_attested(state: State, event: ev.SandboxAttested) -> State:
    _must(event.tier in set(Tier), event, f"at the unknown tier `{event.tier}`")
    return replace(state, attested=_with(state.attested, event.purpose, event))


def _running(state: State, event: ev.ProgramsJudged | ev.ImprovementEnded) -> Attempt:
    attempt = state.attempts.get(event.attempt)
    _must(attempt is not None and not attempt.outcome, event, f"for attempt {event.attempt}, which does not run")
    return state.attempts[event.attempt]


def _programs_judged(state: State, event: ev.ProgramsJudged) -> State:
    after, spent = tallied(_running(state, event), event), charged(event)
    warrants = tuple(replace(w, spent=w.spent + spent) if w.id == after.warrant else w for w in state.warrants)
    return replace(state, attempts=_with(state.attempts, event.attempt, after), warrants=warrants)


def _improvement_ended(state: State, event: ev.ImprovementEnded) -> State:
    ended = replace(_running(state, event), outcome=event.outcome, detail=event.detail, diagnostics=event.diagnostics)
    return replace(state, attempts=_with(state.attempts, event.attempt, ended))


def _candidate_proposed(state: State, event: ev.CandidateProposed) -> State:
    _must(event.candidate not in state.candidates, event, f"for `{event.candidate}` a second time")
    _must(event.attempt in state.attempts, event, "without an attempt")
    candidate = Candidate(event.candidate, event.attempt, event.parent, event.root, event.files, event.claim, event.at)
    attempt = replace(state.attempts[event.attempt], candidate=event.candidate)
    return replace(
        state,
        candidates=_with(state.candidates, event.candidate, candidate),
        attempts=_with(state.attempts, event.attempt, attempt),
    )


def _candidate(state: State, event: ev.Event, name: str) -> Candidate:
    _must(name in state.candidates, event, f"for the unknown candidate `{name}`")
    return state.candidates[name]


def _trial_planned(state: State, event: ev.TrialPlanned) -> State:
    candidate = _candidate(state, event, event.candidate)
    _must(event.trial not in state.trials, event, f"for `{event.trial}` a second time")
    trial = _continued(state, candidate, Trial(event.trial, event.candidate, event.threshold, event.plan, event.at))
    after = replace(state, trials=_with(state.trials, event.trial, trial))
    lineage = state.lineage
    _must(lineage is not None, event, "before a lineage")
    charged = lineage.charges.get(event.threshold, ()) if lineage else ()
    if lineage is None or candidate.root in charged:
        return after
    return replace(
        after, lineage=replace(lineage, charges=_with(lineage.charges, event.threshold, (*charged, candidate.root)))
    )


def _continued(state: State, candidate: Candidate, trial: Trial) -> Trial:
    """The same bytes submitted again go on where their earlier trial on the same bank stopped, never at the start."""
    for earlier in reversed(tuple(state.trials.values())):
        same = earlier.threshold == trial.threshold and earlier.plan.get("bank") == trial.plan.get("bank")
        if same and state.candidates[earlier.candidate].root == candidate.root:
            return replace(trial, read=earlier.read, process=earlier.process, values=earlier.values)
    return trial


def _trial(state: State, event: ev.Event, name: str) -> Trial:
    trial = state.trials.get(name)
    _must(trial is not None and trial.verdict is None, event, f"for `{name}`, which is not open")
    return state.trials[name]


def _trial_advanced(state: State, event: ev.TrialAdvanced) -> State:
    trial = _trial(state, event, event.trial)
    _must(event.output_bytes >= 0, event, f"of {event.output_bytes} bytes")
    _must(event.start == trial.read, event, f"from item {event.start}; item {trial.read} is next")
    read = replace(
        trial,
        read=trial.read + len(event.values),
        process=event.process,
        values=(*trial.values, *event.values),
        faulty_blocks=trial.faulty_blocks + bool(event.faults),
    )
    output = state.output.count(event.output_bytes)
    return replace(state, trials=_with(state.trials, event.trial, read), output=output)


def _answers_reserved(state: State, event: ev.AnswersReserved) -> State:
    _trial(state, event, event.trial)
    _must(event.output_bytes > 0, event, f"of {event.output_bytes} bytes")
    return replace(state, output=state.output.reserve(event.trial, event.output_bytes))


def _trial_ended(state: State, event: ev.TrialEnded) -> State:
    trial = _trial(state, event, event.trial)
    _must(event.items == trial.read, event, f"with {event.items} items; {trial.read} were read")
    _must(event.verdict in set(Verdict), event, f"with the unknown verdict `{event.verdict}`")
    ended = replace(trial, verdict=Verdict(event.verdict))
    return replace(state, trials=_with(state.trials, event.trial, ended), output=state.output.settle(event.trial))


def _evidence_recorded(state: State, event: ev.EvidenceRecorded) -> State:
    candidate = _candidate(state, event, event.candidate)
    _must(event.root == candidate.root, event, f"about other bytes than those of `{candidate.name}`")
    trial = state.trials.get(event.trial)
    same = trial is not None and (trial.candidate, trial.threshold) == (event.candidate, event.threshold)
    _must(same and trial is not None and trial.verdict == event.verdict, event, "that differs from its trial")
    _must(event.threshold not in candidate.evidence, event, f"for `{event.threshold}` a second time")
    shown = (event.items, event.estimate, event.low, event.high, event.trial)
    evidence = Evidence(state.size, event.at, event.threshold, Verdict(event.verdict), *shown)
    known = replace(candidate, evidence=_with(candidate.evidence, event.threshold, evidence))
    return replace(state, candidates=_with(state.candidates, candidate.name, known))


def _level_raised(state: State, event: ev.LevelRaised) -> State:
    candidate = _candidate(state, event, event.candidate)
    level = max(event.level, candidate.raises.get(event.threshold, 0))  # levels only ever rise
    raised = replace(candidate, raises=_with(candidate.raises, event.threshold, level))
    return replace(state, candidates=_with(state.candidates, candidate.name, raised))


def _dossier_sealed(state: State, event: ev.DossierSealed) -> State:
    _must(event.dossier not in state.dossiers, event, "for the same dossier twice")
    gate = event.document.get("gate")
    _must(gate in set(Gate), event, f"for the unknown gate `{gate}`")
    dossier = Dossier(event.dossier, Gate(str(gate)), state.size, event.document, event.at, event.actor)
    after = replace(state, dossiers=_with(state.dossiers, event.dossier, dossier))
    name = named(dossier)
    if name not in state.candidates:
        return after
    candidate = replace(state.candidates[name], dossier=event.dossier)
    return replace(after, candidates=_with(state.candidates, name, candidate))


def _approval(state: State, event: ev.ApprovalGiven) -> State:
    dossier = state.dossiers.get(event.dossier)
    _must(dossier is not None, event, "for an unknown dossier")
    _must(event.id not in state.nonces, event, "a second time (its nonce was used)")
    approval = Approval(state.size, not isinstance(event, ev.ApprovalRefused), event)
    signed = replace(state.dossiers[event.dossier], approvals=(*state.dossiers[event.dossier].approvals, approval))
    return replace(
        state,
        dossiers=_with(state.dossiers, event.dossier, signed),
        nonces=state.nonces | {event.id},
    )


def _gate_decided(state: State, event: ev.GateDecided) -> State:
    dossier = state.dossiers.get(event.dossier)
    _must(dossier is not None, event, "about an unknown dossier")
    decided = replace(state.dossiers[event.dossier], decided=True)
    return replace(state, dossiers=_with(state.dossiers, event.dossier, decided))


def _permit_issued(state: State, event: ev.PermitIssued) -> State:
    _must(event.permit not in state.permits, event, f"for `{event.permit}` a second time")
    return replace(state, permits=_with(state.permits, event.permit, event), dossiers=_used(state, event.dossier))


def _permit_revoked(state: State, event: ev.PermitRevoked) -> State:
    _must(event.permit in state.permits, event, "for an unknown permit")
    return replace(state, revoked=(*state.revoked, event.permit))


def _candidate_released(state: State, event: ev.CandidateReleased) -> State:
    lineage = state.lineage
    _must(lineage is not None and event.permit in state.permits, event, "without a permit")
    if lineage is None:
        return state
    if event.generation == 0:
        founder = replace(lineage.founder, permit=event.permit)
        return replace(state, lineage=replace(lineage, generations=(founder, *lineage.generations[1:])))
    candidate = _candidate(state, event, event.candidate)
    _must(candidate.status == "proposed", event, f"for a candidate that is {candidate.status}")
    generation = Generation(
        event.generation, candidate.name, event.root, candidate.files, event.permit, released_at=event.at
    )
    level = level_of(state, candidate.name)
    grown = replace(lineage, generations=(*lineage.generations, generation), level=level)
    released = replace(candidate, status="released")
    return replace(state, lineage=grown, candidates=_with(state.candidates, candidate.name, released))


def _candidate_rejected(state: State, event: ev.CandidateRejected) -> State:
    candidate = _candidate(state, event, event.candidate)
    _must(candidate.status == "proposed", event, f"for a candidate that is {candidate.status}")
    rejected = replace(candidate, status="rejected", findings=event.findings)
    return replace(state, candidates=_with(state.candidates, candidate.name, rejected))


def _candidate_shadowed(state: State, event: ev.CandidateShadowed) -> State:
    candidate = _candidate(state, event, event.candidate)
    shadowed = replace(candidate, status="shadowed", findings=event.findings)
    lineage = state.lineage
    if lineage is not None and event.adopted:
        lineage = replace(lineage, shadow=event.root)
    return replace(state, lineage=lineage, candidates=_with(state.candidates, candidate.name, shadowed))


def _generation_audited(state: State, event: ev.GenerationAudited) -> State:
    lineage = state.lineage
    _must(lineage is not None and lineage.member(event.root) is not None, event, "for what is no generation")
    if lineage is None:
        return state
    members = tuple(replace(g, audited_by=event.person) if g.root == event.root else g for g in lineage.generations)
    return replace(state, lineage=replace(lineage, generations=members), nonces=state.nonces | {event.id})


def _halt_requested(state: State, event: ev.HaltRequested) -> State:
    halts = (*state.halts, Halt(event.halt, event.by, event.reason, event.at))
    return replace(state, halts=halts, freezes=_ended(state, event.halt))


def _ended(state: State, by: str) -> tuple[Freeze, ...]:
    """The freezes, with the one that stands ended by this."""
    return tuple(each if each.ended else replace(each, ended=by) for each in state.freezes)


def _loop_frozen(state: State, event: ev.LoopFrozen) -> State:
    _must(all(each.id != event.freeze for each in state.freezes), event, "twice")
    freeze = Freeze(event.freeze, event.by, event.reason, event.at, event.until_at)
    return replace(state, freezes=(*state.freezes, freeze))


def _loop_thawed(state: State, event: ev.LoopThawed) -> State:
    _must(state.freeze is not None and state.freeze.id == event.freeze, event, "for no standing freeze")
    return replace(state, freezes=_ended(state, event.by))


def _halt_settled(state: State, event: ev.HaltProven | ev.HaltUnproven) -> State:
    _must(any(halt.id == event.halt for halt in state.halts), event, "for an unknown halt")
    proven = isinstance(event, ev.HaltProven)
    halts = tuple(
        replace(halt, proven=proven, receipt=event.receipt) if halt.id == event.halt else halt for halt in state.halts
    )
    return replace(state, halts=halts)


def _halt_drilled(state: State, event: ev.HaltDrilled) -> State:
    return replace(state, drill=event)


def _loop_resumed(state: State, event: ev.LoopResumed) -> State:
    _must(any(halt.id == event.halt and not halt.resumed for halt in state.halts), event, "for no standing halt")
    halts = tuple(replace(halt, resumed=True) if halt.id == event.halt else halt for halt in state.halts)
    return replace(state, halts=halts, dossiers=_used(state, event.dossier))


def _incident_opened(state: State, event: ev.IncidentOpened) -> State:
    about = (event.summary, event.at, event.attempt, event.candidate, event.facts, event.exercise)
    incident = Incident(event.incident, event.kind, *about)
    return replace(state, incidents=_with(state.incidents, event.incident, incident))


def _awareness_signed(state: State, event: ev.AwarenessSigned) -> State:
    _must(event.incident in state.incidents, event, "for an unknown incident")
    incident = state.incidents[event.incident]
    aware = replace(incident, moments=_with(incident.moments, event.moment, event))
    return replace(state, incidents=_with(state.incidents, event.incident, aware), nonces=state.nonces | {event.id})


def _blob_erased(state: State, event: ev.BlobErased) -> State:
    _must(event.blob not in state.erased, event, "for the same blob twice")
    return replace(state, erased=state.erased | {event.blob}, dossiers=_used(state, event.dossier))


def _status_published(state: State, event: ev.StatusPublished) -> State:
    _must(event.counter == state.status_counter + 1, event, f"as number {event.counter}, out of turn")
    return replace(state, published=state.size + 1, status_counter=event.counter)


def _checkpoint_witnessed(state: State, event: ev.CheckpointWitnessed) -> State:
    _must(
        event.size == state.published, event, f"about a head of {event.size} entries; {state.published} is the newest"
    )
    return replace(state, witnessed=event.size, cosigners=event.parties)


_HANDLERS: dict[type[ev.Event], Callable[[State, Any], State]] = {
    ev.ProjectFounded: _project_founded,
    ev.PolicyAdopted: _policy_adopted,
    ev.LineageFounded: _lineage_founded,
    ev.WarrantIssued: _warrant_issued,
    ev.ImprovementStarted: _improvement_started,
    ev.SandboxAttested: _sandbox_attested,
    ev.ProgramsJudged: _programs_judged,
    ev.ImprovementEnded: _improvement_ended,
    ev.CandidateProposed: _candidate_proposed,
    ev.TrialPlanned: _trial_planned,
    ev.TrialAdvanced: _trial_advanced,
    ev.AnswersReserved: _answers_reserved,
    ev.TrialEnded: _trial_ended,
    ev.EvidenceRecorded: _evidence_recorded,
    ev.LevelRaised: _level_raised,
    ev.DossierSealed: _dossier_sealed,
    ev.ApprovalGiven: _approval,
    ev.ApprovalRefused: _approval,
    ev.GateDecided: _gate_decided,
    ev.PermitIssued: _permit_issued,
    ev.PermitRevoked: _permit_revoked,
    ev.CandidateReleased: _candidate_released,
    ev.CandidateRejected: _candidate_rejected,
    ev.CandidateShadowed: _candidate_shadowed,
    ev.GenerationAudited: _generation_audited,
    ev.HaltRequested: _halt_requested,
    ev.LoopFrozen: _loop_frozen,
    ev.LoopThawed: _loop_thawed,
    ev.HaltProven: _halt_settled,
    ev.HaltUnproven: _halt_settled,
    ev.HaltDrilled: _halt_drilled,
    ev.LoopResumed: _loop_resumed,
    ev.IncidentOpened: _incident_opened,
    ev.AwarenessSigned: _awareness_signed,
    ev.BlobErased: _blob_erased,
    ev.StatusPublished: _status_published,
    ev.CheckpointWitnessed: _checkpoint_witnessed,
}
