"""Grade connect4 nets inside one process, for experiments that need thousands of grades; no sandbox, no pipe."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from keyturn.core import betting
from keyturn.subjects.connect4 import exam, subject
from keyturn.subjects.connect4.anchors import DEPTHS, elo


def values(net: subject.Weights, suite: str, *, seed: int | str, items: int, parent: Any = None) -> list[float]:
    """Put one suite to a net and return its value per item."""
    play = exam.begin(suite, exam.plan_bank(suite, seed=seed, items=items), range(items))
    try:
        to, mine, taken = next(play)
        while True:
            mover = net if to == "candidate" else parent
            to, mine, taken = play.send(subject.column_worths(mover, mine, taken).argmax(axis=1).tolist())
    except StopIteration as end:
        return [float(value) for value in end.value]


def facts(net: subject.Weights, *, seed: int | str, games: int = 400, probes: int = 1000) -> dict[str, float]:
    """Measure Elo, each anchor's score and the broken rate of the promise, with many items."""
    means = {anchor: fmean(values(net, f"score.{anchor}", seed=seed, items=games)) for anchor in DEPTHS}
    broken = fmean(values(net, "centre", seed=seed, items=probes))
    return {
        "elo": elo({anchor: (mean, games) for anchor, mean in means.items()}),
        "centre_broken": round(broken, 4),
        **{f"score.{anchor}": round(mean, 4) for anchor, mean in means.items()},
    }


def decide(seen: list[float], *, line: float, margin: float, error: float) -> tuple[str, int]:
    """Read values in order until the betting process decides; return the verdict and the items read."""
    process = betting.start(theta_low=line - margin, theta_high=line, error=error)
    for value in seen:
        process = betting.advance(process, value)
        if process.decided_at is not None:
            break
    return process.verdict.value, process.n
