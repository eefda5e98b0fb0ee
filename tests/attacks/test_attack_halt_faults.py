"""A halt with everything gone that it could wish for: it kills all the same, records what it can, and hides nothing."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.app import sealed
from keyturn.core.events import HaltProven, HaltUnproven, SandboxSwept
from keyturn.core.terms import Instant
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.port import Receipt
from keyturn.sandbox.running import BubblewrapRunning
from tests.journeys.playing import Play, play
from tests.sandbox.conftest import specification

pytestmark = pytest.mark.root


@dataclass
class Scene:
    """A project whose governor hangs: what it started lives, and nobody answers at the door."""

    play: Play
    running: BubblewrapRunning

    @property
    def home(self) -> Path:
        return self.play.project.home

    def halt(self) -> tuple[int, dict[str, Any]]:
        """What `keyturn halt` says."""
        command = [sys.executable, "-m", "keyturn", "halt", "--by", "ada", "--reason", "enough", "--json"]
        done = subprocess.run(
            [*command, "--project", str(self.home.parent)], capture_output=True, timeout=90, check=False
        )
        assert done.stdout, done.stderr.decode()
        body = json.loads(done.stdout)
        assert self.running.wait(timeout=5).reason == "lost", "whatever else was gone, it is dead"
        return done.returncode, body["receipt"]


@pytest.fixture
def scene(founder: Path, tmp_path: Path) -> Iterator[Scene]:
    made = play(tmp_path, founder)
    run = made.project.home / "run"
    backend = Bubblewrap(run, runtime_cache=tmp_path / "runtime.json")
    code = "import os, time\nfor _ in range(5):\n    if os.fork() == 0: os.setsid(); time.sleep(60)\ntime.sleep(60)"
    running = backend.prepare(replace(specification(backend, code), lease_seconds=120)).go()
    yield Scene(made, running)
    subprocess.run(["umount", "-q", str(made.project.home)], check=False)
    running.close()
    backend.close()


@pytest.fixture(scope="session")
def founder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from keyturn.app import exercise

    return exercise.founder(tmp_path_factory.mktemp("founder") / "connect4", seed=6)


def test_with_all_in_place_it_is_stopped_latched_recorded_and_published(scene: Scene) -> None:
    code, receipt = scene.halt()
    assert (code, receipt["state"], receipt["survivors"], receipt["unknown"]) == (0, "STOPPED", 0, [])
    assert receipt["processes_before"] >= 3
    state = scene.play.project.state()
    assert state.settled, "the status that makes nodes refuse stands at the end"
    assert state.halt is not None
    assert (scene.home / "halt.latch").read_text().startswith(state.halt.id)


BROKEN: dict[str, Callable[[Path], object]] = {
    "the log is deleted": lambda home: (home / "log.db").unlink(),
    "the log is garbage": lambda home: (home / "log.db").write_bytes(b"no database" * 1000),
    "the log is a folder": lambda home: ((home / "log.db").unlink(), (home / "log.db").mkdir()),
    "the trust file is gone": lambda home: (home / "trust.json").unlink(),
    "the service key is gone": lambda home: (home / "service.key" / "service.json").unlink(),
    "the operation cannot be read": lambda home: (home.parent / "operation.toml").write_text("= nonsense"),
    "the operation nests without end": lambda home: (home.parent / "operation.toml").write_text("a = " + "[" * 9999),
    "the operation holds a number without end": lambda home: (home.parent / "operation.toml").write_text(
        "a = " + "9" * 9999
    ),
    "the blobs cannot be written": lambda home: _instead(home / "blobs"),
}


def _instead(folder: Path) -> None:
    """A file where a folder was."""
    if folder.is_dir():
        folder.rename(folder.with_name("moved"))
    folder.write_text("not a folder")


@pytest.mark.parametrize("what", BROKEN)
def test_it_kills_and_latches_without(scene: Scene, what: str) -> None:
    BROKEN[what](scene.home)
    code, receipt = scene.halt()
    assert receipt["survivors"] == 0
    assert (scene.home / "halt.latch").exists()
    if what == "the blobs cannot be written":
        assert (code, receipt["state"]) == (0, "STOPPED")
        assert "could not be kept" in receipt["why"]
        return
    assert any(str(line).startswith("log: the halt is not recorded yet") for line in receipt["unknown"])
    shared = what.startswith("the operation ")  # then another machine may govern, for all that can be seen
    assert (code, receipt["state"]) == ((7, "UNPROVEN") if shared else (0, "STOPPED"))


class Elsewhere:
    """An engine that never ran anything of this project, and says so with proof."""

    def sweep(self, also: Callable[[], None]) -> Receipt:
        also()
        return Receipt("an engine", "start", Instant(1), 0.0, 0.0, 0.0, 0, 0, "STOPPED", ())


def test_an_engine_that_was_chosen_after_the_governor_began_hides_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The governor hangs over sandboxes of this machine, and the file now speaks of an engine that has none."""
    monkeypatch.setattr(sealed, "_backend", lambda _: Elsewhere())
    receipt = sealed.Sealed.halter(scene.home).halt_all("enough")
    assert scene.running.wait(timeout=5).reason == "lost"
    assert (receipt["state"], receipt["survivors"]) == ("STOPPED", 0)
    assert int(str(receipt["processes_before"])) >= 1
    assert "an engine" in str(receipt["scope"])


def test_a_database_that_is_away_makes_it_unproven(scene: Scene) -> None:
    (scene.home.parent / "operation.toml").write_text('[log]\nstore = "postgresql://127.0.0.1:9/none"\n')
    code, receipt = scene.halt()
    assert (code, receipt["state"], receipt["survivors"]) == (7, "UNPROVEN", 0)
    assert "log: the halt is not recorded yet" in str(receipt["unknown"])
    assert (scene.home / "halt.latch").exists()


def test_without_a_latch_it_kills_records_and_names_what_is_missing(scene: Scene) -> None:
    (scene.home / "halt.tmp").mkdir()  # where the latch is written before it gets its name
    code, receipt = scene.halt()
    assert (code, receipt["state"], receipt["survivors"]) == (7, "UNPROVEN", 0)
    assert "nothing on disk remembers this halt" in str(receipt["unknown"])
    state = scene.play.project.state()
    assert state.halt is not None
    assert not state.halt.proven


def test_on_a_disk_that_takes_nothing_it_kills_and_says_that_nothing_remembers(scene: Scene) -> None:
    """Mounted read-only: no latch, no record, no blob. Afterwards a second halt makes all of it good."""
    home = str(scene.home)
    subprocess.run(["mount", "--bind", home, home], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)
    code, receipt = scene.halt()
    assert (code, receipt["state"], receipt["survivors"]) == (7, "UNPROVEN", 0)
    unknown = str(receipt["unknown"])
    assert "nothing on disk remembers this halt" in unknown
    assert "log: the halt is not recorded yet" in unknown
    subprocess.run(["umount", home], check=True)
    assert scene.play.project.state().halt is None
    assert scene.play.project.halt(by="person:ada", reason="again")["state"] == "STOPPED"
    assert scene.play.project.state().halt is not None


def test_on_a_full_disk_it_kills_and_names_what_could_not_be_written(scene: Scene, tmp_path: Path) -> None:
    """All of the project's folder lies on a file system without a free byte."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(small)], check=True)
    try:
        shutil.copytree(scene.home, small, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
        with contextlib.suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        subprocess.run(["mount", "--bind", str(small), str(scene.home)], check=True)
        try:
            code, receipt = scene.halt()
        finally:
            subprocess.run(["umount", str(scene.home)], check=True)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert (code, receipt["state"], receipt["survivors"]) == (7, "UNPROVEN", 0)
    assert "nothing on disk remembers this halt" in str(receipt["unknown"])
    assert "log: the halt is not recorded yet" in str(receipt["unknown"])


def test_the_next_start_makes_good_what_could_not_be_recorded(scene: Scene) -> None:
    log = scene.home / "log.db"
    log.rename(scene.home / "aside")
    _, receipt = scene.halt()
    (scene.home / "aside").rename(log)
    assert scene.play.project.state().halt is None
    scene.play.project.run()
    state = scene.play.project.state()
    assert state.halt is not None
    assert state.halt.id == receipt["halt"]
    events = [event for _, event in scene.play.project.entries(0, 10_000)]
    assert [type(event) for event in events if isinstance(event, HaltProven | HaltUnproven)] == [HaltProven]
    assert scene.play.project.replay(lambda _: None).problems == ()


def test_a_governor_without_its_log_still_hands_out_the_whole_receipt(scene: Scene) -> None:
    """Asked at its door: what the log could not take is named, and what was proven stands."""
    project = scene.play.project
    with project.governing(lambda _: None):
        (scene.home / "log.db").rename(scene.home / "aside")
        receipt = project.halt(by="person:ada", reason="enough")
        (scene.home / "aside").rename(scene.home / "log.db")
    assert receipt["state"] == "STOPPED"
    assert receipt["kill_written_ms"] is not None
    assert "log: the halt is not recorded yet" in str(receipt["unknown"])
    assert (scene.home / "halt.latch").exists()


def test_a_start_puts_into_the_log_what_it_killed(scene: Scene) -> None:
    """An auditor sees that something had outlived its governor, and that it is dead."""
    with scene.play.project.governing(lambda _: None):
        pass
    swept = [event for _, event in scene.play.project.entries(0, 10_000) if isinstance(event, SandboxSwept)]
    assert [(event.receipt["state"], event.receipt["survivors"]) for event in swept] == [("STOPPED", 0)]
    assert int(str(swept[0].receipt["processes_before"])) >= 3
    with scene.play.project.governing(lambda _: None):
        pass
    entries = scene.play.project.entries(0, 10_000)
    assert sum(isinstance(event, SandboxSwept) for _, event in entries) == 1, "nothing was left for the second start"
    assert scene.play.project.replay(lambda _: None).problems == ()
