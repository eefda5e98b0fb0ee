"""A program that turns on its own runner: it may break the conversation, and nobody mistakes that for an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.core.errors import MalformedInput
from tests.sdk.piped import WAIT_SECONDS, running

PIPES = """
import os, stat, struct

def pipes():
    found = []
    for fd in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                found.append(fd)
        except OSError:
            pass
    return found

def shout(data):
    for fd in pipes():
        try:
            os.write(fd, data)
        except OSError:
            pass
"""


def test_a_program_that_writes_on_the_pipe_itself_breaks_the_frames(tmp_path: Path) -> None:
    source = PIPES + 'shout(b\'{"outputs":[{"value":"1"}]}\' * 9)\nx = 2'
    with running(tmp_path, source) as program, pytest.raises(MalformedInput):
        program.item(get="x")


def test_a_program_that_closes_the_pipes_is_gone(tmp_path: Path) -> None:
    source = PIPES + "for fd in pipes():\n    os.close(fd)\nx = 2"
    with running(tmp_path, source) as program, pytest.raises(EOFError):
        program.item(get="x")


def test_a_program_that_ends_the_process_is_gone(tmp_path: Path) -> None:
    with running(tmp_path, "import os\ndef solve():\n    os._exit(0)") as program:
        with pytest.raises(EOFError):
            program.call("solve")
        assert program.process.wait(WAIT_SECONDS) == 0


LIARS = """
class Loud(type):
    def __instancecheck__(cls, other):
        raise RuntimeError("asked")

class Liar(metaclass=Loud):
    __class__ = property(lambda self: list)
    def __eq__(self, other):
        return True
    def __bool__(self):
        raise SystemExit(0)
    def __getattr__(self, name):
        raise KeyboardInterrupt
    def __str__(self):
        raise SystemExit(1)
    __repr__ = __str__

class Number(float):
    def __float__(self):
        return 1e9
    def __repr__(self):
        return '"quoted'

class Words(str):
    def __str__(self):
        return "other"
    def __len__(self):
        return -1

class Rows(list):
    def __iter__(self):
        while True:
            yield self

class Array:
    shape = (2**40,)
    class dtype:
        str = "<f8"
    def tobytes(self):
        return b""
Array.__module__ = "numpy"

class Error(Exception):
    def __str__(self):
        raise self

class Endless(BaseException):
    def __str__(self):
        return "x" * 10**7

Long = type("L" * 10**6, (), {})

def made(what):
    return {"liar": Liar(), "number": Number(1.5), "words": Words("mine"), "rows": Rows([1]), "array": Array(),
            "long": Long()}[what]

def raised(what):
    raise {"error": Error(), "endless": Endless()}[what]

def deep(n):
    found = []
    for _ in range(n):
        found = [found]
    return found

def wide():
    found = 0
    for _ in range(60):
        found = (found, found)
    return found
"""


def test_objects_that_lie_about_themselves_come_out_plain_or_not_at_all(tmp_path: Path) -> None:
    with running(tmp_path, LIARS) as program:
        assert program.call("made", "number") == 1.5
        assert program.call("made", "words") == "mine"
        assert program.call("made", "rows") == [1]
        for what in ("liar", "long"):
            output = program.call("made", what)
            assert isinstance(output, dict)
            assert set(output) in ({"raised"}, {"handle", "type"}), output
            assert len(str(output)) < 1000
        with pytest.raises(ValueError, match="whose shape does not fit its bytes"):
            program.call("made", "array")
        assert program.call("raised", "error") == {"raised": "Error: "}
        assert len(str(program.call("raised", "endless"))) < 600
        assert program.call("made", "number") == 1.5


def test_results_without_end_are_refused_inside(tmp_path: Path) -> None:
    with running(tmp_path, LIARS) as program:
        assert program.call("deep", 100) == {"raised": "ValueError: the value is nested deeper than 64 levels"}
        assert program.call("deep", 100_000) == {"raised": "ValueError: the value is nested deeper than 64 levels"}
        assert program.call("wide") == {"raised": "ValueError: the value holds more than 1000000 values"}


def test_a_program_that_forges_its_signals_still_cannot_speak_for_another(tmp_path: Path) -> None:
    source = "import sys\nsys.modules['__main__'].ITEMS.clear()\nx = 1"
    with running(tmp_path, source) as program:
        program.item(get="x")
        assert program.item(get="x") == {"fault": "TypeError: this item is not known to the runner"}
