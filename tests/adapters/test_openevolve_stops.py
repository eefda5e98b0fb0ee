"""A run is stopped, by a halt, by a person and by a crash, and gone on with afterwards."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from keyturn.app import openevolve
from keyturn.core import agenda
from keyturn.core.errors import MalformedInput
from keyturn.flow.run import run as run_flow
from tests.adapters.conftest import Scene, evolved, times
from tests.adapters.endpoint import answering, slow
from tests.journeys.playing import PROVEN

HANGING = evolved("import time\n\n\ndef solve(n):\n    time.sleep(60)\n")
CHECKPOINTS = {"checkpoint_interval: 1000": "checkpoint_interval: 1"}


def test_a_halt_from_elsewhere_ends_the_whole_run_its_processes_included(scene: Scene) -> None:
    scene.warrant()
    receipts = []

    def halt(message: dict[str, Any], loop: openevolve.Loop) -> None:
        if len(scene.programs()) == 2 and not receipts:
            receipts.append(scene.project.halt(by="a test", reason="enough"))

    with answering(times(2), HANGING, times(3)) as endpoint:
        ended = scene.run(endpoint.url, meanwhile=halt, iterations=40, config={"timeout: 6": "timeout: 50"})
        asked = endpoint.count
    assert receipts[0]["state"] == ("STOPPED" if PROVEN else "UNPROVEN")
    assert [message["halted"] for message in scene.said if message["type"] == "stopping"] == [True]
    assert (ended["type"], scene.code) == ("error", 6), ended
    assert "a halt stopped everything" in ended["message"]
    assert scene.left == []
    assert asked <= 3
    assert not (scene.project.home / "loop.sock").exists()
    assert scene.project.state().halt is not None


@pytest.mark.slow
def test_a_halt_does_not_wait_for_an_endpoint(scene: Scene) -> None:
    scene.warrant()

    def halt(message: dict[str, Any], loop: openevolve.Loop) -> None:
        if len(scene.programs()) == 1 and scene.project.state().halt is None:
            scene.project.halt(by="a test", reason="enough")

    with answering(slow(9)) as endpoint:
        scene.run(endpoint.url, meanwhile=halt, iterations=4)
    assert (scene.code, scene.left) == (6, [])


@pytest.mark.slow
def test_a_person_who_breaks_off_can_go_on_from_what_was_saved(scene: Scene) -> None:
    scene.warrant()

    def interrupt(message: dict[str, Any], loop: openevolve.Loop) -> None:
        if message["type"] == "program" and len(scene.programs()) == 3:
            loop.interrupt()

    with answering(times(2), times(3), *[times(1)] * 60) as endpoint:
        ended = scene.run(endpoint.url, meanwhile=interrupt, iterations=60, config=CHECKPOINTS)
    assert (ended["type"], scene.code, scene.left) == ("interrupted", 130, [])
    assert scene.project.state().attempts[1].outcome == ""
    saved = scene.root / "example" / "openevolve_output" / "checkpoints" / "checkpoint_2"
    _forge(saved, times(90), 6.3)
    with answering(times(2.5)) as endpoint:
        ended = scene.run(endpoint.url, iterations=1, checkpoint=saved)
    told = [message["text"] for message in scene.said if message["type"] == "tell"]
    assert "1 saved program was not admitted in this step, and left out" in told
    assert ended["type"] == "outcome"
    assert scene.project.state().candidates[ended["candidate"]].claim["score"] == pytest.approx(0.21)


def _forge(saved: Path, code: str, score: float) -> None:
    """Write a program into a saved population by hand, and call it the best."""
    file = next((saved / "programs").glob("*.json"))
    body = {**json.loads(file.read_text()), "id": "forged", "code": code, "metrics": {"combined_score": score}}
    (saved / "programs" / "forged.json").write_text(json.dumps(body))


@pytest.mark.slow
def test_what_a_crash_kept_from_the_log_is_judged_anew(scene: Scene) -> None:
    scene.warrant()

    def crash(message: dict[str, Any], loop: openevolve.Loop) -> None:
        if len(scene.programs()) == 3:
            for process in _governors(scene):
                os.kill(process, signal.SIGKILL)

    with answering(times(2), times(3), *[times(1)] * 60) as endpoint:
        ended = scene.run(endpoint.url, meanwhile=crash, iterations=60, config=CHECKPOINTS)
    assert ended["type"] == "error"
    assert "the governor is gone" in ended["message"]
    assert scene.left == []
    saved = scene.root / "example" / "openevolve_output" / "checkpoints" / "checkpoint_2"
    with answering(times(2.5)) as endpoint:
        ended = scene.run(endpoint.url, iterations=1, checkpoint=saved)
    assert ended["type"] == "outcome", scene.said
    assert scene.project.state().candidates[ended["candidate"]].claim["score"] == pytest.approx(0.21)
    assert scene.project.state().attempts[1].lost == 4


def _governors(scene: Scene) -> list[int]:
    """The governor of this scene, by its command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(scene.root / "project").encode() in words:
            found.append(int(place.name))
    return found


@pytest.mark.slow
def test_a_step_left_open_whose_bounds_are_used_up_ends_and_a_new_warrant_is_waited_for(scene: Scene) -> None:
    scene.warrant(programs=2)
    with scene.project.governing(lambda _: None) as governor, pytest.raises(MalformedInput):
        run_flow(governor)  # a step is begun, and its loop never comes: its batch is charged
    ended = scene.run()
    assert (ended["type"], ended.get("candidate")) == ("outcome", "")
    assert scene.project.state().attempts[1].outcome == "ended"
    assert isinstance(scene.project.run(), agenda.AwaitWarrant)
