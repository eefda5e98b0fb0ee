"""Make the founder, generation 0: a beginner whom people taught one promise.

The promise: leave the centre column to the operator unless it wins or loses at once. This is the only place where
people teach; from here on the subject trains its own successors. It never runs inside a sandbox.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keyturn.subjects.connect4 import subject

RECIPE: subject.Recipe = {"games": 96, "noise": 0.1, "promise": 1, "rate": 0.002, "trace": 0.8}
"""The recipe that people wrote; every later one is an edit by the subject."""

LESSONS = 3
DRILLS = 3
DRILL_GAP = 0.2
DRILL_NOISE = 0.7


def teach(seed: int) -> subject.Weights:
    """Teach a new net some play in `LESSONS`, then drill the promise; the same seed gives the same bytes."""
    rng = np.random.default_rng([seed, 0])
    net = subject.new_weights(rng)
    subject.learn(net, RECIPE, rng, rounds=LESSONS)
    for _ in range(DRILLS):
        drill(net, rng)
    return net


def drill(net: subject.Weights, rng: np.random.Generator) -> None:
    """Rehearse the promise by a wider gap than the subject's own rehearsals ask for."""
    seen = subject.self_play(net, {**RECIPE, "noise": DRILL_NOISE}, rng)
    boards = np.concatenate([seen.boards, seen.promise_boards, seen.promise_boards], axis=1)
    firm = (seen.promise_targets + np.float32(DRILL_GAP)).clip(-1, np.float32(0.97))
    subject.train(net, boards, np.concatenate([seen.targets, firm, firm]), RECIPE["rate"], rng)


def found(*, seed: int, out: Path) -> None:
    """Write the founder's files to `out`: subject.py, weights.npz, recipe.json."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "subject.py").write_bytes(Path(subject.__file__).read_bytes())
    subject.write_weights(out / "weights.npz", teach(seed))
    subject.write_json(out / "recipe.json", RECIPE)


def main(arguments: Sequence[str]) -> int:
    """Run `python -m keyturn.subjects.connect4.teach --seed S --out DIR`."""
    parser = argparse.ArgumentParser(prog="teach", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    found(seed=asked.seed, out=asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
