"""The one object that an approver signs, put together from what the log holds; nothing in it is the subject's prose."""

from __future__ import annotations

from keyturn.core.candidate import level_of
from keyturn.core.events import Document
from keyturn.core.evidence import SECOND
from keyturn.core.finding import REQUESTS, Decision, Finding, Request
from keyturn.core.policy import GateRow, Threshold
from keyturn.core.programs import summary
from keyturn.core.state import Candidate, Dossier, Lineage, State
from keyturn.core.terms import Digest, Instant, Json

UNWITNESSED = "the log has no witnesses: UNWITNESSED"
UNCHECKED = (
    "weights are compared by digest and by behaviour only, not layer by layer",
    "no elicitation arm was run: a candidate that hides ability on purpose is not detected",
    UNWITNESSED,
)
"""What no part of this release looks at; every dossier says so."""

UNCHECKED_IN_A_LOOP = (
    "what its programs scored is their loop's own word: it steered the search, and nothing here rests on it",
    "an admitted program was refused by no rule, and no more: the other programs of the run were not tried",
)
"""What else nobody looked at where a loop of somebody else's made the candidate."""

CLAIM_LEAST, CLAIM_MOST = 0.02, 0.98
"""Where a claim less its margin may lie, so that it can be tested at all."""


def release_dossier(
    state: State, candidate: Candidate, decision: Decision, *, changes: Document, nonce: str, now: Instant
) -> Document:
    """The dossier for `release` of this candidate; `changes` is the diff of its files from the parent's."""
    lineage, level = state.lineage, level_of(state, candidate.name)
    body: Document = {
        "candidate": {
            "name": candidate.name,
            "root": candidate.root,
            "files": list(candidate.files),
            "bytes": sum(_size(file) for file in candidate.files),
            "attempt": candidate.attempt,
        },
        "parent_root": candidate.parent,
        "founder_root": lineage.founder.root if lineage else "",
        "audited_root": lineage.audited.root if lineage else "",
        "generation": lineage.parent.number + 1 if lineage else 0,
        "diff": changes,
        "level": level,
        "evidence": [_evidence(state, candidate, t) for t in _thresholds(state)],
        "claims_vs_verified": _claims(state, candidate),
        "findings": [finding.to_json() for finding in decision.findings],
        "unchecked": list(_unchecked(state)),
        "pace": _pace(lineage, state, level),
    }
    made = state.attempts.get(candidate.attempt)
    if made is not None and made.batches:
        body |= {"programs": summary(state, made), "unchecked": [*_unchecked(state), *UNCHECKED_IN_A_LOOP]}
    return {**_frame(state, "ReleaseCandidate", candidate.name, nonce, now), **body}


def other_dossier(state: State, request: str, body: Document, *, nonce: str, now: Instant) -> Document:
    """The dossier for any other request: the common frame and what `body` says it is about."""
    return {**_frame(state, request, "", nonce, now), **body}


def _frame(state: State, request: str, candidate: str, nonce: str, now: Instant) -> Document:
    """What every dossier names: gate, trust root, policy, scope and window."""
    current, project, gate = state.current, state.project, REQUESTS[request]
    level = level_of(state, candidate)
    row = current.policy.row(gate, level) if current else None
    frame: Document = {
        "request": request,
        "gate": gate,
        "level": level,
        "lineage": project.name if project else "",
        "genesis": project.genesis if project else "",
        "policy": {"digest": current.digest if current else "", "version": current.version if current else 0},
        "scope": "this lineage, on governed machines",
        "quorum": _seats(row),
        "not_before": now,
        "not_after": now + (row.expires_after_seconds if row else 0) * SECOND,
        "nonce": nonce,
        "origin": project.origin if project else "",
    }
    return frame


def _unchecked(state: State) -> tuple[str, ...]:
    """What nobody looked at; that the log has no witnesses is said where the policy asks for none."""
    asks = state.current is not None and state.current.policy.witnesses.required > 0
    return tuple(line for line in UNCHECKED if not (asks and line == UNWITNESSED))


def _seats(row: GateRow | None) -> list[Json]:
    return [{"role": seat.role, "persons": seat.persons} for seat in row.quorum] if row else []


def _thresholds(state: State) -> tuple[Threshold, ...]:
    return state.current.policy.thresholds if state.current else ()


def _evidence(state: State, candidate: Candidate, threshold: Threshold) -> Document:
    """One row of the evidence table; a threshold without evidence stands there as `missing`."""
    evidence = candidate.evidence.get(threshold.id)
    row: Document = {
        "threshold": threshold.id,
        "kind": threshold.kind,
        "metric": threshold.metric,
        "reference": threshold.reference,
        "line": threshold.line if threshold.kind != "claim" else claimed(candidate, threshold.metric),
        "margin": threshold.margin,
    }
    if evidence is None:
        return {**row, "verdict": "missing"}
    return {
        **row,
        "leaf": evidence.index,
        "verdict": evidence.verdict,
        "items": evidence.items,
        "estimate": evidence.estimate,
        "low": evidence.low,
        "high": evidence.high,
    }


def claimed(candidate: Candidate, metric: str) -> float:
    """What the candidate claims for itself in this metric; 1 when it claims nothing legible."""
    value = candidate.claim.get(metric)
    legible = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if legible and isinstance(value, int | float) else 1.0


def claim_line(candidate: Candidate, threshold: Threshold) -> float:
    """The line of a claim's trial: what is claimed less the margin, kept where it can be tested at all."""
    return min(max(claimed(candidate, threshold.metric) - threshold.margin, CLAIM_LEAST), CLAIM_MOST)


def _claims(state: State, candidate: Candidate) -> list[Json]:
    rows: list[Json] = []
    for threshold in _thresholds(state):
        evidence = candidate.evidence.get(threshold.id)
        if threshold.kind == "claim" and evidence is not None:
            said = claimed(candidate, threshold.metric)
            rows.append({"metric": threshold.metric, "claimed": said, "verified": evidence.estimate})
    return rows


def _pace(lineage: Lineage | None, state: State, level: int) -> Document:
    rung = state.current.policy.level(level) if state.current else None
    return {"unaudited": lineage.unaudited if lineage else 0, "unaudited_max": rung.unaudited_max if rung else 0}


def _size(file: Document) -> int:
    size = file.get("bytes")
    return size if isinstance(size, int) else 0


def open_dossier(state: State, request: Request, now: Instant) -> Dossier | None:
    """The newest dossier that fits this request and is neither used nor past its window."""
    fitting = [
        dossier
        for dossier in state.dossiers.values()
        if not dossier.used and now < moment(dossier, "not_after") and not unfit(state, dossier, request)
    ]
    return fitting[-1] if fitting else None


def unfit(state: State, dossier: Dossier, request: Request) -> str:
    """Why this dossier is not about this request as things stand now; empty when it is.

    What is signed is what ships (promise 6): the same request and candidate, the same bytes, no evidence that came
    after it was sealed, and the policy and the level under which it was sealed.
    """
    document, candidate, current = dossier.document, state.candidates.get(request.candidate), state.current
    policy = {"digest": current.digest, "version": current.version} if current else {}
    body = document.get("candidate")
    root = body.get("root") if isinstance(body, dict) else None
    latest = max((evidence.index for evidence in candidate.evidence.values()), default=0) if candidate else 0
    checks = (
        (document.get("request") == request.name, f"it is about the request `{document.get('request')}`"),
        (dossier.gate is REQUESTS[request.name], f"it waits at the gate `{dossier.gate}`"),
        (request.candidate in ("", named(dossier)), f"it is about the candidate `{named(dossier)}`"),
        (candidate is None or root == candidate.root, "it is about other bytes than the candidate's"),
        (latest < dossier.index, "evidence was recorded after it was sealed"),
        (document.get("policy") == policy, "it was sealed under another policy"),
        (document.get("level") == level_of(state, request.candidate), "it was sealed for another level"),
    )
    return next((reason for holds, reason in checks if not holds), "")


def named(dossier: Dossier) -> str:
    """The candidate that a dossier is about; empty when it is about none."""
    body = dossier.document.get("candidate")
    return str(body.get("name")) if isinstance(body, dict) else ""


def moment(dossier: Dossier, key: str) -> int:
    """A moment that a dossier names; 0, and so long ago, when it names none."""
    value = dossier.document.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def as_request(dossier: Dossier) -> Request:
    """The request that a sealed dossier is about."""
    return Request(str(dossier.document.get("request")), Digest(dossier.digest), named(dossier))


def refusals(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings that no waiting can cure: neither people nor an audit nor a resume would change them."""
    curable = {
        "halt_must_be_lifted",
        "pace_must_hold",
        "quorum_must_be_met",
        "dossier_must_be_unused",
        "dossier_must_fit",
    }
    return tuple(finding for finding in findings if finding.rule not in curable)
