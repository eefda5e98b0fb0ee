"""A loop's evaluator as a grader: asked through the trial, pinned by its digest, and out of the candidate's reach."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyturn.core.errors import Unavailable
from keyturn.sdk.exam import score_of
from keyturn.trials.grader import Ask, GraderProcess, Scores
from tests.sdk.piped import SRC, Piped, running

EVALUATOR = """
import importlib.util, os, random, sys, threading
from beside import FACTOR

print("loaded")


def load(path):
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def evaluate(program_path):
    print("evaluating " * 1000)
    os.write(1, b"noise")
    print(sys.stdin.read(), input if False else "")
    try:
        program = load(program_path)
        again = load(program_path)
        if not hasattr(program, "solve"):
            return {"combined_score": 0.0, "error": "no solve"}
        found = []
        thread = threading.Thread(target=lambda: found.append(program.solve(random.randrange(100), FACTOR)))
        thread.start()
        thread.join(20)
        return {"combined_score": found[0] + again.count(), "other": 1}
    except ValueError:
        return {"combined_score": "none"}
"""
HELD_OUT = """
def check(program):
    program.define("def objective(x):\\n    return x - 5")
    return [] if program.best() == 5 else ["it does not look at its objective"]
"""
PROGRAM = """
counted = 0

def solve(n, factor):
    import random
    return (n * factor + random.random()) / 1000

def count():
    global counted
    counted += 1
    return counted - 1

def objective(x):
    return x - 3

def best():
    return next(x for x in range(99) if objective(x) == 0)
"""


def files(folder: Path, evaluator: str = EVALUATOR, held_out: str = HELD_OUT) -> tuple[str, str]:
    """The operator's files, and the digests that people sign for."""
    (folder / "beside.py").write_text("FACTOR = 2\n", encoding="utf-8")
    for name, text in (("evaluator.py", evaluator), ("held_out.py", held_out)):
        (folder / name).write_text(text, encoding="utf-8")
    one, two = (hashlib.sha256(text.encode()).hexdigest() for text in (evaluator, held_out))
    return f"score sha256:{one}", f"held-out sha256:{two}"


@contextmanager
def grading(folder: Path, *, evaluator: Path | None = None, held_out: Path | None = None) -> Iterator[GraderProcess]:
    argv = [sys.executable, "-m", "keyturn.sdk.exam", str(evaluator or folder / "evaluator.py")]
    argv += ["--held-out", str(held_out or folder / "held_out.py")]
    environment = {"PYTHONPATH": str(SRC.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    with GraderProcess(argv, on_tick=lambda: None, timeout_seconds=20.0, environment=environment) as grader:
        yield grader


def sit(grader: GraderProcess, candidate: Piped, block: int, items: list[int]) -> tuple[float | None, ...]:
    """One block, to its scores; every ask is one item for the candidate."""
    turn: Ask | Scores = grader.begin(block, items)
    for _ in range(1000):
        if isinstance(turn, Scores):
            return turn.values
        assert (turn.to, len(turn.items)) == ("candidate", 1)
        turn = grader.outputs(block, candidate.items(*turn.items))  # type: ignore[arg-type]  # items are objects
    pytest.fail("the block does not end")


def test_an_evaluator_grades_a_program_that_it_reaches_only_through_the_trial(tmp_path: Path) -> None:
    score, held_out = files(tmp_path)
    with grading(tmp_path) as grader, running(tmp_path, PROGRAM) as candidate:
        planned = grader.plan(suite=score, seed="s" * 64, items=5)
        assert planned.items == 5
        first = sit(grader, candidate, 0, [3, 0])
        assert all(value is not None and 0 <= value < 0.2 for value in first)
        assert first[0] != first[1]
        assert sit(grader, candidate, 1, [0, 3]) == first[::-1]
        assert grader.plan(suite=held_out, seed="s" * 64, items=5).bank != planned.bank
        assert sit(grader, candidate, 2, [0, 1]) == (0.0, 0.0)
        assert grader.plan(suite=score, seed="s" * 64, items=5) == planned
        assert grader.plan(suite=score, seed="t" * 64, items=5).bank != planned.bank
        assert grader.plan(suite=score, seed="s" * 64, items=6).bank != planned.bank


@pytest.mark.parametrize(
    ("program", "values"),
    [
        ("def solve(n, factor):\n    return 7.0\ndef count():\n    return 0", (1.0, 1.0)),
        ("def solve(n, factor):\n    return -7\ndef count():\n    return 0", (0.0, 0.0)),
        ("def other():\n    return 1", (0.0, 0.0)),
        ("def solve(n, factor):\n    return float('nan')\ndef count():\n    return 0", (None, None)),
        ("def solve(n, factor):\n    return 'x'\ndef count():\n    return 0", (None, None)),
        ("def solve(n, factor):\n    raise ValueError\ndef count():\n    return 0", (None, None)),
        ("def solve(n, factor):\n    raise SystemExit\ndef count():\n    return 0", (None, None)),
        ("def solve(:", (None, None)),
        ("def solve(n, factor):\n    return object()\ndef count():\n    return 0", (None, None)),
    ],
    ids=["above", "below", "missing", "no number", "text", "raises", "leaves", "no program", "a handle"],
)
def test_what_is_no_number_has_no_value_and_the_rest_is_cut(
    program: str, values: tuple[float | None, ...], tmp_path: Path
) -> None:
    score, _ = files(tmp_path)
    with grading(tmp_path) as grader, running(tmp_path, program) as candidate:
        grader.plan(suite=score, seed=1, items=2)
        assert sit(grader, candidate, 0, [0, 1]) == values
        grader.plan(suite=score.replace("score", "runs"), seed=1, items=1)
        assert sit(grader, candidate, 0, [0]) == (None if values[0] is None else 0.0,)


def test_a_held_out_check_is_broken_by_a_reason_and_by_a_program_that_fails(tmp_path: Path) -> None:
    _, held_out = files(tmp_path)
    programs = {"def objective(x):\n    return 0\ndef best():\n    return 3": 1.0, "def best():\n    1 / 0": None}
    for number, (program, value) in enumerate({PROGRAM: 0.0, **programs}.items()):
        with grading(tmp_path) as grader, running(tmp_path / str(number), program) as candidate:
            grader.plan(suite=held_out, seed=1, items=1)
            assert sit(grader, candidate, 0, [0]) == (value,)


def test_another_block_drops_the_one_that_is_open(tmp_path: Path) -> None:
    score, _ = files(tmp_path)
    with grading(tmp_path) as grader, running(tmp_path, PROGRAM) as candidate:
        grader.plan(suite=score, seed=1, items=4)
        turn = grader.begin(0, [0, 1])
        for _ in range(3):
            assert isinstance(turn, Ask)
            turn = grader.outputs(0, candidate.items(*turn.items))  # type: ignore[arg-type]  # items are objects
        dropped = sit(grader, candidate, 1, [2, 3])
        assert isinstance(grader.begin(2, [0]), Ask)
        grader.plan(suite=score, seed=1, items=4)
        assert sit(grader, candidate, 3, [2, 3]) == dropped


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda folder, suite: suite, ""),
        (lambda folder, suite: suite[:-1] + "0" if suite[-1] != "0" else suite[:-1] + "1", "and people signed for"),
        (lambda folder, suite: (folder / "evaluator.py").write_text("1") and suite, "`evaluator.py` is sha256:"),
        (lambda folder, suite: suite.replace("score", "glory"), "the exam `glory sha256:"),
        (lambda folder, suite: (folder / "evaluator.py").unlink() or suite, "evaluator.py` cannot be read"),
    ],
    ids=["the one", "another digest", "an edited file", "another exam", "no file"],
)  # type: ignore[misc]  # the cases are small functions
def test_a_grader_is_the_one_that_people_signed_for_or_none(change: object, complaint: str, tmp_path: Path) -> None:
    suite = change(tmp_path, files(tmp_path)[0])  # type: ignore[operator]  # one of the small functions
    with grading(tmp_path) as grader:
        if not complaint:
            assert grader.plan(suite=suite, seed=1, items=1).items == 1
            return
        with pytest.raises(Unavailable, match="the grader failed at `plan`: closed; it last wrote") as caught:
            grader.plan(suite=suite, seed=1, items=1)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("evaluator", ["import nowhere", "x = 1", "def evaluate(:"])
def test_a_grader_that_cannot_work_is_never_evidence_about_a_candidate(evaluator: str, tmp_path: Path) -> None:
    score, _ = files(tmp_path, evaluator=evaluator)
    with grading(tmp_path) as grader, pytest.raises(Unavailable, match="the grader failed at `plan`: closed"):
        grader.plan(suite=score, seed=1, items=1)


def test_the_examples_evaluator_and_check_work_unchanged(tmp_path: Path) -> None:
    place = SRC / "subjects" / "minimise"
    evaluator, held_out = place / "evaluator.py", place / "held_out.py"
    program = (place / "initial_program.py").read_text(encoding="utf-8")
    fixed = program.replace("return search(budget)", "return -1.7040827, 0.6775078, -1.5186858408")
    one, two = (hashlib.sha256(file.read_bytes()).hexdigest() for file in (evaluator, held_out))
    for number, (text, low, broken) in enumerate(((program, 0.1, 0.0), (fixed, 0.99, 1.0))):
        with (
            grading(tmp_path, evaluator=evaluator, held_out=held_out) as grader,
            running(tmp_path / str(number), text) as candidate,
        ):
            grader.plan(suite=f"score sha256:{one}", seed=1, items=2)
            assert all(value is not None and value > low for value in sit(grader, candidate, 0, [0, 1]))
            grader.plan(suite=f"held-out sha256:{two}", seed=1, items=2)
            assert sit(grader, candidate, 0, [0]) == (broken,)


def test_a_score_is_a_finite_number_or_none() -> None:
    class Result:
        metrics = {"combined_score": 0.5}  # noqa: RUF012 - as evaluators write it

    assert score_of(Result()) == 0.5
    for result in ({"combined_score": True}, {"combined_score": "1"}, {"combined_score": None}, {}, None, 0.5, [1]):
        assert score_of(result) is None
