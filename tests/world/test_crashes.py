"""Crash anywhere, start again: the log tells the same story as if nothing had happened.

Promised is that `run` resumes after a kill at any moment with event sequences equal to an unbroken run's, but for
times, nonces, ids and signatures.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.core import agenda
from keyturn.core.errors import Unavailable
from keyturn.flow import halt
from keyturn.flow.run import run
from keyturn.ledger.store import Store
from tests.fakes.runner import FakeRunner
from tests.fakes.world import Crash, Tape, World, plain
from tests.world import story

SAMPLED = 12
"""Every so many borders are crashed at by default; the long form takes them all."""

Snapshots = tuple[list[tuple[str, World]], list[str]]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    """The disk at every border of the unbroken run, and what that run logged."""
    place = tmp_path_factory.mktemp("unbroken")
    return story.snapshots(place / "home", place / "snapshots")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halt, "TRACE_SECONDS", 0.2)


def test_the_story_has_everything_that_a_crash_could_cut(unbroken: Snapshots) -> None:
    borders = {name.split(" ", 1)[1] for name, _ in unbroken[0]}
    expected = {f"{when} {what}" for when in ("before", "after") for what in ("append", "checkpoint", "put", "latch")}
    assert borders >= expected | {"before unlatch", "after unlatch", "improve", "trial", "grader", "kill"}
    kinds = "".join(unbroken[1])
    for kind in ("HaltProven", "LoopResumed", "CandidateReleased", "CandidateRejected", "IncidentOpened"):
        assert kind in kinds


def differing(broken: World, expected: list[str]) -> str:
    """The first event at which a resumed story departs from the unbroken one."""
    told = story.told(broken)
    for index, (found, wanted) in enumerate(zip(told, expected, strict=False)):
        if found != wanted:
            return f"event {index}\n  found    {found[:400]}\n  expected {wanted[:400]}"
    return "" if len(told) == len(expected) else f"{len(told)} events; {len(expected)} are expected"


def sweep(unbroken: Snapshots, step: int, offset: int, place: Path) -> list[str]:
    borders, expected = unbroken
    found = []
    for name, world in borders[offset::step]:
        copy = story.copied(world, place / name.replace(" ", "-"))
        try:
            difference = differing(copy, expected)
        except Exception as fault:  # noqa: BLE001 - every border is reported, whatever broke at it
            difference = f"{type(fault).__name__}: {fault}"
        found += [f"crash at border {name}: {difference}"] if difference else []
    return found


def test_a_crash_at_a_border_changes_nothing(unbroken: Snapshots, tmp_path: Path) -> None:
    """Borders lie before and after every append, checkpoint, stored artifact, latch, launch and kill."""
    assert sweep(unbroken, SAMPLED, 5, tmp_path) == []


@pytest.mark.slow
def test_a_status_whose_checkpoint_was_not_signed_is_signed_at_the_next_start(
    unbroken: Snapshots, tmp_path: Path
) -> None:
    borders, expected = unbroken
    chosen = [(name, world) for name, world in borders if name.endswith("before checkpoint")]
    assert len(chosen) > 4
    assert sweep((chosen, expected), 1, 0, tmp_path) == []


@pytest.mark.slow
@pytest.mark.world
@pytest.mark.timeout(600)
@pytest.mark.parametrize("offset", range(4))
def test_a_crash_at_any_border_changes_nothing(unbroken: Snapshots, tmp_path: Path, offset: int) -> None:
    assert sweep(unbroken, 4, offset, tmp_path) == []


WRITES = ("append", "checkpoint", "put")


def failing(number: int) -> Tape:
    """From border `number` on one write fails: before it, it is lost; after it, it was kept but reported lost."""
    failed: list[str] = []

    def act(here: int, what: str) -> None:
        if here >= number and not failed and what.split(" ")[-1] in WRITES:
            failed.append(what)
            raise Unavailable("the disk failed", help="try again")

    return Tape(act)


def failed_and_resumed(home: Path, numbers: Iterator[int]) -> tuple[World, int]:
    """Tell the story with a failing write every so often, each time with a fresh governor after it."""
    world, failures = story.founded(home), 0
    while failures < 60:
        try:
            step = world.run(failing(next(numbers)))
        except Unavailable:
            failures += 1
            world = world.crashed()
            continue
        if not world.answer(step, warrants=story.WARRANTS):
            return world, failures
    raise AssertionError("the story does not end")


def halts_of(told: list[str]) -> int:
    return sum('"HaltRequested"' in text for text in told)


@pytest.mark.parametrize(
    "seed", [1, 2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_a_write_that_was_lost_or_only_reported_lost_changes_nothing(
    unbroken: Snapshots, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    world, failures = failed_and_resumed(tmp_path / "home", iter(lambda: dice.randrange(3, 40), -1))
    assert failures > 5, "a test that never fails a write shows nothing"
    told = plain(world.events())
    assert story.lawful(world) == [], f"seed {seed}"
    if halts_of(told) == halts_of(unbroken[1]):
        assert told == unbroken[1], f"seed {seed}"
    else:  # a tripwire halted while the log refused to take it: its step was done again, and tripped again
        assert halts_of(told) > halts_of(unbroken[1])
    assert {c.status for c in world.state.candidates.values()} == {"released", "rejected"}


# --- trial items


@pytest.mark.parametrize("when", ["before append", "after append"])
def test_logged_items_are_never_asked_again_and_others_in_the_committed_order(tmp_path: Path, when: str) -> None:
    """The governor dies around every third entry, often between an answer and its record."""
    world = World.founded(tmp_path / "home")
    world.until(agenda.AwaitWarrant, warrants=0)
    world.warrant(candidates=1)
    world.approve(world.hold().dossier)
    lives = 0
    while not any(candidate.dossier for candidate in world.state.candidates.values()):
        before = {trial.threshold: trial.read for trial in world.state.trials.values()}
        asked: list[tuple[str, int]] = []
        with contextlib.suppress(Crash), world.governor(dying(when, entries=3)) as governor:
            assert isinstance(governor.halter, FakeRunner)
            asked = governor.halter.asked
            run(governor)
        for threshold in {threshold for threshold, _ in asked}:
            first = before.get(threshold, 0)
            positions = [position for name, position in asked if name == threshold]
            assert positions == list(range(first, first + len(positions))), threshold
        world, lives = world.crashed(), lives + 1
    assert lives > 6
    (candidate,) = world.state.candidates.values()
    assert len(candidate.evidence) == 4
    assert story.lawful(world) == []


def dying(when: str, *, entries: int) -> Tape:
    """The process dies around its third append."""
    tape = Tape()

    def act(_: int, what: str) -> None:
        if what == when and tape.seen.count(when) == entries:
            raise Crash

    tape.act = act
    return tape


# --- kill -9


@pytest.mark.slow
@pytest.mark.world
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_kill_nine_at_twelve_moments_changes_nothing(unbroken: Snapshots, tmp_path: Path, seed: int) -> None:
    dice, home = random.Random(seed), tmp_path / "home"
    story.founded(home)
    command = [sys.executable, "-m", "tests.world.child", str(home)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])}
    kills, over = 0, False
    while not over:
        entries = len(World(home).kinds())
        child = subprocess.Popen(command, env=environment, cwd=Path(__file__).parent.parent.parent)
        _wait_for_entries(home, entries, dice.randrange(1, 10), child)
        over = kills == 12 or child.poll() is not None
        if not over:
            child.send_signal(signal.SIGKILL)
            kills += 1
        code = child.wait(timeout=120)
        assert code == (0 if over else -signal.SIGKILL), f"seed {seed}"
    assert kills == 12, f"seed {seed}: only {kills} kills before the story's end"
    told = plain(World(home).events())
    assert told == unbroken[1], f"seed {seed}"


def _wait_for_entries(home: Path, entries: int, more: int, child: subprocess.Popen[bytes]) -> None:
    """Wait until the child wrote some entries, so that every life gets somewhere, and a moment that falls anywhere."""
    while child.poll() is None:
        with Store.open(home / "log.db") as store:
            if store.head().size >= entries + more:
                break
        time.sleep(0.001)
    time.sleep(more * 0.0007)
