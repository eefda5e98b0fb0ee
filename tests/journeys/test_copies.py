"""A process that loaded weights through a permit registers, and from then on a halt reaches it like a sandbox."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyturn import app
from keyturn.core import events as ev
from tests.journeys.copying import DEAF, LEAVE, SLEEP, copy, eventually, said
from tests.journeys.playing import PROVEN, Play, play

GOVERN = """
import sys, time
from pathlib import Path
from keyturn import app
with app.open_project(Path(sys.argv[1])).governing(lambda _: None):
    print("governs", flush=True)
    while True: time.sleep(60)
"""


@dataclass
class Scene:
    """A project with a released founder, and whoever was started in it."""

    play: Play
    started: list[subprocess.Popen[str]]

    @property
    def project(self) -> app.Project:
        return self.play.project

    @property
    def permit(self) -> str:
        lineage = self.project.state().lineage
        assert lineage is not None
        return lineage.founder.permit

    def copy(self, *, then: str = SLEEP, permit: str | None = None) -> subprocess.Popen[str]:
        """A copy that was asked to be known."""
        self.started.append(copy(self.project.root, permit or self.permit, then=then))
        return self.started[-1]

    def held(self, *, then: str = SLEEP) -> subprocess.Popen[str]:
        """A copy that is known."""
        process = self.copy(then=then)
        assert said(process).startswith("held ")
        return process

    def governor(self) -> subprocess.Popen[str]:
        """A governor in a process of its own."""
        command = [sys.executable, "-c", GOVERN, str(self.project.root)]
        self.started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert said(self.started[-1]) == "governs"
        return self.started[-1]

    def halt(self) -> dict[str, Any]:
        """The receipt of a halt."""
        return self.project.halt(by="person:ada", reason="enough")


@pytest.fixture
def scene(founder: Path, tmp_path: Path) -> Iterator[Scene]:
    made = play(tmp_path, founder)
    step = made.project.run()
    made.sign(step)
    made.project.run()
    here = Scene(made, [])
    yield here
    for process in here.started:
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout):
            if end is not None:
                end.close()


def rows(receipt: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["state"] for row in receipt["reached"] if row["what"] == "copy"}


@pytest.mark.parametrize("then", [SLEEP, DEAF])
def test_a_halt_ends_every_known_copy_and_names_each(scene: Scene, then: str) -> None:
    scene.governor()
    both = [scene.held(then=then), scene.held(then=then)]
    assert scene.project.copies() == 2
    receipt = scene.halt()
    assert receipt["state"] == ("STOPPED" if PROVEN else "UNPROVEN"), receipt
    assert rows(receipt) == {f"process {each.pid} under permit {scene.permit}": "STOPPED" for each in both}
    assert receipt["scope"] == "0 sandboxes of this governor, and 2 known copies"
    assert [each.wait(5) for each in both] == [-signal.SIGKILL] * 2
    assert scene.project.copies() == 0
    state = scene.project.state()
    assert state.halt is not None
    assert state.halt.receipt is not None
    assert len(rows(dict(state.halt.receipt))) == 2
    assert scene.project.replay(lambda _: None).problems == ()


@pytest.mark.parametrize("then", [SLEEP, DEAF])
def test_a_copy_dies_with_its_governor(scene: Scene, then: str) -> None:
    governor, held = scene.governor(), scene.held(then=then)
    governor.kill()
    assert held.wait(10) == -signal.SIGKILL


def test_a_copy_ends_itself_when_its_governor_hangs(scene: Scene) -> None:
    governor, held = scene.governor(), scene.held()
    os.kill(governor.pid, signal.SIGSTOP)
    assert held.wait(20) == -signal.SIGKILL


def test_a_stopped_copy_is_killed_by_a_halt_without_a_governor(scene: Scene) -> None:
    """The governor hangs and the copy is held still, so that neither the lease nor the door can end it."""
    governor, held = scene.governor(), scene.held()
    os.kill(held.pid, signal.SIGSTOP)
    os.kill(governor.pid, signal.SIGSTOP)
    receipt = scene.halt()
    assert list(rows(receipt).values()) == ["STOPPED"], receipt
    assert held.wait(5) == -signal.SIGKILL


def test_a_copy_that_left_is_nobodys_to_kill_whatever_its_children_hold(scene: Scene) -> None:
    """A worker that was forked before shares the cord; its end must not be the end of a process that let go."""
    fork = "import os\nif os.fork() == 0:\n    time.sleep(20)\n    os._exit(0)\n"
    governor, held = scene.governor(), scene.held(then=fork + LEAVE)
    assert held.stdin is not None
    held.stdin.write("\n")
    held.stdin.flush()
    assert said(held) == "left"
    assert eventually(lambda: scene.project.copies() == 0)
    governor.kill()
    governor.wait()
    time.sleep(0.3)
    assert held.poll() is None


def test_a_copy_that_outlived_its_governor_is_ended_and_receipted_by_the_next(scene: Scene) -> None:
    """As if the kernel and the lease had both failed: its record is put back, and a process lives behind it."""
    governor, held = scene.governor(), scene.held(then=LEAVE)
    (place,) = (scene.project.home / "copies").glob("*.json")
    kept = place.read_bytes()
    assert held.stdin is not None
    held.stdin.write("\n")
    held.stdin.flush()
    assert said(held) == "left"
    assert eventually(lambda: not place.exists()), "who left is forgotten"
    governor.kill()
    governor.wait()
    assert held.poll() is None
    place.write_bytes(kept)
    assert scene.project.copies() == 1
    scene.governor()
    assert held.wait(5) == -signal.SIGKILL
    swept = [event for _, event in scene.project.entries(0, 10_000) if isinstance(event, ev.SandboxSwept)]
    assert [rows(dict(event.receipt)) for event in swept[-1:]] == [
        {f"process {held.pid} under permit {scene.permit}": "STOPPED"}
    ]


def test_a_record_of_another_process_kills_nobody(scene: Scene) -> None:
    """The number of a copy that is gone was given to another process, and the machine has started anew."""
    bystander = subprocess.Popen(["sleep", "60"])
    folder = scene.project.home / "copies"
    folder.mkdir(exist_ok=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = str(Path("/proc/self/ns/pid").readlink())
    started = int(Path(f"/proc/{bystander.pid}/stat").read_text().rpartition(")")[2].split()[19])
    base = {"permit": "p", "pid": bystander.pid, "started": started, "boot": boot, "namespace": namespace}
    (folder / "a.json").write_text(json.dumps({**base, "started": started - 1}))
    (folder / "b.json").write_text(json.dumps({**base, "boot": "another"}))
    try:
        receipt = scene.halt()
        assert rows(receipt) == {}
        assert receipt["state"] == ("STOPPED" if PROVEN else receipt["state"])
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


GREAT = json.dumps({"permit": "p", "pid": 10**30, "started": 1, "boot": "b", "namespace": "n"})
"""A number of a process that nobody could even ask for."""


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": -1}', "\x00", "[" * 4000, GREAT])
def test_a_record_that_cannot_be_read_makes_a_halt_unproven(scene: Scene, text: str) -> None:
    folder = scene.project.home / "copies"
    folder.mkdir(exist_ok=True)
    (folder / "12-34.json").write_text(text)
    receipt = scene.halt()
    assert receipt["state"] == "UNPROVEN"
    assert "the record `12-34.json` cannot be read" in str(receipt["unknown"])


def test_nobody_registers_while_a_halt_stands_or_without_a_permit_in_force(scene: Scene) -> None:
    scene.governor()
    assert said(scene.copy(permit="p-none")).startswith("refused this process may not hold a copy: `p-none` is not")
    permit = scene.permit
    scene.project.revoke(permit, by="ada", reason="recalled")
    assert "was revoked" in said(scene.copy(permit=permit))
    scene.halt()
    assert "a halt stands" in said(scene.copy(permit=permit))
    assert not list((scene.project.home / "copies").glob("*"))


def test_a_revoked_permit_ends_its_copies(scene: Scene) -> None:
    scene.governor()
    held = scene.held()
    scene.project.revoke(scene.permit, by="ada", reason="recalled")
    assert held.wait(20) == -signal.SIGKILL
    assert eventually(lambda: scene.project.copies() == 0)


def test_without_a_governor_nobody_holds_a_copy(scene: Scene) -> None:
    assert said(scene.copy()).startswith("refused no governor listens at")


@pytest.mark.parametrize("rounds", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_a_copy_that_registers_while_a_halt_acts_is_dead_or_refused(
    scene: Scene, rounds: int, wait_a_little: Callable[[int], None]
) -> None:
    """Whoever was told `held` is in a receipt or gone; nobody slips in between the kill and the latch."""
    scene.governor()
    late = [scene.copy() for _ in range(rounds)]
    wait_a_little(rounds)
    scene.halt()
    for process in late:
        first = said(process)
        assert first == "" or first.startswith(("held ", "refused ")), first
        assert process.wait(20) in ({-signal.SIGKILL} if first.startswith("held ") else {1, -signal.SIGKILL})
    assert scene.project.copies() == 0


@pytest.fixture
def wait_a_little() -> Callable[[int], None]:
    """About as long as the first of them need to come to the door."""
    import time

    return lambda rounds: time.sleep(0.12 + rounds * 0.03)
