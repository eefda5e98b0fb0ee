"""The ratchet itself: what it lets through, and what not."""

from __future__ import annotations

from tests.house.ratchet import Excuse, Violation, complaints, excuses


def test_a_new_violation_is_told() -> None:
    assert complaints("rule", [Violation("a", "mend a")], {}) == ["mend a"]


def test_a_listed_violation_is_tolerated_up_to_its_size() -> None:
    listed = {"a": Excuse(2, "old")}
    assert complaints("rule", [Violation("a", "mend a", 2)], listed) == []
    assert "has grown" in complaints("rule", [Violation("a", "mend a", 3)], listed)[0]


def test_an_exception_that_nothing_needs_is_told() -> None:
    assert "no longer needs" in complaints("rule", [], {"a": Excuse(1, "old")})[0]


def test_every_exception_says_why() -> None:
    assert [key for rows in excuses().values() for key, excuse in rows.items() if len(excuse.why) < 15] == []
