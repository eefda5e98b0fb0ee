"""What stood in the way of a halt: no descriptor left, a spoilt file, a name that no file can hold, a held terminal.

Each of these once kept a kill from being written, a latch from being set, or a door from ever opening again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from keyturn.app.copies import desk as desks
from keyturn.app.copies import record as records
from keyturn.app.copies.desk import Desk
from keyturn.app.operating import freezing
from keyturn.app.operating.freezing import Freezing
from keyturn.app.sealed import Sealed
from keyturn.app.wiring import MARK, FileLatch
from keyturn.core.errors import Conflict, Unavailable
from keyturn.core.events import Document
from keyturn.core.state import Freeze
from keyturn.core.terms import Instant
from keyturn.flow import freeze as freezes
from keyturn.flow import halt
from keyturn.flow.control import ControlDoor, knock
from keyturn.sandbox import bubblewrap
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.freezing import freezer as freezers
from keyturn.sandbox.freezing.clock import subject_time
from keyturn.sandbox.launching.launcher import Launcher
from keyturn.sandbox.port import Receipt
from keyturn.sandbox.traces.marks import UNPROVEN, Marks
from tests.sandbox.conftest import specification

SECONDS_MAX = 20.0


@contextmanager
def no_descriptor_left(spare: int = 0) -> Iterator[list[int]]:
    """This process may open nothing more, but for so many; what is given can be closed to make room."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 512), before[1]))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(spare):
            os.close(taken.pop())
        yield taken
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Halter:
    """Counts its halts, and fails where it is told to."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault, self.whys = fault, list[str]()

    def halt_all(self, why: str) -> Document:
        self.whys.append(why)
        if self.fault is not None:
            raise self.fault
        return {"state": "STOPPED", "processes_before": 0}


# --- no descriptor is left


@pytest.mark.root
def test_a_governor_without_a_descriptor_left_still_kills_everything(tmp_path: Path) -> None:
    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    try:
        code = "import time\nwhile True: time.sleep(60)"
        running = backend.prepare(replace(specification(backend, code), lease_seconds=60)).go()
        with no_descriptor_left():
            receipt = backend.halt_all("nothing can be opened any more")
        assert receipt.kill_written_ms is not None
        assert receipt.state == "UNPROVEN", "what could not be watched is not claimed"
        assert "could not be watched" in str(receipt.unknown)
        assert running.wait(timeout=5).reason == "halted"
        root = backend.layout().root
        assert root is not None
        assert backend.halt_all("again").state == "STOPPED"
    finally:
        backend.close()


def test_a_launcher_dies_of_a_strike_for_which_no_descriptor_is_left() -> None:
    launcher = Launcher()
    launcher._start()
    process = launcher._process
    assert process is not None
    with no_descriptor_left():
        assert launcher.strike(SECONDS_MAX)
    assert process.wait(SECONDS_MAX) == -9
    launcher.close()
    assert not launcher.strike(0), "a closed one gives its number to nobody"


def test_a_door_that_has_no_room_for_a_moment_opens_again(tmp_path: Path) -> None:
    halter = Halter()
    with ControlDoor(tmp_path / "control.sock", lambda _, reason: halter.halt_all(reason)):
        with no_descriptor_left(spare=2):
            knocks = [connected(tmp_path / "control.sock") for _ in range(2)]
            threading.Event().wait(0.2)  # the kernel had set one descriptor aside: one gets in, one does not
        for each in knocks:
            with each:
                while each.recv(4096):
                    pass
    assert halter.whys == ["enough", "enough"]


def connected(place: Path) -> socket.socket:
    """Somebody who asks for a halt and waits for the answer."""
    knock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    knock.settimeout(SECONDS_MAX)
    knock.connect(str(place))
    knock.sendall(b'{"reason": "enough"}')
    return knock


# --- names and files that nobody expected


@pytest.mark.parametrize("by", ["person:\udcff", "\ud800"])
def test_a_halt_by_a_name_that_no_file_can_hold_is_latched(tmp_path: Path, by: str) -> None:
    latch = FileLatch(tmp_path / "halt.latch")
    halt.act(Halter(), latch, by=by, reason="enough \udc80")
    assert latch.reason() is not None


def test_a_latch_that_is_no_text_stands(tmp_path: Path) -> None:
    latch = FileLatch(tmp_path / "halt.latch")
    latch.path.write_bytes(b"\xff\xfe")
    assert latch.reason() is not None
    assert halt.act(Halter(), latch, by="ada", reason="enough")["state"] == "STOPPED"


def test_a_kill_that_fails_for_whatever_reason_leaves_the_latch(tmp_path: Path) -> None:
    latch = FileLatch(tmp_path / "halt.latch")
    with pytest.raises(RuntimeError, match="nobody thought of it"):
        halt.act(Halter(RuntimeError("nobody thought of it")), latch, by="ada", reason="enough")
    assert "ada: enough" in str(latch.reason())


def test_marks_that_cannot_be_read_are_doubt_and_no_fault(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    (tmp_path / "devices").write_bytes(b"\xff\xfe")
    assert "cannot be read" in str(marks.devices())
    (tmp_path / UNPROVEN).symlink_to("/proc/self/mem")  # a file that lets nobody read it
    assert marks.traces()


# --- copies


def no_more() -> Any:
    """What the kernel says where no descriptor is left."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@contextmanager
def registering(folder: Path, permit: str = "p-1") -> Iterator[tuple[Desk, subprocess.Popen[bytes], socket.socket]]:
    """A desk, and the door's end of a connection that another process made."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / "door"))
    listener.listen(1)
    code = "import socket, sys, time\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-I", "-c", code, str(folder / "door")])
    connection, _ = listener.accept()
    try:
        yield Desk(folder / "copies"), process, connection
    finally:
        process.kill()
        process.wait()
        connection.close()
        listener.close()


def test_a_copy_that_a_halt_met_while_it_registered_is_in_the_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is struck, and whoever proves the halt meanwhile sees its end instead of a descriptor that was given back."""
    with registering(tmp_path) as (desk, process, connection):
        keep = records.keep

        def slow(folder: Path, record: records.Record) -> None:
            keep(folder, record)
            desk.halts += 1  # the halt has struck all that it knew, and now looks

        monkeypatch.setattr(records, "keep", slow)
        with pytest.raises(Conflict, match="a halt came in between"):
            desk.admit(connection, "p-1", lease_seconds=60)
        connection.close()
        rows = desk.prove(SECONDS_MAX)
        assert [(row["what"], row["state"]) for row in rows] == [("copy", "STOPPED")]
        assert process.wait(SECONDS_MAX) == -9
        assert desk.held == {}
        assert records.known(desk.folder) == 0


def test_copies_leave_the_governor_the_descriptors_that_a_halt_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many copies as there were descriptors for once left none to launch, to record, or to answer at the door."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (desks.DESCRIPTORS_SPARE, 4096))
    with registering(tmp_path) as (desk, process, connection):
        with pytest.raises(Conflict, match="known already"):
            desk.admit(connection, "p-1", lease_seconds=60)
        monkeypatch.undo()
        before = len(list(Path("/proc/self/fd").iterdir()))
        monkeypatch.setattr(socket, "socketpair", no_more)
        with pytest.raises(Unavailable, match="taken in hand"):
            desk.admit(connection, "p-1", lease_seconds=60)
        assert len(list(Path("/proc/self/fd").iterdir())) == before, "what was taken is given back"
        assert process.poll() is None
        assert desk.held == {}


def test_a_terminal_that_is_held_still_keeps_no_halt_from_being_proven(tmp_path: Path) -> None:
    """People are told that a copy is ended, and nobody reads what they are told: its end is proven all the same."""
    with registering(tmp_path) as (desk, _, connection):
        telling, go_on = threading.Event(), threading.Event()

        def tell(_: str) -> None:
            telling.set()
            go_on.wait(SECONDS_MAX)

        desk.tell = tell
        desk.admit(connection, "p-1", lease_seconds=1)
        with desk.attending(0.2, lambda: ["p-1"]):
            desk.ended = frozenset(["p-1"])
            assert telling.wait(SECONDS_MAX)
            desk.strike()
            proof: list[Any] = []
            proving = threading.Thread(target=lambda: proof.append(desk.prove(SECONDS_MAX)))
            proving.start()
            proving.join(SECONDS_MAX / 2)
            assert proof, "the halt waited for the terminal"
            go_on.set()
        assert [row["state"] for row in proof[0]] in ([], ["STOPPED"])  # or the other thread saw it first


def test_a_terminal_that_is_gone_ends_no_signs_of_life(tmp_path: Path) -> None:
    def tell(_: str) -> None:
        raise BrokenPipeError

    with registering(tmp_path) as (desk, process, connection):
        desk.tell = tell
        desk.admit(connection, "p-1", lease_seconds=1)
        with desk.attending(0.2, lambda: ["p-1"]):
            desk.ended = frozenset(["p-1"])
            assert process.wait(SECONDS_MAX) == -9
            until = threading.Event()
            for _ in range(200):
                if not desk.held:
                    break
                until.wait(0.05)
            assert desk.held == {}, "the thread that looks after them lives"


def test_a_strike_meets_nobody_who_got_the_number_of_a_copy_that_left(tmp_path: Path) -> None:
    with registering(tmp_path) as (desk, process, connection):
        copy = desk.admit(connection, "p-1", lease_seconds=60)
        number = copy.pidfd
        copy.close()
        other = subprocess.Popen(["sleep", "60"])
        try:
            fd = os.pidfd_open(other.pid)
            os.dup2(fd, number)
            os.close(fd)
            copy.strike()
            assert other.poll() is None
            os.close(number)
        finally:
            other.kill()
            other.wait()
        assert process.poll() is None


class Inherited:
    """A connection whose maker has ended, held open by another; its number belongs to somebody else by now."""

    def __init__(self, bystander: int, fault: int) -> None:
        self.bystander, self.fault, self.ours = bystander, fault, socket.socketpair()

    def getsockopt(self, _: int, option: int, size: int = 0) -> bytes | int:
        if option == records.SO_PEERPIDFD:
            raise OSError(self.fault, os.strerror(self.fault))
        return records.PEER.pack(self.bystander, os.geteuid(), os.getegid())

    def fileno(self) -> int:
        return self.ours[0].fileno()


@pytest.mark.parametrize("fault", [errno.ESRCH, errno.EINVAL])
def test_who_has_ended_registers_nobody_who_got_the_number_since(fault: int) -> None:
    """A kernel that knows the maker of a connection says that it is gone; nobody else may be taken for it."""
    bystander = subprocess.Popen(["sleep", "60"])
    connection = Inherited(bystander.pid, fault)
    try:
        with pytest.raises(Unavailable, match="cannot be watched"):
            os.close(records.peer(cast(Any, connection), "p-1")[1])
    finally:
        bystander.kill()
        bystander.wait()
        for end in connection.ours:
            end.close()


# --- a freeze that nobody lets go on


class Held:
    """A governor's sandbox with one that is held still."""

    def __init__(self, *, still: bool) -> None:
        self.still = still

    def look(self) -> list[Any]:
        return [{"id": "improve-1", "still": self.still}]


@pytest.mark.parametrize("spoilt", [None, b"\xff no mark", b"{}"])
def test_a_mark_that_is_taken_away_or_spoilt_makes_no_freeze_last_for_ever(
    tmp_path: Path, spoilt: bytes | None
) -> None:
    """The loop is in the middle of a trial and looks at no mark, so the timer must halt without one."""
    latch, halted = FileLatch(tmp_path / "halt.latch"), list[str]()

    def halt_now(by: str, reason: str) -> Document:
        halted.append(reason)
        return {}

    asked = Freeze("f-1", "ada", "", Instant(0), Instant(1))
    if spoilt is not None:
        latch.path.with_name(MARK).write_bytes(spoilt)
    held = cast(Sealed, Held(still=True))
    Freezing(cast(Any, None), held, latch, halt_now, holds=True)._forgotten(asked)
    assert halted == [freezes.FORGOTTEN]


def test_a_timer_of_a_freeze_that_is_over_halts_nothing(tmp_path: Path) -> None:
    latch, halted = FileLatch(tmp_path / "halt.latch"), list[str]()
    later = Freeze("f-2", "ada", "", Instant(0), Instant(1))
    for mark in (None, {"freeze": later.id, "by": "ada", "reason": "", "at": 0, "until_at": 1}):
        if mark is not None:
            latch.path.with_name(MARK).write_text(json.dumps(mark))
        made = Freezing(
            cast(Any, None), cast(Sealed, Held(still=False)), latch, lambda _, why: halted.append(why) or {}
        )
        made._forgotten(Freeze("f-1", "ada", "", Instant(0), Instant(1)))
    assert halted == []


def test_a_freeze_that_no_disk_records_is_told_as_held() -> None:
    class Full:
        def opened(self) -> Any:
            raise OSError(28, "No space left on device")

    asked = Freeze("f-1", "ada", "", Instant(0), Instant(1))
    said = freezing._recorded(cast(Any, Full()), asked, {"state": "HELD", "unknown": []})
    assert said["state"] == "HELD"
    assert "not recorded yet" in str(said["unknown"])


@pytest.mark.parametrize("by", ["person:\udcff", "\ud800"])
def test_whatever_is_asked_for_at_the_door_comes_in_as_text(tmp_path: Path, by: str) -> None:
    heard: list[object] = []

    def look(said: Any, _: socket.socket) -> Document:
        heard.append(said)
        return {}

    with ControlDoor(tmp_path / "control.sock", lambda by, _: {"by": by}, {"look": look}):
        knock(tmp_path / "control.sock", by=by, reason=by, do="look")
        knock(tmp_path / "control.sock", by=by, reason=by)
    assert "?" in str(heard)
    assert str(heard).encode().isascii()


def test_a_halt_that_breaks_leaves_no_clock_standing_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By that clock every time-out of a subject runs; what stands still for ever never fires."""

    def break_off(*_: object) -> Receipt:
        raise RuntimeError("nobody thought of it")

    backend = Bubblewrap(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    assert backend.freeze(60).state == "HELD"
    monkeypatch.setattr(bubblewrap, "stop", break_off)
    with pytest.raises(RuntimeError):
        backend.halt_all("enough")
    before = subject_time()
    threading.Event().wait(0.05)
    assert subject_time() > before


def test_a_launch_does_not_wait_for_ever_for_a_freeze_that_nobody_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezers, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(freezers, "LAUNCH_SECONDS_MAX", 0.05)
    made = freezers.Freezer(lambda: None, list)
    made.freeze(0.05)
    try:
        with pytest.raises(Unavailable, match="past its bound"), made.launching():
            pass
    finally:
        made.end()
