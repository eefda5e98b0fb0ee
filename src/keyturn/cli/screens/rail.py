"""The lineage in the order in which it happened, with what each candidate was shown to be: for text and for pictures.

Never adds a figure of its own: everything is read from the state, and what was not measured stays absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyturn.cli.screen import safe
from keyturn.cli.screens.evidence import measures
from keyturn.cli.screens.scale import Measure, figure
from keyturn.core.policy import Threshold
from keyturn.core.state import Candidate, Generation, Halt, State
from keyturn.core.terms import Instant

REASON_MAX = 46


@dataclass(frozen=True, slots=True)
class Point:
    """One member of the picture; `generation` is None for a candidate that was not released."""

    name: str
    at: Instant
    status: str
    generation: int | None
    raised_to: int | None
    audited_by: str
    reason: str
    capability: Measure | None
    charter: Measure | None


@dataclass(frozen=True, slots=True)
class Rail:
    """The founder and every candidate in order, the halts, and which thresholds the two panels show."""

    points: tuple[Point, ...]
    halts: tuple[Halt, ...]
    capability: Threshold | None
    charter: Threshold | None
    level: int


def rail(state: State) -> Rail:
    """The rail of a state: a founder first, where a lineage is founded."""
    policy = state.current.policy if state.current else None
    thresholds = policy.thresholds if policy else ()
    capability = next((t for t in thresholds if t.kind == "capability"), None)
    charter = next((t for t in thresholds if t.kind == "limit" and not t.reference), None)
    points = [_founder(state.lineage.founder)] if state.lineage else []
    level = 0
    for candidate in state.candidates.values():
        point = _point(state, candidate, capability, charter, level)
        level = point.raised_to if point.raised_to is not None and point.status == "released" else level
        points.append(point)
    reached = state.lineage.level if state.lineage else 0
    return Rail(tuple(points), state.halts, capability, charter, reached)


def _founder(founder: Generation) -> Point:
    return Point(founder.candidate, founder.released_at, "founder", 0, None, founder.audited_by, "", None, None)


def _point(
    state: State, candidate: Candidate, capability: Threshold | None, charter: Threshold | None, level: int
) -> Point:
    lineage = state.lineage
    member = next((g for g in lineage.generations if g.candidate == candidate.name), None) if lineage else None
    seen = {measure.threshold: measure for measure in measures(state, candidate)}
    tops = [value for value in candidate.raises.values() if value > level]
    return Point(
        name=candidate.name,
        at=candidate.proposed_at,
        status=candidate.status,
        generation=member.number if member else None,
        raised_to=max(tops) if tops else None,
        audited_by=member.audited_by if member else "",
        reason="" if candidate.status in {"released", "proposed"} else reason(state, candidate),
        capability=_measured(seen, capability),
        charter=_measured(seen, charter),
    )


def _measured(seen: Mapping[str, Measure], threshold: Threshold | None) -> Measure | None:
    measure = seen.get(threshold.id) if threshold else None
    return measure if measure is not None and measure.verdict != "missing" else None


def reason(state: State, candidate: Candidate) -> str:
    """Why a candidate was not released, in a few words, from its findings and evidence."""
    rules = [str(finding.get("rule")) for finding in candidate.findings]
    if "conduct_must_be_clean" in rules:
        kinds = [
            incident.kind
            for incident in state.incidents.values()
            if incident.candidate == candidate.name or incident.attempt == candidate.attempt
        ]
        return safe(f"incident: {', '.join(dict.fromkeys(kinds)) or 'see its findings'}", REASON_MAX)
    if "evidence_must_cover_thresholds" in rules:
        parts = [_few(measure) for measure in measures(state, candidate) if measure.holds]
        if parts:
            return safe("; ".join(parts), REASON_MAX)
    if "nobody_must_have_refused" in rules:
        dossier = state.dossiers.get(candidate.dossier)
        names = [each.event.person for each in dossier.approvals if not each.approve] if dossier else []
        return safe(f"refused by {', '.join(names) or 'a person'}", REASON_MAX)
    if rules:
        return safe(_RULES.get(rules[0], rules[0].replace("_", " ")), REASON_MAX)
    return "shadow mode: nothing was held" if candidate.status == "shadowed" else ""


_RULES = {
    "sandbox_must_be_tight": "its sandbox was too weak",
    "warrant_must_cover": "beyond its warrant",
    "evidence_must_be_fresh": "its evidence grew old",
    "lineage_must_be_complete": "not a successor of the parent",
}


def _few(measure: Measure) -> str:
    what = {"TRIP": "over", "UNDECIDED": "not shown within", "missing": "not tried on"}.get(measure.verdict, "over")
    if measure.kind == "claim" and measure.verdict == "CLEAR":
        return f"claim refuted ({figure(measure.estimate, measure.reference)})"
    seen = f" ({figure(measure.estimate, measure.reference)})" if measure.verdict != "missing" else ""
    return f"{what} {measure.threshold}{seen}"


def halts_before(found: Rail, place: int) -> tuple[Halt, ...]:
    """The halts between the point before `place` and the one at `place`; `place` may be one past the last."""
    after = found.points[place - 1].at if place else 0
    until = found.points[place].at if place < len(found.points) else None
    return tuple(
        halt for halt in found.halts if halt.requested_at >= after and (until is None or halt.requested_at < until)
    )
