"""What a policy bounds beside memory and time: processors, devices, and all that answers may say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.bounds import OUTPUT_BYTES_RESERVED, Output, output_finding
from keyturn.core.decision import prepare
from keyturn.core.errors import TamperDetected
from keyturn.core.finding import Request
from keyturn.core.policy import Policy
from keyturn.core.policy_change import change, explain, needs_quorum
from keyturn.core.policy_contradictions import Problem
from keyturn.core.policy_reading import read_policy
from keyturn.core.replay import recheck
from keyturn.core.terms import NO_DIGEST, Instant
from tests.core.examples import Story, document, loop

RESERVED = OUTPUT_BYTES_RESERVED
BOUND = 2 * RESERVED


def limited(**sandbox: Any) -> dict[str, Any]:
    text = document()
    return {**text, "sandbox": {**text["sandbox"], **sandbox}}


def read(text: dict[str, Any]) -> Policy:
    found = read_policy(text)
    assert isinstance(found, Policy), found
    return found


# --- the policy


def test_a_policy_of_earlier_days_bounds_nothing_more() -> None:
    limits = read(document()).sandbox
    assert (limits.cpus, limits.cpu_seconds_max, limits.output_bytes_lineage_max) == (None, None, None)
    assert (limits.devices, limits.accept_unproven_devices) == ((), False)


@pytest.mark.parametrize(
    ("key", "value"),
    [("cpus", 0), ("cpus", 0.01), ("cpu_seconds_max", 0), ("output_bytes_lineage_max", 1000), ("devices", ["nvidia0"])],
)
def test_a_bound_that_cannot_mean_anything_is_refused(key: str, value: object) -> None:
    problems = read_policy(limited(**{key: value}))
    assert isinstance(problems, tuple)
    assert {problem.path for problem in problems} == {f"sandbox.{key}"}


def test_a_device_below_the_tier_that_could_stop_it_needs_a_word_more() -> None:
    refused = read_policy(limited(devices=["/dev/nvidia0"]))
    message = "devices on level 0, 1, below tier T4: no halt of a device is proven there"
    help = "remove them, ask for T4, or set `accept_unproven_devices = true`"
    assert refused == (Problem("sandbox.devices", message, help),)
    accepted = read(limited(devices=["/dev/nvidia0"], accept_unproven_devices=True))
    assert "DEVICES: sealed runs see devices of this machine, and no halt of a device is proven." in explain(accepted)
    assert "NOTHING RUNS: with devices no sandbox has more than T1, and levels 0 and 1 ask for more." in explain(
        accepted
    )
    twice = read_policy(limited(devices=["/dev/kfd", "/dev/kfd"], accept_unproven_devices=True))
    assert isinstance(twice, tuple)


def test_showing_a_device_loosens_and_hiding_it_tightens() -> None:
    none, one = read(document()), read(limited(devices=["/dev/kfd"], accept_unproven_devices=True))
    assert {d.path for d in change(none, one)} == {"sandbox.devices./dev/kfd", "sandbox.accept_unproven_devices"}
    assert all(d.effect == "loosens" for d in change(none, one))
    assert needs_quorum(change(none, one))
    assert not needs_quorum(change(one, none))


@pytest.mark.parametrize("key", ["cpus", "cpu_seconds_max", "output_bytes_lineage_max"])
def test_taking_a_bound_away_loosens(key: str) -> None:
    old, new = read(limited(**{key: 1 << 20 if "bytes" in key else 2})), read(document())
    assert needs_quorum(change(old, new))
    assert not needs_quorum(change(new, old))


def test_a_budget_that_is_not_far_below_a_member_is_warned_of() -> None:
    def warned(**sandbox: Any) -> list[str]:
        return [line for line in explain(read(limited(**sandbox))) if line.startswith("OUTPUT")]

    assert warned()[0].startswith("OUTPUT: nothing bounds what answers may say")
    assert "not far below" in warned(output_bytes_lineage_max=1 << 30)[0]
    text = limited(output_bytes_lineage_max=1 << 20)
    text["subject"] = {**text["subject"], "files": [{**f, "bytes_max": 1 << 30} for f in text["subject"]["files"]]}
    assert not [line for line in explain(read(text)) if line.startswith("OUTPUT")]


# --- what answers said


def test_what_a_crash_may_have_let_out_counts() -> None:
    once = Output().reserve("a", 100).count(30)
    assert (once.said, once.used) == (30, 130)
    again = once.reserve("a", 100)
    assert (again.said, again.used) == (130, 230), "the first start may have said all that it had set aside"
    assert again.count(10).settle("a").used == 140, "a trial that ended said what its blocks tell"
    assert once.reserve("b", 100).settle("a").used == 130


def test_a_trial_starts_only_while_what_it_may_say_is_left() -> None:
    assert output_finding(None, Output(1 << 40), starting=True) is None
    assert output_finding(BOUND, Output(RESERVED), starting=True) is None
    assert output_finding(BOUND, Output(RESERVED + 1), starting=True) is not None
    assert output_finding(BOUND, Output(RESERVED + 1), starting=False) is None
    assert output_finding(BOUND, Output(BOUND + 1), starting=False) is not None


def story() -> Story:
    return loop(limited(output_bytes_lineage_max=BOUND)).candidate("c1")


def reserved(told: Story, many: int = RESERVED) -> ev.Event:
    return told.event(ev.AnswersReserved, trial="c1/kind", output_bytes=many)


def messages(told: Story, event: ev.Event) -> list[str]:
    return [finding.message for finding in recheck(told.state, event)]


def test_an_exhausted_budget_holds_and_says_how_to_go_on() -> None:
    told = story()
    told.planned("c1", "kind")
    assert messages(told, reserved(told)) == []
    told.append(reserved(told))
    told.append(reserved(told))
    told.status()
    step = agenda.next_step(told.state, Instant(told.at))
    assert isinstance(step, agenda.AwaitBudget)
    assert step.finding.rule == "output_must_stay_within_budget"
    assert "output_bytes_lineage_max" in step.finding.help
    findings = prepare(told.state, Request("ReleaseCandidate", NO_DIGEST, "c1"), Instant(told.at)).findings
    assert step.finding in findings
    told.adopt(limited(output_bytes_lineage_max=4 * BOUND))
    told.status()
    assert agenda.next_step(told.state, Instant(told.at)) == agenda.Try("c1", "kind")


def test_a_trial_that_needs_no_more_answers_is_concluded_all_the_same() -> None:
    told = story()
    told.planned("c1", "kind")
    told.append(reserved(told))
    told.append(reserved(told))
    while told.process("c1/kind").n < 60 and told.process("c1/kind").verdict == "UNDECIDED":
        told.block("c1/kind", 0.0)
    told.status()
    assert agenda.next_step(told.state, Instant(told.at)) == agenda.Try("c1", "kind")


def test_a_replay_finds_every_overrun() -> None:
    told = story()
    told.planned("c1", "kind")
    assert messages(told, reserved(told, RESERVED - 1)) == [
        f"it reserves {RESERVED - 1} bytes; {RESERVED} is what a trial may say"
    ]
    told.append(reserved(told))
    other = told.copy()
    other.block("c1/kind", 0.0)
    block = other.events[-1]
    assert isinstance(block, ev.TrialAdvanced)
    assert messages(told, replace(block, output_bytes=RESERVED)) == []
    assert messages(told, replace(block, output_bytes=RESERVED + 1)) == [
        f"{RESERVED + 1} bytes were said; {RESERVED} were reserved"
    ]
    told.append(reserved(told))
    assert any("the policy ends them" in message for message in messages(told, reserved(told)))
    told.append(reserved(told))
    assert any("are allowed" in message for message in messages(told, block))
    later = told.copy()
    later.planned("c1", "strong")
    assert any("the policy ends them" in message for message in messages(told, later.events[-1]))


def test_a_block_that_set_nothing_aside_is_found() -> None:
    told = story()
    told.planned("c1", "kind")
    other = told.copy()
    other.block("c1/kind", 0.0)
    block = other.events[-1]
    assert isinstance(block, ev.TrialAdvanced)
    assert messages(told, replace(block, output_bytes=5)) == ["5 bytes were said; 0 were reserved"]
    with pytest.raises(TamperDetected):
        told.append(replace(block, output_bytes=-5))
