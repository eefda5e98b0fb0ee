"""The runner of a loop's program, over plain pipes: what it answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keyturn.wire import values
from tests.sdk.piped import WAIT_SECONDS, running

PROGRAM = '''
import random

import numpy as np

LIMIT = 3
TABLE = {"a": [1, 2.5, None]}
count = 0


class Thing:
    """Something that stays inside."""

    def __init__(self, size):
        self.size = size

    def grown(self, by, *, twice=False):
        return Thing(self.size + by * (2 if twice else 1))

    def __call__(self, x):
        return x * self.size


def solve(n, *, scale=1):
    return {"n": n, "double": n * 2 * scale}


def rolled():
    global count
    count += 1
    return count, random.random(), float(np.random.random())


def loud(n):
    print("x" * n, flush=True)
    import sys
    sys.stderr.write("y" * n)
    return n


def array(x):
    return x * 2, x.dtype.str, type(x[0]).__name__


def pair():
    return Thing(1), [Thing(2)]


def size_of(thing):
    return thing.size


def broken(what):
    raise what


def leaves():
    raise SystemExit(3)


def long(n):
    return "ü\\"" * n


def objective(x):
    return -x


def best():
    return objective(4)
'''


def test_it_calls_functions_with_plain_arguments_and_results(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        assert program.call("solve", 7) == {"n": 7, "double": 14}
        assert program.call("solve", 7, scale=3) == {"n": 7, "double": 42}
        assert program.item(has="solve") == {"value": "true"}
        assert program.item(has="unsolve") == {"value": "false"}
        assert program.item(get="LIMIT") == {"value": "3"}
        assert values.decode(program.item(get="TABLE")["value"]) == {"a": [1, 2.5, None]}
        assert program.item(get="nothing") == {"missing": "nothing"}
        assert program.item(call="nothing", args='[[],{"dict":[]}]') == {"missing": "nothing"}


def test_a_block_of_items_gets_one_output_each(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        call = {"call": "solve", "args": values.encode([[1], {}])}
        outputs = program.items({"get": "LIMIT"}, call, {"fly": 1}, {"get": "gone"})
        assert [sorted(output) for output in outputs] == [["value"], ["value"], ["fault"], ["missing"]]


def test_what_is_no_plain_data_stays_inside_under_a_number(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        made = program.call("Thing", 5)
        assert made == {"handle": 0, "type": "Thing"}
        assert program.item(get="size", on=0) == {"value": "5"}
        assert program.item(has="grown", on=0) == {"value": "true"}
        args = values.encode([[2], {"twice": True}])
        assert program.item(call="grown", on=0, args=args) == {"handle": 1, "type": "Thing"}
        assert program.item(call="", on=1, args=values.encode([[10], {}])) == {"value": "90"}
        assert program.call("size_of", values.Handle(1, "Thing")) == 9
        for _ in range(2):
            assert program.item(get="Thing") == {"handle": 2, "type": "type"}
        assert program.call("pair") == (values.Handle(3, "Thing"), [values.Handle(4, "Thing")])
        assert program.item(call="", on=2, args=values.encode([[6], {}])) == {"handle": 5, "type": "Thing"}
        assert program.item(get="size", on=99) == {"raised": "KeyError: 99"}


def test_arrays_go_in_as_arrays_and_come_back(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        numbers = np.arange(6.0).reshape(2, 3)
        doubled, dtype, kind = program.call("array", numbers)  # type: ignore[misc]  # a tuple came back
        assert doubled == values.Array("<f8", (2, 3), (numbers * 2).tobytes())
        assert (dtype, kind) == ("<f8", "ndarray")


def test_long_arguments_and_results_go_in_pieces(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        assert program.call("long", 60_000) == 'ü"' * 60_000
        doubled, _, _ = program.call("array", np.ones(40_000))  # type: ignore[misc]  # a tuple came back
        assert doubled.data == np.full(40_000, 2.0).tobytes()


def test_what_a_program_prints_does_not_disturb_the_answers(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        assert program.call("loud", 300_000) == 300_000


def test_exceptions_are_told_by_type_and_message(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        assert program.call("leaves") == {"raised": "SystemExit: 3"}
        assert program.call("solve") == {"raised": "TypeError: solve() missing 1 required positional argument: 'n'"}
        assert program.call("solve", 7) == {"n": 7, "double": 14}


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def f(:", "SyntaxError: invalid syntax (program.py, line 1)"),
        ("raise SystemExit('no')", "SystemExit: no"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("class E(BaseException):\n def __str__(self): return 'x' * 9999\nraise E", "E: " + "x" * 497),
        ("class E(Exception):\n def __str__(self): raise self\nraise E", "E: "),
        ("raise ValueError('\\ud800')", "ValueError: \\ud800"),
        ("x = '\0'", "SyntaxError: source code string cannot contain null bytes"),
    ],
    ids=["syntax", "exit", "import", "raise", "long", "no text", "half a character", "nought"],
)
def test_a_fault_in_loading_is_kept_and_told_at_each_ask(source: str, fault: str, tmp_path: Path) -> None:
    with running(tmp_path, source) as program:
        for _ in range(2):
            told = program.item(call="solve", args="[[],[]]")["fault"]
            assert told.replace("ValueError: source", "SyntaxError: source") == fault
        assert program.signals() == []
        assert program.item(reload=True)["fault"]


def test_a_reload_gives_a_new_namespace_of_the_same_text(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        assert program.call("rolled")[0] == 1  # type: ignore[index]  # a tuple came back
        assert program.call("rolled")[0] == 2  # type: ignore[index]  # a tuple came back
        assert program.item(reload=True) == {"ok": True}
        assert program.call("rolled")[0] == 1  # type: ignore[index]  # a tuple came back


def test_a_seed_begins_all_dice_anew(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        first = program.call("rolled")[1:]  # type: ignore[index]  # a tuple came back
        assert program.call("rolled")[1:] != first  # type: ignore[index]  # a tuple came back
        assert program.item(seed=7) == {"ok": True}
        assert program.call("rolled")[1:] == first  # type: ignore[index]  # a tuple came back
        assert program.item(seed=2**53 - 1) == {"ok": True}


def test_a_check_may_exchange_a_function(tmp_path: Path) -> None:
    with running(tmp_path, PROGRAM) as program:
        assert program.call("best") == -4
        assert program.item(define="def objective(x):\n    return x + LIMIT") == {"ok": True}
        assert program.call("best") == 7
        assert program.item(push="LIMIT = 5") == {"ok": True}
        assert program.item(define="", pushed=True) == {"ok": True}
        assert program.call("best") == 9
        assert program.item(define="def f(:")["raised"].startswith("SyntaxError: ")


def test_a_trial_reads_the_text_from_its_file_and_begins_with_a_seed_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "solver.py"
    file.write_text(PROGRAM + "\nwhere = __file__\n", encoding="utf-8")
    rolls = []
    for _ in range(2):
        with running(tmp_path, file=file) as program:
            rolls.append(program.call("rolled"))
            assert values.decode(program.item(get="where")["value"]) == str(file)
    assert rolls[0] == rolls[1]
    with running(tmp_path, file=tmp_path / "gone.py") as program:
        assert program.item(get="LIMIT")["fault"].startswith("FileNotFoundError: ")


def test_the_program_finds_itself_as_a_module(tmp_path: Path) -> None:
    source = (
        "import inspect, sys\ndef f(x):\n    return x\ndef told():\n    return inspect.getsource(f), sys.argv, __name__"
    )
    with running(tmp_path, source) as program:
        text, argv, name = program.call("told")  # type: ignore[misc]  # a tuple came back
        assert (text.splitlines()[0], argv, name) == ("def f(x):", ["program.py"], "program")


def test_bye_ends_it_whatever_the_program_left_running(tmp_path: Path) -> None:
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\nx = 1"
    with running(tmp_path, source) as program:
        assert program.item(get="x") == {"value": "1"}
        program.tell({"type": "bye"})
        assert program.process.wait(WAIT_SECONDS) == 0
