"""Crash anywhere in a loop's run, start again: nothing ran uncharged, nothing beyond the warrant, nothing unlawful.

A story that goes on need not be the same: programs that a crash kept from the log are charged, and may run once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.bounds import Bounds
from keyturn.flow import halt
from tests.fakes.loop import LOOP
from tests.fakes.world import Tape, World
from tests.world import story

TRAITS = {2: "leaves", 3: "idle", 4: "thief"}
LEAVE = Bounds(programs_max=45, wall_seconds_max=10_000, requests_max=1000)
SAMPLED = 29


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halt, "TRACE_SECONDS", 0.2)


def people(world: World, step: object) -> bool:
    """What people do at this stop; false when nothing is left that they would do."""
    if isinstance(step, agenda.AwaitWarrant):
        if world.state.warrants:
            return False
        world.warrant(candidates=5, loop=LEAVE)
        return True
    return world.answer(step, warrants=1)  # type: ignore[arg-type]  # a stop, as `run` returned it


def told(world: World) -> int:
    """The story to its end; returns how many programs ran."""
    ran = 0
    for _ in range(80):
        tape = Tape()
        step = world.run(tape)
        ran += tape.seen.count("improve")
        if not people(world, step):
            return ran
    raise AssertionError("the story does not end")


def borders(home: Path, folder: Path) -> Iterator[tuple[str, World, int]]:
    """The disk as it was at every border of the unbroken run, and how many programs had run by then."""
    world = World.founded(home, TRAITS, loop=LOOP)
    found: list[tuple[str, World, int]] = []
    ran = 0

    def keep(_: int, what: str) -> None:
        nonlocal ran
        ran += what == "improve"
        copy = story.copied(world, folder / f"{len(found):04}")
        copy.runs = world.runs
        found.append((f"{len(found)} {what}", copy, ran))

    for _ in range(80):
        if not people(world, world.run(Tape(keep))):
            break
    yield from found


def unsound(world: World, ran_before: int) -> str:
    """What is wrong once the story was told to its end from here."""
    ran = ran_before + told(world)
    state = world.state
    [warrant] = state.warrants
    judged = sum(len(each.programs) for each in world.events() if isinstance(each, ev.ProgramsJudged))
    checks = (
        (story.lawful(world) == [], "it is not lawful"),
        (ran <= warrant.spent.programs, f"{ran} programs ran, {warrant.spent.programs} are charged"),
        (warrant.spent.programs <= LEAVE.programs_max, f"{warrant.spent.programs} programs are charged"),
        (judged <= ran, f"{judged} programs were judged, {ran} ran"),
        (all(not each.batch_open for each in state.attempts.values() if each.outcome), "a batch is open"),
        (all(each.status != "proposed" for each in state.candidates.values()), "a candidate is left"),
    )
    return "; ".join(what for holds, what in checks if not holds)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, World, int]]:
    place = tmp_path_factory.mktemp("loop")
    return list(borders(place / "home", place / "snapshots"))


def sweep(found: list[tuple[str, World, int]], place: Path, *, every: int, offset: int) -> list[str]:
    wrong = []
    for name, world, ran in found[offset::every]:
        copy = story.copied(world, place / name.replace(" ", "-"))
        copy.runs = world.runs
        try:
            what = unsound(copy, ran)
        except Exception as fault:  # noqa: BLE001 - every border is reported, whatever broke at it
            what = f"{type(fault).__name__}: {fault}"
        wrong += [f"crash at border {name}: {what}"] if what else []
    return wrong


def test_the_unbroken_story_has_everything_that_a_crash_could_cut(
    unbroken: list[tuple[str, World, int]], tmp_path: Path
) -> None:
    name, last, ran = unbroken[-1]
    kinds = set(last.kinds())
    assert {"ProgramsJudged", "IncidentOpened", "HaltProven", "LoopResumed", "CandidateReleased"} <= kinds
    assert ran > 25, name
    assert {"improve", "before append", "after append"} <= {border.split(" ", 1)[1] for border, _, _ in unbroken}


@pytest.mark.slow
def test_a_crash_charges_what_it_may_have_kept_from_the_log(
    unbroken: list[tuple[str, World, int]], tmp_path: Path
) -> None:
    assert sweep(unbroken, tmp_path, every=SAMPLED, offset=9) == []


@pytest.mark.slow
@pytest.mark.world
@pytest.mark.timeout(900)
@pytest.mark.parametrize("offset", range(4))
def test_a_crash_at_any_border_charges_what_it_may_have_kept_from_the_log(
    unbroken: list[tuple[str, World, int]], tmp_path: Path, offset: int
) -> None:
    assert sweep(unbroken, tmp_path, every=4, offset=offset) == []
