"""The fault: the governor's clock jumps, both ways, in the middle of a run. The log's moments never run backwards.

Whatever the clock says, nothing acknowledged is lost, nothing is invented, the log decides the same again, and no
window opens by itself: a clock that was ahead makes things run out early, and one set back revives nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError, UntrustedInput
from keyturn.core.policy import Person
from keyturn.flow import approval, halt
from keyturn.ledger.check import check_store
from keyturn.ledger.store import Store
from tests.fakes.world import HOUR, Key, Tape, World, plain
from tests.world import story

YEAR = 365 * 24 * HOUR
SIGNED = (ev.ApprovalGiven, ev.GenerationAudited, ev.AwarenessSigned)
"""People stamp these themselves."""


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halt, "TRACE_SECONDS", 0.2)


def unsound(world: World, kept: list[bytes]) -> str:
    """What is wrong with the log after a run: `kept` are the entries that were acknowledged before."""
    with Store.open(world.home / "log.db") as store:
        leaves = list(store.leaves(0, store.head().size))
        problems = check_store(store, world.state.project.log_key if world.state.project else "")
    moments = [event.at for event in world.events() if not isinstance(event, SIGNED)]
    checks = (
        (leaves[: len(kept)] == kept, "an acknowledged entry is gone"),
        (problems == (), f"the log is not sound: {problems[:1]}"),
        (all(one <= two for one, two in pairwise(moments)), "a moment ran backwards"),
        (story.lawful(world) == [], f"it is not lawful: {story.lawful(world)[:1]}"),
    )
    return "; ".join(what for holds, what in checks if not holds)


def told(world: World, jump: Callable[[int], None]) -> list[str]:
    """The story with its clock moved before each entry, as long as it goes on; what was wrong after each start."""
    wrong = []
    for _ in range(60):
        with Store.open(world.home / "log.db") as store:
            kept = list(store.leaves(0, store.head().size))
        try:
            step = world.run(Tape(lambda number, what: jump(number) if what == "before append" else None))
            over = not world.answer(step, warrants=story.WARRANTS)
        except KeyturnError:
            over = True  # refused: a statement dated ahead, a permit that has run out
        found = unsound(world, kept)
        wrong += [found] if found else []
        if over:
            return wrong
    return wrong


@pytest.mark.parametrize(
    "jumps",
    [
        pytest.param({4: -HOUR}, id="an hour back"),
        pytest.param({9: -YEAR}, id="a year back"),
        pytest.param({6: HOUR, 14: -HOUR}, id="an hour ahead and back again"),
        pytest.param({6: -HOUR, 12: YEAR, 20: -YEAR, 26: HOUR}, id="back, a year ahead, back, ahead"),
        pytest.param({5: 10 * YEAR}, id="ten years ahead"),
    ],
)
def test_a_clock_that_jumps_during_a_run_turns_nothing_back(tmp_path: Path, jumps: dict[int, int]) -> None:
    world, looked = story.founded(tmp_path / "home"), 0

    def jump(_: int) -> None:
        nonlocal looked
        looked += 1
        world.clock.at += jumps.get(looked, 0)

    assert told(world, jump) == []
    assert looked >= max(jumps), "the clock never jumped"
    assert world.state.size > 12


@pytest.mark.slow
@pytest.mark.world
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(12))
def test_a_clock_that_jumps_anywhere_at_random_turns_nothing_back(tmp_path: Path, seed: int) -> None:
    world, dice = story.founded(tmp_path / "home"), random.Random(seed)

    def jump(_: int) -> None:
        if dice.random() < 0.1:
            world.clock.at = max(1, world.clock.at + dice.choice((-YEAR, -HOUR, -1000, 1000, HOUR, YEAR)))

    assert told(world, jump) == [], f"seed {seed}"


def test_a_clock_an_hour_back_tells_the_same_story(tmp_path: Path) -> None:
    """Between two starts and within one: the log's own moment stands in for the clock until that has caught up."""
    calm = story.founded(tmp_path / "calm")
    expected = story.told(calm)
    world, looked = story.founded(tmp_path / "home"), 0

    def jump(_: int) -> None:
        nonlocal looked
        looked += 1
        world.clock.at -= HOUR if looked % 9 == 0 else 0

    assert told(world, jump) == []
    assert plain(world.events()) == expected


def test_a_warrant_that_ran_out_while_the_clock_was_ahead_stays_out(tmp_path: Path) -> None:
    """Something was logged in the future; setting the clock right again does not give the hour back."""
    world = story.founded(tmp_path / "home")
    world.until(agenda.AwaitWarrant, warrants=0)
    world.warrant(candidates=1)
    world.approve(world.hold().dossier)
    before = world.clock.at
    world.clock.at += YEAR
    with world.log() as log:
        log.publish()
    world.clock.at = before
    step = world.run()
    assert not world.state.attempts, "no attempt began under a warrant that had run out"
    assert isinstance(step, agenda.AwaitWarrant)


def test_an_approval_does_not_come_alive_again_when_the_clock_goes_back(tmp_path: Path) -> None:
    world = story.founded(tmp_path / "home")
    hold = world.hold()
    world.approve(hold.dossier)
    before = world.clock.at
    world.clock.at += YEAR
    with world.log() as log:
        log.publish()
    world.clock.at = before
    step = world.run()
    assert world.state.lineage is None, "the founding was not cleared by signatures whose window was over"
    assert isinstance(step, agenda.Hold)


def test_people_need_not_wait_until_a_clock_that_went_back_has_caught_up(tmp_path: Path) -> None:
    world = story.founded(tmp_path / "home")
    hold = world.hold()
    world.clock.at -= HOUR
    world.approve(hold.dossier)
    world.run()
    assert world.state.lineage is not None


def test_no_one_moves_the_log_ahead_of_the_clock_by_a_signature(tmp_path: Path) -> None:
    """Beyond the clock's own tolerance no statement is taken, however often it is tried."""
    world = story.founded(tmp_path / "home")
    dossier, true = world.hold().dossier, world.clock.at

    def refuse(ahead: int) -> None:
        world.clock.at = true + ahead
        with world.log() as log:
            said = {"person": _ada(world), "role": "safety", "decision": "refuse", "reason": f"{ahead}"}
            terms = approval.terms(log, dossier.digest, **said)  # type: ignore[arg-type]  # each is what it is named
            world.clock.at = true
            approval.give(log, terms, public=Key("ada").public, sign=Key("ada").sign)

    for ahead in (400_000, 600_000, HOUR):
        with pytest.raises(UntrustedInput, match="ahead of this machine's clock"):
            refuse(ahead)
    assert max(event.at for event in world.events()) <= true + 300_000 + 1000


def _ada(world: World) -> Person:
    current = world.state.current
    person = current.policy.person("ada") if current else None
    assert person is not None
    return person
