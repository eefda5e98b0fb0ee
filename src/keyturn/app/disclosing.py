"""Which legal clocks an incident starts for this project, and a draft that fills itself from the log."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.app.wiring import SystemClock
from keyturn.core.errors import MalformedInput
from keyturn.core.policy import Policy
from keyturn.core.state import Incident, State
from keyturn.core.terms import Instant
from keyturn.disclosure import draft as drafts
from keyturn.disclosure.clocks import Profile, applicable
from keyturn.disclosure.incident import ClockRow as Row
from keyturn.disclosure.incident import clocks_for
from keyturn.disclosure.reading import load_regimes


@dataclass(frozen=True, slots=True)
class ClockRow:
    """One duty and its clock, as a door shows it."""

    regime: str
    state: str
    due_at: Instant | None
    trigger: str
    recipient: str
    source: str
    as_of: str
    confidence: str
    exercise: bool
    why: str


def find_incident(state: State, prefix: str) -> Incident:
    """The incident whose id begins so."""
    fitting = [each for each in state.incidents.values() if each.id.startswith(prefix)]
    if len(fitting) != 1:
        known = ", ".join(state.incidents) or "none"
        raise MalformedInput(f"`{prefix}` names {len(fitting)} incidents; one is expected", help=f"known: {known}")
    return fitting[0]


def clocks(state: State, incident: Incident) -> tuple[ClockRow, ...]:
    """The clocks that apply, then the regimes that do not and why not."""
    policy = _policy(state)
    regimes, now = load_regimes(), SystemClock().now()
    profile = _profile(policy)
    rows = clocks_for(incident.kind, profile, _moments(incident), now, regimes=regimes)
    shown = tuple(_row(each) for each in rows)
    idle = tuple(
        ClockRow(
            each.regime.regime, "does not apply", None, "", each.regime.recipient, each.regime.source,
            str(each.regime.as_of), str(each.regime.confidence), incident.exercise, each.why,
        )
        for each in applicable(profile, regimes.regimes, now)
        if not each.applies
    )  # fmt: skip  # one row of fields reads best as rows
    return shown + idle


def draft(state: State, incident: Incident) -> str:
    """The incident report as far as the log can fill it; it says what it lacks, and that it is not legal advice."""
    policy, regimes, now = _policy(state), load_regimes(), SystemClock().now()
    rows = clocks_for(incident.kind, _profile(policy), _moments(incident), now, regimes=regimes)
    about = drafts.IncidentFacts(incident.id, incident.kind, incident.summary, incident.detected_at, incident.exercise)
    facts = {key: str(value) for key, value in incident.facts.items()}
    return drafts.draft(about, rows, facts, regimes=regimes, at=now)


def _policy(state: State) -> Policy:
    if state.current is None:
        raise MalformedInput("no policy is adopted", help="`keyturn init`")
    return state.current.policy


def _profile(policy: Policy) -> Profile:
    said = policy.applicability
    return Profile(said.role, said.jurisdictions, said.training_flop, said.revenue_usd, policy.demo)


def _moments(incident: Incident) -> dict[str, Instant]:
    signed = {name: Instant(event.moment_at) for name, event in incident.moments.items()}
    return {"detected_at": incident.detected_at, **signed}


def _row(row: Row) -> ClockRow:
    return ClockRow(
        f"{row.law}: {row.title}", row.state, row.deadline.due_at, row.trigger, row.recipient, row.source,
        row.as_of, row.confidence, row.deadline.exercise, row.why or row.note,
    )  # fmt: skip  # one row of fields reads best as rows
