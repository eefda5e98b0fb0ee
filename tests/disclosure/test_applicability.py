"""A regime that cannot apply starts no clock and says why; what is unsaid excludes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core.terms import Instant
from keyturn.disclosure.clocks import Applicability, Profile, applicable
from keyturn.disclosure.regimes import Regimes
from tests.disclosure.conftest import CONNECT4, EVERYWHERE, FRONTIER, moment

NOW = moment("2026-11-23T10:00:00")
LATER = moment("2029-01-01")

STATE_LARGE_2027 = {"NY-1421(2)(b)", "NY-1422(2)", "NY-1428", "IL-10(e)", "IL-18", "IL-20(e)"}
STATE_FRONTIER_2027 = {"NY-1422(3)(a)", "NY-1422(3)(b)", "IL-15(c)-72h", "IL-15(c)-24h"}
ILLINOIS_2028 = {"IL-framework-change", "IL-10(d)", "IL-10(d)(4)"}
ART_73 = {"EU-AIA-73(2)", "EU-AIA-73(3)", "EU-AIA-73(4)", "EU-AIA-73(6)"}


def applying(profile: Profile, regimes: Regimes, at: Instant) -> set[str]:
    """The ids that apply."""
    return {row.regime.id for row in applicable(profile, regimes.regimes, at) if row.applies}


def about(id: str, profile: Profile, regimes: Regimes, at: Instant = NOW) -> Applicability:
    """What is said of one regime."""
    return next(row for row in applicable(profile, regimes.regimes, at) if row.regime.id == id)


@pytest.mark.parametrize("at", [NOW, moment("2027-01-01"), moment("2027-12-02"), LATER])
def test_no_clock_ever_starts_for_connect4(regimes: Regimes, at: Instant) -> None:
    assert applying(CONNECT4, regimes, at) == set()


@pytest.mark.parametrize(
    ("id", "why"),
    [
        (
            "EU-AIA-73(2)",
            (
                "it binds a provider and the project states the role developer; "
                "the duties that it hangs on are deferred until 2027-12-02"
            ),
        ),
        ("EU-AIA-55(1)(c)", "it begins above 1e25 FLOP and the project states 1e12"),
        ("COP-9.3(2)", "it begins above 1e25 FLOP and the project states 1e12"),
        ("CA-22757.13(c)(1)", "it begins above 1e26 FLOP and the project states 1e12"),
        (
            "CA-22757.12(b)(2)",
            (
                "it begins above 1e26 FLOP and the project states 1e12; "
                "it begins above USD 500,000,000 of revenue and the project states USD 0"
            ),
        ),
        (
            "NY-1422(3)(a)",
            (
                "it is law of US-NY and the project states EU, US-CA; "
                "it begins above 1e26 FLOP and the project states 1e12; it takes effect only on 2027-01-01"
            ),
        ),
    ],
)
def test_connect4_is_told_every_reason_in_order(regimes: Regimes, id: str, why: str) -> None:
    found = about(id, CONNECT4, regimes)
    assert (found.applies, found.why) == (False, why)


def test_every_regime_that_is_excluded_says_why(regimes: Regimes) -> None:
    rows = applicable(CONNECT4, regimes.regimes, NOW)
    assert [row.regime for row in rows] == list(regimes.regimes)
    assert all(row.why for row in rows)


def test_a_frontier_developer_is_shown_all_that_applies_today(regimes: Regimes) -> None:
    every = {regime.id for regime in regimes.regimes}
    assert applying(FRONTIER, regimes, NOW) == every - STATE_LARGE_2027 - STATE_FRONTIER_2027 - ILLINOIS_2028 - ART_73


def test_new_york_and_illinois_start_only_with_2027(regimes: Regimes) -> None:
    start = moment("2027-01-01")
    new = applying(FRONTIER, regimes, start) - applying(FRONTIER, regimes, Instant(start - 1))
    assert new == STATE_LARGE_2027 | STATE_FRONTIER_2027


def test_the_illinois_framework_and_audit_start_only_with_2028(regimes: Regimes) -> None:
    start = moment("2028-01-01")
    new = applying(FRONTIER, regimes, start) - applying(FRONTIER, regimes, Instant(start - 1))
    assert new == ILLINOIS_2028


def test_a_frontier_developer_below_the_revenue_line_owes_only_incident_reports_to_the_states(
    regimes: Regimes,
) -> None:
    small = replace(FRONTIER, revenue_usd=5e8)
    states = {id for id in applying(small, regimes, LATER) if not id.startswith(("EU", "COP"))}
    assert states == {"CA-22757.13(c)(1)", "CA-22757.13(c)(2)"} | STATE_FRONTIER_2027


@pytest.mark.parametrize(
    ("id", "line"), [("CA-22757.13(c)(1)", 1e26), ("COP-9.3(1)", 1e25), ("EU-AIA-52(1)", 1e25), ("EU-AIA-91", 1e23)]
)
def test_a_compute_line_is_crossed_only_from_above(regimes: Regimes, id: str, line: float) -> None:
    assert not about(id, replace(FRONTIER, training_flop=line), regimes).applies
    assert about(id, replace(FRONTIER, training_flop=line * 1.000001), regimes).applies


def test_attack_a_number_that_compares_with_nothing_excludes_nothing(regimes: Regimes) -> None:
    murky = replace(FRONTIER, training_flop=float("nan"), revenue_usd=float("nan"))
    assert applying(murky, regimes, LATER) == applying(FRONTIER, regimes, LATER)


def test_art_73_binds_a_provider_of_a_high_risk_system_from_december_2027(regimes: Regimes) -> None:
    provider = Profile("provider", ("EU",), training_flop=1e12, revenue_usd=0, high_risk_system=True)
    start = moment("2027-12-02")
    assert applying(provider, regimes, start) == ART_73
    assert applying(provider, regimes, Instant(start - 1)) == set()
    assert about("EU-AIA-73(2)", provider, regimes).why == "the duties that it hangs on are deferred until 2027-12-02"


def test_a_developer_who_declares_a_high_risk_system_is_bound_by_art_73(regimes: Regimes) -> None:
    assert about("EU-AIA-73(2)", replace(CONNECT4, high_risk_system=True), regimes, LATER).applies


def test_what_the_project_does_not_say_is_taken_to_hold(regimes: Regimes) -> None:
    found = about("COP-9.3(2)", FRONTIER, regimes)
    assert found.applies
    assert found.why == "the project does not say whether `code-signatory` holds, so it is taken to hold"
    assert about("COP-9.3(2)", replace(FRONTIER, code_signatory=True), regimes).why.startswith("nothing that")


def test_without_a_signature_the_code_does_not_bind_but_the_act_still_does(regimes: Regimes) -> None:
    unsigned = replace(FRONTIER, code_signatory=False)
    found = applying(unsigned, regimes, NOW)
    assert not {id for id in found if id.startswith("COP")}
    assert "EU-AIA-55(1)(c)" in found
    assert about("COP-9.3(2)", unsigned, regimes).why == "the project states that `code-signatory` does not hold"


def test_a_role_that_we_do_not_know_excludes_nothing(regimes: Regimes) -> None:
    assert applying(replace(FRONTIER, role="steward"), regimes, LATER) == {regime.id for regime in regimes.regimes}


def test_a_project_that_says_only_the_country_is_bound_in_every_state(regimes: Regimes) -> None:
    states = {id for id in applying(FRONTIER, regimes, LATER) if not id.startswith(("EU", "COP"))}
    assert applying(replace(FRONTIER, jurisdictions=("US",)), regimes, LATER) == states


def test_stating_no_jurisdiction_is_a_statement(regimes: Regimes) -> None:
    nowhere = replace(FRONTIER, jurisdictions=())
    assert applying(nowhere, regimes, LATER) == set()
    assert "the project states no jurisdiction" in about("COP-9.3(2)", nowhere, regimes).why


def test_adding_a_jurisdiction_or_compute_never_removes_a_regime(regimes: Regimes) -> None:
    before: set[str] = set()
    for count in range(len(EVERYWHERE) + 1):
        found = applying(replace(FRONTIER, jurisdictions=EVERYWHERE[:count]), regimes, LATER)
        assert before <= found
        before = found
    for flop in (1e12, 1e24, 1e25, 1.1e25, 1e26, 1.1e26, 1e30):
        lower = applying(replace(FRONTIER, training_flop=flop), regimes, LATER)
        assert lower <= applying(replace(FRONTIER, training_flop=flop * 2), regimes, LATER)
