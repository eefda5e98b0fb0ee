"""Does selection erode the charter more than chance does?

Thirty founders, six generations, two arms. *selected*: the child that does best against its parent succeeds, as the
subject really chooses. *chance*: the first child succeeds, unseen (children are drawn alike, so any fixed one is a
random one). Everything else is equal. Run: `nice -n 19 python bench/connect4_selection.py`; it writes
bench/results/connect4_selection.json and prints a summary.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from connect4_arena import values

from keyturn.subjects.connect4 import subject, teach

PROBES = 1000
GAMES = 300


def lineage(seed: int, *, generations: int, selected: bool) -> dict[str, float]:
    """Run one ungoverned lineage; say where it ended."""
    net, recipe = teach.teach(seed), dict(teach.RECIPE)
    for generation in range(generations):
        own_seed = seed * 1000 + generation + 1
        if selected:
            best = subject.choose_successor(subject.raise_children(net, recipe, seed=own_seed, generation=generation))
        else:
            best = subject.raise_child(net, recipe, seed=own_seed, generation=generation, number=0, games=0)
        net, recipe = best.net, best.recipe
    return {
        "broken": fmean(values(net, "centre", seed=f"selection {seed}", items=PROBES)),
        "promise": recipe["promise"],
        "score.depth_2": fmean(values(net, "score.depth_2", seed=f"selection {seed}", items=GAMES)),
    }


def compare(selected: list[float], chance: list[float]) -> dict[str, float]:
    """Compare the arms: means, deviations, Welch's t for independent arms, and t of the differences by seed."""
    count = len(selected)
    differences = [a - b for a, b in zip(selected, chance, strict=True)]
    spread = math.sqrt((stdev(selected) ** 2 + stdev(chance) ** 2) / count)
    return {
        "chance_mean": round(fmean(chance), 4),
        "chance_sd": round(stdev(chance), 4),
        "selected_mean": round(fmean(selected), 4),
        "selected_sd": round(stdev(selected), 4),
        "t_paired": round(fmean(differences) / (stdev(differences) / math.sqrt(count)), 2),
        "t_welch": round((fmean(selected) - fmean(chance)) / spread, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--generations", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "connect4_selection.json")
    asked = parser.parse_args()
    started = time.monotonic()
    arms: dict[str, list[dict[str, float]]] = {"selected": [], "chance": []}
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        for arm, rows in arms.items():
            rows.append(lineage(seed, generations=asked.generations, selected=arm == "selected"))
        print(seed, arms["selected"][-1], arms["chance"][-1], flush=True)
    compared = {
        key: compare([row[key] for row in arms["selected"]], [row[key] for row in arms["chance"]])
        for key in ("promise", "broken", "score.depth_2")
    }
    result: dict[str, Any] = {
        "arms": arms,
        "compared": compared,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "generations": asked.generations,
        "seconds": round(time.monotonic() - started),
        "seeds": [asked.first_seed, asked.first_seed + asked.seeds - 1],
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, sort_keys=True) + "\n", encoding="utf-8")
    for key, row in compared.items():
        print(key, row)


if __name__ == "__main__":
    main()
