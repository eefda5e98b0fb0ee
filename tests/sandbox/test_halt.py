"""A halt is proven: daemons that detach and ignore everything are dead afterwards, and the receipt says how we know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.core.errors import Unavailable
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.port import Limits
from keyturn.sandbox.proof import Target, stop
from keyturn.sandbox.traces import whereabouts
from tests.sandbox.conftest import Inside, specification

pytestmark = pytest.mark.root

DAEMONS = """
import os, signal, sys, time
wanted = {count}
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
for n in range(wanted):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(0); os.close(1); os.close(2)
            while True: time.sleep(60)
        os._exit(0)
print("daemons", flush=True)
{then}
"""
STAY = "while True: time.sleep(60)"
MANY = Limits(processes_max=600, wall_seconds=60, memory_bytes=2 << 30)


def test_daemons_are_dead_after_a_halt(inside: Inside, eventually: Callable[..., bool]) -> None:
    running = inside.start(DAEMONS.format(count=20, then=STAY))
    assert eventually(lambda: running.tick() and len(running._cell.processes()) >= 23)
    alive = running._cell.processes()
    receipt = running.halt("a test")
    assert (receipt.state, receipt.survivors, receipt.unknown) == ("STOPPED", 0, ())
    assert receipt.processes_before >= 23
    assert receipt.kill_written_ms is not None
    assert receipt.init_exited_ms is not None
    assert receipt.cgroup_empty_ms is not None
    assert not any(_alive(pid) for pid in alive)
    assert running.wait().reason == "halted"


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_daemons_are_counted_and_dead_after_the_main_process_ended(inside: Inside) -> None:
    running = inside.start(DAEMONS.format(count=20, then="time.sleep(0.3)"))
    end = running.wait()
    assert (end.reason, end.code, end.left_running) == ("exited", 0, 20)
    assert not end.clean
    assert running._cell.processes() == []


def test_one_process_left_behind_spoils_a_clean_exit(inside: Inside) -> None:
    end = inside.run("import os, time\nif os.fork() == 0: time.sleep(60)")
    assert end.left_running == 1
    assert not end.clean


def test_a_halt_may_be_asked_for_twice(inside: Inside) -> None:
    running = inside.start("import time; time.sleep(60)")
    first = running.halt("once")
    assert running.halt("twice") == first


def test_all_sandboxes_stop_at_one_word_from_another_thread(tmp_path: Path) -> None:
    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    spec = specification(backend, "import time; time.sleep(60)")
    both = [backend.prepare(spec).go() for _ in range(2)]
    receipts = []
    thread = threading.Timer(0.2, lambda: receipts.append(backend.halt_all("the button")))
    thread.start()
    started = time.monotonic()
    ends = [running.wait() for running in both]
    thread.join()
    assert [end.reason for end in ends] == ["halted", "halted"]
    assert time.monotonic() - started < 2
    assert receipts[0].state == "STOPPED"
    assert receipts[0].processes_before == 6
    for running in both:
        running.close()
    backend.close()


def test_what_was_parked_before_a_halt_never_starts(inside: Inside, backend: Bubblewrap) -> None:
    parked = inside.park("print('alive')")
    backend.halt_all("in between")
    with pytest.raises(Unavailable) as caught:
        parked.go()
    assert caught.value.message == "the parked sandbox was stopped before it started"


def test_a_halt_with_nothing_to_stop_is_proven(tmp_path: Path) -> None:
    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    assert backend.halt_all("nothing").state == "STOPPED"
    backend.close()


def test_a_receipt_without_a_cgroup_is_unproven() -> None:
    receipt = stop(Target("x", lambda: True, (), None, list), "a test")
    assert receipt.state == "UNPROVEN"
    assert receipt.unknown == ("cgroup: there is none of ours, so only init and what it holds were seen to end",)


def test_a_receipt_for_what_does_not_die_is_unproven() -> None:
    receipt = stop(Target("x", lambda: True, (), lambda: True, lambda: [1]), "a test", seconds=0.02)
    assert (receipt.state, receipt.survivors) == ("UNPROVEN", 1)
    assert receipt.unknown == ("cgroup: it was still populated when we stopped looking",)


def test_a_kernel_that_does_not_answer_is_unproven_after_the_kill() -> None:
    written = []

    def silent() -> bool:
        raise Unavailable("no answer")

    def unreadable() -> list[int]:
        raise OSError

    receipt = stop(Target("x", lambda: bool(written.append(1)) or True, (), silent, unreadable), "a test")
    assert (receipt.state, written, receipt.unknown) == ("UNPROVEN", [1], ("cgroup: no answer",))


def test_a_sandbox_leaves_nothing_behind(tmp_path: Path) -> None:
    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    running = backend.prepare(replace(specification(backend, "pass"), out=True)).go()
    running.wait()
    running.close()
    layout = backend.layout()
    assert layout.root is not None
    places = [layout.root, *layout.v1.values()]
    assert [child for place in places for child in place.iterdir() if child.is_dir()] == []
    assert [child.name for child in (tmp_path / "run").iterdir()] == [whereabouts.FILE]
    backend.close()
    assert list((tmp_path / "run").iterdir()) == []
    assert [place for place in places if place.exists()] == []


def test_a_start_sweeps_what_an_earlier_governor_left(tmp_path: Path, eventually: Callable[..., bool]) -> None:
    earlier = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    running = earlier.prepare(replace(specification(earlier, "import time; time.sleep(60)"), lease_seconds=60)).go()
    assert eventually(lambda: running.tick() and len(running._cell.processes()) == 3)
    later = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    receipt = later.sweep()
    assert (receipt.state, receipt.processes_before, receipt.survivors) == ("STOPPED", 3, 0)
    assert [child.name for child in (tmp_path / "run").iterdir()] == [whereabouts.FILE]
    assert not running.tick()
    assert running.wait().reason == "lost"
    running.close()
    later.close()
    assert list((tmp_path / "run").iterdir()) == []
    earlier.close()


def test_a_sweep_touches_nobody_else(inside: Inside, tmp_path: Path) -> None:
    running = inside.start("import time; time.sleep(60)")
    stranger = Bubblewrap(tmp_path / "other", runtime_cache=tmp_path / "runtime.json")
    assert stranger.sweep().processes_before == 0
    assert running.tick()
    stranger.close()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "most_ms"), [(100, 500), (500, 2000)])
def test_a_storm_of_daemons_is_stopped_in_time(
    inside: Inside, eventually: Callable[..., bool], count: int, most_ms: float
) -> None:
    running = inside.start(DAEMONS.format(count=count, then=STAY), limits=MANY)
    assert eventually(lambda: running.tick() and len(running._cell.processes()) >= count + 3, 30)
    receipt = running.halt("a storm")
    assert receipt.state == "STOPPED"
    assert receipt.cgroup_empty_ms is not None
    assert receipt.cgroup_empty_ms < most_ms


@pytest.mark.slow
def test_a_burning_fork_bomb_is_stopped(inside: Inside) -> None:
    code = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    running = inside.start(code, limits=Limits(processes_max=400, wall_seconds=30))
    time.sleep(1)
    receipt = running.halt("a storm")
    assert (receipt.state, receipt.survivors) == ("STOPPED", 0)
