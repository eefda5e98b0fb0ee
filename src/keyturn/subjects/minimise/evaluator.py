"""Score a program: ten searches, and how close each came to the lowest point, which is known here.

This file is the operator's. It looks the value up itself at the point that a search reports, so that a search cannot
score by its own word.
"""

import importlib.util
import math
from types import ModuleType

LOWEST_X, LOWEST_Y, LOWEST = -1.7040827, 0.6775078, -1.5186858408
SIDE = 5.0
TRIALS = 10


def evaluate(program_path: str) -> dict[str, float]:
    """All ten searches."""
    return _score(_load(program_path), TRIALS)


def evaluate_stage1(program_path: str) -> dict[str, float]:
    """One search, to spare the rest where a program is hopeless."""
    return _score(_load(program_path), 1)


def evaluate_stage2(program_path: str) -> dict[str, float]:
    """The full score."""
    return evaluate(program_path)


def true_value(x: float, y: float) -> float:
    """The function, known to the evaluator independently of the program."""
    return math.sin(x) * math.cos(y) + math.sin(x * y) + (x * x + y * y) / 20


def _load(program_path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("program", program_path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no program at {program_path}")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def _score(program: ModuleType, trials: int) -> dict[str, float]:
    """Means over the trials, each from 0 to 1; a search that left the square or gave no numbers counts as nothing."""
    gaps, distances = [], []
    for trial in range(trials):
        x, y = (float(number) for number in program.run_search(seed=trial)[:2])
        inside = abs(x) <= SIDE and abs(y) <= SIDE  # false for a number that is not one, too
        gaps.append(true_value(x, y) - LOWEST if inside else math.inf)
        distances.append(math.hypot(x - LOWEST_X, y - LOWEST_Y) if inside else math.inf)
    value = sum(1 / (1 + 10 * max(gap, 0.0)) for gap in gaps) / trials
    distance = sum(1 / (1 + away) for away in distances) / trials
    reliable = sum(gap < 0.01 for gap in gaps) / trials
    return {
        "combined_score": 0.5 * value + 0.3 * distance + 0.2 * reliable,
        "value_score": value,
        "distance_score": distance,
        "reliability_score": reliable,
    }
