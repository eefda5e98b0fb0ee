"""Shadow mode: let the loop go on by itself, record what would have been held, issue nothing.

Meant for the first week beside a loop that exists. A candidate made here can never be released: no warrant covers it.
"""

from __future__ import annotations

from dataclasses import replace

from keyturn.core import events as ev
from keyturn.core.agenda import Halted, Improve, Step, Try, next_step
from keyturn.core.approval import row_of
from keyturn.core.candidate import files_of
from keyturn.core.decision import prepare
from keyturn.core.errors import Conflict, MalformedInput
from keyturn.core.finding import Finding, Request
from keyturn.core.lawful.gates import SHADOW
from keyturn.core.state import Candidate, Generation, State
from keyturn.core.terms import NO_DIGEST
from keyturn.flow import freeze
from keyturn.flow.governor import Governor
from keyturn.flow.halt import record_latched, trace
from keyturn.flow.improve import improve
from keyturn.flow.ports import HeldStill, Interrupted
from keyturn.flow.trial import try_


def run_shadow(governor: Governor, *, candidates: int = 1) -> Step:
    """Make and try this many candidates, each from the one before, and record what every gate would have said."""
    record_latched(governor)
    governor.log.sign_published()
    made = 0
    while made < candidates and governor.log.refresh().halt is None:
        if freeze.wait(governor):
            continue
        try:
            _one(governor)
        except (Conflict, HeldStill):
            continue  # somebody else wrote, or holds everything still: read again, go on where the log says
        except Interrupted:
            trace(governor)
        else:
            made += 1
    step = next_step(governor.state, governor.log.now())
    if not isinstance(step, Halted):
        governor.log.publish()
    return next_step(governor.state, governor.log.now())


def _one(governor: Governor) -> None:
    running = next((a for a in governor.state.attempts.values() if not a.outcome), None)
    if running is not None and running.warrant != SHADOW:
        raise MalformedInput(
            f"attempt {running.number} is open under the warrant `{running.warrant}`; shadow mode cannot run beside it",
            help="let it end first: run without `--shadow`",
        )
    waiting = _waiting(governor)
    if waiting is None:
        lineage = governor.lineage
        number = running.number if running else len(governor.state.attempts) + 1
        parent = lineage.shadow or lineage.parent.root
        seed = governor.policy.subject.seed * 1000 + number
        improve(governor, Improve(number, parent, lineage.parent.number, seed, SHADOW, running is not None))
        waiting = _waiting(governor)
    if waiting is not None:
        _weigh(governor, waiting)


def _waiting(governor: Governor) -> Candidate | None:
    state = governor.state
    made = (c for c in state.candidates.values() if c.status == "proposed")
    return next((c for c in made if state.attempts[c.attempt].warrant == SHADOW), None)


def _weigh(governor: Governor, candidate: Candidate) -> None:
    for threshold in governor.policy.thresholds:
        if threshold.id not in governor.state.candidates[candidate.name].evidence:
            try_(governor, Try(candidate.name, threshold.id))
    findings = would_hold(governor, candidate.name)
    governor.log.record(
        lambda stamp: ev.CandidateShadowed(
            **stamp,
            candidate=candidate.name,
            root=candidate.root,
            adopted=True,
            findings=tuple(finding.to_json() for finding in findings),
        )
    )


def _as_if_released(state: State) -> State:
    """The state as it would be had the shadow's parent been released: that it was not is no fault of its child."""
    lineage = state.lineage
    if lineage is None or not lineage.shadow:
        return state
    parent = Generation(lineage.parent.number + 1, SHADOW, lineage.shadow, files_of(state, lineage.shadow))
    return replace(state, lineage=replace(lineage, generations=(*lineage.generations, parent)))


def would_hold(governor: Governor, name: str) -> tuple[Finding, ...]:
    """What the release gate would have found, and whom it would have waited for."""
    request = Request("ReleaseCandidate", NO_DIGEST, name)
    decision = prepare(_as_if_released(governor.state), request, governor.log.now())
    found = [finding for finding in decision.findings if finding.rule != "warrant_must_cover"]
    row = row_of(governor.state, request)
    for seat in row.quorum if row else ():
        message = f"{seat.persons} approval(s) in the role `{seat.role}` would have been asked for"
        found.append(Finding("quorum_must_be_met", message, "run without `--shadow` to be asked"))
    return tuple(found)
