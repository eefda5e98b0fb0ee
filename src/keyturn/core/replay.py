"""Was an entry of the log legal when it was written, by the rules of its day? Everything is decided again.

Signatures, digests over bytes and the tree are checked elsewhere (`wire`, `ledger`); this looks at what the entry says
against everything before it. It never repairs and never trusts what an entry says about itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from keyturn.core import events as ev
from keyturn.core import freeze as freezes
from keyturn.core.audit import pace_bound
from keyturn.core.bounds import findings
from keyturn.core.candidate import level_of
from keyturn.core.decision import prepare
from keyturn.core.dossier import other_dossier, release_dossier
from keyturn.core.errors import KeyturnError
from keyturn.core.finding import REQUESTS, Finding, Request
from keyturn.core.keys.governor import every_secret
from keyturn.core.keys.public import same_secret
from keyturn.core.lawful.gates import (
    SHADOW,
    Check,
    blob_erased,
    body,
    candidate_released,
    gate_decided,
    lineage_founded,
    loop_resumed,
    permit_issued,
    policy_adopted,
    same_lineage,
    warrant_issued,
)
from keyturn.core.lawful.halting import halt_drilled, halt_settled, sandbox_swept
from keyturn.core.lawful.programs import candidate_proposed, improvement_ended, programs_judged
from keyturn.core.lawful.sandboxes import sandbox_attested
from keyturn.core.lawful.trials import answers_reserved, evidence, trial_advanced, trial_ended, trial_planned
from keyturn.core.policy import Person
from keyturn.core.state import Lineage, State
from keyturn.core.terms import NO_DIGEST, Instant, Verdict

_HELP: Final = "compare the log with a copy or a witnessed head; do not act on it"
_BY_PEOPLE: Final = (ev.ApprovalGiven, ev.GenerationAudited, ev.AwarenessSigned)


def recheck(state: State, event: ev.Event) -> tuple[Finding, ...]:
    """Why `event` could not lawfully follow `state`; empty when it could.

    Ask it before folding the event. A check that breaks on what it reads yields a finding, because doubt holds.
    """
    rule = f"{_words(type(event).__name__)}_must_be_lawful"
    checks = _CHECKS.get(type(event), _nothing)
    try:
        wrong = [what for holds, what in (*_stamp(state, event), *checks(state, event)) if not holds]
    except (KeyturnError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
        wrong = [f"it cannot be decided again: {type(fault).__name__}: {fault}"]
    return tuple(Finding(rule, what, _HELP) for what in wrong)


def _words(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _nothing(state: State, event: ev.Event) -> Iterator[Check]:
    """Nothing but its stamp and what the fold checks."""
    yield from ()


def _stamp(state: State, event: ev.Event) -> Iterator[Check]:
    """The governor stamps its own entries: moments in order, and the policy in force. People stamp theirs."""
    if isinstance(event, _BY_PEOPLE):
        return
    yield event.at >= state.last_at, "it is stamped before the entry that it follows"
    if not isinstance(event, ev.ProjectFounded) and state.current is not None:
        yield event.policy == state.current.digest, "it is stamped with a policy that was not in force"


# What a dossier may say


def _dossier_sealed(state: State, event: ev.DossierSealed) -> Iterator[Check]:
    """The dossier is word for word what core puts together from this state, but for its nonce and the files' diff."""
    said = event.document
    name, now = str(said.get("request")), _moment(said, "not_before")
    if name not in REQUESTS:
        yield False, f"`{name}` is not a request"
        return
    yield state.last_at <= now <= event.at, "its window does not begin when it was sealed"
    if name == "ReleaseCandidate":
        expected = _release(state, said, now)
    else:
        expected = other_dossier(state, name, {}, nonce=str(said.get("nonce")), now=now)
    for key, value in expected.items():
        yield said.get(key) == value, f"`{key}` differs from what the log shows"
    if name == "ReleaseCandidate":
        yield set(said) == set(expected), "it says more or less than a release dossier does"


def _release(state: State, said: ev.Document, now: Instant) -> ev.Document:
    candidate = state.candidates[str(body(said, "candidate").get("name"))]
    decision = prepare(state, Request("ReleaseCandidate", NO_DIGEST, candidate.name), now)
    diff, nonce = body(said, "diff"), str(said.get("nonce"))
    return release_dossier(state, candidate, decision, changes=diff, nonce=nonce, now=now)


def _moment(document: ev.Document, key: str) -> Instant:
    value = document.get(key)
    return Instant(value if isinstance(value, int) else -1)


# The loop


def _improvement_started(state: State, event: ev.ImprovementStarted) -> Iterator[Check]:
    """Not while halted or beside another, and with leave; in shadow mode nothing is ever issued, and no leave asked."""
    lineage = state.lineage
    yield state.halt is None, "it started while a halt stood"
    yield same_lineage(state, event.lineage)
    yield all(attempt.outcome for attempt in state.attempts.values()), "another attempt was still running"
    if lineage is None:
        return
    parent = lineage.parent
    yield event.generation == parent.number, f"the parent is generation {parent.number}, not {event.generation}"
    if event.warrant == SHADOW:
        yield event.parent == (lineage.shadow or parent.root), "it did not start from the shadow's parent"
    else:
        yield from _leave(state, event, lineage)


def _leave(state: State, event: ev.ImprovementStarted, lineage: Lineage) -> Iterator[Check]:
    """A warrant with room, within its window and ceiling; in pace; from the present parent."""
    yield event.parent == lineage.parent.root, "it did not start from the present parent"
    yield lineage.unaudited < pace_bound(state), "too many generations waited for an audit"
    warrant = next((each for each in state.warrants if each.id == event.warrant), None)
    if warrant is None:
        yield False, "it started without a warrant"
        return
    yield warrant.used < warrant.candidates_max, f"the warrant for {warrant.candidates_max} candidate(s) was used up"
    yield warrant.not_before <= event.at < warrant.expires_at, "it started outside the warrant's window"
    yield level_of(state, "") <= warrant.level_ceiling, "the lineage was above the warrant's ceiling"
    if state.current is not None and state.current.policy.loop is not None:
        for finding in findings(warrant.bounds, warrant.spent):
            yield False, finding.message


def _level_raised(state: State, event: ev.LevelRaised) -> Iterator[Check]:
    threshold = state.current.policy.threshold(event.threshold) if state.current else None
    known = state.candidates.get(event.candidate)
    seen = known.evidence.get(event.threshold) if known else None
    yield same_lineage(state, event.lineage)
    yield threshold is not None and threshold.kind == "capability", f"`{event.threshold}` is no capability threshold"
    if threshold is not None:
        yield event.level == threshold.raises_to, f"the policy raises to {threshold.raises_to}, not {event.level}"
    yield seen is not None and seen.verdict is not Verdict.CLEAR, "the evidence gives no cause for it"


def _candidate_shadowed(state: State, event: ev.CandidateShadowed) -> Iterator[Check]:
    known = state.candidates.get(event.candidate)
    yield known is not None and known.root == event.root, "its bytes are not the candidate's"


# People, halts and status


def _person_signed(state: State, event: ev.GenerationAudited | ev.AwarenessSigned) -> Iterator[Check]:
    """An enrolled person, with a key of their own, in this project."""
    project, current = state.project, state.current
    if project is None or current is None:
        yield False, "there is no policy under which anyone could sign"
        return
    person = current.policy.person(event.person)
    yield person is not None, f"`{event.person}` is not enrolled"
    if person is not None:
        yield _may_sign(person, event.key, demo=project.demo), "the key is not one with which this person may sign"
        if isinstance(event, ev.GenerationAudited):
            yield event.role in person.roles, f"`{event.person}` does not hold the role `{event.role}`"
    yield (event.genesis, event.origin) == (project.genesis, project.origin), "it was signed in another project"
    if isinstance(event, ev.GenerationAudited):
        yield same_lineage(state, event.lineage)
        yield event.evidence_index <= state.size, "it names entries that were not in the log when it was given"
        yield same_secret(event.key) not in every_secret(project, state.policies), "the governor's own keys never count"


def _may_sign(person: Person, public: str, *, demo: bool) -> bool:
    return any(key.public == public and (demo or key.kind != "simulated") for key in person.keys)


def _loop_frozen(state: State, event: ev.LoopFrozen) -> Iterator[Check]:
    why = freezes.unlawful(state, event.by, event.until_at, event.at)
    yield not why, why


def _loop_thawed(state: State, event: ev.LoopThawed) -> Iterator[Check]:
    if state.freeze is not None:
        why = freezes.must_stay(state, state.freeze, event.by, event.at)
        yield not why, why


def _incident_opened(state: State, event: ev.IncidentOpened) -> Iterator[Check]:
    demo = state.project is not None and state.project.demo
    yield event.exercise is demo, f"it says exercise: {event.exercise}; a demo: {demo}"


def _status_published(state: State, event: ev.StatusPublished) -> Iterator[Check]:
    """The status is the truth about the log below it."""
    current, demo = state.current, state.project is not None and state.project.demo
    halted = state.halt is not None
    yield event.halted is halted, f"it says halted: {event.halted}; a halt stands: {halted}"
    yield set(event.revoked) == set(state.revoked), "it hides or invents a revocation"
    truth = (current.version, current.digest) if current else (0, NO_DIGEST)
    yield (event.policy_version, event.policy_digest) == truth, "it names a policy that is not in force"
    yield event.simulated is demo, f"it says simulated: {event.simulated}; a demo: {demo}"


def _checkpoint_witnessed(state: State, event: ev.CheckpointWitnessed) -> Iterator[Check]:
    """As many as the policy asks for, none of them its operator's; that they signed, `ledger.history` checks."""
    policy = state.current.policy if state.current else None
    if policy is None:
        yield False, "there is no policy that names witnesses"
        return
    counted = policy.witnesses.counted(event.parties)
    yield bool(counted), "no independent party that the policy names cosigned it"
    yield counted == event.parties, "it names parties that do not count, or in another order"
    for lack in policy.witnesses.lacking(event.parties):
        yield False, lack


_CHECKS: Mapping[type[ev.Event], Callable[[State, Any], Iterable[Check]]] = {
    ev.PolicyAdopted: policy_adopted,
    ev.LineageFounded: lineage_founded,
    ev.WarrantIssued: warrant_issued,
    ev.LoopResumed: loop_resumed,
    ev.BlobErased: blob_erased,
    ev.GateDecided: gate_decided,
    ev.DossierSealed: _dossier_sealed,
    ev.ImprovementStarted: _improvement_started,
    ev.ProgramsJudged: programs_judged,
    ev.ImprovementEnded: improvement_ended,
    ev.CandidateProposed: candidate_proposed,
    ev.LevelRaised: _level_raised,
    ev.SandboxAttested: sandbox_attested,
    ev.TrialPlanned: trial_planned,
    ev.TrialAdvanced: trial_advanced,
    ev.AnswersReserved: answers_reserved,
    ev.TrialEnded: trial_ended,
    ev.EvidenceRecorded: evidence,
    ev.PermitIssued: permit_issued,
    ev.CandidateReleased: candidate_released,
    ev.CandidateShadowed: _candidate_shadowed,
    ev.GenerationAudited: _person_signed,
    ev.AwarenessSigned: _person_signed,
    ev.HaltProven: halt_settled,
    ev.HaltUnproven: halt_settled,
    ev.HaltDrilled: halt_drilled,
    ev.SandboxSwept: sandbox_swept,
    ev.LoopFrozen: _loop_frozen,
    ev.LoopThawed: _loop_thawed,
    ev.IncidentOpened: _incident_opened,
    ev.StatusPublished: _status_published,
    ev.CheckpointWitnessed: _checkpoint_witnessed,
}
