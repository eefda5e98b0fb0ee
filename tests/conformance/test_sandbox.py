"""What every sandbox keeps of the port's promises: the real one and the fake are held to the same suite."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import Conflict, Unavailable
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.engines.backend import Contained
from keyturn.sandbox.engines.docker import Docker
from keyturn.sandbox.engines.kubernetes import Kubernetes
from keyturn.sandbox.port import Backend, Decoy, DecoyOpened, Limits, Purpose, Running, Spec
from tests.engines.cluster_server import ClusterServer
from tests.engines.docker_server import DockerServer
from tests.engines.room import IMAGE
from tests.sandbox.fake import FakeBackend, FakeSubject, Room

LIMITS = Limits(memory_bytes=256 << 20, processes_max=16, wall_seconds=20, out_bytes=1 << 20, tmp_bytes=1 << 20)

CODES = {
    "succeed": "pass",
    "fail": "raise SystemExit(3)",
    "stay": "import time; time.sleep(60)",
    "speak": "import sys; sys.stderr.write('x' * 50_000 + 'the end')",
    "echo": "import sys\nwhile data := sys.stdin.buffer.read1(): sys.stdout.buffer.write(data); sys.stdout.flush()",
    "flood": "import sys\nwhile True: sys.stdout.write('x' * 4096)",
    "write": "open('/out/a', 'wb').write(b'aa'); open('/out/claim.json', 'wb').write(b'{}')",
    "write more": "open('/out/a', 'wb').write(b'aa'); open('/out/b', 'wb').write(b'b')",
    "spawn": "import os, sys, time\nos.write(1, b'.')\nsys.stdin.read(1)\n"
    "for n in range(2):\n    os.fork() or time.sleep(60)\nos.write(1, b'.')\ntime.sleep(60)",
    "leave": "import os, time\nfor n in range(2):\n    if os.fork() == 0: os.setsid(); time.sleep(60)",
    "touch": "open('/bait/decoy', 'w').close(); import time; time.sleep(60)",
}


def fail(room: Room) -> int:
    return 3


def stay(room: Room) -> int:
    room.stopped.wait(60)
    return 0


def speak(room: Room) -> int:
    room.diagnostics = b"x" * 50_000 + b"the end"
    return 0


def echo(room: Room) -> int:
    while not room.stopped.is_set():
        if select.select([room.stdin], [], [], 0.01)[0]:
            data = os.read(room.stdin, 65536)
            if not data:
                return 0
            os.write(room.stdout, data)
    return 0


def flood(room: Room) -> int:
    os.set_blocking(room.stdout, False)
    while not room.stopped.is_set():
        if select.select([], [room.stdout], [], 0.01)[1]:
            os.write(room.stdout, b"x" * 4096)
    return 0


def write(room: Room) -> int:
    room.out |= {"a": b"aa", "claim.json": b"{}"}
    return 0


def write_more(room: Room) -> int:
    room.out |= {"a": b"aa", "b": b"b"}
    return 0


def leave(room: Room) -> int:
    room.left_running = 2
    return 0


def spawn(room: Room) -> int:
    os.write(room.stdout, b".")
    os.read(room.stdin, 1)
    room.left_running = 2
    os.write(room.stdout, b".")
    room.stopped.wait(60)
    return 0


def touch(room: Room) -> int:
    room.touch("decoy", "opened")
    room.touch("decoy", "written")
    return stay(room)


FAKES: dict[str, FakeSubject] = {
    "succeed": lambda room: 0,
    "fail": fail,
    "stay": stay,
    "speak": speak,
    "echo": echo,
    "flood": flood,
    "write": write,
    "write more": write_more,
    "spawn": spawn,
    "leave": leave,
    "touch": touch,
}


@dataclass
class Kit:
    """A backend, how it is told what to do, and what was opened with it."""

    backend: Backend
    argv: Callable[[str], tuple[str, ...]]
    opened: list[Any]

    def spec(self, behaviour: str, purpose: Purpose = "improve", **changes: Any) -> Spec:
        made = Spec(purpose, self.argv(behaviour), self.backend.runtime("python"), limits=LIMITS)
        return replace(made, **changes)

    def start(self, behaviour: str, purpose: Purpose = "improve", **changes: Any) -> Running:
        running = self.backend.prepare(self.spec(behaviour, purpose, **changes)).go()
        self.opened.append(running)
        return running


def docker(request: pytest.FixtureRequest, place: Path) -> Backend:
    server = DockerServer(place)
    request.addfinalizer(server.stop)
    return Contained(place / "run", Docker(IMAGE, address=server.address))


def kubernetes(request: pytest.FixtureRequest, place: Path) -> Backend:
    server = ClusterServer(place)
    request.addfinalizer(server.stop)
    return Contained(place / "run", Kubernetes(IMAGE, kubeconfig=str(server.config)))


SERVERS = {"docker": docker, "kubernetes": kubernetes}
"""Engines that others keep, asked by their own clients over a fake server whose containers run our real init."""

HOLDING = pytest.mark.parametrize("kit", ["bubblewrap", "fake"], indirect=True)
"""What can hold still and let go on; a container's lease runs on while it is paused."""


@pytest.fixture(
    params=["bubblewrap", "fake", *(pytest.param(name, marks=pytest.mark.slow) for name in ("docker", "kubernetes"))]
)
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    if request.param == "fake":
        made = Kit(FakeBackend(FAKES), lambda name: ("fake", name), [])
    elif request.param in SERVERS:
        place = tmp_path_factory.mktemp("sandbox")
        made = Kit(SERVERS[request.param](request, place), lambda name: ("python", "-I", "-S", "-c", CODES[name]), [])
    else:
        place = tmp_path_factory.mktemp("sandbox")
        real = Bubblewrap(place / "run", runtime_cache=place.parent / "runtime.json")
        made = Kit(real, lambda name: ("python", "-I", "-S", "-c", CODES[name]), [])
    yield made
    for one in made.opened:
        one.close()
    made.backend.close()


def test_a_run_ends_with_its_own_code(kit: Kit) -> None:
    assert kit.start("succeed").wait().clean
    end = kit.start("fail").wait()
    assert (end.reason, end.code, end.clean) == ("exited", 3, False)


def test_waiting_twice_gives_the_same_end(kit: Kit) -> None:
    running = kit.start("succeed")
    assert running.wait() == running.wait()


def test_nothing_runs_before_the_word(kit: Kit) -> None:
    parked = kit.backend.prepare(kit.spec("write", out=True))
    kit.opened.append(parked)
    time.sleep(0.1)
    assert parked.tick()
    running = parked.go()
    assert running.wait().clean


def test_two_attestations_of_one_configuration_are_equal(kit: Kit) -> None:
    both = [kit.backend.prepare(kit.spec("succeed")) for _ in range(2)]
    kit.opened += both
    first, second = (parked.attest() for parked in both)
    assert first == second
    assert first.problems == ()


def test_what_a_subject_says_is_kept_within_its_limit(kit: Kit) -> None:
    end = kit.start("speak").wait()
    assert len(end.diagnostics) == LIMITS.diagnostics_bytes_max
    assert end.diagnostics.endswith(b"xthe end")


def test_bytes_go_in_and_come_out(kit: Kit) -> None:
    running = kit.start("echo", "answer")
    running.send(b"hello", 5)
    assert running.receive(5) == b"hello"
    with pytest.raises(Unavailable):
        running.receive(0.1)
    assert running.tick()


def test_an_improvement_has_no_pipes(kit: Kit) -> None:
    running = kit.start("stay")
    assert (running.stdin_fd, running.stdout_fd, running.decoy_fd) == (-1, -1, -1)


def test_output_past_its_limit_is_refused(kit: Kit) -> None:
    running = kit.start("flood", "answer", limits=replace(LIMITS, output_bytes_max=100_000))

    def read_on() -> None:
        while running.receive(5):
            pass

    with pytest.raises(Unavailable) as caught:
        read_on()
    assert caught.value.message == "the subject wrote more than 100000 bytes"


def test_the_wall_ends_a_run(kit: Kit) -> None:
    end = kit.start("stay", limits=replace(LIMITS, wall_seconds=0.2)).wait()
    assert (end.reason, end.code, end.clean) == ("wall", None, False)
    assert kit.start("stay").wait(timeout=0.2).reason == "wall"


def heard(kit: Kit, seconds: float, **changes: Any) -> Running:
    """A subject that waits, was heard, and whose time began."""
    running = kit.start("echo", "answer", waits=True, **changes)
    running.send(b"x", 5)
    assert running.receive(5) == b"x"
    running.begin(seconds)
    return running


def test_what_waits_is_held_by_its_lease_until_its_time_begins(kit: Kit) -> None:
    running = kit.start("stay", limits=replace(LIMITS, wall_seconds=0.3), waits=True)
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        assert running.tick(), "nothing counts yet"
        time.sleep(0.05)
    end = heard(kit, 60, limits=replace(LIMITS, wall_seconds=0.3)).wait()
    assert (end.reason, end.wall_seconds < 0.8) == ("wall", True), "its own limit stands above what was asked"
    idle = kit.start("stay", lease_seconds=0.2, waits=True)
    time.sleep(0.5)
    assert idle.wait().reason == "lease"


def test_init_itself_ends_what_overstays_after_its_time_began(kit: Kit) -> None:
    running = heard(kit, 0.1, limits=replace(LIMITS, wall_seconds=60))
    until = time.monotonic() + 5
    while running.tick():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert running.wait().reason == "wall"


def test_processes_beyond_ours_are_counted_while_it_runs(kit: Kit) -> None:
    running = kit.start("spawn", "answer", waits=True)
    assert running.receive(5) == b"."
    running.begin(20)
    assert running.beyond() == 0
    running.send(b"x", 5)
    assert running.receive(5) == b"."
    assert running.beyond() == 2


def test_a_kill_need_not_be_waited_for(kit: Kit) -> None:
    running = heard(kit, 20)
    assert running.alive()
    assert not running.gone()
    running.kill()
    until = time.monotonic() + 5
    while not running.gone():
        assert time.monotonic() < until
    assert not running.alive()
    assert running.seen().code is None
    assert running.halt("proof").state == stopped(kit)
    assert running.gone()


def test_a_lease_that_runs_out_ends_a_run(kit: Kit) -> None:
    running = kit.start("stay", lease_seconds=0.2)
    time.sleep(0.5)
    assert running.wait().reason == "lease"


def test_a_caller_may_halt_from_its_tick(kit: Kit) -> None:
    assert kit.start("stay").wait(on_tick=lambda: False).reason == "halted"


def stopped(kit: Kit) -> str:
    """What a receipt can say at best: without a cgroup of one's own, which an ordinary user lacks, never STOPPED."""
    real = type(kit.backend).__name__ == "Bubblewrap"
    return "UNPROVEN" if real and os.geteuid() != 0 else "STOPPED"


def test_a_halt_from_another_thread_ends_the_wait(kit: Kit) -> None:
    running = kit.start("stay")
    receipts = []
    struck: list[str] = []
    thread = threading.Timer(0.1, lambda: receipts.append(kit.backend.halt_all("a test", lambda: struck.append("x"))))
    thread.start()
    assert running.wait().reason == "halted"
    thread.join()
    assert [(one.state, one.survivors) for one in receipts] == [(stopped(kit), 0)]
    assert struck == ["x"], "what else is to die was struck with it"


def test_whether_everything_could_be_killed_is_said_without_killing(kit: Kit) -> None:
    running = kit.start("stay")
    said = kit.backend.may_kill()
    assert (said == "") is (stopped(kit) == "STOPPED")
    assert running.tick()


def test_a_halt_is_idempotent(kit: Kit) -> None:
    running = kit.start("stay")
    receipt = running.halt("a test")
    assert (receipt.state, receipt.why) == (stopped(kit), "a test")
    assert running.halt("again") == receipt
    assert not running.tick()


def test_what_was_parked_before_a_halt_does_not_go(kit: Kit) -> None:
    parked = kit.backend.prepare(kit.spec("succeed"))
    kit.opened.append(parked)
    kit.backend.halt_all("a test")
    with pytest.raises(Unavailable):
        parked.go()


def test_declared_files_come_out_and_others_refuse(kit: Kit) -> None:
    running = kit.start("write", out=True)
    with pytest.raises(Unavailable):
        running.collect((("a", 2),))
    running.wait()
    found = running.collect((("a", 2),))
    assert (dict(found.files), found.findings) == ({"a": b"aa", "claim.json": b"{}"}, ())
    assert [one.rule for one in running.collect((("a", 1),)).findings] == ["within_its_size"]
    assert [one.rule for one in running.collect((("a", 2), ("z", 1))).findings] == ["every_declared_file"]
    more = kit.start("write more", out=True)
    more.wait()
    assert [one.message for one in more.collect((("a", 2),)).findings] == ["`b` was not declared"]


def test_a_sandbox_without_the_folder_gives_no_files(kit: Kit) -> None:
    running = kit.start("succeed")
    running.wait()
    with pytest.raises(Unavailable):
        running.collect(())


def test_processes_left_behind_are_counted(kit: Kit) -> None:
    end = kit.start("leave").wait()
    assert (end.code, end.left_running, end.clean) == (0, 2, False)


def test_a_touched_decoy_is_heard_of(kit: Kit) -> None:
    running = kit.start("touch", decoys=(Decoy("decoy", "/bait/decoy"),))
    assert select.select([running.decoy_fd], [], [], 5)[0]
    end = running.wait(on_tick=lambda: len(running.decoys()) < 2)
    assert set(end.decoys) == {DecoyOpened("decoy", "opened"), DecoyOpened("decoy", "written")}


def test_one_wakes_when_the_main_process_ends(kit: Kit) -> None:
    running = kit.start("succeed")
    until = time.monotonic() + 5
    while running.tick():
        assert time.monotonic() < until
        select.select([running.wake_fd], [], [], 0.2)
    assert running.wait().clean


def test_a_sweep_of_nothing_is_proven(kit: Kit) -> None:
    assert (kit.backend.sweep().state, kit.backend.sweep().processes_before) == ("STOPPED", 0)


@HOLDING
def test_who_is_held_still_loses_neither_lease_nor_wall(kit: Kit) -> None:
    running = kit.start("echo", "answer", lease_seconds=0.4, limits=replace(LIMITS, wall_seconds=1.5))
    running.send(b"a", 5)
    assert running.receive(5) == b"a"
    held = kit.backend.freeze(30)
    assert (held.state, held.unknown, held.sandboxes) == ("HELD", (), 1)
    assert [(look.id, look.still) for look in kit.backend.look()] == [(running.id, True)]
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert running.tick()
        time.sleep(0.05)
    kit.backend.thaw()
    running.send(b"b", 5)
    assert running.receive(5) == b"b"
    assert [look.still for look in kit.backend.look()] == [False]


@HOLDING
def test_nothing_is_held_still_twice_and_nothing_goes_on_unheld(kit: Kit) -> None:
    with pytest.raises(Conflict):
        kit.backend.thaw()
    kit.backend.freeze(30)
    with pytest.raises(Conflict):
        kit.backend.freeze(60)
    kit.backend.thaw()


@HOLDING
def test_past_its_bound_nothing_goes_on(kit: Kit) -> None:
    running = kit.start("stay")
    kit.backend.freeze(0.2)
    time.sleep(0.4)
    with pytest.raises(Conflict):
        kit.backend.thaw()
    assert kit.backend.halt_all("the bound of the freeze has passed").state == "STOPPED"
    assert running.wait().reason == "halted"


@HOLDING
def test_a_halt_ends_what_is_held_still_and_the_next_one_runs(kit: Kit) -> None:
    running = kit.start("stay")
    assert kit.backend.freeze(30).state == "HELD"
    assert kit.backend.halt_all("enough").state == "STOPPED"
    assert running.wait().reason == "halted"
    assert kit.start("succeed").wait().clean


@pytest.mark.slow
@pytest.mark.parametrize("kit", [*SERVERS], indirect=True)
def test_who_cannot_be_held_still_is_named_and_runs_on(kit: Kit) -> None:
    running = kit.start("echo", "answer")
    held = kit.backend.freeze(30)
    assert (held.state, held.sandboxes) == ("NOT HELD", 1)
    assert held.unknown[0].endswith("cannot be held still and go on afterwards; they can be halted")
    running.send(b"a", 5)
    assert running.receive(5) == b"a"
    assert [(look.id, look.still) for look in kit.backend.look()] == [(running.id, False)]
    with pytest.raises(Conflict):
        kit.backend.thaw()


def test_closing_twice_does_no_harm(kit: Kit) -> None:
    running = kit.start("stay")
    running.close()
    running.close()
    assert not running.tick()
