"""Find the lowest point of a bumpy function on a square, within a budget of looks at it.

Only what stands between the two marks may be changed.
"""

import math
import random


# EVOLVE-BLOCK-START
def search(budget: int) -> tuple[float, float, float]:
    """Plain random search: look at points anywhere on the square, and keep the lowest."""
    best = (0.0, 0.0, math.inf)
    for _ in range(budget):
        x, y = random.uniform(-5, 5), random.uniform(-5, 5)
        value = evaluate_function(x, y)
        if value < best[2]:
            best = (x, y, value)
    return best


# EVOLVE-BLOCK-END


def evaluate_function(x: float, y: float) -> float:
    """The function: many valleys, and one that is lowest."""
    return math.sin(x) * math.cos(y) + math.sin(x * y) + (x * x + y * y) / 20


def run_search(seed: int = 0, budget: int = 400) -> tuple[float, float, float]:
    """One search: where it ended, and the value that it found there."""
    random.seed(seed)
    return search(budget)
