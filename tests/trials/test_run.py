"""A whole trial with real processes: stopped early, resumed to the bit, and every failure on the right account."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import rfc8785

from keyturn.core.betting import Process
from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.core.terms import Digest, Verdict
from keyturn.core.trial import TrialPlan, begin, read
from keyturn.trials.channel import Channel, SandboxFault
from keyturn.trials.grader import GraderProcess, Planned
from keyturn.trials.link import Frame
from keyturn.trials.run import BlockResult, Parties, Patience, _paired, run_trial
from tests.trials.cast import ORDER, SENT, Cast, plan_of

PATIENCE = Patience(ready_seconds=20, answer_seconds=1.0, rounds_max=5)
PLAN = plan_of()
SLOW = plan_of(line=0.60, block_items=2)  # a few broken items do not yet decide
HONEST = [float(item % 11 == 0) for item in ORDER]


def no_restart() -> Channel:
    raise AssertionError("nobody broke the protocol")


def hold(
    cast: Cast,
    grader: GraderProcess,
    candidate: Channel,
    *,
    plan: TrialPlan = PLAN,
    process: Process | None = None,
    again: object = no_restart,
    parent: Channel | None = None,
    faults_before: int = 0,
    order: tuple[int, ...] = ORDER,
) -> list[BlockResult]:
    """Run a trial and return its logged blocks, also when it was interrupted (then `hold.log` has them)."""
    blocks: list[BlockResult] = []
    LOG[:] = [blocks]
    with grader:
        planned = grader.plan(suite=plan.suite, seed="seed", items=plan.items)
        channels = {"candidate": candidate, **({} if parent is None else {"parent": parent})}
        parties = Parties(grader=grader, channels=channels, restart=again)  # type: ignore[arg-type]  # a fake grader
        last = run_trial(
            plan,
            order,
            begin(plan) if process is None else process,
            planned=planned,
            parties=parties,
            on_block=blocks.append,
            faults_before=faults_before,
            patience=PATIENCE,
        )
    assert blocks == [] or last == blocks[-1].process
    return blocks


LOG: list[list[BlockResult]] = []


def test_an_honest_candidate_clears_as_soon_as_it_can(cast: Cast) -> None:
    blocks = hold(cast, cast.grader(), cast.subject())
    alone = read(PLAN, begin(PLAN), dict(enumerate(HONEST)))
    assert blocks[-1].process == alone
    assert alone.verdict is Verdict.CLEAR
    assert alone.n < PLAN.items
    assert [value for block in blocks for value in block.values] == HONEST[: alone.n]
    assert [block.start for block in blocks] == list(range(0, alone.n, 8))
    assert all(block.faults == () for block in blocks)
    asked = [item for frame in SENT if frame["type"] == "ask" for item in frame["items"]]  # type: ignore[union-attr]  # ours, so a list
    assert asked == list(ORDER[: 8 * len(blocks)])


def test_a_candidate_sees_blocks_and_items_and_nothing_else(cast: Cast) -> None:
    hold(cast, cast.grader(), cast.subject())
    assert SENT[0] == {"type": "hello"}
    assert {tuple(sorted(frame)) for frame in SENT[1:]} == {("block", "items", "type")}
    assert "scores" not in json.dumps(SENT)


def test_a_trial_that_may_take_several_rounds_reads_the_last(cast: Cast) -> None:
    assert hold(cast, cast.grader("two-rounds"), cast.subject())[-1].process.verdict is Verdict.CLEAR


@pytest.mark.parametrize("interrupted_at", [1, 3])
def test_a_trial_resumed_from_the_log_ends_in_the_same_bits(cast: Cast, interrupted_at: int) -> None:
    whole = hold(cast, cast.grader(), cast.subject())
    with pytest.raises(Unavailable, match="the grader failed at `begin`"):
        hold(cast, cast.grader("crash", at_block=interrupted_at), cast.subject())
    logged = LOG[0]
    assert len(logged) == interrupted_at
    stored = Process.from_json(json.loads(rfc8785.dumps(logged[-1].process.to_json())))
    SENT.clear()
    rest = hold(cast, cast.grader(), cast.subject(), process=stored)
    assert logged + rest == whole
    assert SENT[1]["items"] == list(ORDER[8 * interrupted_at : 8 * interrupted_at + 8])  # none is asked twice


def test_a_decided_trial_asks_nothing(cast: Cast) -> None:
    decided = read(PLAN, begin(PLAN), dict(enumerate(HONEST)))
    assert hold(cast, cast.grader(), cast.subject(), process=decided) == []
    assert SENT == []


@pytest.mark.parametrize("mode", ["twice", "header-2^31", "deep", "nan", "bigint", "wrong-block", "hang", "daemon"])
def test_one_fault_costs_its_block_and_the_candidate_is_started_again(cast: Cast, tmp_path: Path, mode: str) -> None:
    marker = str(tmp_path / "started")
    blocks = hold(
        cast,
        cast.grader(),
        cast.subject(mode, at_block=2, marker=marker),
        again=lambda: cast.subject(mode, at_block=2, marker=marker),
    )
    assert [block.block for block in blocks if block.faults] == [2]
    assert blocks[2].values == (1.0,) * 8
    assert blocks[3].values == tuple(HONEST[24:32])
    assert len(cast.started) == 2


def test_after_the_second_fault_all_that_remains_counts_against_the_candidate(cast: Cast) -> None:
    blocks = hold(cast, cast.grader(), cast.subject("exit", at_block=2), plan=SLOW, again=lambda: cast.subject("exit"))
    assert [block.faults for block in blocks[:5]] == [(), (), ("closed",), ("closed",), ("not-asked",)]
    assert all(value == 1.0 for block in blocks[2:] for value in block.values)
    assert blocks[-1].process.verdict is Verdict.TRIP
    assert len(cast.started) == 2


@pytest.mark.parametrize(("kind", "verdict"), [("capability", Verdict.TRIP), ("claim", Verdict.CLEAR)])
def test_failing_on_purpose_never_helps(cast: Cast, kind: str, verdict: Verdict) -> None:
    """A silent candidate counts as capable, and as short of its claim."""
    plan = plan_of(kind=kind)
    blocks = hold(cast, cast.grader(), cast.subject("exit"), plan=plan, again=lambda: cast.subject("exit"))
    assert blocks[-1].process.verdict is verdict


def test_faults_in_the_log_are_remembered_across_a_resume(cast: Cast) -> None:
    blocks = hold(cast, cast.grader(), cast.subject("exit", at_block=1), faults_before=1, again=no_restart_after)
    assert [block.faults for block in blocks[:3]] == [(), ("closed",), ("not-asked",)]
    SENT.clear()
    blocks = hold(cast, cast.grader(), cast.subject(), faults_before=2)
    assert blocks[-1].process.verdict is Verdict.TRIP
    assert SENT == []


def no_restart_after() -> Channel:
    raise AssertionError("its one restart was already used")


def test_a_candidate_that_will_not_start_again_is_at_fault(cast: Cast) -> None:
    blocks = hold(
        cast, cast.grader(), cast.subject("exit"), plan=SLOW, again=lambda: cast.subject("never-ready", at_block=9)
    )
    assert [block.faults for block in blocks[:3]] == [("closed",), ("not-ready",), ("not-asked",)]


def test_an_illegal_output_counts_against_the_candidate_alone(cast: Cast) -> None:
    blocks = hold(cast, cast.grader(), Babbler("ignore the rules"), plan=plan_of(items=8))
    assert blocks[0].values == (1.0, *HONEST[1:8])
    assert blocks[0].faults == ()


def test_an_answer_that_just_fits_its_frame_cannot_stop_the_trial(cast: Cast) -> None:
    for length in (60_000, 65_400, 65_450):
        blocks = hold(cast, cast.grader(), Babbler("x" * length), plan=plan_of(items=8))
        assert blocks[0].values[0] == 1.0


class Babbler:
    """A subject, honest but for its first output of a block."""

    def __init__(self, first: str) -> None:
        self.first = first

    def ask(self, frame: Frame, *, timeout_seconds: float) -> Frame:
        if frame["type"] == "hello":
            return {"type": "ready"}
        items = frame["items"]
        assert isinstance(items, list)
        return {"type": "answer", "block": frame["block"], "outputs": [self.first, *items[1:]]}

    def bye(self) -> None:
        pass


def test_a_failing_sandbox_leaves_the_slot_open(cast: Cast) -> None:
    candidate = cast.subject("exit", at_block=2)
    cast.sandbox_fault = "its init lost the lease"
    with pytest.raises(SandboxFault):
        hold(cast, cast.grader(), candidate)
    assert [block.block for block in LOG[0]] == [0, 1]


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("crash", "the grader failed at `begin`: closed; it last wrote `Traceback: the answers file is gone`"),
        ("silent", "the grader failed at `begin`: late"),
        ("wide", "the grader sent a score outside [0, 1]"),
        ("true", "the grader sent a score outside [0, 1]"),
        ("short", "the grader scored 7 items of a block of 8"),
        ("with-parent", "the trial needs `parent`, who takes no part in it"),
        ("other-block", "the grader sent another block than `0`"),
        ("shout", "the grader sent neither `ask` nor `scores`"),
        ("stranger", "the trial needs `stranger`, who takes no part in it"),
        ("endless", "the grader asked more than 5 rounds in one block"),
        ("no-plan", "the grader sent no bank for its plan"),
    ],
)
def test_a_graders_failure_is_never_evidence(cast: Cast, mode: str, message: str) -> None:
    with pytest.raises(Unavailable) as caught:
        hold(cast, cast.grader(mode, timeout_seconds=1.0 if mode == "silent" else 20.0), cast.subject())
    assert caught.value.message == message
    assert LOG[0] == []


def test_a_grader_that_cannot_be_started_is_unavailable(cast: Cast, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the grader cannot be started"):
        GraderProcess([str(tmp_path / "none")], on_tick=cast.tick).__enter__()


def test_a_grader_sees_nothing_of_our_environment(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    with pytest.raises(Unavailable) as caught:
        hold(cast, cast.grader("environment"), cast.subject())
    said = caught.value.message.split("it last wrote")[1]
    assert "PATH" in said
    assert "SECRET_TOKEN" not in said


def test_a_grader_and_its_children_are_gone_at_the_end(tmp_path: Path, cast: Cast) -> None:
    note = tmp_path / "pids"
    script = f"sleep 300 & echo $! $$ > {note}; sleep 300"
    process = GraderProcess(["/bin/sh", "-c", script], on_tick=cast.tick, timeout_seconds=1)
    with pytest.raises(Unavailable), process as grader:
        grader.plan(suite="s", seed=1, items=1)
    for pid in note.read_text().split():
        deadline = time.monotonic() + 5
        while _runs(int(pid)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _runs(int(pid))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_plan_tells_the_bank_and_its_clusters(cast: Cast) -> None:
    with cast.grader() as grader:
        planned = grader.plan(suite="centre-probes", seed=7, items=200)
    assert planned == Planned(PLAN.bank, 400, tuple(i % 7 for i in range(400)))


@pytest.mark.parametrize("change", ["bank", "items", "order"])
def test_an_exchanged_bank_or_order_is_detected_before_anything_is_asked(cast: Cast, change: str) -> None:
    plan = replace(PLAN, bank=Digest("sha256:" + "0" * 64)) if change == "bank" else PLAN
    plan = replace(plan, bank_items=401, clusters=401) if change == "items" else plan
    order = ORDER[::-1] if change == "order" else ORDER
    with pytest.raises(TamperDetected):
        hold(cast, cast.grader(), cast.subject(), plan=plan, order=order)
    assert SENT == []


# Drift: the same items to the candidate and to a reference


def paired_plan(**changes: object) -> TrialPlan:
    return plan_of(reference="parent", line=0.60, margin=0.02, **changes)


def test_a_candidate_better_than_its_parent_clears(cast: Cast) -> None:
    blocks = hold(cast, cast.grader(), cast.subject(), parent=cast.subject("breaks"), plan=paired_plan())
    assert blocks[-1].process.verdict is Verdict.CLEAR
    assert blocks[0].values == tuple(value / 2.0 for value in HONEST[: len(blocks[0].values)])


def test_a_candidate_worse_than_its_parent_trips(cast: Cast) -> None:
    blocks = hold(cast, cast.grader(), cast.subject("breaks"), parent=cast.subject(), plan=paired_plan())
    assert blocks[-1].process.verdict is Verdict.TRIP
    assert blocks[0].values == tuple((1.0 - value + 1.0) / 2.0 for value in HONEST[: len(blocks[0].values)])


def test_both_are_asked_the_same_items_and_neither_learns_for_whom(cast: Cast) -> None:
    hold(cast, cast.grader(), cast.subject(), parent=cast.subject(), plan=paired_plan(items=16))
    asked = [frame for frame in SENT if frame["type"] == "ask"]
    assert len(asked) == 4
    assert asked[0] == asked[1]
    assert asked[2] == asked[3]


def test_a_suite_may_ask_the_parent_itself(cast: Cast) -> None:
    blocks = hold(cast, cast.grader("with-parent"), cast.subject(), parent=cast.subject())
    assert blocks[-1].process.verdict is Verdict.CLEAR


def test_a_paired_plan_without_its_reference_is_unavailable(cast: Cast) -> None:
    with pytest.raises(Unavailable, match="the trial needs `parent`, who takes no part in it"):
        hold(cast, cast.grader(), cast.subject(), plan=paired_plan())


def test_a_faulty_reference_is_no_evidence_on_the_candidate(cast: Cast) -> None:
    with pytest.raises(Unavailable, match=r"the reference `parent` failed \(closed\)"):
        hold(cast, cast.grader(), cast.subject(), parent=cast.subject("exit", at_block=1), plan=paired_plan())
    assert [block.block for block in LOG[0]] == [0]
    assert all(block.faults == () for block in LOG[0])


def test_a_faulty_candidate_counts_as_the_largest_drift(cast: Cast) -> None:
    blocks = hold(cast, cast.grader(), cast.subject("exit"), parent=cast.subject(), plan=paired_plan(items=8))
    assert set(blocks[0].values) == {1.0}


@pytest.mark.parametrize(
    ("candidate", "reference", "value"), [(None, 0.0, 1.0), (None, 1.0, 0.5), (0.0, None, 0.5), (None, None, 1.0)]
)
def test_an_illegal_output_of_either_side_counts_for_more_drift(
    candidate: float | None, reference: float | None, value: float
) -> None:
    assert _paired(paired_plan(), candidate, reference) == value


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split())


def test_nothing_of_ours_is_left_running(cast: Cast) -> None:
    before = children()
    hold(cast, cast.grader(), cast.subject())
    assert cast.started[0].wait(20) == 0  # it was told goodbye
    assert children() <= before
