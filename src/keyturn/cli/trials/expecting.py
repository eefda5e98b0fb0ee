"""What is to be expected of a trial under way: which line its bets move to, and how many items that may take.

A forecast for people who wait; it never decides, and a candidate that changes its ways makes it wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from keyturn.core import betting
from keyturn.core.betting import ARCSINE_SHARES, RARE_BELOW, RARE_SHARES, Bets, Process
from keyturn.core.terms import Verdict
from keyturn.core.trial import TrialPlan

_SLOW: Final = 1e-9
"""A bet that grows by less an item does not grow."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Which verdict comes next if items go on as they did, and after how many more; UNDECIDED is the budget's end."""

    verdict: Verdict
    items: int


def expected(plan: TrialPlan, process: Process) -> Expected:
    """The forecast from the mean so far; with few items read it is drawn towards the line."""
    left = max(plan.items - process.n, 0)
    if process.verdict is not Verdict.UNDECIDED:
        return Expected(process.verdict, 0)
    middle = (process.theta_low + process.theta_high) / 2.0
    mean = (process.total + middle) / (process.n + 1)
    low, high = betting.evidence(process)
    target = math.log(1.0 / process.error)
    ways = (
        (Verdict.CLEAR, _needed(process.low, low, target, mean)),
        (Verdict.TRIP, _needed(process.high, high, target, 1.0 - mean)),
    )
    verdict, many = min(ways, key=lambda way: way[1])
    if many > left:
        return Expected(Verdict.UNDECIDED, left)
    return Expected(verdict, max(1, math.ceil(many)))


def _needed(bets: Bets, fortune: float, target: float, mean: float) -> float:
    """How many items the best gambler of a side needs for the rest of the way; infinity where none grows."""
    theta = bets.theta
    shares = RARE_SHARES if theta < RARE_BELOW else ARCSINE_SHARES
    growth = max(
        mean * math.log(share) + (1.0 - mean) * math.log((1.0 - theta * share) / (1.0 - theta)) for share in shares
    )
    return (target - math.log(max(fortune, 1e-300))) / growth if growth > _SLOW else math.inf
