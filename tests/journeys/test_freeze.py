"""A second process holds a running step still, looks, and lets it go on: nothing of what comes out is another.

What is forgotten ends as a halt, and so does what is halted while it is held; both are proven.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from tests.journeys.playing import PROVEN, Play, play

pytestmark = [
    pytest.mark.skipif(not PROVEN, reason="not run: an ordinary user has no cgroup that could be held still"),
    pytest.mark.timeout(300),  # the subject trains for real, on a machine that may be busy
]


def keyturn(made: Play, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "keyturn", *words, "--project", str(made.project.root), "--json"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def beside(made: Play, when: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Does something from a thread once something is true."""

    def wait() -> None:
        for _ in range(1200):
            if when():
                break
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def events(made: Play) -> list[ev.Event]:
    return [event for _, event in made.project.entries(0, 10_000)]


def training(made: Play) -> bool:
    """Whether the subject has been at work for a moment."""
    if not any(attempt.outcome == "" for attempt in made.project.state().attempts.values()):
        return False
    time.sleep(0.3)
    return True


def trying(made: Play) -> bool:
    return any(trial.read for trial in made.project.state().trials.values())


def outcome(made: Play) -> tuple[object, ...]:
    """All that a run shows of its candidate, but for moments."""
    state = made.project.state()
    candidate = next(iter(state.candidates.values()))
    trials = [(trial.id, trial.values, trial.verdict, trial.faulty_blocks) for trial in state.trials.values()]
    return candidate.root, candidate.status, trials


@pytest.mark.slow
def test_what_was_held_still_twice_comes_out_as_if_it_never_had_been(founder: Path, tmp_path: Path) -> None:
    plain, made = play(tmp_path / "plain", founder), play(tmp_path / "frozen", founder)
    plain.project.run()
    plain.go(candidates=1)
    made.project.run()
    said: list[dict[str, Any]] = []

    def look_at_it() -> None:
        said.append(keyturn(made, "freeze", "--as", "ada", "--minutes", "2", "--reason", "to look"))
        said.append(keyturn(made, "freeze", "show"))
        size = made.project.state().size
        said.append(keyturn(made, "status"))
        time.sleep(4)
        assert made.project.state().size == size, "nothing is logged while everything is held still"
        said.append(keyturn(made, "thaw", "--as", "grace"))

    first = beside(made, lambda: training(made), look_at_it)
    second = beside(made, lambda: trying(made), look_at_it)
    step = made.go(candidates=1)
    first.join(60)
    second.join(60)
    assert isinstance(step, agenda.AwaitWarrant)
    assert [each["word"] for each in said] == ["HELD", "FROZEN", "FROZEN", "THAWED"] * 2
    assert said[1]["look"]["doing"].startswith("generation 0 makes candidate 1")
    sandbox = next(each for each in said[1]["look"]["sandboxes"] if each["part"] == "parent")
    assert sandbox["still"] is True
    assert sandbox["processes"] >= 3
    assert sandbox["cpu_seconds"] > 0
    assert said[5]["look"]["doing"].startswith("trial `c1-")
    assert outcome(made) == outcome(plain)
    kinds = [type(event).__name__ for event in events(made)]
    assert (kinds.count("LoopFrozen"), kinds.count("LoopThawed")) == (2, 2)
    assert made.project.replay(lambda _: None).problems == ()


@pytest.mark.slow
def test_a_freeze_past_its_bound_is_a_halt(founder: Path, tmp_path: Path) -> None:
    made = play(tmp_path, founder)
    made.project.run()
    said: list[dict[str, Any]] = []
    freeze = ("freeze", "--by", "a passer-by", "--minutes", "0.05", "--reason", "to look")
    second = beside(made, lambda: training(made), lambda: said.append(keyturn(made, *freeze)))
    step = made.go(candidates=1)
    second.join(60)
    assert said[0]["word"] == "HELD"
    assert isinstance(step, agenda.Halted)
    assert (step.halt.by, step.halt.proven) == ("freeze", True)
    assert int(str((step.halt.receipt or {})["processes_before"])) >= 3
    assert keyturn(made, "thaw", "--as", "ada")["exit_code"] == 5
    assert made.project.resume(made.who("ada"), reason="somebody is here now")
    assert made.project.replay(lambda _: None).problems == ()


def test_a_halt_while_everything_is_held_is_proven_and_ends_the_freeze(founder: Path, tmp_path: Path) -> None:
    made = play(tmp_path, founder)
    made.project.run()
    said: list[dict[str, Any]] = []

    def seen_enough() -> None:
        said.append(keyturn(made, "freeze", "--as", "ada"))
        said.append(keyturn(made, "halt", "--as", "ada", "--reason", "seen enough"))

    second = beside(made, lambda: training(made), seen_enough)
    step = made.go(candidates=1)
    second.join(60)
    assert [each["word"] for each in said] == ["HELD", "STOPPED"]
    assert isinstance(step, agenda.Halted)
    assert made.project.frozen() is None
    assert made.project.state().freeze is None
    assert made.project.replay(lambda _: None).problems == ()


def test_without_a_governor_nothing_begins_until_somebody_lets_it(founder: Path, tmp_path: Path) -> None:
    made = play(tmp_path, founder)
    made.project.run()
    said = keyturn(made, "freeze", "--as", "ada", "--minutes", "5")
    assert (said["word"], said["freeze"]["scope"]) == ("HELD", "nothing runs here: no governor does")
    assert keyturn(made, "freeze", "--as", "grace")["exit_code"] == 5
    assert keyturn(made, "status")["word"] == "FROZEN"
    thaw = beside(made, lambda: time.sleep(1.5) is None, lambda: None)
    running = threading.Thread(target=made.project.run)
    running.start()
    thaw.join()
    assert running.is_alive()
    assert keyturn(made, "thaw", "--as", "nobody")["exit_code"] == 5
    assert keyturn(made, "thaw", "--as", "grace")["word"] == "THAWED"
    running.join(30)
    assert not running.is_alive()
    assert made.project.replay(lambda _: None).problems == ()
