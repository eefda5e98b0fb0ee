"""How one program is evaluated: which calls it gets, in which order, and what it can tell from them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from keyturn.adapters.openevolve import evaluation
from keyturn.adapters.openevolve.evaluation import UNTOUCHED, Evaluation, Settings, _words
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Finding
from keyturn.sdk import Admission, Stopped
from keyturn.sdk.run import digest_of
from keyturn.sdk.worker import Worker

CALLS: list[str] = []

EVALUATOR = """
def evaluate(path, *, factor=1):
    CALLS.append("score")
    return RESULT(factor)
"""
CHECK = """
def check(program):
    CALLS.append("check")
    return REASONS
"""


class Program:
    """A program that notes what is asked of it."""

    def __init__(self, text: str, verdict: bool) -> None:
        self.digest, self.admission, self.verdict = digest_of(text), None, verdict
        CALLS.append("run")

    def reload(self) -> None:
        CALLS.append("reload")

    def seed(self, seed: int) -> None:
        CALLS.append(f"seed {seed}")

    def admit(self, reasons: Any, /, **metrics: object) -> Admission:
        CALLS.append(f"admit {metrics} {list(reasons)}")
        found = () if self.verdict else (Finding("checks_must_pass", "no", ""),)
        self.admission = Admission(self.verdict, found)  # type: ignore[assignment]  # none before it is judged
        return Admission(self.verdict, found)

    def broken(self, why: str) -> Admission:
        CALLS.append(f"broken {why}")
        self.admission = Admission(False, (Finding("program_must_run", why, ""),))  # type: ignore[assignment]  # none before
        return Admission(False, (Finding("program_must_run", why, ""),))

    def close(self) -> None:
        CALLS.append("close")


class Bench:
    """An evaluation of the two files, without a governor."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.verdict, self.loads, self.folder = True, True, folder
        (folder / "stubs").mkdir()
        for name, text in (("evaluator.py", EVALUATOR), ("held_out.py", CHECK)):
            (folder / name).write_text(text)
        monkeypatch.setattr(Worker, "candidate", lambda _, text, seconds: Program(text, self.verdict))
        monkeypatch.setattr(evaluation, "was_loaded", lambda stub: self.loads)  # the evaluator above loads nothing
        monkeypatch.setattr(sys, "path", [*sys.path])
        self.evaluation = Evaluation(
            Settings(
                project=str(folder),
                folder=str(folder / "stubs"),
                evaluator=str(folder / "evaluator.py"),
                held_out=(str(folder / "held_out.py"),),
                seconds=5.0,
                timeout_seconds=6.0,
                bytes_max=1000,
                thresholds=None,
            )
        )
        for name, module in list(sys.modules.items()):
            if name in {"user_evaluator", "held_out_0"}:
                module.__dict__.update(CALLS=CALLS, REASONS=[], RESULT=lambda factor: {"combined_score": factor})

    def say(self, module: str, **names: object) -> None:
        sys.modules[module].__dict__.update(names)

    def __call__(self, text: str = "x = 1", **kwargs: object) -> Any:
        CALLS.clear()
        file = self.folder / "program.py"
        file.write_text(text)
        return self.evaluation.functions()["evaluate"](str(file), **kwargs)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


FRESH = ["reload", f"seed {int(digest_of('x = 1')[7:14], 16)}"]


def test_the_check_comes_before_or_after_and_each_meets_the_program_as_just_loaded(bench: Bench) -> None:
    seen = set()
    for _ in range(40):
        assert bench(factor=3) == {"combined_score": 3}
        seen.add(tuple(CALLS))
    verdict = ["admit {'combined_score': 3} []", "close"]
    assert seen == {
        ("run", *FRESH, "check", *FRESH, "score", *verdict),
        ("run", *FRESH, "score", *FRESH, "check", *verdict),
    }
    assert list((bench.folder / "stubs").iterdir()) == []


def test_a_refused_program_gives_a_result_with_its_reasons_and_is_not_run_again(bench: Bench) -> None:
    bench.verdict = False
    bench.say("held_out_0", REASONS=["by heart"])
    result = bench()
    assert result.metrics == {"combined_score": 0.0, "error": "checks_must_pass: no"}
    assert "admit {'combined_score': 1} ['by heart']" in CALLS
    assert bench().metrics == result.metrics
    assert CALLS == []


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (lambda _: [1, 2], "the evaluator returned a `list`; a dict of metrics is expected"),
        (lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_result_breaks_the_evaluation_off(bench: Bench, result: Any, why: str) -> None:
    bench.say("user_evaluator", RESULT=result)
    assert bench().metrics == {"combined_score": 0.0, "error": f"program_must_run: {why}"}
    assert f"broken {why}" in CALLS


def test_a_check_that_breaks_off_refuses(bench: Bench) -> None:
    bench.say("held_out_0", REASONS=1)
    bench()
    assert "admit {'combined_score': 1} ['1']" in CALLS
    bench.say("held_out_0", check=lambda _: 1 / 0)
    bench.evaluation._checks = [sys.modules["held_out_0"].check]
    bench("x = 2")
    assert "admit {'combined_score': 1} ['the check broke off: ZeroDivisionError: division by zero']" in CALLS


def test_a_program_that_was_given_up_is_let_go_when_the_next_one_comes(bench: Bench) -> None:
    bench.evaluation._sit(str(_file(bench, "x = 3")))
    bench.evaluation._sit(str(_file(bench, "x = 4")))
    assert CALLS == ["run", "close", "run"]


def _file(bench: Bench, text: str) -> Path:
    CALLS.clear() if text == "x = 3" else None
    file = bench.folder / f"{text[-1]}.py"
    file.write_text(text)
    return file


def test_when_the_run_must_stop_nothing_is_evaluated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> object:
        raise Stopped("the warrant's window has ended")

    monkeypatch.setattr(Worker, "candidate", stopped)
    assert bench().metrics["error"] == "not evaluated: the loop must stop: the warrant's window has ended"


@pytest.mark.parametrize(
    ("said", "reasons"),
    [(None, []), (True, []), ("", []), ([], []), ((), []), (False, ["the check refused it"]), ("no", ["no"]),
     (["a", 1], ["a", "1"]), (0.5, ["0.5"])],
)  # fmt: skip  # a case a word
def test_a_check_may_say_why_in_a_text_or_several_or_say_nothing(said: object, reasons: list[str]) -> None:
    assert _words(said) == reasons


def test_a_score_by_an_evaluator_that_never_loaded_the_program_admits_nothing(bench: Bench) -> None:
    bench.loads = False
    assert UNTOUCHED in bench().metrics["error"]
    assert f"broken {UNTOUCHED}" in CALLS


def test_an_evaluator_that_cannot_be_loaded_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "evaluator.py").write_text("import no_such_package_at_all\n")
    with pytest.raises(MalformedInput, match=r"evaluator\.py` cannot be loaded: ModuleNotFoundError"):
        evaluation.module_at(tmp_path / "evaluator.py", "an_evaluator")
