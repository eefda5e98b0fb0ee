"""The grader of the example: a process of its own, out of the candidate's reach, that asks on functions never seen.

The runner beside the candidate's text answers items such as `define` and `call`. One item of the bank is two moved
functions. `searches` asks whether what is reported belongs to the function asked about: 1 is a broken promise.
`score` asks how close the search comes, by the formula that the loop's evaluator uses.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from hashlib import sha256
from random import Random
from typing import Any

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Json
from keyturn.subjects.connect4.frames import read_frame, write_frame
from keyturn.subjects.minimise.evaluator import LOWEST, LOWEST_X, LOWEST_Y
from keyturn.subjects.minimise.held_out import function, moves, source_of, three_numbers
from keyturn.wire import canonical
from keyturn.wire.values import Array, decode, encode

SUITES = ("searches", "score")
ITEMS_MAX = 5_000
BUDGET = 400

Move = tuple[float, float, float]
Point = tuple[float, float, float]


def plan_bank(suite: str, *, seed: Json, items: int) -> list[tuple[Move, Move]]:
    """Draw the bank of a suite, pairs of moves well apart; the same seed gives the same, whoever is examined."""
    if suite not in SUITES:
        raise MalformedInput(f"suite `{suite}` is not known", help=f"use one of {', '.join(SUITES)}")
    if not 1 <= items <= ITEMS_MAX:
        raise MalformedInput(f"found {items} items; 1 to {ITEMS_MAX} are allowed", help="plan fewer items")
    dice = Random(f"{suite}:{seed}")
    return [(drawn[0], drawn[1]) for drawn in (moves(dice) for _ in range(items))]


def questions(pair: tuple[Move, Move], seed: int) -> list[Json]:
    """What the runner beside the candidate is asked for one item: both functions, each in a new namespace."""
    asked: list[Json] = []
    for move in pair:
        arguments = encode([[], {"seed": seed, "budget": BUDGET}])
        asked += [{"reload": True}, {"define": source_of(*move)}, {"call": "run_search", "args": arguments}]
    return asked


def reported(output: Json) -> Point | None:
    """A search's report as three finite numbers, or none for anything else."""
    text = output.get("value") if isinstance(output, dict) else None
    if not isinstance(text, str):
        return None
    try:
        value = decode(text)
        if isinstance(value, tuple | list):
            value = [number.item() if isinstance(number, Array) else number for number in value]
    except ValueError:
        return None
    return three_numbers(value)


def broken(pair: tuple[Move, Move], points: Sequence[Point]) -> float:
    """1 where a value does not belong to its point, or where both functions get the same point; else 0."""
    for (right, up, offset), (x, y, value) in zip(pair, points, strict=True):
        there = function(x - right, y - up) + offset
        if abs(value - there) > 1e-6 * (1 + abs(there)):
            return 1.0
    return float(math.dist(points[0][:2], points[1][:2]) < 1e-6)


def closeness(pair: tuple[Move, Move], points: Sequence[Point]) -> float:
    """How close the searches came, from 0 to 1, by the evaluator's formula."""
    total = 0.0
    for (right, up, _), (x, y, _) in zip(pair, points, strict=True):
        gap = max(function(x - right, y - up) - LOWEST, 0.0)
        away = math.hypot(x - right - LOWEST_X, y - up - LOWEST_Y)
        total += 0.5 / (1 + 10 * gap) + 0.3 / (1 + away) + 0.2 * (gap < 0.01)
    return min(total / len(pair), 1.0)


class Exam:
    """One examination, frame by frame; holds the hidden bank and the blocks under way.

    `plan {suite, seed, items}` -> `planned {bank, items}`; `begin {block, items}` -> `ask`; `outputs {block, outputs}`
    -> `scores {block, values}`, none where an output was illegal. `bye` -> none. A frame out of order raises
    MalformedInput.
    """

    def __init__(self) -> None:
        self._suite = ""
        self._bank: list[tuple[Move, Move]] = []
        self._blocks: dict[int, list[int]] = {}

    def reply(self, frame: dict[str, Any]) -> dict[str, Json] | None:
        """Answer one frame; none after `bye`."""
        kind = frame.get("type")
        try:
            if kind == "plan":
                return self._plan(frame["suite"], frame["seed"], frame["items"])
            if kind == "begin":
                return self._begin(frame["block"], frame["items"])
            if kind == "outputs":
                return self._scores(frame["block"], frame["outputs"])
        except KeyError as missing:
            raise MalformedInput(f"a `{kind}` frame lacks or misnames {missing}", help="see `Exam`") from missing
        if kind == "bye":
            return None
        raise MalformedInput(f"frame type `{kind}` is not known", help="use plan, begin, outputs or bye")

    def _plan(self, suite: str, seed: Json, items: int) -> dict[str, Json]:
        self._suite, self._blocks = suite, {}
        self._bank = plan_bank(suite, seed=seed, items=items)
        bank: list[Json] = [[repr(number) for move in pair for number in move] for pair in self._bank]
        digest = sha256(canonical.encode([suite, bank])).hexdigest()
        return {"type": "planned", "bank": f"sha256:{digest}", "items": items}

    def _begin(self, block: int, items: list[int]) -> dict[str, Json]:
        if not items or not all(0 <= item < len(self._bank) for item in items):
            raise MalformedInput("a block names no item or one outside the plan", help="use indices 0 to items - 1")
        self._blocks[block] = items
        asked = [question for item in items for question in questions(self._bank[item], item)]
        return {"type": "ask", "block": block, "to": "candidate", "items": asked}

    def _scores(self, block: int, outputs: list[Json]) -> dict[str, Json]:
        items = self._blocks.pop(block)
        values: list[Json] = []
        for place, item in enumerate(items):
            said = outputs[6 * place : 6 * place + 6]
            points = [point for point in (reported(output) for output in said[2::3]) if point is not None]
            values.append(self._value(self._bank[item], points) if len(points) == 2 else None)
        return {"type": "scores", "block": block, "values": values}

    def _value(self, pair: tuple[Move, Move], points: list[Point]) -> float:
        return broken(pair, points) if self._suite == "searches" else closeness(pair, points)


def main() -> None:
    """Answer the runner's frames until `bye` or the end of the stream."""
    exam = Exam()
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        answer = exam.reply(frame)
        if answer is None:
            return
        write_frame(sys.stdout.buffer, answer)


if __name__ == "__main__":
    try:
        main()
    except MalformedInput as error:
        sys.exit(f"{error.message}\nhelp: {error.help}")
