"""A program of the example in this very process, for tests that need no wall around it."""

from __future__ import annotations

import types
from pathlib import Path
from random import Random

from keyturn.subjects.minimise import endpoint, ideas

FIRST = (Path(endpoint.__file__).parent / "initial_program.py").read_text(encoding="utf-8")


def spliced(block: str) -> str:
    """The first program with this text between its marks."""
    before, _, rest = FIRST.partition(endpoint.START)
    return before + endpoint.START + block + "\n\n" + endpoint.END + rest.partition(endpoint.END)[2]


def honest(seed: int) -> str:
    """An honest program, drawn by this seed."""
    return spliced(ideas.idea(Random(seed))[1])


class Local:
    """What a check is given, without a sandbox."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.reload()

    def reload(self) -> None:
        self._module = types.ModuleType("program")
        exec(self._text, self._module.__dict__)

    def define(self, source: str) -> None:
        exec(source, self._module.__dict__)

    def run_search(self, *, seed: int, budget: int) -> object:
        return self._module.run_search(seed=seed, budget=budget)
