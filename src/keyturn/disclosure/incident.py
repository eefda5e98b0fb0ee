"""The clocks of one incident, as rows for a screen: urgent ones first, every row with its source and its doubt.

Never says what an incident is in law; where its kind leaves that open, the row says that a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from keyturn.core.terms import Instant, Json
from keyturn.disclosure.clocks import ClockState, Deadline, Profile, applicable, deadline, shortest, utc
from keyturn.disclosure.regimes import Kind, Regime, Regimes

_ORDER: Final = (
    ClockState.OVERDUE,
    ClockState.RUNNING,
    ClockState.PROVISIONAL,
    ClockState.NOT_STARTED,
    ClockState.SET_ASIDE,
    ClockState.FILED,
)


@dataclass(frozen=True, slots=True)
class ClockRow:
    """One line of `keyturn incident show`: a duty, its clock, and where the duty stands written.

    `certain` is false where a person must first say whether the incident is of a kind that the duty names.
    `trigger` is in words, `sign` names the moments that `keyturn incident aware` would start it with.
    """

    regime: str
    law: str
    title: str
    trigger: str
    sign: tuple[str, ...]
    due: str
    deadline: Deadline
    recipient: str
    source: str
    as_of: str
    status: str
    confidence: str
    certain: bool
    why: str
    note: str

    @property
    def state(self) -> str:
        """The state in words, marked EXERCISE in a demo."""
        exercise = "EXERCISE, " if self.deadline.exercise else ""
        late = ", late" if self.deadline.late else ""
        return f"{exercise}{self.deadline.state}{late}"

    def to_json(self) -> dict[str, Json]:
        """The row as one JSON object, for `--json`."""
        clock = self.deadline
        return {
            "regime": self.regime,
            "law": self.law,
            "title": self.title,
            "trigger": self.trigger,
            "sign": list(self.sign),
            "state": clock.state.value,
            "due": self.due,
            "due_at": clock.due_at,
            "from_moment": clock.from_moment,
            "from_at": clock.from_at,
            "signed": clock.signed,
            "filed_at": clock.filed_at,
            "late": clock.late,
            "exercise": clock.exercise,
            "recipient": self.recipient,
            "source": self.source,
            "as_of": self.as_of,
            "status": self.status,
            "confidence": self.confidence,
            "certain": self.certain,
            "why": self.why,
            "note": self.note,
        }


def kinds_of(kind: str, regimes: Regimes) -> tuple[frozenset[str], frozenset[str]]:
    """Which kinds that the law names an incident is, and which it may be; an unknown kind may be any of them.

    Underscores read as hyphens, so the log's own words (`decoy_opened`) serve.
    """
    found = regimes.kinds.get(kind.replace("_", "-"))
    if found is None:
        return frozenset(), frozenset(row.id for row in regimes.kinds.values() if row.named_by_law)
    certain = frozenset({found.id} if found.named_by_law else ())
    return certain, frozenset(found.may_be) - certain


def clocks_for(
    kind: str,
    profile: Profile,
    moments: Mapping[str, Instant],
    at: Instant,
    *,
    regimes: Regimes,
    filed: Mapping[str, Instant] | None = None,
) -> tuple[ClockRow, ...]:
    """The rows of every incident clock that can apply at `at`, urgent first; none for regimes that cannot.

    `filed` maps a regime's id to when its report was filed. `at` is now: a law that has taken effect since the
    incident counts (strict reading). Raises MalformedInput for a moment that lies after `at`.
    """
    certain, maybe = kinds_of(kind, regimes)
    named = {row.regime.id: row for row in applicable(profile, regimes.regimes, at) if row.applies}
    chosen = [regime for regime in regimes.regimes if regime.id in named and _concerns(regime, certain | maybe)]
    governing = shortest(chosen)
    rows = []
    for regime in chosen:
        clock = deadline(regime, moments, at, filed_at=(filed or {}).get(regime.id), exercise=profile.demo)
        clock = _give_way(regime, clock, governing)
        rows.append(_row(regime, clock, certain=_concerns(regime, certain), why=named[regime.id].why))
    return tuple(sorted(rows, key=_urgency))


def _concerns(regime: Regime, kinds: frozenset[str]) -> bool:
    return regime.scope == "incident" and not kinds.isdisjoint(regime.conditions.incident_kinds)


def _give_way(regime: Regime, clock: Deadline, governing: Mapping[str, str]) -> Deadline:
    """Set a clock aside, with the reason, where a shorter one of the same article governs; it stays visible."""
    if regime.shortest_of is None or governing[regime.shortest_of] == regime.id or clock.state is ClockState.FILED:
        return clock
    note = f"exactly one period of this article applies, the shortest: see {governing[regime.shortest_of]}"
    return replace(clock, state=ClockState.SET_ASIDE, note=note)


def _row(regime: Regime, clock: Deadline, *, certain: bool, why: str) -> ClockRow:
    return ClockRow(
        regime=regime.id,
        law=regime.regime,
        title=regime.title,
        trigger=regime.trigger.words,
        sign=regime.trigger.moments,
        due=due_words(regime, clock),
        deadline=clock,
        recipient=regime.recipient,
        source=regime.source,
        as_of=regime.as_of,
        status=regime.status,
        confidence=regime.confidence.value,
        certain=certain,
        why=why if certain else f"{why}; a person decides whether the incident is of a kind that this duty names",
        note="; ".join(part for part in (clock.note, regime.note) if part),
    )


def due_words(regime: Regime, clock: Deadline) -> str:
    """When a duty is due, in words: an instant where one can be computed, else what the law leaves."""
    if clock.due_at is not None:
        return utc(clock.due_at)
    if regime.period is None:
        return regime.kind.value
    preposition = "before" if regime.kind is Kind.FINISH_BEFORE else "after"
    return f"{regime.period} {preposition} the start"


def _urgency(row: ClockRow) -> tuple[int, float, str]:
    due_at = row.deadline.due_at
    return _ORDER.index(row.deadline.state), float("inf") if due_at is None else due_at, row.regime
