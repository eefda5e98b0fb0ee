"""A freeze is bounded, never doubled, ends as a go by a person in time or as a halt, and a replay sees to it."""

from __future__ import annotations

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import TamperDetected
from keyturn.core.evolve import evolve
from keyturn.core.freeze import MINUTE, MINUTES_MAX, must_stay, unlawful
from keyturn.core.replay import recheck
from keyturn.core.state import Freeze, State
from keyturn.core.terms import Instant
from tests.core.examples import Story, loop


def frozen(minutes: float = 5, *, by: str = "somebody") -> Story:
    story = loop()
    until_at = Instant(int(story.at + minutes * MINUTE))
    story.add(ev.LoopFrozen, freeze="f-1", by=by, reason="to look", until_at=until_at, held={"state": "HELD"})
    return story


def found(story: Story) -> list[str]:
    """What a replay says of the newest entry."""
    state, said = State(), list[str]()
    for event in story.events:
        said = [finding.message for finding in recheck(state, event)]
        state = evolve(state, event)
    return said


def test_a_freeze_stands_until_somebody_lets_it_go_on() -> None:
    story = frozen()
    assert story.state.freeze is not None
    assert found(story) == []
    story.add(ev.LoopThawed, freeze="f-1", by="person:ada")
    assert story.state.freeze is None
    assert story.state.freezes[0].ended == "person:ada"
    assert found(story) == []


def test_a_halt_ends_a_freeze() -> None:
    story = frozen().halted()
    assert story.state.freeze is None
    assert story.state.freezes[0].ended == "h-1"


@pytest.mark.parametrize("minutes", [-1, 0, MINUTES_MAX + 1])
def test_a_freeze_without_a_bound_is_unlawful(minutes: float) -> None:
    assert any(f"{MINUTES_MAX} minutes" in each for each in found(frozen(minutes)))


def test_a_thaw_past_the_bound_is_unlawful() -> None:
    story = frozen(1)
    story.at += 2 * MINUTE
    story.add(ev.LoopThawed, freeze="f-1", by="person:ada")
    assert any("its bound has passed" in each for each in found(story))


def test_a_thaw_by_nobody_who_is_enrolled_is_unlawful() -> None:
    story = frozen()
    story.add(ev.LoopThawed, freeze="f-1", by="governor")
    assert any("no enrolled person" in each for each in found(story))


def test_a_thaw_without_a_freeze_cannot_stand() -> None:
    with pytest.raises(TamperDetected):
        loop().add(ev.LoopThawed, freeze="f-1", by="person:ada")
    story = frozen()
    with pytest.raises(TamperDetected):
        story.add(ev.LoopThawed, freeze="f-2", by="person:ada")
    with pytest.raises(TamperDetected):
        story.add(ev.LoopFrozen, freeze="f-1", by="a", reason="", until_at=Instant(story.at + 1), held={})


def test_a_second_freeze_and_one_of_nobody_are_unlawful() -> None:
    story = frozen()
    until_at, at = Instant(story.at + MINUTE), Instant(story.at)
    assert "already" in unlawful(story.state, "ada", until_at, at)
    assert unlawful(loop().state, "", until_at, at) == "nobody is said to have asked for it"
    assert "a halt stands" in unlawful(loop().halted().state, "ada", until_at, at)


def test_nothing_goes_on_while_a_halt_stands() -> None:
    story = loop().halted()
    freeze = Freeze("f-1", "a", "", Instant(story.at), Instant(story.at + MINUTE))
    assert must_stay(story.state, freeze, "person:ada", Instant(story.at)) == "a halt stands; only a quorum lifts it"
