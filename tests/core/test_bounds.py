"""What a loop may use, what it used, and when that is all."""

from __future__ import annotations

import math
from typing import Any

import pytest

from keyturn.core.bounds import NO_BOUNDS, Bounds, Used, beyond, findings
from keyturn.core.errors import MalformedInput

ALL = Bounds(10, 60, 5, 1000, 2.0)


def messages(bounds: Bounds, used: Used) -> list[str]:
    return [finding.message for finding in findings(bounds, used)]


@pytest.mark.parametrize("bounds", [NO_BOUNDS, Bounds(programs_max=9), Bounds(wall_seconds_max=9)])
def test_without_programs_or_without_time_there_is_no_leave_at_all(bounds: Bounds) -> None:
    assert not bounds.given
    [finding] = findings(bounds, Used())
    assert finding.rule == "warrant_must_cover"
    assert finding.message == "the warrant gives a loop no leave: it names no programs, or no time"


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (Used(), []),
        (Used(9, 59.9, 4, 999, 1.99), []),
        (Used(10), ["10 programs are used; the warrant ends at 10"]),
        (Used(wall_seconds=60), ["60 seconds are used; the warrant ends at 60"]),
        (Used(requests=6), ["6 requests are used; the warrant ends at 5"]),
        (Used(tokens=1000), ["1000 tokens are used; the warrant ends at 1000"]),
        (Used(usd=2.0), ["2 US dollars are used; the warrant ends at 2"]),
        (Used(usd=None), ["the warrant bounds US dollars at 2, but the endpoint reports no price"]),
        (Used(10, 60, 5, 1000, None), 5),
    ],
)
def test_a_bound_that_is_reached_is_used_up(used: Used, expected: list[str] | int) -> None:
    found = messages(ALL, used)
    assert len(found) == expected if isinstance(expected, int) else found == expected


def test_what_is_not_bounded_is_never_used_up() -> None:
    assert findings(Bounds(10, 60), Used(9, 59, 10**9, 10**12, None)) == ()


def test_a_bound_that_is_reached_exactly_was_not_passed() -> None:
    assert beyond(ALL, Used(10, 60, 5, 1000, 2.0)) == ()
    assert len(beyond(ALL, Used(11, 60.1, 6, 1001, 2.01))) == 5


def test_a_price_that_nobody_knows_has_passed_any_bound_on_money() -> None:
    assert beyond(ALL, Used(usd=None)) == ("the warrant bounds US dollars at 2, but the endpoint reports no price",)
    assert beyond(Bounds(10, 60), Used(usd=None)) == ()


def test_what_is_used_adds_up_and_an_unknown_price_stays_unknown() -> None:
    assert Used(1, 0.1, 2, 3, 0.1) + Used(1, 0.2, 2, 3, 0.2) == Used(2, 0.3, 4, 6, 0.3)
    assert (Used(usd=None) + Used(usd=1.0)).usd is None
    assert (Used(usd=1.0) + Used(usd=None)).usd is None


def test_a_million_small_prices_are_not_rounded_away() -> None:
    total = Used()
    for _ in range(10_000):
        total += Used(usd=1e-7)
    assert total.usd == pytest.approx(1e-3)


def test_more_is_never_less_used_up() -> None:
    """Using more removes no finding, but for those that the same bound words otherwise."""
    for programs in range(12):
        for requests in range(7):
            less, more = Used(programs, requests=requests), Used(programs + 1, 1.0, requests + 1, 1, 0.1)
            assert len(findings(ALL, more)) >= len(findings(ALL, less))
            assert set(beyond(ALL, less)) == set() or beyond(ALL, more)


def test_figures_survive_the_way_into_the_log_and_back() -> None:
    for bounds in (ALL, NO_BOUNDS, Bounds(1, 1, usd_max=0.000001)):
        assert Bounds.from_json(bounds.to_json()) == bounds
    for used in (Used(), Used(1, 0.25, 2, 3, None), Used(usd=0.1)):
        assert Used.from_json(used.to_json()) == used


def test_no_bounds_at_all_read_as_no_leave() -> None:
    assert Bounds.from_json({}) == NO_BOUNDS
    with pytest.raises(MalformedInput, match="figures named"):
        Used.from_json({})


@pytest.mark.parametrize(
    "change",
    [
        {"programs_max": -1},
        {"programs_max": 1.0},
        {"programs_max": True},
        {"programs_max": "5"},
        {"programs_max": None},
        {"programs_max": ...},
        {"wall_seconds_max": 0.5},
        {"tokens_max": 10**16},
        {"usd_max": None},
        {"usd_max": math.nan},
        {"usd_max": math.inf},
        {"usd_max": -0.01},
        {"surprise": 1},
    ],
)
def test_figures_that_are_none_are_refused(change: dict[str, Any]) -> None:
    body = {key: value for key, value in {**ALL.to_json(), **change}.items() if value is not ...}
    with pytest.raises(MalformedInput):
        Bounds.from_json(body)


@pytest.mark.parametrize("change", [{"usd": math.nan}, {"wall_seconds": None}, {"programs": 0.5}, {"requests": False}])
def test_use_that_is_no_number_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedInput):
        Used.from_json({**Used().to_json(), **change})
