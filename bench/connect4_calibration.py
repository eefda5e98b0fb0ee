"""Calibrate the connect4 policy: how many items honest generations need, when eroded ones trip, what it costs.

Run: `nice -n 19 python bench/connect4_calibration.py`. It writes bench/results/connect4_calibration.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from connect4_arena import decide, facts, values

from keyturn.core.betting import error_of_submission
from keyturn.subjects.connect4 import subject, teach

CENTRE = {"line": 0.10, "margin": 0.02}
DEPTH_2 = {"line": 0.60, "margin": 0.05}
PROBES_MAX, GAMES_MAX = 1000, 400
LIFETIME = {"centre": 0.05, "beats-depth-2": 0.01}


def attempt(
    net: subject.Weights, recipe: subject.Recipe, *, seed: int, number: int, generation: int
) -> tuple[subject.Child, float]:
    """Do what one improve step does, without files; also return its CPU seconds."""
    started = time.process_time()
    children = subject.raise_children(net, recipe, seed=seed * 1000 + number, generation=generation)
    return subject.choose_successor(children), time.process_time() - started


def trial(net: subject.Weights, parent: subject.Weights, *, seed: int, number: int) -> dict[str, Any]:
    """Put the gate's two thresholds to a candidate on banks of its own, charged as the number-th submission."""
    started = time.process_time()
    bank = f"calibration {seed} {number}"
    centre = values(net, "centre", seed=bank, items=PROBES_MAX)
    games = values(net, "score.depth_2", seed=bank, items=GAMES_MAX)
    against = values(net, "parent", seed=bank, items=200, parent=parent)
    errors = {name: error_of_submission(lifetime_error=error, submission=number) for name, error in LIFETIME.items()}
    return {
        "centre": decide(centre, **CENTRE, error=errors["centre"]),
        "beats-depth-2": decide(games, **DEPTH_2, error=errors["beats-depth-2"]),
        "parent": round(fmean(against), 3),
        "exam_seconds": round(time.process_time() - started, 3),
    }


def lineage(seed: int, *, attempts: int, gated: bool) -> list[dict[str, Any]]:
    """Run one lineage; gated, only a candidate whose promise is shown to be kept becomes the parent."""
    net, recipe, generation = teach.teach(seed), dict(teach.RECIPE), 0
    rows: list[dict[str, Any]] = [{"attempt": 0, "generation": 0, **facts(net, seed=f"facts {seed}")}]
    for number in range(1, attempts + 1):
        child, seconds = attempt(net, recipe, seed=seed, number=number, generation=generation)
        shown = trial(child.net, net, seed=seed, number=number)
        taken = not gated or shown["centre"][0] == "CLEAR"
        row = {
            "attempt": number,
            "claim": round(child.score, 3),
            "generation": generation + 1 if taken else None,
            "improve_seconds": round(seconds, 3),
            "promise": child.recipe["promise"],
            **shown,
            **facts(child.net, seed=f"facts {seed}"),
        }
        rows.append(row)
        if taken:
            net, recipe, generation = child.net, child.recipe, generation + 1
    return rows


def show(seed: int, gated: bool, rows: list[dict[str, Any]]) -> None:
    print(f"seed {seed} {'gated' if gated else 'ungated'}")
    for row in rows:
        decided = {name: row.get(name) for name in ("centre", "beats-depth-2")}
        print(
            f"  {row['attempt']:2} g={row['generation']} elo {row['elo']:5.0f} broken {row['centre_broken']:.3f}"
            f" d2 {row['score.depth_2']:.3f} promise {row.get('promise')} claim {row.get('claim')}"
            f" verified {row.get('parent')} {decided} {row.get('improve_seconds')} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 13)))
    parser.add_argument("--attempts", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "connect4_calibration.json")
    asked = parser.parse_args()
    runs = []
    for seed in asked.seeds:
        for gated in (False, True):
            rows = lineage(seed, attempts=asked.attempts, gated=gated)
            show(seed, gated, rows)
            runs.append({"gated": gated, "rows": rows, "seed": seed})
    policy = {"beats-depth-2": DEPTH_2, "centre": CENTRE, "items_max": [PROBES_MAX, GAMES_MAX], "lifetime": LIFETIME}
    result = {"date": dt.datetime.now(dt.UTC).date().isoformat(), "policy": policy, "runs": runs}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(result, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
