"""A drill measures a halt on the live system and harms nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.errors import Conflict
from tests.journeys.playing import PROVEN, play

WORD = "STOPPED" if PROVEN else "UNPROVEN"


def drill(root: Path) -> tuple[int, dict[str, object]]:
    command = [sys.executable, "-m", "keyturn", "halt", "--drill", "--as", "ada", "--project", str(root), "--json"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


def test_a_drill_beside_a_live_step_harms_nothing(founder: Path, tmp_path: Path) -> None:
    """The step that runs meanwhile keeps its lease and makes its candidate."""
    made = play(tmp_path, founder)
    made.project.run()
    said: list[tuple[int, dict[str, object]]] = []

    def drill_in_mid_training() -> None:
        for _ in range(400):
            if made.project.state().attempts:
                break
            time.sleep(0.05)
        time.sleep(0.2)
        said.extend(drill(made.project.root) for _ in range(2))

    second = threading.Thread(target=drill_in_mid_training)
    second.start()
    step = made.go(candidates=1)
    second.join(timeout=90)
    assert not isinstance(step, agenda.Halted)
    state = made.project.state()
    assert [attempt.outcome for attempt in state.attempts.values()] == ["produced"]
    assert len(state.halts) == 0
    assert not list(made.project.home.glob("halt.*latch"))
    assert not list(made.project.home.glob("halt.drill"))
    assert [(code, body["word"], body["drill"]) for code, body in said] == [(0 if PROVEN else 7, WORD, True)] * 2
    receipt = said[0][1]["receipt"]
    assert isinstance(receipt, dict)
    assert receipt["daemons"] == 20
    if PROVEN:
        assert receipt["checks"] == dict.fromkeys(("daemons", "attest", "kill", "latch", "log", "door"), "ok")
        assert receipt["processes_before"] == 23, "the daemons, our main process, init and its monitor"
        assert receipt["scope"].startswith("sandbox drill-")
    drilled = [event for _, event in made.project.entries(0, 10_000) if isinstance(event, ev.HaltDrilled)]
    assert [event.by for event in drilled] == ["person:ada"] * 2
    assert state.drill == drilled[-1]
    assert made.project.replay(lambda _: None).problems == ()


def test_a_drill_without_a_governor_is_one_for_itself_and_leaves_nothing(founder: Path, tmp_path: Path) -> None:
    made = play(tmp_path, founder)
    code, body = drill(made.project.root)
    assert (code, body["word"]) == (0 if PROVEN else 7, WORD)
    assert made.project.state().drill is not None
    assert not (made.project.home / "control.sock").exists()
    assert not list((made.project.home / "run").glob("*"))


def test_a_drill_says_that_no_latch_could_be_set(founder: Path, tmp_path: Path) -> None:
    made = play(tmp_path, founder)
    (made.project.home / "halt.tmp").mkdir()
    code, body = drill(made.project.root)
    assert (code, body["word"]) == (7, "UNPROVEN")
    assert "a latch could not be set" in str(body)
    after = made.project.state().drill
    assert after is not None
    assert after.receipt["state"] == "UNPROVEN"
    assert made.project.replay(lambda _: None).problems == ()


def test_nothing_is_launched_for_a_drill_while_a_halt_stands(founder: Path, tmp_path: Path) -> None:
    made = play(tmp_path, founder)
    made.project.halt(by="person:ada", reason="enough")
    with pytest.raises(Conflict, match="a halt stands"):
        made.project.drill(by="person:ada")
    code, body = drill(made.project.root)
    assert (code, body["exit_code"]) == (5, 5)


def test_a_drill_without_an_engine_is_unavailable_and_no_conflict(founder: Path, tmp_path: Path) -> None:
    made = play(tmp_path, founder)
    image = f"images.example/python@sha256:{'a' * 64}"
    said = f'[sandbox]\nengine = "docker"\nimage = "{image}"\nsocket = "{tmp_path / "none.sock"}"\n'
    (made.project.root / "operation.toml").write_text(said, encoding="utf-8")
    code, body = drill(made.project.root)
    assert (code, body["exit_code"]) == (4, 4)


def test_a_drill_does_not_wait_for_a_thaw(founder: Path, tmp_path: Path) -> None:
    """Its launch would wait until people let everything go on, and whoever asked would wait with it."""
    made = play(tmp_path, founder)
    made.project.freeze(by="person:ada", reason="to look", minutes=1)
    code, body = drill(made.project.root)
    assert (code, body["exit_code"]) == (5, 5)
    assert "held still" in str(body["error"])
