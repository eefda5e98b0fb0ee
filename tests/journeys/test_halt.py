"""A second process stops a training step half-way; the halt is proven, and lifting it takes a quorum."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from keyturn.core import agenda
from tests.journeys.playing import PROVEN, Play, play


def halt_from_second_terminal(made: Play, said: list[dict[str, object]]) -> None:
    for _ in range(400):
        if made.project.state().attempts:
            break
        time.sleep(0.05)
    time.sleep(0.3)
    command = [sys.executable, "-m", "keyturn", "halt", "--project", str(made.project.root), "--by", "grace"]
    done = subprocess.run([*command, "--reason", "drill", "--json"], capture_output=True, timeout=60, check=False)
    said.append(json.loads(done.stdout))


def test_halt_from_a_second_terminal_in_mid_training(founder: Path, tmp_path: Path) -> None:
    made = play(tmp_path, founder)
    made.project.run()
    said: list[dict[str, object]] = []
    second = threading.Thread(target=halt_from_second_terminal, args=(made, said))
    second.start()
    step = made.go(candidates=1)
    second.join(timeout=60)
    assert isinstance(step, agenda.Halted)
    assert step.halt.proven is PROVEN
    assert said[0]["word"] == ("STOPPED" if PROVEN else "UNPROVEN")
    receipt = said[0]["receipt"]
    assert isinstance(receipt, dict)
    assert int(receipt["processes_before"]) > 0 or not PROVEN
    again = made.project.run()
    assert isinstance(again, agenda.Halted), "anyone may stop; running again does not start"
    assert (made.project.home / "halt.latch").exists()
    if not PROVEN:
        assert not made.project.resume(made.who("ada"), reason="drill over"), "an unproven halt is not lifted"
        return
    assert made.project.resume(made.who("ada"), reason="drill over")
    assert not (made.project.home / "halt.latch").exists()
    ended = made.go(candidates=1)
    assert isinstance(ended, agenda.AwaitWarrant)
    assert len(made.project.state().candidates) >= 1
    replay = made.project.replay(lambda _: None)
    assert replay.problems == ()
