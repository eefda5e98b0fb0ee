"""A loop's own evaluator as a grader, in a process of its own: `python -m keyturn.sdk.exam EVALUATOR.py`.

The evaluator is the file that the loop uses, `evaluate(program_path) -> {"combined_score": ...}`, pinned by its digest.
It runs here, out of the candidate's reach: what it calls of the program is asked through the trial. With `--held-out`
a second file gives `check(program) -> [reasons]`. Frames and exams: see `Exam`.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from hashlib import sha256
from numbers import Real
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, BinaryIO, Final, Self

from keyturn.core.errors import KeyturnError, MalformedInput
from keyturn.core.terms import Json
from keyturn.sdk.errors import ProgramEnded
from keyturn.sdk.pinned import Pinned, pin
from keyturn.sdk.pipes import Output
from keyturn.sdk.program import reasons_of
from keyturn.sdk.sealed import Sealed
from keyturn.sdk.stub import forget, stub_for
from keyturn.wire import canonical
from keyturn.wire.frames import FRAME_BYTES_MAX, FrameReader, encode_frame

ITEMS_MAX: Final = 5000
_HELP: Final = "see `keyturn.sdk.exam`"

Frame = dict[str, Json]
Value = float | None
"""A score from 0 to 1; none where the program gave no number, which counts as what is worst."""


class Dropped(BaseException):
    """The trial went on to something else; it passes through an evaluator that catches every ordinary exception."""


class Desk:
    """The grader's end of its two pipes. `waiting` is a frame that came instead of the one that was expected."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self.waiting: list[Frame | None] = []

    def read(self) -> Frame | None:
        """The next frame; none at the end."""
        if self.waiting:
            return self.waiting.pop()
        head = self._source.read(4)
        if not head:
            return None
        length = min(int.from_bytes(head, "big"), FRAME_BYTES_MAX)
        reader = FrameReader(bytes_max_total=4 + FRAME_BYTES_MAX, frames_max=1)
        found = reader.feed(head + self._source.read(length))
        reader.end()
        return found[0]

    def write(self, frame: Frame) -> None:
        """Send one frame."""
        self._sink.write(encode_frame(frame))
        self._sink.flush()


class Asking:
    """The way to the candidate through the trial, for one item; a conversation as `keyturn.sdk.pipes` has it."""

    def __init__(self, desk: Desk, block: Json) -> None:
        self.lock = threading.RLock()
        self._desk, self._block = desk, block
        self.over = False

    def ask(self, item: Output, *, seconds: float | None = None) -> Output:
        """The output for one item; raises ProgramEnded after the item is over, and Dropped when the trial goes on."""
        with self.lock:
            if self.over:
                raise ProgramEnded("its item is over")
            self._desk.write({"type": "ask", "block": self._block, "to": "candidate", "items": [item]})
            frame = self._desk.read()
            if frame is None or frame.get("type") != "outputs" or frame.get("block") != self._block:
                self.over = True
                self._desk.waiting.append(frame)
                raise Dropped
            outputs = frame.get("outputs")
            if isinstance(outputs, list) and len(outputs) == 1 and isinstance(outputs[0], dict):
                return outputs[0]
            raise ProgramEnded("it did not answer what was asked")


class Failed:
    """An item whose evaluation raised has no value; what was raised goes to standard error, for the operator."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception | SystemExit):  # an evaluator that gives up on a program may well exit
            return False
        traceback.print_exception(error)
        return True


class Exam:
    """One examination, frame by frame.

    `plan {suite, seed, items}` -> `planned {bank, items}`, where the suite is `score`, `runs` or `held-out` and, after
    a space, the digest of the file that is to be used. `begin {block, items}` and `outputs {block, outputs}` -> `ask`
    until `scores {block, values}`. `score` gives the evaluator's `combined_score`, cut to 0..1; `runs` gives 0 where
    there is one; `held-out` gives 1 where the check had a reason and 0 where it had none. A file with another digest,
    and a frame out of order, raise MalformedInput; what executing a file raises goes through.
    """

    def __init__(self, desk: Desk, files: dict[str, Pinned]) -> None:
        self._desk, self._files = desk, files
        self._module = ModuleType("none")
        self._value: Callable[[Sealed], Value] | None = None
        self._seeds: list[int] = []

    def serve(self) -> None:
        """Answer frames until `bye` or the end."""
        while (frame := self._desk.read()) is not None and frame.get("type") != "bye":
            act = {"plan": self._plan, "begin": self._begin}.get(str(frame.get("type")))
            if act is None:
                raise MalformedInput(f"found a frame `{frame.get('type')}` out of order", help=_HELP)
            act(frame)

    def _plan(self, frame: Frame) -> None:
        suite, seed, items = frame.get("suite"), frame.get("seed"), frame.get("items")
        kind, _, wanted = str(suite).partition(" ")
        file = self._files.get(kind)
        if file is None:
            known = " or ".join(f"`{name} {pinned.digest}`" for name, pinned in self._files.items())
            raise MalformedInput(f"the exam `{suite}` is not known", help=f"write {known}")
        if file.digest != wanted:
            raise MalformedInput(
                f"`{file.path.name}` is {file.digest}, and people signed for `{wanted}`",
                help="put the file back as it was, or let people adopt a policy that names the new one",
            )
        if type(items) is not int or not 1 <= items <= ITEMS_MAX:
            raise MalformedInput(f"found {items} items; 1 to {ITEMS_MAX} are allowed", help="plan fewer items")
        self._seeds = [_derived([kind, wanted, seed, index]) for index in range(items)]
        self._module = file.load("held_out_module" if kind == "held-out" else "evaluation_module")
        if not hasattr(self._module, ASKED[kind]):
            raise MalformedInput(f"`{file.path.name}` has no function `{ASKED[kind]}`", help=_HELP)
        self._value = {"score": self.score, "runs": self.runs, "held-out": self.held_out}[kind]
        bank = sha256(canonical.encode(["keyturn.sdk.exam", kind, wanted, seed, items])).hexdigest()
        self._desk.write({"type": "planned", "bank": f"sha256:{bank}", "items": items})

    def _begin(self, frame: Frame) -> None:
        block, items = frame.get("block"), frame.get("items")
        if self._value is None or not isinstance(items, list) or not all(self._is_item(item) for item in items):
            raise MalformedInput("a block begins before any plan, or names an item outside it", help=_HELP)
        values: list[Json] = []
        for item in items:
            values.append(self._item(block, self._seeds[int(str(item))]))
            if self._desk.waiting:  # the trial went on: nobody waits for these scores any more
                return
        self._desk.write({"type": "scores", "block": block, "values": values})

    def _is_item(self, item: Json) -> bool:
        return type(item) is int and 0 <= item < len(self._seeds)

    def _item(self, block: Json, seed: int) -> Value:
        """One item: the same dice for whoever is examined, on both sides."""
        asking = Asking(self._desk, block)
        found: Value = None
        try:
            with Failed():
                program = Sealed(asking)
                program.seed(seed)
                seed_dice(seed)
                found = self._value(program) if self._value is not None else None
        except Dropped:
            return None
        finally:
            asking.over = True  # a thread that the evaluator gave up on must not ask in the next item's name
        return found

    def score(self, program: Sealed) -> Value:
        """What the evaluator says."""
        with tempfile.TemporaryDirectory() as folder:
            place = stub_for(program, Path(folder))
            try:
                return score_of(self._module.evaluate(str(place)))
            finally:
                forget(place)

    def runs(self, program: Sealed) -> Value:
        """Whether the evaluator has a score for it at all; what has none has no value, and counts as what is worst."""
        return None if self.score(program) is None else 0.0

    def held_out(self, program: Sealed) -> Value:
        """Whether the check had a reason against it."""
        program.reload()
        return float(bool(reasons_of(self._module.check(program))))


ASKED: Final = {"score": "evaluate", "runs": "evaluate", "held-out": "check"}
"""The function that each exam wants of its file."""


def score_of(result: Any) -> Value:
    """The `combined_score` of what an evaluator returned, cut to 0..1; none where it is no finite number."""
    metrics = getattr(result, "metrics", result)
    found = metrics.get("combined_score") if isinstance(metrics, dict) else None
    if isinstance(found, bool) or not isinstance(found, Real) or not math.isfinite(found):
        return None
    return min(max(float(found), 0.0), 1.0)


def seed_dice(seed: int) -> None:
    """Begin the evaluator's own dice anew."""
    random.seed(seed)
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(seed)


def _derived(what: Json) -> int:
    return int.from_bytes(sha256(canonical.encode(what)).digest()[:4], "big")


def taken_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our two pipes, moved to where nothing that prints or reads can disturb them."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return source, sink


def main(arguments: Sequence[str]) -> None:
    """Serve as the grader of a trial."""
    parser = argparse.ArgumentParser(prog="python -m keyturn.sdk.exam", description=__doc__.split("\n")[0])
    parser.add_argument("evaluator", type=Path, help="the loop's evaluator, with `evaluate(program_path)`")
    parser.add_argument("--held-out", type=Path, help="a file with `check(program)`, which gives reasons")
    asked = parser.parse_args(arguments)
    source, sink = taken_pipes()
    try:
        evaluator = pin(asked.evaluator)
        files = {"score": evaluator, "runs": evaluator}
        if asked.held_out is not None:
            files["held-out"] = pin(asked.held_out)
        Exam(Desk(source, sink), files).serve()
    except KeyturnError as error:
        raise SystemExit(f"error: {error.message}\nhelp: {error.help}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
