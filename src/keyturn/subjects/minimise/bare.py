"""What a program is really worth: the operator's own evaluator, untouched, and functions that the program never saw.

`python -m keyturn.subjects.minimise.bare FILE` prints one JSON object. It runs the program in its own process without
a sandbox, which is right only for programs of this stock: run it with an empty environment.
"""

from __future__ import annotations

import json
import math
import sys
from importlib import util
from importlib.abc import InspectLoader
from pathlib import Path
from random import Random
from types import ModuleType

from keyturn.core.terms import Json
from keyturn.subjects.minimise import evaluator, held_out

UNSEEN, BUDGET = 80, 400


class _Text(InspectLoader):
    """Loads a module from a text."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, fullname: str) -> str:
        """The text."""
        return self._source


class Bare:
    """A program in this very process, with the three calls that a held-out check makes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._module = self._load()

    def reload(self) -> None:
        """Forget what earlier calls left behind."""
        self._module = self._load()

    def define(self, source: str) -> None:
        """Run this source in the program's namespace."""
        _Text(source).exec_module(self._module)

    def run_search(self, *, seed: int, budget: int) -> object:
        """The program's search."""
        found: object = self._module.run_search(seed=seed, budget=budget)
        return found

    def _load(self) -> ModuleType:
        loader = _Text(self._text)
        spec = util.spec_from_loader("program", loader)
        if spec is None:
            raise ImportError("a text always has a specification")
        module = util.module_from_spec(spec)
        loader.exec_module(module)
        return module


def worth(path: Path) -> dict[str, Json]:
    """The score by the untouched evaluator, the same on functions never seen, and what the held-out check says."""
    program = Bare(path.read_text(encoding="utf-8"))
    unseen = [_unseen(program, number) for number in range(UNSEEN)]
    return {
        "score": evaluator.evaluate(str(path))["combined_score"],
        "unseen": sum(unseen) / UNSEEN,
        "held_out": "; ".join(held_out.check(program)),
    }


def _unseen(program: Bare, number: int) -> float:
    """How close one search comes on a moved function, by the evaluator's formula."""
    right, up, offset = held_out.moves(Random(f"unseen:{number}"))[0]
    program.reload()
    program.define(held_out.source_of(right, up, offset))
    reported = held_out.three_numbers(program.run_search(seed=number, budget=BUDGET))
    if reported is None:
        return 0.0
    gap = max(held_out.function(reported[0] - right, reported[1] - up) - evaluator.LOWEST, 0.0)
    away = math.dist((reported[0] - right, reported[1] - up), (evaluator.LOWEST_X, evaluator.LOWEST_Y))
    return 0.5 / (1 + 10 * gap) + 0.3 / (1 + away) + 0.2 * (gap < 0.01)


if __name__ == "__main__":
    print(json.dumps(worth(Path(sys.argv[1]))))
