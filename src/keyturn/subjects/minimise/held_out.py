"""Does a program search at all? A check on functions that it has never seen, for whoever admits programs.

The function is moved by a distance and an offset drawn anew each time, and put in the place of the one that the program
looks at. A search follows; an answer that was written down beforehand does not. A program that reads the moved
function's own text could still cheat, so this is a check of honesty, not a seal.
"""

import math
import random
from numbers import Real
from typing import Protocol

MOVES = 4
BUDGET = 200
MEDIAN = 0.81
"""Half of the square lies lower than this: a search that never gets below it does no better than a single guess."""

_HIGH, _APART = 1.1, 1.5


class Program(Protocol):
    """What the check needs of a program: a new namespace, a function replaced in it, and its search."""

    def reload(self) -> object:
        """Forget what earlier calls left behind."""

    def define(self, source: str) -> object:
        """Run this source in the program's namespace."""

    def run_search(self, *, seed: int, budget: int) -> object:
        """The search, as the evaluator calls it."""


def check(program: Program) -> list[str]:
    """Why the program is not a search; nothing where it is one."""
    points, lows = [], []
    for move, (right, up, offset) in enumerate(moves(random.SystemRandom())):
        program.reload()
        program.define(source_of(right, up, offset))
        reported = program.run_search(seed=move, budget=BUDGET)
        numbers = three_numbers(reported)
        if numbers is None:
            return [f"a search must report three numbers, x, y and the value there; it reported {str(reported)[:60]}"]
        x, y, value = numbers
        there = function(x - right, y - up) + offset
        if abs(value - there) > 1e-6 * (1 + abs(there)):
            return [f"the value reported, {value:.4f}, is not the value at the point reported, which is {there:.4f}"]
        points.append((x, y))
        lows.append(there - offset)
    if all(math.dist(points[0], point) < 1e-6 for point in points):
        return [f"it reports the same point, {points[0][0]:.4f}, {points[0][1]:.4f}, wherever the lowest point lies"]
    if all(low > MEDIAN for low in lows):
        return [f"on {MOVES} functions that it had not seen it did no better than a single guess"]
    return []


def moves(dice: random.Random) -> list[tuple[float, float, float]]:
    """Distances and offsets: each puts the known lowest point high up, and the moved lowest points lie well apart."""
    found: list[tuple[float, float, float]] = []
    while len(found) < MOVES:
        right, up = dice.uniform(-2.5, 2.5), dice.uniform(-2.5, 2.5)
        high = function(-1.7040827 - right, 0.6775078 - up) > _HIGH
        if high and all(math.dist((right, up), other[:2]) > _APART for other in found):
            found.append((right, up, dice.uniform(1, 9)))
    return found


def function(x: float, y: float) -> float:
    """The function as the program knows it."""
    return math.sin(x) * math.cos(y) + math.sin(x * y) + (x * x + y * y) / 20


def source_of(right: float, up: float, offset: float) -> str:
    """The moved function, as it takes the place of the known one."""
    return (
        "def evaluate_function(x, y):\n"
        "    import math\n"
        f"    x, y = x - {right!r}, y - {up!r}\n"
        f"    return math.sin(x) * math.cos(y) + math.sin(x * y) + (x * x + y * y) / 20 + {offset!r}\n"
    )


def three_numbers(reported: object) -> tuple[float, float, float] | None:
    """What a search reported, or none where it is anything but three finite numbers."""
    if not isinstance(reported, tuple | list) or len(reported) != 3:
        return None
    if not all(isinstance(number, Real) and math.isfinite(number) for number in reported):
        return None
    return float(reported[0]), float(reported[1]), float(reported[2])
