"""A program whose answers upset the evaluator, and an evaluator that is upset: the loop goes on all the same."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from keyturn.sdk import govern
from keyturn.sdk.exam import Failed
from tests.adapters.test_openevolve_evaluation import CALLS, Bench
from tests.sdk.governor import governing

HUGE = "def solve(n):\n    return 10 ** 400\n"
LONG = "def solve(n):\n    return 10 ** 6000\n"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


@pytest.mark.parametrize("text", [HUGE, LONG])
def test_a_number_beyond_every_float_is_no_score_and_ends_no_loop(tmp_path: Path, text: str) -> None:
    with governing(tmp_path) as governor, govern(tmp_path) as run:
        with run.candidate(text) as program:
            found = program.solve(1)
            program.admit([found], score=found, minus=-found, part=Fraction(found, 3), rows=[found])
        assert run.verdict(program.digest) is not None
    metrics = next(frame["metrics"] for frame in governor.heard if frame["type"] == "judge")
    assert (metrics["score"], metrics["minus"], metrics["part"]) == ("inf", "-inf", "inf")


def test_metrics_may_have_the_names_of_our_own_arguments(tmp_path: Path) -> None:
    names = {"self": 1.0, "reasons": 0.5, "why": 0.25, "best": 2.0, "__class__": 3.0, "x" * 10_000: 1.0}
    with governing(tmp_path) as governor, govern(tmp_path) as run:
        with run.candidate("def solve(n):\n    return n\n") as program:
            assert program.admit((), **names).admitted
        with run.candidate("def solve(n):\n    return -n\n") as program:
            program.broken("out of time", **names)
    metrics = next(frame["metrics"] for frame in governor.heard if frame["type"] == "judge")
    assert set(metrics) == {name[:100] for name in names}


def test_an_evaluator_that_exits_refuses_the_program_and_not_the_run(bench: Bench) -> None:
    def exits(factor: int) -> None:
        raise SystemExit(1)

    bench.say("user_evaluator", RESULT=exits)
    assert bench().metrics["combined_score"] == 0.0
    assert "broken SystemExit: 1" in CALLS
    bench.say("user_evaluator", RESULT=lambda factor: {"combined_score": factor})
    bench.say("held_out_0", REASONS=[])
    bench.evaluation._checks = [exits]  # type: ignore[list-item]  # a check that exits
    bench("x = 2")
    assert any("the check broke off: SystemExit: 1" in call for call in CALLS)


@pytest.mark.parametrize("score", [10**400, -(10**400)])
def test_a_score_beyond_every_float_is_a_fault_of_the_program(bench: Bench, score: int) -> None:
    bench.say("user_evaluator", RESULT=lambda factor: {"combined_score": score})
    assert bench().metrics["combined_score"] == 0.0
    assert "broken `combined_score` is a whole number beyond every float" in CALLS


def test_an_examined_program_that_makes_its_evaluator_exit_has_no_score(capsys: pytest.CaptureFixture[str]) -> None:
    with Failed():
        raise SystemExit(0)
    assert "SystemExit" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt), Failed():
        raise KeyboardInterrupt
