"""Whatever is spawned while a halt acts inherits it: dead, or refused; nothing comes to life behind the receipt."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from keyturn.app.sealed import Sealed
from keyturn.app.wiring import FileLatch
from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.events import Document
from keyturn.flow import halt
from keyturn.flow.ports import Interrupted
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.cgroups import processes
from keyturn.sandbox.running import BubblewrapParked, BubblewrapRunning
from tests.sandbox.conftest import specification

pytestmark = pytest.mark.root
CODE = "import time\nwhile True: time.sleep(60)"
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Bubblewrap]:
    made = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    yield made
    made.close()


def root_of(backend: Bubblewrap) -> Path:
    root = backend.layout().root
    assert root is not None
    return root


class Spawner:
    """Threads that launch and launch again, as a parking pool and a warm pool do, until told to stop."""

    def __init__(self, backend: Bubblewrap, hands: int = 2) -> None:
        self.backend, self.over = backend, threading.Event()
        self.spec = replace(specification(backend, CODE), lease_seconds=60)
        self.made: list[BubblewrapParked | BubblewrapRunning] = []
        self.threads = [threading.Thread(target=self._launch, daemon=True) for _ in range(hands)]

    def _launch(self) -> None:
        while not self.over.is_set():
            try:
                parked = self.backend.prepare(self.spec)
                self.made.append(parked)
                if len(self.made) % 2:
                    self.made.append(parked.go())
            except Unavailable:
                return  # a halt came in between; a real pool asks the latch before it goes on

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(20)
        for one in self.made:
            one.close()


@pytest.mark.parametrize("rounds", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_what_was_being_launched_is_dead_or_never_begins(backend: Bubblewrap, rounds: int) -> None:
    """The receipt says STOPPED at a random moment of a launch; what was under way then is never seen alive after it."""
    dice = random.Random(20261201)
    root = root_of(backend)
    for _ in range(rounds):
        with Spawner(backend) as spawner:
            time.sleep(dice.uniform(0.0, 0.12))
            spawner.over.set()  # no new launch begins; those under way go on
            time.sleep(0.01)  # whoever is past that look is inside a launch by now
            receipt = backend.halt_all("now")
            assert (receipt.state, receipt.survivors) == ("STOPPED", 0)
            seen = [processes(root) for _ in range(40) if not time.sleep(0.002)]
            assert [found for found in seen if found] == [], "alive behind a receipt that says STOPPED"


def test_a_launcher_that_was_held_still_clones_nothing_after_the_kill(backend: Bubblewrap) -> None:
    """The request lies in a launcher that does not run; the halt comes; then it is let go on."""
    backend.prepare(specification(backend, CODE)).close()
    launcher = backend._launcher._process
    assert launcher is not None
    os.kill(launcher.pid, signal.SIGSTOP)
    outcome: list[str] = []

    def late() -> None:
        try:
            backend.prepare(specification(backend, CODE)).go()
            outcome.append("runs")
        except Unavailable as fault:
            outcome.append(fault.message)

    thread = threading.Thread(target=late)
    thread.start()
    time.sleep(0.2)
    receipt = backend.halt_all("now")
    assert receipt.state == "STOPPED"
    with contextlib.suppress(ProcessLookupError):
        os.kill(launcher.pid, signal.SIGCONT)
    thread.join(20)
    assert len(outcome) == 1
    assert outcome[0].startswith(("the launcher could not start", "the launcher does not answer"))
    assert processes(root_of(backend)) == []
    running = backend.prepare(specification(backend, "print('again')")).go()  # a halt that was lifted is no wall
    assert running.wait().code == 0
    running.close()


def test_what_is_parked_never_begins_after_a_halt(backend: Bubblewrap) -> None:
    pool = [backend.prepare(specification(backend, CODE)) for _ in range(3)]
    assert backend.halt_all("now").state == "STOPPED"
    for parked in pool:
        assert not parked.tick()
        with pytest.raises(Unavailable):
            parked.go()
    assert processes(root_of(backend)) == []


@pytest.mark.parametrize("rounds", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_nothing_begins_between_the_first_kill_and_the_latch(tmp_path: Path, rounds: int) -> None:
    """A governor launches all the time, under the latch's lock, while somebody halts from another thread."""
    dice = random.Random(7)
    for number in range(rounds):
        home = tmp_path / f"{number}"
        home.mkdir()
        latch = FileLatch(home / "halt.latch")
        with Sealed.start(home, latch, lambda _: None) as sealed:
            backend = sealed.backend
            assert isinstance(backend, Bubblewrap)
            receipts: list[Document] = []

            def halt_now(sealed: Sealed, latch: FileLatch, receipts: list[Document]) -> None:
                time.sleep(dice.uniform(0.0, 0.15))
                receipts.append(halt.act(sealed, latch, by="person:ada", reason="enough"))

            thread = threading.Thread(target=halt_now, args=(sealed, latch, receipts))
            thread.start()
            begun = []
            while True:
                try:
                    parked = backend.prepare(replace(specification(backend, CODE), lease_seconds=60))
                    with sealed.guard():
                        begun.append(parked.go())
                except (KeyturnError, Interrupted):
                    break
            thread.join(20)
            assert receipts[0]["state"] == "STOPPED", receipts
            with pytest.raises(Interrupted), latch.guard():
                pass
            assert not any(running.tick() for running in begun)
            for running in begun:
                running.close()
            root = root_of(backend)
            for child in list(backend._live.values()):
                child.close()  # what was parked when the launch was refused: nothing of it ever ran
            assert processes(root) == []


RUN = """
import sys
from pathlib import Path
from keyturn import app
from keyturn.core import agenda
print(type(app.open_project(Path(sys.argv[1])).run()).__name__)
"""


def test_a_second_run_started_meanwhile_is_refused_or_halted(tmp_path: Path) -> None:
    from keyturn.app import exercise
    from tests.journeys.playing import play

    made = play(tmp_path, exercise.founder(tmp_path / "founder", seed=6))
    command = [sys.executable, "-c", RUN, str(made.project.root)]
    environment = {**os.environ, "PYTHONPATH": str(REPO / "src")}
    for _ in range(3):
        with made.project.governing(lambda _: None):
            second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
            made.project.halt(by="person:ada", reason="enough")
            out, err = second.communicate(timeout=60)
        assert b"another governor" in err or out == b"Halted\n", (out, err)
    after = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False)
    assert after.stdout == b"Halted\n", after.stderr
