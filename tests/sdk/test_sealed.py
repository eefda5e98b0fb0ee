"""A program as its caller sees it: values, handles, modules, threads, and programs that do not play along."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keyturn.core.terms import Json
from keyturn.sdk import sealed
from keyturn.sdk.errors import ProgramEnded, ProgramFailed
from keyturn.sdk.pipes import Output, Pipes
from keyturn.sdk.sealed import Handle, Sealed
from keyturn.wire import values
from tests.sdk.piped import running

SOURCE = """
import threading
import time

import numpy as np

SIZE = 3


class Thing:
    def __init__(self, size):
        self.size = size

    def grown(self, by):
        return Thing(self.size + by)

    def __eq__(self, other):
        raise SystemExit

    def __bool__(self):
        raise SystemExit

    def __call__(self, x):
        return self.size * x


ONE = Thing(1)


def same():
    return ONE


def size(thing):
    return thing.size


def scaled(array, *, by=2.0):
    return {"array": array * by, "mean": np.mean(array), "n": np.int64(len(array))}


def slow(seconds):
    time.sleep(seconds)
    return seconds


def long(n):
    return "x" * n


def broken():
    return np.array([object()])


def key():
    return {}["no"]
"""


@contextmanager
def sealed_program(folder: Path, source: str = SOURCE, *, seconds: float = 30.0) -> Iterator[Sealed]:
    with running(folder, source) as piped:
        assert piped.process.stdin is not None
        assert piped.process.stdout is not None
        fds = [os.dup(pipe.fileno()) for pipe in (piped.process.stdout, piped.process.stdin)]
        pipes = Pipes(read_fd=fds[0], write_fd=fds[1], seconds=seconds)
        try:
            yield Sealed(pipes)
        finally:
            piped.process.kill()
            pipes.close()


def test_a_program_is_called_as_if_it_were_here(tmp_path: Path) -> None:
    with sealed_program(tmp_path) as program:
        module = program.module()
        assert module.SIZE == program.get("SIZE") == program.SIZE == 3
        assert hasattr(module, "size")
        assert not hasattr(module, "volume")
        assert not hasattr(module, "__array__")
        assert program.has("size")
        assert not program.has("volume")
        assert module.slow is module.slow
        with pytest.raises(AttributeError, match="the program has no `volume`"):
            program.call("volume")
        with pytest.raises(AttributeError, match="`SIZE` cannot be set from outside a sandbox"):
            module.SIZE = 4
        program.define("SIZE = 4")
        assert module.SIZE == 4
        program.reload()
        assert module.SIZE == 3
        with pytest.raises(KeyError) as caught:
            module.key()
        assert isinstance(caught.value, ProgramFailed)


def test_handles_are_compared_and_weighed_here_and_never_inside(tmp_path: Path) -> None:
    with sealed_program(tmp_path) as program:
        thing = program.module().Thing(5)
        assert (thing.size, thing.grown(2).size, thing(4), program.size(thing)) == (5, 7, 20, 5)
        assert isinstance(thing, Handle)
        assert thing
        assert thing != program.Thing(5)
        assert program.same() == program.same() == program.ONE
        assert len({program.same(), program.ONE}) == 1
        assert repr(thing) == f"<`Thing` number {thing.number}, in its sandbox>"
        with pytest.raises(
            TypeError, match="a `object` cannot be handed to a program in a sandbox: only plain data can"
        ):
            program.size(object())
        with pytest.raises(TypeError, match="a `Thing` that stays in a sandbox can be neither copied nor pickled"):
            copy.deepcopy(thing)
        with sealed_program(tmp_path) as other, pytest.raises(TypeError, match="a `Handle` cannot be handed"):
            other.size(thing)


def test_arrays_are_numpys_where_numpy_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sealed_program(tmp_path) as program:
        numbers = np.arange(6.0).reshape(2, 3)
        found = program.scaled(numbers, by=3.0)
        assert isinstance(found["array"], np.ndarray)
        assert (found["array"] == numbers * 3).all()
        found["array"][0, 0] = 1.0
        assert isinstance(found["mean"], np.float64)
        assert (found["mean"], found["n"]) == (2.5, 2)
        monkeypatch.setattr(sealed.sys, "modules", {})
        found = program.scaled(values.Array("<f8", (2,), np.ones(2).tobytes()))
        assert found == {"array": values.Array("<f8", (2,), np.full(2, 2.0).tobytes()), "mean": 1.0, "n": 2}
        assert type(found["n"]) is int


def test_long_texts_go_in_pieces_and_threads_do_not_mix_them(tmp_path: Path) -> None:
    with sealed_program(tmp_path) as program:
        found: dict[int, bool] = {}

        def ask(number: int) -> None:
            numbers = np.full(20_000 + number, float(number))
            found[number] = bool((program.scaled(numbers)["array"] == numbers * 2).all())

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert found == dict.fromkeys(range(4), True)


def test_a_program_that_does_not_answer_in_time_is_over(tmp_path: Path) -> None:
    with sealed_program(tmp_path, seconds=1.0) as program:
        assert program.slow(0.0) == 0.0
        began_at = time.monotonic()
        for _ in range(2):
            with pytest.raises(ProgramEnded, match="it did not answer in time"):
                program.slow(20.0)
        assert time.monotonic() - began_at < 10


class Scripted:
    """A conversation that answers what it was told to."""

    def __init__(self, *outputs: Output) -> None:
        self.lock = threading.RLock()
        self.outputs = list(outputs)

    def ask(self, item: Output, *, seconds: float | None = None) -> Output:
        return self.outputs.pop(0) if len(self.outputs) > 1 else self.outputs[0]


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ({}, ProgramEnded), ({"value": 1}, ProgramEnded), ({"value": None}, ProgramEnded), ({"piece": 1}, ProgramEnded),
        ({"value": "NaN"}, ValueError), ({"value": '{"exec":[]}'}, ValueError), ({"handle": "x"}, ValueError),
        ({"handle": -1, "type": "x"}, ValueError), ({"raised": ["ValueError"]}, ProgramFailed),
        ({"fault": "SystemExit: 0"}, ProgramFailed), ({"piece": "[", "more": False}, ValueError),
        ({"piece": "", "more": True}, ValueError),
        ({"raised": "KeyboardInterrupt: "}, ProgramFailed), ({"missing": [1]}, AttributeError),
    ],
    ids=repr,
)  # fmt: skip  # a table of cases
def test_an_output_that_is_none_is_an_error_of_the_program(output: dict[str, Json], error: type[Exception]) -> None:
    program = Sealed(Scripted(output))
    with pytest.raises(error) as caught:
        program.call("solve")
    assert isinstance(caught.value, ProgramFailed | ProgramEnded)
    assert caught.value.program is program


def test_a_result_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "TEXT_MAX", 10_000)
    with pytest.raises(ValueError, match="10000 is the limit"):
        Sealed(Scripted({"piece": "x" * 1000, "more": True})).call("solve")


HOSTILE = {
    "another block": {"type": "answer", "block": 99, "outputs": [{"ok": True}]},
    "a block that is true": {"type": "answer", "block": True, "outputs": [{"ok": True}]},
    "two outputs": {"type": "answer", "block": 1, "outputs": [{"ok": True}] * 2},
    "no object": {"type": "answer", "block": 1, "outputs": [1]},
    "another type": {"type": "ready"},
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=list(HOSTILE))
def test_an_answer_to_something_else_ends_the_conversation(frame: dict[str, Any]) -> None:
    from keyturn.wire.frames import encode_frame

    assert spoken(encode_frame(frame)) == "it broke off the conversation: it did not answer what was asked"


def test_noise_silence_and_surplus_end_the_conversation() -> None:
    from keyturn.wire.frames import encode_frame

    right = encode_frame({"type": "answer", "block": 1, "outputs": [{"ok": True}]})
    assert "it answered what was not asked" in spoken(right + right)
    assert "a frame of 2004318071 bytes" in spoken(b"wwwwwwww")
    assert spoken(right[:9]) == "it was stopped, or it ended itself"
    assert spoken(right) == ""


def spoken(data: bytes) -> str:
    """How a conversation ends in which the other side says this."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    os.write(theirs_out, data)
    os.close(theirs_out)
    pipes = Pipes(read_fd=ours_in, write_fd=ours_out, seconds=5.0)
    try:
        Sealed(pipes).has("solve")
    except ProgramEnded:
        pass
    pipes.close()
    os.close(theirs_in)
    return "" if pipes.how == "it was judged" else pipes.how


def test_the_sdk_is_light_and_needs_no_numpy(tmp_path: Path) -> None:
    script = "import sys, keyturn.sdk\nprint(sorted(m for m in sys.modules if m.startswith('keyturn.')))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=20)
    assert found.stdout.strip() == "['keyturn.sdk']"
    script = "import sys\nfrom keyturn.sdk import govern\nprint('numpy' in sys.modules, 'keyturn.app' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=20)
    assert found.stdout.strip() == "False False"
