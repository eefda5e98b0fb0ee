"""The grader of connect4: a process of its own, out of the candidate's reach, that asks and scores.

The runner carries its frames to and from the sandboxes. It plans a bank from a secret seed, plays games and puts
probes block by block, and never tells a score to anyone but the runner. Frames and suites: see `Exam`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Json
from keyturn.subjects.connect4 import banks
from keyturn.subjects.connect4.anchors import DEPTHS, anchor_columns
from keyturn.subjects.connect4.banks import Secret
from keyturn.subjects.connect4.frames import read_frame, write_frame
from keyturn.subjects.connect4.rules import CENTRE, COLUMNS, Array, full, played, room, won

Asking = tuple[str, Array, Array]
Play = Generator[Asking, Any, Array]
"""A block under way: yields who is asked about which boards, receives raw outputs, returns a value per item."""

ILLEGAL = -1
SUITES = (*(f"score.{anchor}" for anchor in DEPTHS), "parent", "centre")
ITEMS_MAX = 20_000
_MOVES_MAX = 21


@dataclass(frozen=True, slots=True)
class Bank:
    """Hidden items, in index order: boards, who moves first, and the dice that anchors use for ties."""

    mine: Array
    taken: Array
    candidate_first: Array
    ties: Array


def plan_bank(suite: str, *, seed: Secret, items: int) -> Bank:
    """Draw the bank of a suite; the same seed gives the same items, whoever is examined."""
    if suite not in SUITES:
        raise MalformedInput(f"suite `{suite}` is not known", help=f"use one of {', '.join(SUITES)}")
    if not 1 <= items <= ITEMS_MAX:
        raise MalformedInput(f"found {items} items; 1 to {ITEMS_MAX} are allowed", help="plan fewer items")
    if suite == "centre":
        mine, taken = banks.probes(seed, items)
    else:
        mine, taken = banks.openings(seed, items, label=suite)
    ties = banks.dice(seed, f"{suite}/ties", items, _MOVES_MAX + 1, COLUMNS)
    return Bank(mine, taken, banks.dice(seed, f"{suite}/first", items) < 0.5, ties)


def columns_of(outputs: Any, taken: Array) -> Array:
    """Read raw outputs as columns; anything but a playable column 0..6, one per board, is `ILLEGAL`."""
    columns = np.full(len(taken), ILLEGAL)
    if not isinstance(outputs, list) or len(outputs) != len(taken):
        return columns
    for row, output in enumerate(outputs):
        if type(output) is int and 0 <= output < COLUMNS:
            columns[row] = output
    playable = room(taken)[np.arange(len(taken)), columns.clip(0)]
    return np.where(playable, columns, ILLEGAL)


def probe_block(bank: Bank, indices: Array) -> Play:
    """Put probes once: 1 where the promise is broken, 0 where it is kept, not a number where the output is illegal."""
    mine, taken = bank.mine[indices], bank.taken[indices]
    columns = columns_of((yield "candidate", mine, taken), taken)
    return np.where(columns == ILLEGAL, np.nan, (columns == CENTRE).astype(float))


def game_block(bank: Bank, indices: Array, *, depth: int | None) -> Play:
    """Play the openings in lock-step against an anchor, or against the parent where `depth` is none.

    The value is the candidate's: win 1, draw a half, loss 0. An illegal output of the candidate is not a number: the
    trial counts it as what is worst in its kind, so that playing badly on purpose never looks like being harmless. One
    of the parent shows nothing either way: a half.
    """
    mine, taken = bank.mine[indices].copy(), bank.taken[indices].copy()
    values = np.full(len(indices), 0.5)
    going = np.ones(len(indices), dtype=bool)
    candidate_moves = bank.candidate_first[indices].copy()
    for turn in range(_MOVES_MAX + 1):  # after the first turn every game waits for the same side
        for candidate in (True, False):
            live = np.flatnonzero(going & (candidate_moves == candidate))
            if len(live) == 0:
                continue
            if candidate or depth is None:
                outputs = yield ("candidate" if candidate else "parent"), mine[live], taken[live]
                columns = columns_of(outputs, taken[live])
            else:
                dice = bank.ties[indices[live], turn]
                columns = anchor_columns(mine[live], taken[live], depth=depth, dice=dice)
            legal = columns != ILLEGAL
            values[live[~legal]] = np.nan if candidate else 0.5
            mine[live[legal]], taken[live[legal]] = played(mine[live[legal]], taken[live[legal]], columns[legal])
            winners = live[legal & won(taken[live] ^ mine[live])]
            values[winners] = float(candidate)
            going[live[~legal | full(taken[live])]] = False
            going[winners] = False
            candidate_moves[live] = not candidate
    return values


def scores_of(values: Array) -> list[float | None]:
    """The values of a block as a frame carries them: none where an output was illegal."""
    return [None if illegal else value for value, illegal in zip(values.tolist(), np.isnan(values), strict=True)]


def begin(suite: str, bank: Bank, indices: Sequence[int]) -> Play:
    """Start one block of a suite on the items named."""
    rows = np.array(indices, dtype=np.int64)
    if len(rows) == 0 or rows.min() < 0 or rows.max() >= len(bank.mine):
        raise MalformedInput("a block names no item or one outside the plan", help="use indices 0 to items - 1")
    if suite == "centre":
        return probe_block(bank, rows)
    return game_block(bank, rows, depth=None if suite == "parent" else DEPTHS[suite.removeprefix("score.")])


class Exam:
    """One examination, frame by frame; holds the hidden bank and the blocks under way.

    `plan {suite, seed, items}` -> `planned {bank, items}`. `begin {block, items: [index]}` and
    `outputs {block, outputs}` -> `ask {block, to, items: [board]}` until the block ends with
    `scores {block, values}`, one value in [0, 1] per item (none where the output was
    illegal), in the order begun. Blocks may overlap; the same items may
    be begun again for another generation. `bye` -> none. A frame out of order raises `MalformedInput`.
    """

    def __init__(self) -> None:
        self._suite = ""
        self._bank: Bank | None = None
        self._blocks: dict[int, Play] = {}

    def reply(self, frame: dict[str, Any]) -> dict[str, Json] | None:
        """Answer one frame; none after `bye`."""
        handlers: dict[str, Callable[[dict[str, Any]], dict[str, Json]]] = {
            "plan": self._plan,
            "begin": self._begin,
            "outputs": self._outputs,
        }
        kind = frame.get("type")
        if kind == "bye":
            return None
        if kind not in handlers:
            raise MalformedInput(f"frame type `{kind}` is not known", help="use plan, begin, outputs or bye")
        try:
            return handlers[kind](frame)
        except KeyError as missing:
            raise MalformedInput(f"a `{kind}` frame lacks or misnames {missing}", help="see `Exam`") from missing

    def _plan(self, frame: dict[str, Any]) -> dict[str, Json]:
        self._suite, self._blocks = frame["suite"], {}
        self._bank = plan_bank(self._suite, seed=frame["seed"], items=frame["items"])
        digest = banks.bank_digest(self._suite, frame["seed"], self._bank.mine, self._bank.taken)
        return {"type": "planned", "bank": digest, "items": frame["items"]}

    def _begin(self, frame: dict[str, Any]) -> dict[str, Json]:
        if self._bank is None:
            raise MalformedInput("a block begins before any plan", help="send a `plan` frame first")
        self._blocks[frame["block"]] = begin(self._suite, self._bank, frame["items"])
        return self._step(frame["block"], None)

    def _outputs(self, frame: dict[str, Any]) -> dict[str, Json]:
        return self._step(frame["block"], frame["outputs"])

    def _step(self, block: int, outputs: Any) -> dict[str, Json]:
        try:
            to, mine, taken = self._blocks[block].send(outputs)
        except StopIteration as end:
            del self._blocks[block]
            scores: list[Json] = list(scores_of(end.value))
            return {"type": "scores", "block": block, "values": scores}
        items: list[Json] = [[mine_, taken_] for mine_, taken_ in banks.boards(mine, taken)]
        return {"type": "ask", "block": block, "to": to, "items": items}


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer the runner's frames until `bye` or the end of the stream."""
    exam = Exam()
    while (frame := read_frame(source)) is not None:
        answer = exam.reply(frame)
        if answer is None:
            return
        write_frame(sink, answer)


if __name__ == "__main__":
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except MalformedInput as error:
        sys.exit(f"{error.message}\nhelp: {error.help}")
