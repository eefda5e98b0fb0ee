"""If the governor dies, the subject dies; if it hangs, the lease runs out."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.cgroups import populated, processes
from keyturn.sandbox.port import Limits
from tests.sandbox.conftest import Inside, specification

pytestmark = pytest.mark.root
REPO = Path(__file__).resolve().parents[2]
SLACK_SECONDS = 1.0 if os.environ.get("CI") else 0.4
"""A shared machine may be busy; the promise itself (25 ms) is measured by `make bench`."""


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def cgroup_of(backend: Bubblewrap, run_root: Path) -> Path:
    """The cgroup of the governor that works in `run_root`, which may not be there yet."""
    root = backend.layout().root
    assert root is not None
    return root.parent / f"keyturn-{hashlib.sha256(os.fsencode(run_root.resolve())).hexdigest()[:12]}"


@pytest.fixture
def governor(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts governors; afterwards sweeps what they left."""
    started = []

    def start(lease: float, how: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            str(REPO / "tests" / "sandbox" / "governor.py"),
            str(tmp_path / "run"),
            str(lease),
            how,
        ]
        environment = {**os.environ, "PYTHONPATH": str(REPO / "src")}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    later = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    later.sweep()
    later.close()


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "LAUNCHING\n"
    assert process.stdout.readline().startswith("READY")


def test_a_killed_governor_takes_the_subject_with_it(
    governor: Callable[..., subprocess.Popen[str]], backend: Bubblewrap, tmp_path: Path
) -> None:
    process = governor(30, "wait")
    ready(process)
    place = cgroup_of(backend, tmp_path / "run")
    assert len(processes(place)) == 8
    process.kill()
    killed = boottime()
    while populated(place) and boottime() < killed + 5:
        time.sleep(0.0005)
    took = boottime() - killed
    assert not populated(place)
    assert took < SLACK_SECONDS


def test_a_hung_governor_loses_the_subject_when_the_lease_ends(
    governor: Callable[..., subprocess.Popen[str]], backend: Bubblewrap, tmp_path: Path
) -> None:
    process = governor(0.5, "hang")
    ready(process)
    renewed = boottime()
    place = cgroup_of(backend, tmp_path / "run")
    while populated(place) and boottime() < renewed + 5:
        time.sleep(0.0005)
    took = boottime() - renewed
    assert process.poll() is None
    assert 0.3 < took < 0.5 + SLACK_SECONDS


def test_a_stopped_governor_loses_the_subject_too(
    governor: Callable[..., subprocess.Popen[str]], backend: Bubblewrap, tmp_path: Path
) -> None:
    process = governor(0.5, "wait")
    ready(process)
    os.kill(process.pid, signal.SIGSTOP)
    place = cgroup_of(backend, tmp_path / "run")
    stopped = boottime()
    while populated(place) and boottime() < stopped + 5:
        time.sleep(0.0005)
    assert not populated(place)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_subject_that_attacked_the_switch_dies_with_its_governor_all_the_same(
    governor: Callable[..., subprocess.Popen[str]], backend: Bubblewrap, tmp_path: Path, sign: signal.Signals
) -> None:
    process = governor(0.5, "attacked")
    ready(process)
    place = cgroup_of(backend, tmp_path / "run")
    assert len(processes(place)) > 10
    os.kill(process.pid, sign)
    vanished = boottime()
    while populated(place) and boottime() < vanished + 5:
        time.sleep(0.0005)
    assert not populated(place)
    assert boottime() - vanished < 0.5 + SLACK_SECONDS


@pytest.mark.parametrize("rounds", [8, pytest.param(30, marks=pytest.mark.slow)])
def test_a_governor_killed_at_any_moment_leaves_no_survivor(
    governor: Callable[..., subprocess.Popen[str]], backend: Bubblewrap, tmp_path: Path, rounds: int
) -> None:
    dice = random.Random(20261123)
    place = cgroup_of(backend, tmp_path / "run")
    for _ in range(rounds):
        process = governor(30, "loop")
        assert process.stdout is not None
        assert process.stdout.readline() == "LAUNCHING\n"
        time.sleep(dice.uniform(0, 0.2))
        process.kill()
        process.wait()
        until, empty_since = boottime() + 5, boottime()
        while (alive := processes(place)) or boottime() < empty_since + 0.1:  # what was asked for last may come and go
            assert boottime() < until, alive
            empty_since = boottime() if alive else empty_since
            time.sleep(0.001)


def test_a_lease_that_is_renewed_does_not_end(inside: Inside) -> None:
    end = inside.run("import time; time.sleep(0.8)", lease_seconds=0.2)
    assert (end.reason, end.code) == ("exited", 0)


def test_a_lease_that_is_not_renewed_is_named(inside: Inside) -> None:
    running = inside.start("import time; time.sleep(30)", lease_seconds=0.2)
    time.sleep(0.4)
    assert running.wait().reason == "lease"


def test_a_parked_sandbox_is_under_the_lease_too(inside: Inside) -> None:
    parked = inside.park("pass", lease_seconds=0.2)
    time.sleep(0.4)
    assert not parked.tick()


def test_init_ends_the_run_by_itself_when_the_wall_is_passed(inside: Inside) -> None:
    running = inside.start("import time; time.sleep(30)", limits=Limits(wall_seconds=0.2))
    until = boottime() + 3
    while running.tick() and boottime() < until:
        time.sleep(0.02)
    assert running.wait(timeout=0.0).reason == "wall"


@pytest.mark.parametrize("word", [b"x", b"RR", b"GG", b"", b"C{}"])
def test_any_other_word_on_the_lease_ends_it(inside: Inside, word: bytes) -> None:
    running = inside.start("import time; time.sleep(30)")
    running._cell.ends.lease.send(word)
    until = boottime() + 3
    while running._cell.ends.lease.recv(64):
        assert boottime() < until
    assert running._cell.empty() or running._cell.stop("seen").state == "STOPPED"


def test_a_second_sandbox_runs_beside_the_first(backend: Bubblewrap) -> None:
    spec = replace(specification(backend, "import time; time.sleep(0.3); print('done')"), out=True)
    both = [backend.prepare(spec).go() for _ in range(2)]
    while sum(running.tick() for running in both):
        time.sleep(0.02)
    assert [running.wait().clean for running in both] == [True, True]
    for running in both:
        running.close()
