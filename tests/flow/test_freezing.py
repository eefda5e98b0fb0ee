"""A freeze holds still and opens nothing: not by a crash, a lost mark, a forgotten bound, or a halt beside it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from keyturn.app.wiring import FileBlobs
from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.errors import Conflict, Unavailable
from keyturn.core.events import Document
from keyturn.core.lawful.gates import candidate_released
from keyturn.core.state import Freeze
from keyturn.core.terms import NO_DIGEST, Instant
from keyturn.flow import freeze as freezes
from keyturn.flow.ports import HeldStill, Interrupted
from tests.fakes.world import Crash, Tape, TapedLatch, World
from tests.flow.conftest import Found
from tests.flow.test_halting import once, warranted
from tests.world.story import lawful


@dataclass
class Holder:
    """A freezer that notes what it was asked for."""

    state: str = "HELD"
    fault: Exception | None = None
    done: list[str] = field(default_factory=list)

    def freeze(self, seconds: float) -> Document:
        self.done.append("freeze")
        if self.fault:
            raise self.fault
        return {"state": self.state, "unknown": []}

    def thaw(self) -> None:
        self.done.append("thaw")
        if self.fault:
            raise self.fault


def freeze(world: World, holder: Holder | None = None, *, minutes: float = 10, tape: Tape | None = None) -> Freeze:
    """Somebody freezes, and it is recorded."""
    latch = TapedLatch(world.latch, tape or Tape())
    asked, held = freezes.freeze(
        holder or Holder(),
        latch,
        by="person:ada",
        reason="to look",
        minutes=minutes,
        now=world.clock.now(),
        keep=FileBlobs(world.blobs).keep,
    )
    with world.log(tape or Tape()) as log:
        freezes.record(log, asked, held)
    return asked


def thaw(world: World, holder: Holder | None = None, *, by: str = "person:ada", tape: Tape | None = None) -> None:
    latch = TapedLatch(world.latch, tape or Tape())
    with world.log(tape or Tape()) as log:
        freezes.thaw(holder or Holder(), latch, log, by=by)


def later(world: World, minutes: float) -> None:
    world.clock.at = Instant(int(world.clock.at + minutes * 60_000))


@pytest.mark.parametrize("where", ["improve", "trial"])
def test_nothing_new_begins_while_everything_is_held_still(found: Found, where: str) -> None:
    world = warranted(found())
    launched: list[int] = []

    def frozen() -> None:
        freeze(world)

        def goes_on() -> None:
            time.sleep(0.5)
            launched.append(len(world.kinds()))
            time.sleep(0.3)
            launched.append(len(world.kinds()))
            thaw(world)

        threading.Thread(target=goes_on).start()

    assert isinstance(world.run(once(where, frozen, nth=2 if where == "trial" else 1)), agenda.Hold)
    assert launched[0] == launched[1]
    kinds = world.kinds()
    assert (kinds.count("LoopFrozen"), kinds.count("LoopThawed"), kinds.count("HaltRequested")) == (1, 1, 0)
    assert lawful(world) == []


def test_the_latch_lets_nothing_through_while_a_mark_stands(found: Found) -> None:
    world = warranted(found())
    freeze(world)
    with pytest.raises(HeldStill), world.latch.guard():
        pass
    thaw(world)
    with world.latch.guard():
        pass


def test_a_freeze_is_not_made_twice_nor_while_a_halt_stands(found: Found) -> None:
    world = warranted(found())
    freeze(world)
    with pytest.raises(Conflict):
        freeze(world, minutes=50)
    world.halt()
    assert world.latch.frozen() is None
    with pytest.raises(Conflict):
        freeze(world)
    assert lawful(world) == []


def test_a_halt_ends_a_freeze_and_nothing_is_open_in_between(found: Found) -> None:
    world = warranted(found())
    freeze(world)
    world.halt()
    assert world.state.freeze is None
    assert world.state.freezes[0].ended == world.state.halts[0].id
    with pytest.raises(Interrupted), world.latch.guard():
        pass
    with pytest.raises(Conflict):
        thaw(world)
    assert lawful(world) == []


def test_past_its_bound_nobody_lets_it_go_on_and_the_next_start_halts(found: Found) -> None:
    world = warranted(found())
    freeze(world, minutes=5)
    later(world, 6)
    with pytest.raises(Conflict, match="its bound has passed"):
        thaw(world)
    step = world.run()
    assert isinstance(step, agenda.Halted)
    assert (step.halt.by, step.halt.reason, step.halt.proven) == ("freeze", freezes.FORGOTTEN, True)
    assert world.latch.frozen() is None
    assert lawful(world) == []


@pytest.mark.parametrize("by", ["person:mallory", "somebody at the terminal", "governor", ""])
def test_only_somebody_enrolled_lets_it_go_on(found: Found, by: str) -> None:
    world = warranted(found())
    freeze(world)
    with pytest.raises(Conflict, match="no enrolled person"):
        thaw(world, by=by)
    assert world.latch.frozen() is not None


@pytest.mark.parametrize("border", ["before mark", "after mark", "before append", "after append"])
def test_a_crash_while_it_is_made_leaves_it_closed_or_never_made(found: Found, border: str) -> None:
    world = warranted(found())
    tape = once(border, lambda: (_ for _ in ()).throw(Crash()))
    with pytest.raises(Crash):
        freeze(world, tape=tape)
    after = world.crashed()
    assert (after.latch.frozen() is None) is (border == "before mark")
    if border != "before mark":
        with pytest.raises(HeldStill), after.latch.guard():
            pass
        thaw(after)
    assert isinstance(after.run(), agenda.Hold)
    assert lawful(after) == []


@pytest.mark.parametrize("border", ["before append", "after append", "before unmark", "after unmark"])
def test_a_crash_while_it_is_let_go_on_leaves_it_closed_or_gone(found: Found, border: str) -> None:
    world = warranted(found())
    freeze(world)
    tape = once(border, lambda: (_ for _ in ()).throw(Crash()))
    with pytest.raises(Crash):
        thaw(world, tape=tape)
    after = world.crashed()
    if after.latch.frozen() is not None:
        thaw(after)
    assert after.kinds().count("LoopThawed") == 1
    assert isinstance(after.run(), agenda.Hold)
    assert lawful(after) == []


def test_a_mark_that_somebody_took_away_halts(found: Found) -> None:
    world = warranted(found())
    freeze(world)
    world.latch.thaw()
    step = world.run()
    assert isinstance(step, agenda.Halted)
    assert step.halt.reason == freezes.LOST


def test_a_mark_that_cannot_be_read_halts(found: Found) -> None:
    world = warranted(found())
    freeze(world)
    (world.home / "freeze.mark").write_bytes(b"\xff{")
    step = world.run()
    assert isinstance(step, agenda.Halted)
    assert step.halt.by == "freeze"


def test_what_cannot_be_held_still_leaves_no_mark(found: Found) -> None:
    world = warranted(found())
    _, held = freezes.freeze(
        Holder("NOT HELD"), world.latch, by="a", reason="", minutes=1, now=world.clock.now(), keep=lambda _: ""
    )
    assert held["state"] == "NOT HELD"
    assert world.latch.frozen() is None
    with pytest.raises(Unavailable):
        freeze(world, Holder(fault=Unavailable("no")))
    assert world.latch.frozen() is None


def test_a_freeze_by_a_name_that_no_log_can_hold_is_recorded_and_let_go_on(found: Found) -> None:
    world = warranted(found())
    asked, held = freezes.freeze(
        Holder(), world.latch, by="person:\udcff", reason="\udcff", minutes=1, now=world.clock.now(), keep=lambda _: ""
    )
    with world.log(Tape()) as log:
        freezes.record(log, asked, held)
    thaw(world)
    assert world.latch.frozen() is None


def test_what_does_not_go_on_raises_after_its_record(found: Found) -> None:
    """Whoever let it go on must halt then, and the door does: the mark is gone, so that it can tell."""
    world = warranted(found())
    freeze(world)
    with pytest.raises(Unavailable):
        thaw(world, Holder(fault=Unavailable("the kernel does not let go")))
    assert world.kinds().count("LoopThawed") == 1
    assert world.latch.frozen() is None


def test_a_release_while_everything_is_held_is_unlawful(found: Found) -> None:
    world = warranted(found())
    freeze(world)
    state = world.state
    assert state.lineage is not None
    event = ev.CandidateReleased(
        id="x",
        at=world.clock.now(),
        actor="governor",
        policy=NO_DIGEST,
        candidate="c1",
        lineage=state.lineage.id,
        root=state.lineage.parent.root,
        generation=1,
        permit="p",
    )
    assert (False, "it was released while everything was held still") in list(candidate_released(state, event))
