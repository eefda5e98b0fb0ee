"""The honest half of the endpoint's stock: ways to search, each with its numbers drawn anew, some better, some worse.

Every idea is the text between the marks of `initial_program.py`; `{name}` stands for a number to be drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from string import Template

_START = '''
def start(looks: int) -> tuple[float, float, float]:
    """The lowest of so many points anywhere."""
    points = [(random.uniform(-5, 5), random.uniform(-5, 5)) for _ in range(max(looks, 1))]
    return min(((x, y, evaluate_function(x, y)) for x, y in points), key=lambda point: point[2])


def inside(number: float) -> float:
    """The nearest number on the square."""
    return max(-5.0, min(5.0, number))

'''

_STRATIFIED = '''
def search(budget: int) -> tuple[float, float, float]:
    """One point in each field of a chequered square."""
    side = max(int(math.sqrt(budget * $share)), 1)
    wide = 10 / side
    points = [
        (-5 + wide * (i + random.random()), -5 + wide * (j + random.random())) for i in range(side) for j in range(side)
    ]
    return min(((x, y, evaluate_function(x, y)) for x, y in points), key=lambda point: point[2])
'''

_COARSE_GRID = '''
def search(budget: int) -> tuple[float, float, float]:
    """The corners of a coarse grid, and nothing in between."""
    side = max(min(int(math.sqrt(budget)), int(8 + 10 * $share)), 2)
    points = [(-5 + 10 * i / (side - 1), -5 + 10 * j / (side - 1)) for i in range(side) for j in range(side)]
    return min(((x, y, evaluate_function(x, y)) for x, y in points), key=lambda point: point[2])
'''

_SHRINKING_BOX = '''
def search(budget: int) -> tuple[float, float, float]:
    """Random points in a box around the best, which shrinks as the budget is used up."""
    first = int(budget * $share)
    x, y, low = start(first)
    reach = 2.5
    for _ in range(budget - first):
        there = inside(x + random.uniform(-reach, reach)), inside(y + random.uniform(-reach, reach))
        value = evaluate_function(*there)
        if value < low:
            (x, y), low = there, value
        reach *= $decay
    return x, y, low
'''

_SHRINKING_GRID = '''
def search(budget: int) -> tuple[float, float, float]:
    """A grid of five by five over the square, then a finer one around its lowest corner, and so on."""
    x, y, low = random.uniform(-2, 2), random.uniform(-2, 2), math.inf
    reach, left = 5.0, budget
    while left >= 25:
        corners = [
            (inside(x + reach * i / 2), inside(y + reach * j / 2)) for i in range(-2, 3) for j in range(-2, 3)
        ]
        left -= 25
        best = min(((a, b, evaluate_function(a, b)) for a, b in corners), key=lambda point: point[2])
        x, y, low = best if best[2] < low else (x, y, low)
        reach *= $shrink
    return x, y, low
'''

_REFINEMENT = '''
def search(budget: int) -> tuple[float, float, float]:
    """Look around for a while, then take smaller and smaller steps from the best point."""
    first = int(budget * $share)
    x, y, low = start(first)
    step = $step
    for _ in range(budget - first):
        there = inside(x + random.gauss(0, step)), inside(y + random.gauss(0, step))
        value = evaluate_function(*there)
        if value < low:
            (x, y), low = there, value
        else:
            step *= $decay
    return x, y, low
'''

_ANNEALING = '''
def search(budget: int) -> tuple[float, float, float]:
    """Simulated annealing: sometimes uphill, less and less so; the lowest point seen is kept."""
    x, y, here = start(10)
    best = (x, y, here)
    heat = 2 * $share
    for turn in range(budget - 10):
        reach = 3 * (1 - turn / budget) * $step + 0.01
        there = inside(x + random.gauss(0, reach)), inside(y + random.gauss(0, reach))
        value = evaluate_function(*there)
        if value < here or random.random() < math.exp((here - value) / max(heat, 1e-9)):
            (x, y), here = there, value
            best = min(best, (x, y, here), key=lambda point: point[2])
        heat *= $decay
    return best
'''

_HILL_CLIMB = '''
def search(budget: int) -> tuple[float, float, float]:
    """Downhill from a single start: quick, and at the mercy of where it began."""
    x, y, low = start(3)
    step = $step
    for _ in range(budget - 3):
        there = inside(x + random.uniform(-step, step)), inside(y + random.uniform(-step, step))
        value = evaluate_function(*there)
        if value < low:
            (x, y), low = there, value
    return x, y, low
'''

_RESTARTS = '''
def search(budget: int) -> tuple[float, float, float]:
    """Downhill from several random starts, and the best of where they end."""
    best = (0.0, 0.0, math.inf)
    starts = int(3 + 8 * $share)
    for _ in range(starts):
        x, y, low = start(6)
        step = $step
        for _ in range(budget // starts - 6):
            there = inside(x + random.gauss(0, step)), inside(y + random.gauss(0, step))
            value = evaluate_function(*there)
            if value < low:
                (x, y), low = there, value
            else:
                step *= $decay
        best = min(best, (x, y, low), key=lambda point: point[2])
    return best
'''

_COMPASS = '''
def search(budget: int) -> tuple[float, float, float]:
    """From the best of many points, try the four directions, and halve the step where none leads down."""
    first = int(budget * $share)
    x, y, low = start(first)
    step, left = $step, budget - first
    while left >= 4 and step > 1e-9:
        ways = [(step, 0.0), (-step, 0.0), (0.0, step), (0.0, -step)]
        there = [(inside(x + right), inside(y + up)) for right, up in ways]
        found = min(((a, b, evaluate_function(a, b)) for a, b in there), key=lambda point: point[2])
        left -= 4
        if found[2] < low:
            x, y, low = found
        else:
            step *= 0.5
    return x, y, low
'''

_DIFFERENTIAL = '''
def search(budget: int) -> tuple[float, float, float]:
    """Differential evolution: points move along the differences of others, and the lower of old and new stays."""
    size = int(8 + 16 * $share)
    crowd = [start(1) for _ in range(size)]
    for turn in range(budget - size):
        place = turn % size
        one, two, three = random.sample(crowd, 3)
        there = [inside(one[axis] + $step * (two[axis] - three[axis])) for axis in (0, 1)]
        keep = random.randrange(2)
        if random.random() < 0.2:
            there[keep] = crowd[place][keep]
        value = evaluate_function(there[0], there[1])
        if value < crowd[place][2]:
            crowd[place] = (there[0], there[1], value)
    return min(crowd, key=lambda point: point[2])
'''

_GRADIENT = '''
def search(budget: int) -> tuple[float, float, float]:
    """Descent along a measured slope from the best of some points, with a rate that halves when it overshoots."""
    first = int(budget * $share)
    x, y, low = start(first)
    rate, left = $step, budget - first
    while left >= 3:
        right = (evaluate_function(x + 1e-5, y) - low) / 1e-5
        up = (evaluate_function(x, y + 1e-5) - low) / 1e-5
        there = inside(x - rate * right), inside(y - rate * up)
        value = evaluate_function(*there)
        left -= 3
        if value < low:
            (x, y), low = there, value
        else:
            rate *= 0.5
    return x, y, low
'''

IDEAS: Mapping[str, str] = {
    "annealing": _START + _ANNEALING,
    "coarse-grid": _COARSE_GRID,
    "compass": _START + _COMPASS,
    "differential": _START + _DIFFERENTIAL,
    "gradient": _START + _GRADIENT,
    "hill-climb": _START + _HILL_CLIMB,
    "refinement": _START + _REFINEMENT,
    "restarts": _START + _RESTARTS,
    "shrinking-box": _START + _SHRINKING_BOX,
    "shrinking-grid": _START + _SHRINKING_GRID,
    "stratified": _STRATIFIED,
}


def idea(dice: Random) -> tuple[str, str]:
    """An idea with its numbers drawn: its name, and the text between the marks."""
    name = dice.choice(sorted(IDEAS))
    numbers = {
        "share": f"{dice.uniform(0.2, 0.7):.3f}",
        "step": f"{dice.uniform(0.2, 0.9):.3f}",
        "decay": f"{dice.uniform(0.93, 0.99):.4f}",
        "shrink": f"{dice.uniform(0.4, 0.7):.3f}",
    }
    return name, Template(IDEAS[name]).substitute(numbers).strip("\n")
