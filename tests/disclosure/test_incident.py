"""The view of one incident shows what may be owed, urgent first, and leaves the law's questions to people."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from keyturn.core.terms import Instant
from keyturn.disclosure.clocks import ClockState
from keyturn.disclosure.incident import ClockRow, clocks_for, kinds_of
from keyturn.disclosure.regimes import Regimes
from tests.disclosure.conftest import CONNECT4, DAY, FRONTIER, HOUR, moment

T = moment("2027-03-01T10:00:00")


def ids(rows: tuple[ClockRow, ...], state: ClockState | None = None) -> list[str]:
    """The ids in their order, of one state if one is asked for."""
    return [row.regime for row in rows if state is None or row.deadline.state is state]


@pytest.mark.parametrize("kind", ["decoy_opened", "escape-attempt", "death", "weight-exfiltration", "something else"])
def test_an_incident_of_connect4_shows_no_clock(regimes: Regimes, kind: str) -> None:
    assert clocks_for(kind, CONNECT4, {"detected_at": T}, T, regimes=regimes) == ()


def test_weights_carried_off_from_a_frontier_developer(regimes: Regimes) -> None:
    rows = clocks_for("weight-exfiltration", FRONTIER, {"detected_at": T}, T, regimes=regimes)
    assert ids(rows, ClockState.PROVISIONAL) == [
        "IL-15(c)-72h",
        "NY-1422(3)(a)",
        "COP-9.3(2)",
        "CA-22757.13(c)(1)",
        "EU-AIA-55(1)(c)",
    ]
    assert ids(rows, ClockState.NOT_STARTED) == [
        "CA-22757.13(c)(2)",
        "COP-9.3-final",
        "COP-9.3-interim",
        "IL-15(c)-24h",
        "NY-1422(3)(b)",
    ]
    certain = {row.regime for row in rows if row.certain}
    assert certain == {"COP-9.3(2)", "COP-9.3-final", "COP-9.3-interim", "EU-AIA-55(1)(c)"}


def test_every_row_says_trigger_due_recipient_source_day_and_confidence(regimes: Regimes) -> None:
    rows = clocks_for("something new", FRONTIER, {"detected_at": T}, T, regimes=regimes)
    assert len(rows) > 10
    for row in rows:
        assert all((row.trigger, row.due, row.recipient, row.source, row.as_of, row.confidence, row.why)), row.regime
        assert json.loads(json.dumps(row.to_json()))["regime"] == row.regime


def test_what_a_person_must_decide_is_said_in_the_row(regimes: Regimes) -> None:
    rows = clocks_for("decoy_opened", FRONTIER, {"detected_at": T}, T, regimes=regimes)
    assert rows
    assert not any(row.certain for row in rows)
    assert all("a person decides whether the incident is of a kind" in row.why for row in rows)


def test_the_most_urgent_clock_stands_first(regimes: Regimes) -> None:
    moments = {"detected_at": T, "imminent_risk_at": T, "discovered_at": T}
    rows = clocks_for("death", FRONTIER, moments, Instant(T + 25 * HOUR), regimes=regimes)
    assert ids(rows, ClockState.OVERDUE) == ids(rows)[:3] == ["CA-22757.13(c)(2)", "IL-15(c)-24h", "NY-1422(3)(b)"]
    assert ids(rows)[3] == "CA-22757.13(c)(1)"


def test_new_york_and_illinois_show_no_row_before_2027(regimes: Regimes) -> None:
    last = Instant(moment("2027-01-01") - 1)
    for at, shown in ((last, False), (moment("2027-01-01"), True)):
        rows = clocks_for("deception-of-developer", FRONTIER, {"detected_at": last}, at, regimes=regimes)
        assert any(row.regime.startswith(("NY", "IL")) for row in rows) is shown
        assert "CA-22757.13(c)(1)" in ids(rows)


def test_of_art_73_exactly_one_period_applies_and_the_others_stay_visible(regimes: Regimes) -> None:
    provider = replace(CONNECT4, role="provider", high_risk_system=True)
    at = moment("2028-01-10")
    moments = {"aware_at": at}
    rows = clocks_for("something new", provider, moments, at, regimes=regimes)
    by_id = {row.regime: row for row in rows}
    assert by_id["EU-AIA-73(3)"].deadline.due_at == at + 2 * DAY
    for id in ("EU-AIA-73(2)", "EU-AIA-73(4)"):
        assert by_id[id].deadline.state is ClockState.SET_ASIDE
        assert "the shortest: see EU-AIA-73(3)" in by_id[id].note
    death = clocks_for("death", provider, moments, at, regimes=regimes)
    assert ids(death, ClockState.RUNNING) == ["EU-AIA-73(4)", "EU-AIA-73(6)"]


def test_a_demo_marks_every_row_as_an_exercise(regimes: Regimes) -> None:
    rows = clocks_for("death", replace(FRONTIER, demo=True), {"detected_at": T}, T, regimes=regimes)
    assert rows
    assert all(row.state.startswith("EXERCISE, ") and row.deadline.exercise for row in rows)
    real = clocks_for("death", FRONTIER, {"detected_at": T}, T, regimes=regimes)
    assert not any("EXERCISE" in row.state for row in real)


def test_a_filed_report_moves_to_the_end(regimes: Regimes) -> None:
    filed = {"CA-22757.13(c)(1)": T}
    rows = clocks_for("death", FRONTIER, {"detected_at": T}, T, regimes=regimes, filed=filed)
    assert rows[-1].regime == "CA-22757.13(c)(1)"
    assert rows[-1].state == "filed"


def test_a_report_filed_under_the_longer_period_stays_filed(regimes: Regimes) -> None:
    provider = replace(CONNECT4, role="provider", high_risk_system=True)
    at = moment("2028-01-10")
    filed = {"EU-AIA-73(2)": at}
    rows = clocks_for("something new", provider, {"aware_at": at}, at, regimes=regimes, filed=filed)
    assert ids(rows, ClockState.FILED) == ["EU-AIA-73(2)"]


def test_duties_that_no_incident_starts_are_not_in_the_view(regimes: Regimes) -> None:
    moments = {"framework_modified_at": T, "condition_met_at": T, "detected_at": T}
    rows = clocks_for("something new", FRONTIER, moments, T, regimes=regimes)
    assert not {"EU-AIA-52(1)", "CA-22757.12(b)(2)", "NY-1421(2)(b)"} & set(ids(rows))


def test_a_kind_that_we_do_not_know_may_be_anything(regimes: Regimes) -> None:
    certain, maybe = kinds_of("ate the homework", regimes)
    assert certain == frozenset()
    assert maybe == {kind.id for kind in regimes.kinds.values() if kind.named_by_law}


def test_the_logs_spelling_of_a_kind_is_understood(regimes: Regimes) -> None:
    assert kinds_of("decoy_opened", regimes) == kinds_of("decoy-opened", regimes)
    assert kinds_of("decoy_opened", regimes)[1] == {"weight-exfiltration", "deception-of-developer"}


def test_every_kind_of_ours_may_be_something_that_the_law_names(regimes: Regimes) -> None:
    assert all(kind.may_be for kind in regimes.kinds.values() if not kind.named_by_law)
