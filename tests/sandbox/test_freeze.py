"""Everything is held still by the governor's word, goes on by its word alone, and otherwise ends."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.core.errors import Conflict, Unavailable
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.cgroups import hold_still, is_still, populated, processes
from keyturn.sandbox.freezing.clock import subject_time
from keyturn.sandbox.port import Limits
from tests.sandbox.conftest import Inside, specification
from tests.sandbox.test_lease import cgroup_of, governor, ready

__all__ = ["governor"]
pytestmark = pytest.mark.root

COUNTS = "import time, os\nn = 0\nwhile True:\n    time.sleep(0.001)\n    n += 1\n    if n == 10: os.write(2, b'on')"


@pytest.fixture(autouse=True)
def nothing_stays_held(backend: Bubblewrap) -> object:
    yield
    backend.halt_all("the test is over")


def test_what_is_held_still_uses_no_time_and_goes_on(inside: Inside, eventually: Callable[..., bool]) -> None:
    running = inside.start(COUNTS, lease_seconds=0.5)
    assert eventually(lambda: running.tick() and b"on" in running._cell.diagnostics)
    held = inside.backend.freeze(60)
    assert (held.state, held.sandboxes, held.unknown) == ("HELD", 1, ())
    used = running._cell.leaf.cpu_seconds()
    time.sleep(1)
    assert running._cell.leaf.cpu_seconds() == pytest.approx(used, abs=0.005)
    look = inside.backend.look()[0]
    assert (look.still, look.purpose, look.processes) == (True, "improve", 3)
    inside.backend.thaw()
    assert eventually(lambda: running.tick() and (running._cell.leaf.cpu_seconds() or 0) > (used or 0) + 0.005)


def test_the_wall_counts_no_held_time_but_all_other_time(inside: Inside) -> None:
    running = inside.start("import time\nwhile True: time.sleep(0.01)", limits=Limits(wall_seconds=1.2))
    time.sleep(0.3)
    running.tick()
    inside.backend.freeze(60)
    time.sleep(1.5)
    inside.backend.thaw()
    end = running.wait()
    assert end.reason == "wall"
    assert 1.1 < end.wall_seconds < 1.6


def test_init_itself_ends_a_run_whose_wall_comes_after_a_freeze(
    inside: Inside, eventually: Callable[..., bool]
) -> None:
    """The governor may look away: what was left of the wall limit is init's own to keep."""
    running = inside.start("import time\nwhile True: time.sleep(0.01)", limits=Limits(wall_seconds=0.5))
    inside.backend.freeze(60)
    time.sleep(0.8)
    inside.backend.thaw()
    assert running.tick()
    assert eventually(lambda: not running.tick())
    assert running.wait(timeout=0.0).reason == "wall"


def test_a_parked_sandbox_is_held_still_and_can_go_afterwards(inside: Inside) -> None:
    parked = inside.park("pass", lease_seconds=0.4)
    assert inside.backend.freeze(60).state == "HELD"
    time.sleep(0.8)
    inside.backend.thaw()
    assert parked.go().wait().clean


def test_a_launch_waits_until_everything_goes_on(inside: Inside) -> None:
    inside.backend.freeze(60)
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(inside.run("pass").clean))
    thread.start()
    time.sleep(0.3)
    assert ended == []
    assert processes(inside.backend.layout().root or Path()) == []
    inside.backend.thaw()
    thread.join(10)
    assert ended == [True]


def test_a_launch_that_waits_is_refused_by_a_halt(inside: Inside) -> None:
    inside.backend.freeze(60)
    refused: list[Exception] = []

    def launch() -> None:
        try:
            inside.park("pass")
        except Unavailable as fault:
            refused.append(fault)

    thread = threading.Thread(target=launch)
    thread.start()
    time.sleep(0.2)
    assert inside.backend.halt_all("enough").state == "STOPPED"
    thread.join(10)
    assert len(refused) == 1


def test_a_thaw_by_another_hand_lets_nothing_go_on(inside: Inside) -> None:
    """Whoever writes to the cgroup without the governor's word wakes an init that ends."""
    running = inside.start("import time\nwhile True: time.sleep(0.01)", lease_seconds=0.5)
    root = inside.backend.layout().root
    assert root is not None
    assert inside.backend.freeze(60).state == "HELD"
    time.sleep(0.7)
    hold_still(root, still=False)
    until = time.monotonic() + 5
    while processes(root) and time.monotonic() < until:
        time.sleep(0.01)
    assert processes(root) == []
    assert running._cell.silent or not running.tick()


def test_an_init_that_is_told_and_not_held_still_ends_with_its_lease(inside: Inside) -> None:
    """The word *freeze* gives no time: a governor that hangs between word and freeze loses the subject as ever."""
    running = inside.start("import time\nwhile True: time.sleep(0.01)", lease_seconds=0.4)
    running._cell.announce(60_000)
    told, root = time.monotonic(), inside.backend.layout().root
    assert root is not None
    while processes(root) and time.monotonic() < told + 5:
        time.sleep(0.01)
    assert processes(root) == []
    assert time.monotonic() - told < 3


@pytest.mark.parametrize("word", [b"R", b"F60000", b"G", b"x"])
def test_no_word_but_thaw_lets_a_held_init_go_on(inside: Inside, word: bytes) -> None:
    running = inside.start("import time\nwhile True: time.sleep(0.01)", lease_seconds=5)
    inside.backend.freeze(60)
    running._cell.ends.lease.send(word)
    inside.backend.thaw()
    assert not any(running.tick() and time.sleep(0.02) for _ in range(200) if running.tick())
    assert running.wait(timeout=0.0).reason == "lease"


def test_the_word_thaw_alone_is_a_word_like_any_other(inside: Inside) -> None:
    running = inside.start("import time; time.sleep(30)")
    running._cell.ends.lease.send(b"T")
    until = time.monotonic() + 5
    while running.tick() and time.monotonic() < until:
        time.sleep(0.02)
    assert not running.tick()


def test_init_keeps_the_bound_even_where_the_governor_forgets_it(inside: Inside) -> None:
    running = inside.start("import time\nwhile True: time.sleep(0.01)", lease_seconds=5)
    inside.backend.freeze(0.2)
    time.sleep(0.4)
    inside.backend._freezer._until = float("inf")
    inside.backend.thaw()
    assert running.wait(timeout=3).reason == "lease"


def test_an_init_that_cannot_answer_is_named_and_nothing_is_claimed(inside: Inside) -> None:
    running = inside.start("import time\nwhile True: time.sleep(0.01)", lease_seconds=10)
    os.kill(running._cell.init, signal.SIGSTOP)
    held = inside.backend.freeze(60)
    assert held.state == "UNPROVEN"
    assert held.unknown == (f"the init of {running.id} did not answer; it ends at the thaw",)
    assert inside.backend.halt_all("as advised").state == "STOPPED"


def test_a_halt_needs_no_thaw_and_is_proven(inside: Inside) -> None:
    code = "import os, time\nfor n in range(8):\n    if os.fork() == 0: os.setsid(); time.sleep(60)\ntime.sleep(60)"
    running = inside.start(code)
    root = inside.backend.layout().root
    assert root is not None
    while len(processes(root)) < 11:
        running.tick()
        time.sleep(0.01)
    assert inside.backend.freeze(60).state == "HELD"
    receipt = inside.backend.halt_all("seen enough")
    assert (receipt.state, receipt.processes_before, receipt.survivors) == ("STOPPED", 11, 0)
    assert not is_still(root)
    assert inside.run("pass").clean


def test_a_halt_of_one_sandbox_is_proven_while_all_is_held(inside: Inside) -> None:
    one, other = inside.start("import time; time.sleep(60)"), inside.start("import time; time.sleep(60)")
    inside.backend.freeze(60)
    assert one.halt("this one").state == "STOPPED"
    inside.backend.thaw()
    assert other.tick()


def test_the_clock_of_subjects_stands_still(inside: Inside) -> None:
    inside.backend.freeze(60)
    before = subject_time()
    time.sleep(0.2)
    assert subject_time() == before
    inside.backend.thaw()
    assert subject_time() < before + 0.2
    with pytest.raises(Conflict):
        inside.backend.thaw()


@pytest.mark.parametrize("launcher_too", [False, True])
def test_a_governor_killed_while_all_is_held_leaves_nothing_that_goes_on(
    governor: Callable[..., subprocess.Popen[str]], backend: Bubblewrap, tmp_path: Path, launcher_too: bool
) -> None:
    """Its launcher kills what is held still; where that was killed too, nothing moves until the next start."""
    process = governor(30, "freeze")
    ready(process)
    place = cgroup_of(backend, tmp_path / "run")
    assert process.stdout is not None
    assert process.stdout.readline() == "HELD\n"
    assert is_still(place)
    if launcher_too:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait()
    until = time.monotonic() + (1 if launcher_too else 5)
    while populated(place) and time.monotonic() < until:
        time.sleep(0.005)
    assert populated(place) is launcher_too
    if launcher_too:
        assert is_still(place)
        later = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
        swept = later.sweep()
        assert (swept.state, swept.survivors) == ("STOPPED", 0)
        assert not is_still(place)
        assert later.prepare(specification(later, "pass")).go().wait().clean
        later.close()
