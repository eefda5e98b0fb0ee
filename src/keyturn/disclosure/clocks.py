"""Which regimes can apply, and when each clock is due: pure, from a profile, the signed moments, and the time.

Never starts a clock for a regime that cannot apply, never computes a deadline that no source lets us compute, and
never lets an unsigned detection look like a signed moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from keyturn.core.errors import MalformedInput, invariant
from keyturn.core.terms import Instant
from keyturn.disclosure.regimes import DETECTED, Kind, Regime

ROLES: Final = ("developer", "provider", "deployer")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a project states about itself; `training_flop` counts the whole lineage, later tuning included.

    `high_risk_system` and `code_signatory` may be left unsaid; what is unsaid is taken as true, because a clock
    too many can be set aside and one too few cannot be made good.
    """

    role: str
    jurisdictions: tuple[str, ...]
    training_flop: float
    revenue_usd: float
    demo: bool = False
    high_risk_system: bool | None = None
    code_signatory: bool | None = None

    def says(self, need: str) -> bool | None:
        """What the project says about a need of a regime; None where it says nothing."""
        said = {"high-risk-system": self.high_risk_system, "code-signatory": self.code_signatory}
        return said.get(need)


@dataclass(frozen=True, slots=True)
class Applicability:
    """Whether a regime can apply to this project at this moment, and why."""

    regime: Regime
    applies: bool
    why: str


class ClockState(StrEnum):
    """How a clock stands."""

    NOT_STARTED = "not started"
    PROVISIONAL = "provisional"
    RUNNING = "running"
    OVERDUE = "overdue"
    FILED = "filed"
    SET_ASIDE = "set aside"


@dataclass(frozen=True, slots=True)
class Deadline:
    """One clock: its state, the moment it counts from, whether a person signed that moment, and when it is due.

    `due_at` is None where nothing has started or no source lets us compute it; `note` then says which.
    """

    regime: str
    state: ClockState
    due_at: Instant | None
    from_moment: str
    from_at: Instant | None
    signed: bool
    filed_at: Instant | None
    late: bool
    exercise: bool
    note: str


def utc(at: Instant) -> str:
    """Write a moment as `2027-01-01T00:00:00Z`, to the second below."""
    whole = (_EPOCH + timedelta(milliseconds=at)).replace(microsecond=0)
    return whole.isoformat().replace("+00:00", "Z")


# --- applicability ----------------------------------------------------------------------------------------


def applicable(profile: Profile, regimes: Iterable[Regime], at: Instant) -> tuple[Applicability, ...]:
    """Say of every regime, in the given order, whether it can apply to this project at `at`, with all reasons."""
    return tuple(_applicability(profile, regime, at) for regime in regimes)


def _applicability(profile: Profile, regime: Regime, at: Instant) -> Applicability:
    excluded = [why for rule in _EXCLUSIONS if (why := rule(profile, regime, at)) is not None]
    if excluded:
        return Applicability(regime, applies=False, why="; ".join(excluded))
    unsaid = [need for need in regime.conditions.needs if profile.says(need) is None]
    if unsaid:
        why = f"the project does not say whether `{'`, `'.join(unsaid)}` holds, so it is taken to hold"
        return Applicability(regime, applies=True, why=why)
    return Applicability(regime, applies=True, why="nothing that the project states excludes it")


def _by_jurisdiction(profile: Profile, regime: Regime, _at: Instant) -> str | None:
    whole, _, part = regime.jurisdiction.partition("-")
    # A project that says only `US` has not said in which states, so none is excluded.
    if regime.jurisdiction in profile.jurisdictions or (part and whole in profile.jurisdictions):
        return None
    stated = ", ".join(profile.jurisdictions) or "no jurisdiction"
    return f"it is law of {regime.jurisdiction} and the project states {stated}"


def _by_role(profile: Profile, regime: Regime, _at: Instant) -> str | None:
    unknown = profile.role not in ROLES
    needs = regime.conditions.needs
    declared = bool(needs) and all(profile.says(need) for need in needs)
    if profile.role in regime.roles or unknown or declared:
        return None
    return f"it binds a {' or '.join(regime.roles)} and the project states the role {profile.role}"


def _by_compute(profile: Profile, regime: Regime, _at: Instant) -> str | None:
    line = regime.conditions.training_flop_above
    # Written so that a number which compares with nothing (NaN) excludes nothing.
    if line is None or not profile.training_flop <= line:
        return None
    return f"it begins above {_short(line)} FLOP and the project states {_short(profile.training_flop)}"


def _short(number: float) -> str:
    return f"{number:g}".replace("e+", "e")


def _by_revenue(profile: Profile, regime: Regime, _at: Instant) -> str | None:
    line = regime.conditions.revenue_usd_above
    if line is None or not profile.revenue_usd <= line:
        return None
    return f"it begins above USD {line:,.0f} of revenue and the project states USD {profile.revenue_usd:,.0f}"


def _by_date(_profile: Profile, regime: Regime, at: Instant) -> str | None:
    start_at = regime.conditions.effective_at
    return None if at >= start_at else f"it takes effect only on {utc(start_at)[:10]}"


def _by_deferral(_profile: Profile, regime: Regime, at: Instant) -> str | None:
    until_at = regime.conditions.deferred_until_at
    if until_at is None or at >= until_at:
        return None
    return f"the duties that it hangs on are deferred until {utc(until_at)[:10]}"


def _by_need(profile: Profile, regime: Regime, _at: Instant) -> str | None:
    denied = [need for need in regime.conditions.needs if profile.says(need) is False]
    return f"the project states that `{'`, `'.join(denied)}` does not hold" if denied else None


_EXCLUSIONS: Final = (_by_jurisdiction, _by_role, _by_compute, _by_revenue, _by_date, _by_deferral, _by_need)


# --- deadlines --------------------------------------------------------------------------------------------


def deadline(
    regime: Regime,
    moments: Mapping[str, Instant],
    at: Instant,
    *,
    filed_at: Instant | None = None,
    exercise: bool = False,
) -> Deadline:
    """Say how one clock stands at `at`, given the moments known so far and when its report was filed, if it was.

    `moments` holds signed moments by name, and under `detected_at` the unsigned detection. The clock of a signed
    moment runs; without one a detection gives a provisional deadline. Strict reading: start + N x 24 hours of UTC,
    due until and including that instant. A filing of a repeating duty starts it anew. Raises MalformedInput for a
    moment or filing that lies after `at`.
    """
    _check_not_ahead(regime, moments, at, filed_at)
    if regime.kind is Kind.REPEAT_EVERY and filed_at is not None:
        moments, filed_at = _restarted(regime, moments, filed_at), None
    moment = _start(regime, moments)
    from_at = None if moment is None else moments[moment]
    due_at, note = _due(regime, from_at)
    signed = moment is not None and moment != DETECTED
    ended = regime.trigger.ends_with is not None and regime.trigger.ends_with in moments
    state = _state(from_at, due_at, at, signed=signed, filed=filed_at is not None, ended=ended)
    detected_at = moments.get(DETECTED)
    if signed and regime.trigger.from_detection and detected_at is not None and from_at is not None:
        note = _join(note, _gap_before_signing(detected_at, from_at))
    if state is ClockState.SET_ASIDE:
        note = f"ended with `{regime.trigger.ends_with}`"
    if state is ClockState.OVERDUE and not signed:
        note = _join(note, "counted from the detection: nobody has signed the moment")
    late = filed_at is not None and due_at is not None and filed_at > due_at
    return Deadline(regime.id, state, due_at, moment or "", from_at, signed, filed_at, late, exercise, note)


def _check_not_ahead(regime: Regime, moments: Mapping[str, Instant], at: Instant, filed_at: Instant | None) -> None:
    if regime.kind is Kind.FINISH_BEFORE:
        return  # its moment is a plan
    known = {name: moments[name] for name in (*regime.trigger.moments, DETECTED) if name in moments}
    for name, moment_at in {**known, **({} if filed_at is None else {"filed_at": filed_at})}.items():
        if moment_at > at:
            message = f"`{name}` is {utc(moment_at)}, after now ({utc(at)})"
            raise MalformedInput(message, help="a moment can be signed only once it has come")


def _restarted(regime: Regime, moments: Mapping[str, Instant], filed_at: Instant) -> Mapping[str, Instant]:
    """A repeating duty is never done: what was filed last is the moment that the next one counts from."""
    last = regime.trigger.moments[-1]
    return {**moments, last: max(filed_at, moments.get(last, filed_at))}


def _start(regime: Regime, moments: Mapping[str, Instant]) -> str | None:
    """The name of the moment that the clock counts from: signed ones first, else the detection where it counts."""
    signed = sorted((moments[name], name) for name in regime.trigger.moments if name in moments)
    if signed:
        return signed[0 if regime.trigger.choose == "earliest" else -1][1]
    return DETECTED if regime.trigger.from_detection and DETECTED in moments else None


def _due(regime: Regime, from_at: Instant | None) -> tuple[Instant | None, str]:
    if from_at is None:
        return None, f"starts when {regime.trigger.words}"
    if regime.period is None:
        return None, _WITHOUT_FIGURE[regime.kind]
    length = regime.period.milliseconds
    if length is None:
        return None, f"gap: no source lets us compute {regime.period} exactly; find the day yourself"
    return Instant(from_at - length if regime.kind is Kind.FINISH_BEFORE else from_at + length), ""


_WITHOUT_FIGURE: Final = {
    Kind.AT_ONCE: "without undue delay: the law gives no figure",
    Kind.AS_REQUESTED: "the date stands in the request",
    Kind.HOLD: "hold until the authority has been told",
}


def _state(
    from_at: Instant | None, due_at: Instant | None, at: Instant, *, signed: bool, filed: bool, ended: bool
) -> ClockState:
    """One row per case, in order of precedence; a filing counts even when its clock was never signed."""
    if filed:
        return ClockState.FILED
    if ended:
        return ClockState.SET_ASIDE
    if from_at is None:
        return ClockState.NOT_STARTED
    if due_at is not None and at > due_at:
        return ClockState.OVERDUE
    return ClockState.RUNNING if signed else ClockState.PROVISIONAL


def _gap_before_signing(detected_at: Instant, signed_at: Instant) -> str:
    if signed_at <= detected_at:
        return ""
    hours, rest = divmod(signed_at - detected_at, 3_600_000)
    return f"the signed moment lies {hours} h {rest // 60_000} min after the detection"


def _join(first: str, second: str) -> str:
    return "; ".join(part for part in (first, second) if part)


def shortest(regimes: Iterable[Regime]) -> Mapping[str, str]:
    """Of the regimes that exclude each other, which governs: `shortest_of` to the id with the shortest period."""
    best: dict[str, Regime] = {}
    for regime in regimes:
        if regime.shortest_of is None:
            continue
        held = best.get(regime.shortest_of)
        if held is None or _length(regime) < _length(held):
            best[regime.shortest_of] = regime
    return {group: regime.id for group, regime in best.items()}


def _length(regime: Regime) -> int:
    length = None if regime.period is None else regime.period.milliseconds
    invariant(length is not None, f"`{regime.id}` is compared by a length that it does not have")
    return length or 0
