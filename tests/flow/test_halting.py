"""A halt acts first and is never lost: not by a conflict, a full disk, a second halt, or a resume that crosses it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.events import Document
from keyturn.flow import halt
from keyturn.flow.control import ControlDoor, knock
from keyturn.flow.governor import Governor
from keyturn.flow.run import run
from tests.fakes.runner import FakeRunner
from tests.fakes.world import Tape, TapedLatch, World
from tests.flow.conftest import Found
from tests.world.story import lawful


def warranted(world: World, candidates: int = 2) -> World:
    """Founded, with leave to train."""
    world.until(agenda.AwaitWarrant, warrants=0)
    world.warrant(candidates=candidates)
    world.approve(world.hold().dossier)
    return world


def runner_of(governor: Governor) -> FakeRunner:
    assert isinstance(governor.halter, FakeRunner)
    return governor.halter


def once(where: str, act: object, *, nth: int = 1) -> Tape:
    """Does something at the nth crossing of a border."""
    tape = Tape()

    def at(_: int, what: str) -> None:
        if what == where and tape.seen.count(where) == nth:
            assert callable(act)
            act()

    tape.act = at
    return tape


# --- while something runs


@pytest.mark.parametrize("where", ["improve", "trial"])
@pytest.mark.parametrize("recorded", ["before", "later"])
def test_a_halt_through_the_door_ends_what_runs_and_loses_no_attempt(found: Found, where: str, recorded: str) -> None:
    world = warranted(found())
    late: list[threading.Thread] = []

    def knocked() -> None:
        receipt = halt.act(runner_of(governor), world.latch, by="person:ada", reason="enough")
        assert receipt["processes_before"] == 1

        def write() -> None:
            time.sleep(0.0 if recorded == "before" else 0.05)
            with world.log() as own:
                halt.record(own, by="person:ada", reason="enough", receipt=receipt)

        thread = threading.Thread(target=write)
        late.append(thread)
        thread.start()
        if recorded == "before":
            thread.join()

    with world.governor(once(where, knocked, nth=2 if where == "trial" else 1)) as governor:
        step = run(governor)
    late[0].join()
    assert isinstance(step, agenda.Halted)
    assert (step.halt.by, step.halt.reason, step.halt.proven) == ("person:ada", "enough", True)
    assert step.halt.receipt is not None
    assert step.halt.receipt["processes_before"] == 1, "the receipt of the kill, not of a later look"
    assert world.kinds().count("HaltRequested") == 1
    assert world.state.attempts[1].outcome == ("" if where == "improve" else "produced")

    world.approve(world.ask_to_resume())
    assert isinstance(world.run(), agenda.Hold)
    assert len(world.state.attempts) == 1
    assert world.state.attempts[1].outcome == "produced"
    assert world.latch.reason() is None
    assert lawful(world) == []


@pytest.mark.parametrize("where", ["improve", "trial"])
def test_a_halt_by_somebodys_own_hand_ends_in_halted_not_in_an_error(found: Found, where: str) -> None:
    """The sandbox is seen to be lost; why it was stands in the log."""
    world = warranted(found())

    def swept() -> None:
        world.halt()
        raise Unavailable("the sandbox went away without a word", help="run again")

    step = world.run(once(where, swept))
    assert isinstance(step, agenda.Halted)
    assert "ImprovementEnded" not in world.kinds() or where == "trial"
    world.approve(world.ask_to_resume())
    assert isinstance(world.run(), agenda.Hold)
    assert len(world.state.attempts) == 1


def test_a_sandbox_that_fails_without_a_halt_is_an_error_and_the_step_is_done_again(found: Found) -> None:
    world = warranted(found())
    with world.governor() as governor:
        runner_of(governor).broken = "improve"
        with pytest.raises(Unavailable, match="the sandbox failed"):
            run(governor)
    assert isinstance(world.run(), agenda.Hold)
    assert len(world.state.attempts) == 1


def test_a_halt_during_a_release_waits_for_it_and_nothing_runs_after_it(found: Found) -> None:
    """Permit and latch take turns under one lock: either the permit stood first, or it is never issued."""
    world = found()
    world.approve(world.released().dossier)
    halting: list[threading.Thread] = []

    def start() -> None:
        halting.append(threading.Thread(target=World(world.home).halt))
        halting[0].start()
        time.sleep(0.05)
        assert halting[0].is_alive(), "it waits for the lock"

    with world.governor(once("before append", start)) as governor:
        step = run(governor)
        assert runner_of(governor).launches == 0
    halting[0].join()
    assert isinstance(step, agenda.Halted)
    kinds = world.kinds()
    assert kinds.index("HaltRequested") > len(kinds) - 1 - kinds[::-1].index("CandidateReleased")
    status = [event for event in world.events() if isinstance(event, ev.StatusPublished)][-1]
    assert status.halted
    assert lawful(world) == []


def test_the_latch_alone_keeps_permit_and_launch_back(found: Found) -> None:
    """Latched, not yet recorded: the governor that comes to the launch writes the halt down itself."""
    world = found()
    world.approve(world.released().dossier)
    with world.governor() as governor:
        governor.log.refresh()
        world.latch.set("h-00000001 person:ada: enough")
        step = run(governor)
        assert runner_of(governor).launches == 0
    assert isinstance(step, agenda.Halted)
    assert (step.halt.id, step.halt.by, world.words(step.halt.reason)) == ("h-00000001", "person:ada", "enough")
    assert len(world.state.permits) == 1


# --- without a log


def test_a_tripwire_without_a_log_still_kills_and_latches_and_the_next_start_records_it(found: Found) -> None:
    world = warranted(found({1: "decoy"}))
    tape = Tape()

    def full(_: int, what: str) -> None:
        if what == "before append" and "improve" in tape.seen:
            raise Unavailable("the disk is full", help="free some space")

    tape.act = full
    with pytest.raises(Unavailable, match="the disk is full"), world.governor(tape) as governor:
        run(governor)
    assert world.state.halt is None
    assert tape.seen.count("kill") >= 2
    assert "tripwire:decoy_opened" in (world.latch.reason() or "")

    step = world.run()
    assert isinstance(step, agenda.Halted)
    assert step.halt.by == "tripwire:decoy_opened"
    assert step.halt.id in (world.latch.reason() or "")
    world.approve(world.ask_to_resume())
    step = world.run()
    assert isinstance(step, agenda.Halted), "the step is done again, and what it does trips again"
    assert [incident.kind for incident in world.state.incidents.values()] == ["decoy"]


def test_a_persons_halt_without_a_log_kills_and_latches_and_the_next_start_records_it(found: Found) -> None:
    world = warranted(found())
    receipt = halt.act(FakeRunner(world.latch), world.latch, by="person:ada", reason="enough")
    assert receipt["state"] == "STOPPED"
    step = world.run()
    assert isinstance(step, agenda.Halted)
    assert (step.halt.by, world.words(step.halt.reason)) == ("person:ada", "enough")
    assert step.halt.id == receipt["halt"]
    assert world.kinds().count("HaltRequested") == 1
    assert isinstance(world.run(), agenda.Halted)
    assert world.kinds().count("HaltRequested") == 1
    assert lawful(world) == []


class FullDisk:
    """A latch on a disk that takes nothing."""

    def set(self, why: str) -> None:
        raise OSError(28, "No space left on device")

    def reason(self) -> str | None:
        return None


def test_a_halt_that_cannot_be_latched_goes_on_and_is_unproven(found: Found) -> None:
    world = warranted(found())
    runner = FakeRunner(world.latch)
    receipt = halt.act(runner, FullDisk(), by="person:ada", reason="enough")  # type: ignore[arg-type]  # a stub that this path never calls
    assert runner.receipts == 2
    assert receipt["state"] == "UNPROVEN"
    assert "nothing on disk remembers this halt" in str(receipt["unknown"])
    with world.log() as log:
        halt.record(log, by="person:ada", reason="enough", receipt=receipt)
    step = world.run()
    assert isinstance(step, agenda.Halted)
    assert not step.halt.proven
    assert world.latch.reason() is not None, "the next start sets what could not be set"


def test_an_interruption_that_nothing_tells_of_does_not_go_on_by_itself(found: Found) -> None:
    world = warranted(found())

    def interrupt() -> None:
        runner_of(governor).halted = True

    with (
        world.governor(once("improve", interrupt)) as governor,
        pytest.raises(Unavailable, match="neither the latch nor the log tells of it"),
    ):
        run(governor)
    assert "CandidateProposed" not in world.kinds()


def test_the_echo_of_a_halt_that_was_lifted_only_delays(found: Found) -> None:
    world = warranted(found())
    world.halt()
    world.approve(world.ask_to_resume())

    def echo() -> None:
        runner_of(governor).halted = True

    with world.governor(once("improve", echo)) as governor:
        assert isinstance(run(governor), agenda.Hold)
    assert len(world.state.attempts) == 1


# --- the status that makes nodes refuse


def test_a_halt_is_published_at_once_and_asks_no_witness_while_somebody_waits_for_the_receipt(found: Found) -> None:
    world = warranted(found())
    world.halt()
    with world.log() as log:
        log.witnessing = Refusing()
        assert halt.publish(log, witnesses=False) == ""
    status = [event for event in world.events() if isinstance(event, ev.StatusPublished)][-1]
    assert status.halted
    assert world.state.settled


def test_a_status_that_cannot_be_published_unmakes_no_halt(found: Found) -> None:
    world = warranted(found())
    world.halt()

    def full(_: int, what: str) -> None:
        if what == "before checkpoint":
            raise Unavailable("the disk is full", help="free some space")

    with world.governor(Tape(full)) as governor:
        said = halt.publish(governor.log)
        assert said == "status: the halt is recorded, but not published yet: the disk is full"
        late = halt.unseen({"state": "STOPPED"}, said, proven=True)
    assert late == {"state": "STOPPED", "unknown": [said]}
    standing = world.state.halt
    assert standing is not None
    assert standing.proven


class Refusing:
    """Witnesses that must not be asked."""

    def cosign(self, *_: object, **__: object) -> object:
        raise AssertionError("somebody waits for the receipt")


# --- the lines of a receipt


def test_what_two_looks_saw_stands_in_one_list_as_it_was_seen_last() -> None:
    class Halter:
        """Finds a copy that came between the two looks, and sees the end of another that had not been seen."""

        def __init__(self) -> None:
            first = [row("copy", "a", "UNPROVEN"), row("copy", "b")]
            second = [row("copy", "a"), row("copy", "c")]
            self.looks: list[Document] = [
                {"state": "UNPROVEN", "processes_before": 2, "reached": [*first], "unknown": ["a"]},
                {"state": "STOPPED", "processes_before": 2, "reached": [*second], "unknown": []},
            ]

        def halt_all(self, why: str) -> Document:
            return self.looks.pop(0)

    class Latch(FullDisk):
        def set(self, why: str) -> None:
            pass

    receipt = halt.act(Halter(), Latch(), by="x", reason="y")  # type: ignore[arg-type]  # a stub that this path never calls
    assert receipt["state"] == "STOPPED"
    assert receipt["reached"] == [row("copy", "a"), row("copy", "b"), row("copy", "c")]


def test_a_governor_out_of_sight_is_a_line_of_its_own_and_makes_the_whole_unproven() -> None:
    sandboxes, runner = row("sandboxes", "2"), {**row("runner", "node-b", "UNPROVEN"), "why": "it cannot be seen"}
    receipt = halt.beyond({"state": "STOPPED", "reached": [sandboxes]}, "node-b", "it cannot be seen")
    assert receipt["state"] == "UNPROVEN"
    assert receipt["unknown"] == ["governor: node-b governs; it cannot be seen"]
    assert receipt["reached"] == [sandboxes, runner]


def row(what: str, name: str, state: str = "STOPPED") -> dict[str, Any]:
    return {"what": what, "name": name, "state": state, "why": ""}


# --- doubt


def test_a_second_look_that_proves_nothing_makes_the_whole_unproven() -> None:
    class Halter:
        """Saw everything stop, then could no longer look."""

        def __init__(self) -> None:
            self.looks: list[Document] = [
                {"state": "STOPPED", "processes_before": 3},
                {"state": "UNPROVEN", "processes_before": None, "unknown": ["the cgroup cannot be read"]},
            ]

        def halt_all(self, why: str) -> Document:
            return self.looks.pop(0)

    class Latch(FullDisk):
        def set(self, why: str) -> None:
            pass

    receipt = halt.act(Halter(), Latch(), by="x", reason="y")  # type: ignore[arg-type]  # a stub that this path never calls
    assert receipt["state"] == "UNPROVEN"


def test_an_unproven_halt_is_not_resumed_until_a_later_look_proves_it(found: Found) -> None:
    world = warranted(found())
    runner = FakeRunner(world.latch, unproven=True)
    receipt = halt.act(runner, world.latch, by="person:ada", reason="enough")
    with world.log() as log:
        halt.record(log, by="person:ada", reason="enough", receipt=receipt)
    dossier = world.ask_to_resume()
    world.approve(dossier)
    step = world.run()
    assert isinstance(step, agenda.Halted)
    assert step.decision is not None
    assert [finding.rule for finding in step.decision.findings] == ["halt_must_be_proven"]
    world.halt()
    assert isinstance(world.run(), agenda.Hold)
    assert world.kinds().count("HaltRequested") == 1


# --- two at once


def test_two_halts_at_once_are_one_halt(found: Found) -> None:
    world = warranted(found())
    gate = threading.Barrier(4)

    def one(number: int) -> None:
        gate.wait()
        receipt = halt.act(FakeRunner(world.latch), world.latch, by=f"person:{number}", reason="enough")
        with World(world.home).log() as log:
            halt.record(log, by=f"person:{number}", reason="enough", receipt=receipt)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = world.state
    assert len(state.halts) == 1
    assert state.halts[0].proven
    assert (world.latch.reason() or "").startswith(state.halts[0].id + " ")
    assert world.kinds().count("HaltProven") == 4


# --- resuming


def test_the_latch_goes_only_after_the_record(found: Found) -> None:
    world = warranted(found())
    world.halt()
    world.approve(world.ask_to_resume())
    seen: list[bool] = []
    tape = once("before unlatch", lambda: seen.append(world.state.halt is None))
    assert isinstance(world.run(tape), agenda.Hold)
    assert seen == [True]


def test_a_halt_that_crosses_a_resume_keeps_its_latch(found: Found) -> None:
    world = warranted(found())
    world.halt(reason="first")
    world.approve(world.ask_to_resume())
    step = world.run(once("before unlatch", lambda: world.halt(reason="second")))
    assert isinstance(step, agenda.Halted)
    assert step.halt.reason == "second"
    assert len(world.state.halts) == 2
    assert "second" in (world.latch.reason() or "")
    world.approve(world.ask_to_resume())
    assert isinstance(world.run(), agenda.Hold)
    assert world.latch.reason() is None


def test_a_resume_by_another_process_lets_a_waiting_governor_go_on(found: Found) -> None:
    """Its latch is still there for a moment after the record; that is no new halt."""
    world = warranted(found())
    world.halt()
    standing = world.latch.reason()
    world.approve(world.ask_to_resume())
    with world.log() as log:
        step = agenda.next_step(log.state, log.now())
        assert isinstance(step, agenda.Resume)
        halt.resume(log, world.latch, step)
    world.latch.set(standing or "")
    assert isinstance(world.run(), agenda.Hold)
    assert len(world.state.halts) == 1
    assert world.latch.reason() is None


@pytest.mark.parametrize("text", ["", "somebody", "ada: with: colons", "\n", "h-zzz x: y"])
def test_a_latch_that_says_little_still_halts(found: Found, text: str) -> None:
    world = warranted(found())
    world.latch.path.write_text(text)
    step = world.run()
    assert isinstance(step, agenda.Halted)
    world.approve(world.ask_to_resume())
    assert isinstance(world.run(), agenda.Hold)


# --- the door


def test_the_door_halts_and_answers_with_the_receipt(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def halt_now(by: str, reason: str) -> Document:
        asked.append((by, reason))
        return {"state": "STOPPED"}

    with ControlDoor(tmp_path / "control.sock", halt_now):
        assert knock(tmp_path / "control.sock", by="person:ada", reason="enough") == {"state": "STOPPED"}
    assert asked == [("person:ada", "enough")]
    assert knock(tmp_path / "control.sock", by="person:ada", reason="enough") is None


def test_the_door_stays_open_when_a_halt_could_not_be_recorded(tmp_path: Path) -> None:
    answers: list[KeyturnError] = [Unavailable("the disk is full", help="free some space")]

    def halt_now(by: str, reason: str) -> Document:
        if answers:
            raise answers.pop()
        return {"state": "STOPPED"}

    with ControlDoor(tmp_path / "control.sock", halt_now):
        first = knock(tmp_path / "control.sock", by="person:ada", reason="enough")
        assert first is not None
        assert first["state"] == "UNPROVEN"
        assert first["unknown"] == ["the halt was not recorded: the disk is full"]
        assert knock(tmp_path / "control.sock", by="person:ada", reason="enough") == {"state": "STOPPED"}


def test_an_unreadable_knock_halts(tmp_path: Path) -> None:
    import socket

    asked: list[str] = []

    def halt_now(by: str, reason: str) -> Document:
        asked.append(reason)
        return {"state": "STOPPED"}

    with ControlDoor(tmp_path / "control.sock", halt_now), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control.sock"))
        client.sendall(b"\xff\xfe{")
        answer = b""
        while part := client.recv(1000):  # first that somebody is here, then the receipt
            answer += part
        assert b"STOPPED" in answer
    assert asked == ["an unreadable request at the control socket"]


def test_a_taped_latch_is_a_latch(found: Found) -> None:
    world = found()
    latch = TapedLatch(world.latch, Tape())
    latch.set("x")
    assert latch.reason() == world.latch.reason() == "x"
