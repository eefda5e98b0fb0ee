"""Governing a loop in Python: leave, programs, verdicts, the proposal, and being stopped."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.finding import Finding
from keyturn.sdk import (
    Admission,
    Outcome,
    ProgramEnded,
    ProgramFailed,
    ProgramRefused,
    Refused,
    Stopped,
    attach,
    govern,
)
from tests.sdk.governor import PARENT, governing

DOUBLE = "def solve(n):\n    return n * 2\n"


def test_ten_lines_govern_a_loop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    children = [f"def solve(n):\n    return n * {factor}\n" for factor in (2, 5, 3)] + ["1 / 0", "def other(): pass"]
    with caplog.at_level(logging.INFO, "keyturn.sdk"), governing(tmp_path), govern(tmp_path) as run:
        best, top = run.parent, 0.0
        for number in run.rounds(100):
            if number == len(children):
                break
            with run.candidate(children[number]) as program:
                score = program.call("solve", 7) / 100
                if program.admit(score=score).admitted and score > top:
                    best, top = children[number], score
        outcome = run.held(best)
    assert (best, top) == (children[1], 0.35)
    assert (outcome.step, outcome.candidate, outcome.released) == ("AwaitPeople", "g1-c1", False)
    assert str(outcome).startswith("candidate `g1-c1` is held at `AwaitPeople`")
    assert caplog.messages == ["looking at the log"]


def test_the_governor_hears_of_every_program_and_of_the_claim(tmp_path: Path) -> None:
    with governing(tmp_path) as governor, govern(tmp_path, name="mine") as run:
        assert (run.parent, run.attempt, run.generation, run.seed, run.shadow) == (PARENT, 1, 0, 7, False)
        with run.candidate(DOUBLE, seconds=5.0) as program:
            assert program.solve(4) == 8
            program.admit(
                score=np.float32(0.5), n=3, fine=True, worst=math.nan, far=-math.inf, note="ü", big=1e18, error=None
            )
        run.held(DOUBLE)
        run.held(DOUBLE, score=0.25)
    run_, program_, judge, propose, again = governor.heard
    assert run_ == {"type": "run", "name": "mine"}
    assert (program_["bytes"], program_["seconds"]) == (len(DOUBLE), 5)
    assert judge["metrics"] == {
        "score": 0.5, "n": 3, "fine": True, "worst": "nan", "far": "-inf", "note": "ü", "big": "1e+18",
    }  # fmt: skip  # a frame in few rows
    assert (judge["reasons"], judge["signals"], judge["fault"]) == ([], [], "")
    assert (propose["claim"], again["claim"]) == ({"score": 0.5, "n": 3}, {"score": 0.25})


def test_without_leave_every_finding_is_raised(tmp_path: Path) -> None:
    why = [{"rule": "a_must_b", "message": "no warrant is open", "remedy": "`keyturn warrant give`"},
           {"rule": "c_must_d", "message": "audit is owed", "remedy": "`keyturn audit`"}]  # fmt: skip  # two rows
    with (
        governing(tmp_path, no={"step": "AwaitWarrant", "why": why}),
        pytest.raises(Refused) as caught,
        govern(tmp_path),
    ):
        pytest.fail("there is no leave")
    assert caught.value.step == "AwaitWarrant"
    assert [finding.rule for finding in caught.value.findings] == ["a_must_b", "c_must_d"]
    assert str(caught.value) == (
        "there is no leave to run a loop now (`AwaitWarrant`): no warrant is open; audit is owed"
    )
    assert caught.value.help == "`keyturn warrant give`; `keyturn audit`"


def test_a_refused_text_does_not_run_and_ends_its_block_not_the_loop(tmp_path: Path) -> None:
    with governing(tmp_path) as governor, govern(tmp_path) as run:
        with run.candidate("forbidden = 1") as program:
            assert [finding.rule for finding in program.findings] == ["text_must_be_plain"]
            with pytest.raises(ProgramRefused, match="did not run: the text is not as it must be"):
                program.call("solve", 1)
            assert program.admit(score=1.0) == Admission(False, program.findings, ended="not-run")
            program.call("solve", 1)
            pytest.fail("it does not run")
        with run.candidate("x" * 20_001) as program:
            pass
        assert program.findings
    assert governor.heard[-1]["too_long"] == 20_001
    assert governor.heard[-1]["bytes"] == 0
    assert not governor.runners


def test_what_the_program_does_wrong_ends_its_block_and_is_recorded(tmp_path: Path) -> None:
    with governing(tmp_path) as governor, govern(tmp_path) as run:
        with run.candidate("def solve(n):\n    raise ValueError('no')\n") as program:
            with pytest.raises(ValueError, match="no") as caught:
                program.solve(1)
            assert isinstance(caught.value, ProgramFailed)
            assert (caught.value.type, caught.value.text) == ("ValueError", "no")
            program.solve(1)
        assert program.admission is not None
        assert program.admission.findings[0].message == "ValueError: no"
        with run.candidate("import os\ndef solve(n):\n    os._exit(0)\n") as program:
            program.solve(1)
        assert governor.heard[-1]["fault"] == "the program has ended: it was stopped, or it ended itself"
        with run.candidate("import os\nos.environ.get('API_KEY')\ndef solve(n):\n    return n") as program:
            program.solve(1)
            assert [finding.rule for finding in program.admit(score=1).findings] == ["conduct_must_be_clean"]
        with pytest.raises(ZeroDivisionError), run.candidate(DOUBLE) as program:
            program.solve(1 // 0)
        assert governor.heard[-1]["fault"] == "ZeroDivisionError: integer division or modulo by zero"
        with pytest.raises(Refused, match="the program was not proposed: it was not admitted"):
            run.held(DOUBLE)
        assert run.verdict(program.digest) == program.admission
        assert run.verdict("sha256:" + "0" * 64) is None


def test_an_evaluation_that_broke_off_is_said_to_have(tmp_path: Path) -> None:
    with governing(tmp_path), govern(tmp_path) as run, run.candidate(DOUBLE) as program:
        assert [finding.message for finding in program.broken("out of time", score=0.1).findings] == ["out of time"]


def test_a_check_that_finds_a_reason_refuses(tmp_path: Path) -> None:
    with governing(tmp_path), govern(tmp_path) as run:
        for reasons in ("hard-coded", ["hard-coded", ""], iter(["hard-coded"])):
            with run.candidate(DOUBLE) as program:
                found = program.admit(reasons, score=1.0)
            assert [finding.message for finding in found.findings] == ["hard-coded"]
        with run.candidate(DOUBLE) as program:
            assert not program.admit(False, score=1.0).admitted
        for nothing in ("", None, True, []):
            with run.candidate(DOUBLE) as program:
                assert program.admit(nothing, score=1.0).admitted


def test_the_wrong_spelling_says_what_is_right(tmp_path: Path) -> None:
    with governing(tmp_path) as governor, govern(tmp_path) as run:
        with pytest.raises(MalformedInput, match="the program was not judged") as caught, run.candidate(DOUBLE):
            pass
        assert (
            caught.value.help == "call `program.admit(...)` before its `with` block ends: the program lives until then"
        )
        assert governor.heard[-1]["fault"] == "its block ended without a verdict"
        with run.candidate(DOUBLE) as program:
            found = program.admit(score=1.0)
            with pytest.raises(MalformedInput, match="has no truth value") as caught:
                bool(found)
            assert caught.value.help == "ask `.admitted`, and read `.findings`"
            with pytest.raises(MalformedInput, match="was judged already"):
                program.admit(score=2.0)
            with pytest.raises(ProgramEnded, match="it was judged"):
                program.solve(1)
        with pytest.raises(ProgramEnded), run.candidate(DOUBLE) as program:
            program.solve(program.admit(score=1.0).ended)


def test_a_stop_reaches_the_loop_wherever_it_is(tmp_path: Path) -> None:
    told = threading.Event()
    stops: list[Stopped] = []

    def on_stop(stop: Stopped) -> None:
        stops.append(stop)
        told.set()

    with governing(tmp_path) as governor, govern(tmp_path, on_stop=on_stop) as run:
        with run.candidate(DOUBLE) as program:
            program.admit(score=1.0)
        governor.tell_run({"type": "stop", "why": "ada halted it", "halted": True})
        assert told.wait(10)
        with pytest.raises(Stopped, match="the loop must stop: ada halted it") as caught:
            run.candidate(DOUBLE)
        assert caught.value.halted
        assert caught.value.exit_code == 6
        assert list(run.rounds(5)) == []
    assert [stop.why for stop in stops] == ["ada halted it"]


def test_bounds_that_are_used_up_stop_programs_and_let_the_best_be_proposed(tmp_path: Path) -> None:
    with governing(tmp_path, programs_max=2), govern(tmp_path) as run:
        for number in run.rounds(9):
            with run.candidate(DOUBLE + "#" * number) as program:
                program.admit(score=1.0)
        assert number == 1
        with pytest.raises(Stopped, match="the programs are used up"):
            run.candidate(DOUBLE)
        assert run.held(DOUBLE).candidate == "g1-c1"


def test_a_governor_that_goes_away_stops_the_loop(tmp_path: Path) -> None:
    with governing(tmp_path) as governor, govern(tmp_path) as run:
        told = threading.Event()
        run._on_stop = lambda stop: told.set()
        governor.runs[0].shutdown(2)
        assert told.wait(10)
        for act in (lambda: run.candidate(DOUBLE), lambda: run.held(DOUBLE), lambda: run.end("")):
            with pytest.raises(Stopped, match="the governor is gone"):
                act()


def test_a_project_may_lie_deeper_than_a_sockets_path_is_long(tmp_path: Path) -> None:
    place = tmp_path / ("deep" * 20) / ("deeper" * 10)
    place.mkdir(parents=True)
    with governing(place), govern(place) as run:
        assert run.parent == PARENT


def test_nothing_listens_and_nothing_may_be_started(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no governor listens for a loop in"), govern(tmp_path, start=False):
        pytest.fail("nobody listens")


def test_a_governor_that_does_not_come_up_is_quoted(tmp_path: Path) -> None:
    (tmp_path / ".keyturn").mkdir()
    with pytest.raises(Unavailable, match=r"the governor did not come up: .+") as caught, govern(tmp_path):
        pytest.fail("there is no project here")
    assert "it said nothing" not in str(caught.value)
    with pytest.raises(Unavailable, match="is no project"), govern(tmp_path / "nowhere"):
        pytest.fail("there is no folder here")


def test_shadow_mode_must_be_asked_for(tmp_path: Path) -> None:
    with governing(tmp_path, shadow=True):
        with pytest.raises(MalformedInput, match="only watches, and holds nothing"), govern(tmp_path):
            pytest.fail("it holds nothing")
        with govern(tmp_path, shadow=True) as run:
            with run.candidate("def solve(n):\n    raise ValueError\n") as program:
                found = program.admit("bad", score=1.0)
            assert found.admitted
            assert [finding.message for finding in found.findings] == ["bad"]
            assert str(run.end("enough")).startswith("shadow mode: nothing was proposed")


def test_a_step_may_end_without_a_candidate(tmp_path: Path) -> None:
    with governing(tmp_path), govern(tmp_path) as run:
        assert str(run.end("nothing better")) == (
            "the step ended without a candidate; what comes next is `AwaitPeople`"
        )


def test_an_outcome_says_in_one_line_what_became_of_the_candidate() -> None:
    found = (Finding("claim_must_hold", "it is far below its claim", ""),)
    assert str(Outcome("AwaitWarrant", "c1", "", found)) == (
        "candidate `c1` is not before people; what comes next is `AwaitWarrant`\n  it is far below its claim"
    )
    assert str(Outcome("Hold", "c1", "sha256:d", found)) == (
        "candidate `c1` is held at `Hold`, for people to look at: `keyturn status`\n  it is far below its claim"
    )
    assert str(Outcome("Idle", "c1", "sha256:d", released=True)) == (
        "candidate `c1` was released: it is the next generation"
    )


def test_workers_find_the_run_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYTURN_LOOP", raising=False)
    with governing(tmp_path):
        with govern(tmp_path):
            assert os.environ["KEYTURN_LOOP"] == str(tmp_path)
            with attach().candidate(DOUBLE) as program:
                assert program.solve(3) == 6
                assert program.admit(score=1.0).admitted
        assert "KEYTURN_LOOP" not in os.environ
    with pytest.raises(MalformedInput, match="no project is named, and `KEYTURN_LOOP` is not set"):
        attach()


def test_usage_is_asked_for_and_reported_until_it_is_used_up(tmp_path: Path) -> None:
    with governing(tmp_path) as governor:
        worker = attach(tmp_path)
        for _ in range(2):
            worker.request()
            worker.used(tokens=120, usd=0.25)
        with pytest.raises(Stopped, match="used up"):
            worker.request()
        worker.used(requests=2)
        worker.close()
    assert [frame for frame in governor.heard if frame["type"] == "usage"] == [
        {"type": "usage", "requests": 1, "tokens": 120, "usd": 0.25},
        {"type": "usage", "requests": 1, "tokens": 120, "usd": 0.25},
        {"type": "usage", "requests": 2, "tokens": 0, "usd": None},
    ]


def _in_a_fork(project: str, results: multiprocessing.SimpleQueue[object]) -> None:
    with attach().candidate(DOUBLE) as program:
        results.put((program.solve(21), program.admit(score=1.0).admitted))


@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_worker_has_lines_of_its_own_and_keeps_none_of_its_parents(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with governing(tmp_path) as governor, govern(tmp_path) as run:
        results = context.SimpleQueue()
        process = context.Process(target=_in_a_fork, args=(str(tmp_path), results))
        process.start()
        process.join(20)
        assert results.get() == (42, True)
        with run.candidate(DOUBLE + "#") as program:
            assert program.admit(score=1.0).admitted
        assert run.held(DOUBLE).candidate
    assert len(governor.runs) == 1
