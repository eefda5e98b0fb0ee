"""Whether what trials showed covers every threshold, is about these bytes, and is fresh enough. Doubt holds."""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.core.bounds import output_finding
from keyturn.core.finding import Finding, Request
from keyturn.core.policy import Policy, Threshold
from keyturn.core.state import Candidate, State
from keyturn.core.terms import Instant, Verdict

SECOND = 1000


def _both(state: State, request: Request) -> tuple[Policy, Candidate] | None:
    candidate = state.candidates.get(request.candidate)
    return (state.current.policy, candidate) if state.current and candidate else None


def evidence_must_cover_thresholds(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """Each threshold of the policy has a finished trial of this candidate, and no limit is open or crossed."""
    both = _both(state, request)
    if both is None:
        yield Finding("evidence_must_cover_thresholds", "there is no evidence to look at", "run: `keyturn run`")
        return
    policy, candidate = both
    for threshold in policy.thresholds:
        message = _not_shown(threshold, candidate) or _measured_otherwise(state, threshold, candidate)
        spent = output_finding(policy.sandbox.output_bytes_lineage_max, state.output, starting=True)
        if threshold.id not in candidate.evidence and spent is not None:
            yield spent
        if message:
            help = f"`keyturn trial show {candidate.name}/{threshold.id}`; a limit cannot be overridden by any quorum"
            yield Finding("evidence_must_cover_thresholds", message, help)


def _not_shown(threshold: Threshold, candidate: Candidate) -> str:
    evidence = candidate.evidence.get(threshold.id)
    if evidence is None:
        return f"threshold `{threshold.id}` has no evidence: not shown to be below counts as above"
    seen = f"{evidence.estimate:.3f} over {evidence.items} items"
    if threshold.kind == "limit" and evidence.verdict is not Verdict.CLEAR:
        what = "was shown to be above" if evidence.verdict is Verdict.TRIP else "was not shown to be below"
        return f"limit `{threshold.id}`: {seen} {what} the line {threshold.line:g} (margin {threshold.margin:g})"
    if threshold.kind == "claim" and evidence.verdict is Verdict.CLEAR:
        return f"claim `{threshold.id}`: {seen} was shown to be more than {threshold.margin:g} below what it claims"
    return ""


def _measured_otherwise(state: State, threshold: Threshold, candidate: Candidate) -> str:
    """Evidence speaks only to the question that its trial asked: a policy that asks another needs other evidence."""
    plan = state.trials[candidate.evidence[threshold.id].trial].plan
    names = ["kind", "suite", "metric", "reference"]
    if threshold.kind != "claim":  # the line of a claim is what the candidate claims, less the margin
        names += ["line", "margin"]
    for name in names:
        wanted = getattr(threshold, name)
        if plan.get(name) != wanted:
            return f"threshold `{threshold.id}` was tried with {name} `{plan.get(name)}`; the policy says `{wanted}`"
    error = plan.get("error")
    if not isinstance(error, int | float) or not error <= threshold.lifetime_error:
        return f"threshold `{threshold.id}` was tried with error {error}; {threshold.lifetime_error:g} is the most"
    return ""


def evidence_must_be_fresh(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """No piece of evidence is older than the policy's bound."""
    both = _both(state, request)
    if both is None:
        return
    policy, candidate = both
    limit = policy.freshness.evidence_seconds
    for evidence in candidate.evidence.values():
        age = now - evidence.at
        if age > limit * SECOND:
            message = f"evidence for `{evidence.threshold}` is {age / SECOND:.1f} seconds old; {limit} is the limit"
            yield Finding("evidence_must_be_fresh", message, "make a fresh candidate; evidence is not extended")
