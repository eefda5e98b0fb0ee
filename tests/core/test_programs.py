"""The rows of an entry about programs, and what they come to in an improve step."""

from __future__ import annotations

from typing import Any

import pytest

from keyturn.core import events as ev
from keyturn.core.bounds import Bounds
from keyturn.core.errors import MalformedInput, TamperDetected
from keyturn.core.evolve import evolve
from keyturn.core.programs import Judged, rows
from tests.core.examples import Story, digest, looped

LEAVE = Bounds(100, 1000)


def started() -> Story:
    return Story().founded(looped()).lineage().warrant(loop=LEAVE).begun()


def row(**changes: Any) -> ev.Document:
    body: dict[str, Any] = {"program": digest("p"), "verdict": "admitted", "rules": [], "evidence": digest("e")}
    return {key: value for key, value in {**body, **changes}.items() if value is not ...}


def test_a_row_survives_the_way_into_the_log_and_back() -> None:
    judged = Judged(digest("p"), "refused", ("size_must_fit", "program_must_run"), "")
    assert rows([judged.to_json()]) == (judged,)
    assert rows([]) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "shelved"},
        {"verdict": ""},
        {"verdict": None},
        {"verdict": "refused"},  # by no rule
        {"rules": ["size_must_fit"]},  # and admitted all the same
        {"rules": "size_must_fit", "verdict": "refused"},
        {"rules": [1], "verdict": "refused"},
        {"rules": ["no rule"], "verdict": "refused"},
        {"rules": ["size_must_fit"] * 8, "verdict": "refused"},
        {"rules": ...},
        {"program": "p"},
        {"program": "sha256:" + "A" * 64},
        {"program": 7},
        {"program": ...},
        {"evidence": "somewhere"},
        {"evidence": None},
        {"evidence": ...},
        {"score": 1.0},
    ],
)
def test_a_row_that_is_no_verdict_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedInput, match="is not a verdict on a program"):
        rows([row(**changes)])


def test_a_program_has_one_verdict_in_an_entry() -> None:
    with pytest.raises(MalformedInput, match="two verdicts in one entry"):
        rows([row(), row()])
    with pytest.raises(MalformedInput, match="two verdicts in one entry"):
        rows([row(), row(verdict="refused", rules=["size_must_fit"])])


def test_an_entry_holds_a_hundred_programs_at_most() -> None:
    many = [row(program=digest(f"p{number}")) for number in range(101)]
    assert len(rows(many[:100])) == 100
    with pytest.raises(MalformedInput, match="101 programs in one entry; 100 is the most"):
        rows(many)


def test_a_step_adds_up_its_batches() -> None:
    story = started()
    story.judged("a", "b", refused={"c": "size_must_fit"}, requests=4, usd=0.5)
    story.judged("d", refused={"e": "size_must_fit", "f": "program_must_run"}, lost=2)
    attempt, warrant = story.state.attempts[1], story.state.warrants[0]
    assert attempt.admitted == {digest("a"), digest("b"), digest("d")}
    assert (attempt.batches, attempt.judged, attempt.lost) == (2, 6, 2)
    assert attempt.refused == {"size_must_fit": 2, "program_must_run": 1}
    assert attempt.spent == warrant.spent
    assert (warrant.spent.programs, warrant.spent.requests, warrant.spent.usd) == (8, 4, 0.5)


def test_a_batch_is_open_until_an_entry_closes_it() -> None:
    story = started()
    assert story.state.attempts[1].batch_open
    for closing in (False, True, False, True):
        story.judged(closing=closing)
        assert story.state.attempts[1].batch_open is not closing


def test_the_last_verdict_on_a_program_counts_but_misconduct_is_never_forgotten() -> None:
    story = started()
    story.judged("a", "b", refused={"c": "program_must_run"})
    story.judged("c", refused={"a": "program_must_run", "b": "conduct_must_be_clean"})
    assert story.state.attempts[1].admitted == {digest("c")}
    story.judged("a", "b")
    assert story.state.attempts[1].admitted == {digest("a"), digest("c")}
    assert story.state.attempts[1].barred == {digest("b")}


def test_a_step_of_shadow_mode_is_charged_to_no_warrant() -> None:
    story = Story().founded(looped()).lineage().warrant(loop=LEAVE).begun(warrant="shadow")
    story.judged("a")
    assert story.state.warrants[0].spent.programs == 0
    assert story.state.attempts[1].spent.programs == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"attempt": 2}, "for attempt 2, which does not run"),
        ({"batch": 2}, "that cannot be read (it is batch 2; 1 is next)"),
        ({"batch": 0}, "that cannot be read (it is batch 0; 1 is next)"),
        ({"lost": -1}, "that cannot be read (-1 programs lost of 2 used)"),
        ({"lost": 3}, "that cannot be read (3 programs lost of 2 used)"),
        ({"programs": (row(), row())}, "that cannot be read (a program has two verdicts in one entry)"),
        ({"programs": (row(verdict="maybe"),)}, "is not a verdict on a program"),
        ({"used": {}}, "that cannot be read (figures named []"),
    ],
)
def test_an_entry_that_cannot_stand_is_tampering(changes: dict[str, Any], why: str) -> None:
    story = started()
    used: ev.Document = {"programs": 2, "wall_seconds": 1.0, "requests": 0, "tokens": 0, "usd": 0.0}
    said: dict[str, Any] = {"attempt": 1, "batch": 1, "programs": (), "used": used, "lost": 0, "closing": False}
    with pytest.raises(TamperDetected) as refused:
        evolve(story.state, story.event(ev.ProgramsJudged, **{**said, **changes}))
    assert why in refused.value.message


def test_no_batch_follows_the_end_of_its_step() -> None:
    story = started()
    story.judged("a", closing=True)
    story.produced("c1", files=[{"name": "subject.py", "digest": digest("a"), "bytes": 1}])
    with pytest.raises(TamperDetected, match="for attempt 1, which does not run"):
        story.judged("b")


def test_a_warrant_whose_bounds_cannot_be_read_is_tampering() -> None:
    story = Story().founded(looped()).lineage().warrant(loop=LEAVE)
    issued = next(event for event in story.events if isinstance(event, ev.WarrantIssued))
    body = {**ev.to_json(issued), "bounds": {"programs_max": 10**20}}
    with pytest.raises(TamperDetected, match="that cannot be read"):
        evolve(story.state, ev.from_json(body))
