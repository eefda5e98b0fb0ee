"""Every clock starts at its own signed moment; a detection alone gives a provisional deadline."""

from __future__ import annotations

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Instant
from keyturn.disclosure.clocks import ClockState, deadline, utc
from keyturn.disclosure.regimes import Kind, Regimes
from tests.disclosure.conftest import DAY, HOUR, moment

T = moment("2027-03-01T10:00:00")
FAR = Instant(T + 4000 * DAY)

# The figures are written out here a second time on purpose: the data must agree with this table.
COUNTED = [
    ("EU-AIA-73(2)", "aware_at", 15 * DAY),
    ("EU-AIA-73(3)", "aware_at", 2 * DAY),
    ("EU-AIA-73(4)", "aware_at", 10 * DAY),
    ("EU-AIA-52(1)", "condition_met_at", 14 * DAY),
    ("COP-1.1-confirm-a", "notified_at", 28 * DAY),
    ("COP-1.1-confirm-b", "market_placement_at", -14 * DAY),
    ("COP-9.3(1)", "model_involvement_aware_at", 2 * DAY),
    ("COP-9.3(2)", "model_involvement_aware_at", 5 * DAY),
    ("COP-9.3(3)", "model_involvement_aware_at", 10 * DAY),
    ("COP-9.3(4)", "model_involvement_aware_at", 15 * DAY),
    ("COP-9.3-interim", "initial_reported_at", 28 * DAY),
    ("COP-9.3-interim", "interim_reported_at", 28 * DAY),
    ("COP-9.3-final", "resolved_at", 60 * DAY),
    ("CA-22757.13(c)(1)", "discovered_at", 15 * DAY),
    ("CA-22757.13(c)(2)", "imminent_risk_at", 24 * HOUR),
    ("CA-22757.12(b)(2)", "framework_modified_at", 30 * DAY),
    ("NY-1422(3)(a)", "determined_at", 72 * HOUR),
    ("NY-1422(3)(a)", "reasonable_belief_at", 72 * HOUR),
    ("NY-1422(3)(b)", "imminent_risk_at", 24 * HOUR),
    ("NY-1421(2)(b)", "framework_modified_at", 30 * DAY),
    ("IL-15(c)-72h", "reasonable_belief_at", 72 * HOUR),
    ("IL-15(c)-24h", "imminent_risk_at", 24 * HOUR),
    ("IL-framework-change", "framework_modified_at", 30 * DAY),
    ("IL-10(d)(4)", "audit_received_at", 30 * DAY),
]


@pytest.mark.parametrize(("id", "name", "length"), COUNTED)
def test_each_regime_runs_until_its_last_millisecond_and_then_is_overdue(
    regimes: Regimes, id: str, name: str, length: int
) -> None:
    regime = regimes.get(id)
    due_at = Instant(T + length)
    on_time = deadline(regime, {name: T}, due_at)
    too_late = deadline(regime, {name: T}, Instant(due_at + 1))
    assert (on_time.state, on_time.due_at, on_time.signed) == (ClockState.RUNNING, due_at, True)
    assert (too_late.state, too_late.due_at) == (ClockState.OVERDUE, due_at)
    assert (on_time.from_moment, on_time.from_at) == (name, T)


def test_the_table_above_covers_every_period_that_can_be_computed(regimes: Regimes) -> None:
    assert {id for id, _, _ in COUNTED} == {r.id for r in regimes.regimes if r.calendar == "elapsed"}
    named = {(id, name) for id, name, _ in COUNTED}
    assert named == {(r.id, name) for r in regimes.regimes if r.calendar == "elapsed" for name in r.trigger.moments}


def test_without_any_moment_no_clock_starts(regimes: Regimes) -> None:
    for regime in regimes.regimes:
        found = deadline(regime, {}, FAR)
        assert (found.state, found.due_at, found.from_at) == (ClockState.NOT_STARTED, None, None)
        assert found.note.startswith("starts when ")


PROVISIONAL = {
    "EU-AIA-73(2)",
    "EU-AIA-73(3)",
    "EU-AIA-73(4)",
    "EU-AIA-73(6)",
    "EU-AIA-55(1)(c)",
    "COP-9.3(1)",
    "COP-9.3(2)",
    "COP-9.3(3)",
    "COP-9.3(4)",
    "CA-22757.13(c)(1)",
    "NY-1422(3)(a)",
    "IL-15(c)-72h",
}


def test_an_unsigned_detection_gives_provisional_deadlines_only_where_detecting_is_the_trigger(
    regimes: Regimes,
) -> None:
    found = {regime.id: deadline(regime, {"detected_at": T}, T) for regime in regimes.regimes}
    assert {id for id, clock in found.items() if clock.state is ClockState.PROVISIONAL} == PROVISIONAL
    assert {clock.state for id, clock in found.items() if id not in PROVISIONAL} == {ClockState.NOT_STARTED}
    assert not any(clock.signed for clock in found.values())
    assert found["IL-15(c)-72h"].due_at == T + 72 * HOUR


def test_a_signed_moment_takes_the_place_of_the_detection_and_the_delay_is_shown(regimes: Regimes) -> None:
    regime = regimes.get("COP-9.3(2)")
    signed_at = Instant(T + 5 * HOUR + 30 * 60_000)
    found = deadline(regime, {"detected_at": T, "model_involvement_aware_at": signed_at}, signed_at)
    assert (found.state, found.due_at) == (ClockState.RUNNING, signed_at + 5 * DAY)
    assert found.note == "the signed moment lies 5 h 30 min after the detection"


def test_each_clock_waits_for_its_own_moment(regimes: Regimes) -> None:
    signed = {"aware_at": T}
    assert deadline(regimes.get("EU-AIA-73(2)"), signed, T).state is ClockState.RUNNING
    for id in ("COP-9.3(2)", "CA-22757.13(c)(1)", "NY-1422(3)(a)", "IL-15(c)-72h"):
        assert deadline(regimes.get(id), signed, T).state is ClockState.NOT_STARTED


def test_new_york_counts_from_the_earlier_of_its_two_moments(regimes: Regimes) -> None:
    regime = regimes.get("NY-1422(3)(a)")
    for first, second in (("determined_at", "reasonable_belief_at"), ("reasonable_belief_at", "determined_at")):
        found = deadline(regime, {first: T, second: Instant(T + HOUR)}, FAR)
        assert (found.from_moment, found.due_at) == (first, T + 72 * HOUR)


def test_an_unsigned_deadline_that_has_passed_is_overdue_and_says_that_nobody_signed(regimes: Regimes) -> None:
    found = deadline(regimes.get("IL-15(c)-72h"), {"detected_at": T}, Instant(T + 72 * HOUR + 1))
    assert (found.state, found.signed) == (ClockState.OVERDUE, False)
    assert found.note == "counted from the detection: nobody has signed the moment"


def test_a_filing_ends_a_clock_and_a_late_one_stays_late(regimes: Regimes) -> None:
    regime = regimes.get("CA-22757.13(c)(1)")
    due_at = Instant(T + 15 * DAY)
    on_time = deadline(regime, {"discovered_at": T}, FAR, filed_at=due_at)
    late = deadline(regime, {"discovered_at": T}, FAR, filed_at=Instant(due_at + 1))
    assert (on_time.state, on_time.late, on_time.filed_at) == (ClockState.FILED, False, due_at)
    assert (late.state, late.late) == (ClockState.FILED, True)


def test_a_filing_before_any_moment_was_signed_counts(regimes: Regimes) -> None:
    found = deadline(regimes.get("CA-22757.13(c)(1)"), {}, T, filed_at=T)
    assert (found.state, found.late) == (ClockState.FILED, False)


def test_intermediate_reports_repeat_from_the_latest_one_until_the_incident_is_resolved(regimes: Regimes) -> None:
    regime = regimes.get("COP-9.3-interim")
    moments = {"initial_reported_at": T, "interim_reported_at": Instant(T + 20 * DAY)}
    at = Instant(T + 20 * DAY)
    assert deadline(regime, moments, at).due_at == T + 48 * DAY
    ended = deadline(regime, {**moments, "resolved_at": at}, at)
    assert (ended.state, ended.note) == (ClockState.SET_ASIDE, "ended with `resolved_at`")


def test_attack_one_filing_does_not_end_a_duty_that_repeats(regimes: Regimes) -> None:
    for regime in (regime for regime in regimes.regimes if regime.kind is Kind.REPEAT_EVERY):
        found = deadline(regime, {regime.trigger.moments[0]: T}, FAR, filed_at=Instant(T + DAY))
        assert found.state is not ClockState.FILED
        assert found.from_at == T + DAY, regime.id


def test_a_duty_without_a_figure_runs_without_a_deadline_and_says_so(regimes: Regimes) -> None:
    found = deadline(regimes.get("EU-AIA-55(1)(c)"), {"aware_at": T}, FAR)
    assert (found.state, found.due_at) == (ClockState.RUNNING, None)
    assert found.note == "without undue delay: the law gives no figure"
    assert deadline(regimes.get("EU-AIA-91"), {"requested_at": T}, T).note == "the date stands in the request"


@pytest.mark.parametrize("id", ["COP-1.4", "COP-7.7-update", "CA-22757.12(d)", "NY-1428", "IL-18", "CT-2(c)"])
def test_a_period_without_a_calendar_is_a_gap_and_never_a_guess(regimes: Regimes, id: str) -> None:
    regime = regimes.get(id)
    found = deadline(regime, {regime.trigger.moments[0]: T}, FAR)
    assert (found.state, found.due_at) == (ClockState.RUNNING, None)
    assert found.note.startswith("gap: no source lets us compute ")


def test_the_evidence_is_held_until_the_authority_has_been_told(regimes: Regimes) -> None:
    regime = regimes.get("EU-AIA-73(6)")
    assert deadline(regime, {"aware_at": T}, FAR).state is ClockState.RUNNING
    told = deadline(regime, {"aware_at": T, "authority_informed_at": T}, FAR)
    assert told.state is ClockState.SET_ASIDE


@pytest.mark.parametrize("name", ["aware_at", "detected_at"])
def test_attack_a_moment_claimed_in_the_future_is_refused(regimes: Regimes, name: str) -> None:
    with pytest.raises(MalformedInput) as caught:
        deadline(regimes.get("EU-AIA-73(2)"), {name: Instant(T + 1000)}, T)
    assert caught.value.message == f"`{name}` is 2027-03-01T10:00:01Z, after now (2027-03-01T10:00:00Z)"


def test_attack_a_filing_claimed_in_the_future_is_refused(regimes: Regimes) -> None:
    with pytest.raises(MalformedInput, match="`filed_at` is"):
        deadline(regimes.get("EU-AIA-73(2)"), {"aware_at": T}, T, filed_at=Instant(T + 1))


def test_a_planned_placing_on_the_market_may_lie_ahead(regimes: Regimes) -> None:
    found = deadline(regimes.get("COP-1.1-confirm-b"), {"market_placement_at": Instant(T + 20 * DAY)}, T)
    assert (found.state, found.due_at) == (ClockState.RUNNING, T + 6 * DAY)


def test_attack_a_second_later_signature_cannot_buy_time_once_an_earlier_one_is_known(regimes: Regimes) -> None:
    regime = regimes.get("NY-1422(3)(a)")
    early = deadline(regime, {"reasonable_belief_at": T}, FAR)
    both = deadline(regime, {"reasonable_belief_at": T, "determined_at": Instant(T + 9 * DAY)}, FAR)
    assert early.due_at == both.due_at


def test_a_leap_day_and_a_change_of_clocks_do_not_move_elapsed_time(regimes: Regimes) -> None:
    regime = regimes.get("EU-AIA-73(3)")
    for day, due in (("2028-02-28T12:00:00", "2028-03-01T12:00:00Z"), ("2027-03-27T12:00:00", "2027-03-29T12:00:00Z")):
        found = deadline(regime, {"aware_at": moment(day)}, FAR)
        assert found.due_at is not None
        assert utc(found.due_at) == due


@pytest.mark.parametrize(
    ("at", "text"),
    [(0, "1970-01-01T00:00:00Z"), (999, "1970-01-01T00:00:00Z"), (1_798_761_600_000, "2027-01-01T00:00:00Z")],
)
def test_a_moment_is_written_to_the_second_below(at: int, text: str) -> None:
    assert utc(Instant(at)) == text
