"""What a subject may do to its channel, and what that costs: its own items, never the governor's patience."""

from __future__ import annotations

import os
import time

import pytest

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.terms import Json
from keyturn.sandbox.freezing.clock import SubjectClock
from keyturn.trials.channel import CandidateFault, Channel, RememberedChannel, SandboxFault, converse, greet
from keyturn.trials.link import Allowance, Fault, Link, LinkBroken, LinkLimits
from keyturn.wire.frames import encode_frame
from tests.trials.cast import SENT, Cast

ITEMS: list[Json] = [1, 2, 3]


def test_an_honest_subject_answers_in_order(cast: Cast) -> None:
    channel = cast.subject()
    greet(channel, timeout_seconds=20)
    for block in range(5):
        assert converse(channel, block, [block, block + 1], timeout_seconds=20) == [block, block + 1]
    assert channel.bytes_read > 0
    channel.bye()
    assert cast.started[0].wait(20) == 0


@pytest.mark.parametrize(
    ("mode", "fault"),
    [
        ("twice", Fault.UNASKED),
        ("header-2^31", Fault.ILLEGAL_FRAME),
        ("deep", Fault.ILLEGAL_FRAME),
        ("nan", Fault.ILLEGAL_FRAME),
        ("bigint", Fault.ILLEGAL_FRAME),
        ("not-canonical", Fault.ILLEGAL_FRAME),
        ("no-object", Fault.ILLEGAL_FRAME),
        ("wrong-block", Fault.WRONG_ANSWER),
        ("true-block", Fault.WRONG_ANSWER),
        ("wrong-type", Fault.WRONG_ANSWER),
        ("extra-key", Fault.WRONG_ANSWER),
        ("short", Fault.WRONG_ANSWER),
        ("no-outputs", Fault.WRONG_ANSWER),
        ("exit", Fault.CLOSED),
        ("half-frame", Fault.CLOSED),
        ("daemon", Fault.LATE),
        ("hang", Fault.LATE),
    ],
)
def test_every_attack_on_the_frames_is_the_subjects_own_fault(cast: Cast, mode: str, fault: Fault) -> None:
    channel = cast.subject(mode, at_block=1)
    greet(channel, timeout_seconds=20)
    began, cpu_began = time.monotonic(), time.process_time()
    with pytest.raises(CandidateFault) as caught:
        converse(channel, 1, ITEMS, timeout_seconds=1.0)
    assert caught.value.fault is fault
    assert time.monotonic() - began < 5
    assert time.process_time() - cpu_began < 2


def test_a_flood_is_cut_off_by_the_next_question_at_the_latest(cast: Cast) -> None:
    channel = cast.subject("flood", at_block=0)
    greet(channel, timeout_seconds=20)
    with pytest.raises(CandidateFault) as caught:
        talk(channel, blocks=2)
    assert caught.value.fault in (Fault.UNASKED, Fault.ILLEGAL_FRAME)
    assert channel.bytes_read <= 3 * 65_536


def told(allowance: Allowance, *answers: bytes) -> Link:
    """A link to somebody who has said this already."""
    (read, far), (_, write) = os.pipe(), os.pipe()
    for answer in answers:
        os.write(far, answer)
    limits = LinkLimits(bytes_max=1 << 30, frames_max=1000)
    return Link(read_fd=read, write_fd=write, on_tick=lambda: None, limits=limits, allowance=allowance)


def test_nobody_is_read_beyond_what_may_be_said_in_one_block() -> None:
    """A flood within the frames' own limits: not one byte more than the budget is ever taken in."""
    answer = encode_frame({"type": "x" * 3000})
    allowance = Allowance(most=5000)
    link = told(allowance, answer)
    assert link._read() == answer
    again = told(allowance, answer)
    assert len(again._read() or b"") == 5000 - len(answer), "the same member on another link, after a restart"
    with pytest.raises(LinkBroken) as caught:
        again._read()
    assert caught.value.fault is Fault.ILLEGAL_FRAME
    assert (allowance.taken(), allowance.read) == (5000, 0)
    assert len(again._read() or b"") > 0, "what was logged counts anew"


def test_without_a_bound_what_is_read_is_counted_all_the_same(cast: Cast) -> None:
    allowance = Allowance()
    link = told(allowance, encode_frame({"type": "ready"}))
    assert link._read()
    assert allowance.taken() == link.bytes_read > 0


def test_a_subject_that_is_never_ready_is_at_fault(cast: Cast) -> None:
    with pytest.raises(CandidateFault) as caught:
        greet(cast.subject("never-ready", at_block=9), timeout_seconds=20)
    assert caught.value.fault is Fault.NOT_READY


def test_a_subject_that_speaks_between_questions_is_at_fault(cast: Cast) -> None:
    channel = cast.subject("unasked", at_block=9)
    greet(channel, timeout_seconds=20)
    with pytest.raises(CandidateFault) as caught:
        talk(channel, blocks=3, pause_seconds=0.2)
    assert caught.value.fault is Fault.UNASKED


def test_a_subject_that_does_not_read_runs_out_of_time(cast: Cast) -> None:
    channel = cast.subject("hang", at_block=0)
    greet(channel, timeout_seconds=20)
    large: list[Json] = ["x" * 60_000]
    for _ in range(3):  # more than a pipe holds
        with pytest.raises(CandidateFault):
            converse(channel, 0, large, timeout_seconds=0.5)


def test_a_broken_channel_stays_broken(cast: Cast) -> None:
    channel = cast.subject("wrong-block", at_block=0)
    greet(channel, timeout_seconds=20)
    with pytest.raises(CandidateFault):
        converse(channel, 0, ITEMS, timeout_seconds=20)
    broken = cast.subject("exit", at_block=0)
    greet(broken, timeout_seconds=20)
    for _ in range(2):
        with pytest.raises(CandidateFault) as caught:
            converse(broken, 0, ITEMS, timeout_seconds=20)
        assert caught.value.fault is Fault.CLOSED


@pytest.mark.parametrize("limits", [LinkLimits(bytes_max=200, frames_max=99), LinkLimits(bytes_max=9999, frames_max=3)])
def test_a_subject_that_says_more_than_its_budget_is_at_fault(cast: Cast, limits: LinkLimits) -> None:
    channel = cast.subject(limits=limits)
    greet(channel, timeout_seconds=20)
    with pytest.raises(CandidateFault) as caught:
        talk(channel, blocks=20)
    assert caught.value.fault is Fault.ILLEGAL_FRAME


def talk(channel: Channel, *, blocks: int, pause_seconds: float = 0.0) -> None:
    for block in range(blocks):
        converse(channel, block, ITEMS, timeout_seconds=20)
        time.sleep(pause_seconds)


def test_a_failing_sandbox_is_no_fault_of_the_candidate(cast: Cast) -> None:
    channel = cast.subject("exit", at_block=0)
    greet(channel, timeout_seconds=20)
    cast.sandbox_fault = "its init lost the lease"
    with pytest.raises(SandboxFault, match="the sandbox failed during a trial: its init lost the lease") as caught:
        converse(channel, 0, ITEMS, timeout_seconds=20)
    assert isinstance(caught.value, Unavailable)


def test_waiting_renews_the_lease_at_least_every_100_ms(cast: Cast) -> None:
    channel = cast.subject("hang", at_block=0)
    greet(channel, timeout_seconds=20)
    cast.ticks = 0
    with pytest.raises(CandidateFault):
        converse(channel, 0, ITEMS, timeout_seconds=1.0)
    assert cast.ticks >= 10


class Halted(Exception):
    pass


def test_a_halt_interrupts_the_wait(cast: Cast) -> None:
    channel = cast.subject("hang", at_block=0)
    greet(channel, timeout_seconds=20)

    def halt() -> None:
        raise Halted

    cast.on_tick = halt
    began = time.monotonic()
    with pytest.raises(Halted):
        converse(channel, 0, ITEMS, timeout_seconds=30)
    assert time.monotonic() - began < 2


def test_our_own_frame_too_large_is_not_the_candidates_fault(cast: Cast) -> None:
    channel = cast.subject()
    with pytest.raises(MalformedInput):
        converse(channel, 0, ["x" * 70_000], timeout_seconds=5)


def test_a_pipe_closed_by_the_reader_does_not_kill_the_governor(cast: Cast) -> None:
    channel = cast.subject("exit", at_block=0)
    greet(channel, timeout_seconds=20)
    with pytest.raises(CandidateFault):
        converse(channel, 0, ITEMS, timeout_seconds=20)
    cast.started[0].wait(20)
    channel.bye()
    assert os.getpid() > 0


def test_a_remembered_reference_is_asked_each_item_once(cast: Cast) -> None:
    answers: dict[bytes, Json] = {}
    first = RememberedChannel(answers=answers, opened=cast.subject)
    greet(first, timeout_seconds=20)
    assert cast.started == []
    assert converse(first, 0, [5, 6, 5], timeout_seconds=20) == [5, 6, 5]
    assert converse(first, 1, [6, 7], timeout_seconds=20) == [6, 7]
    assert [frame["items"] for frame in SENT if frame["type"] == "ask"] == [[5, 6], [7]]
    second = RememberedChannel(answers=answers, opened=cast.subject)
    assert converse(second, 0, [7, 5], timeout_seconds=20) == [7, 5]
    assert len(cast.started) == 1
    second.bye()
    first.bye()
    assert cast.started[0].wait(20) == 0


def test_a_faulty_reference_leaves_nothing_in_memory(cast: Cast) -> None:
    answers: dict[bytes, Json] = {}
    channel = RememberedChannel(answers=answers, opened=lambda: cast.subject("short", at_block=0))
    with pytest.raises(CandidateFault):
        converse(channel, 0, ITEMS, timeout_seconds=20)
    assert answers == {}


def test_an_answer_that_is_late_only_because_all_was_held_still_is_in_time(cast: Cast) -> None:
    """The clock by which a subject is judged stands still with it; ticks go on, so that a halt comes through."""
    clock = SubjectClock()
    cast.clock = clock.now
    channel = cast.subject("hang", at_block=1)
    greet(channel, timeout_seconds=20)
    clock.stop()
    before, until = cast.ticks, time.monotonic() + 0.6

    class Seen(Exception):
        pass

    def tick() -> None:
        cast.ticks += 1
        if time.monotonic() > until:
            raise Seen

    cast.on_tick = tick
    with pytest.raises(Seen):
        converse(channel, 1, ITEMS, timeout_seconds=0.2)
    assert cast.ticks > before + 3
    clock.go_on()
    assert clock.lost_seconds() > 0.5
