"""Frozen opponents and the displayed scale: players that never learn, whose luck is handed in as dice.

An anchor sees a fixed number of stones ahead and knows only won and lost; among equal columns its dice decide.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keyturn.subjects.connect4.rules import (
    COLUMNS,
    Array,
    full,
    room,
    spread,
    winning_columns,
    wins_now,
)

DEPTHS: Mapping[str, int] = {"random": 0, "depth_1": 1, "depth_2": 2, "depth_4": 4}
"""How many stones ahead each anchor sees."""

RATINGS: Mapping[str, float] = {"random": 0.0, "depth_1": 183.0, "depth_2": 528.0, "depth_4": 680.0}
"""Each anchor on the displayed Elo scale; measured once among the anchors themselves, then frozen."""


def outlook(mine: Array, taken: Array, depth: int) -> Array:
    """Say what the side to move can force within `depth` stones: 1 a win, -1 a loss, 0 neither; any shape."""
    values = np.where(wins_now(mine, taken), 1, 0).astype(np.int8)
    if depth <= 1:
        return values if depth == 1 else np.zeros_like(values)
    quiet = np.flatnonzero(((values == 0) & ~full(taken)).ravel())
    next_mine, next_taken = spread(mine.ravel()[quiet], taken.ravel()[quiet])
    replies = -outlook(next_mine, next_taken, depth - 1)
    replies[~room(taken.ravel()[quiet])] = -1
    values.ravel()[quiet] = replies.max(axis=1)
    return values


def anchor_columns(mine: Array, taken: Array, *, depth: int, dice: Array) -> Array:
    """Choose one column per board, seeing `depth` stones ahead; `dice` (n, 7) in [0, 1) break ties."""
    values = np.zeros((len(mine), COLUMNS))
    if depth >= 2:
        values = -outlook(*spread(mine, taken), depth - 1).astype(float)
    if depth >= 1:
        values[winning_columns(mine, taken)] = 1
    return np.asarray(np.where(room(taken), values + dice / 2, -np.inf).argmax(axis=1))


def elo(scores: Mapping[str, tuple[float, int]]) -> float:
    """Fit one rating to `{anchor: (mean score, games)}` by maximum likelihood; for display only.

    One drawn game against each anchor is added, so that a clean sweep stays finite.
    """
    low, high = -1000.0, 2500.0
    for _ in range(60):
        guess = (low + high) / 2
        surplus = 0.0
        for anchor, (mean, games) in scores.items():
            expected = 1 / (1 + 10 ** ((RATINGS[anchor] - guess) / 400))
            surplus += mean * games + 0.5 - (games + 1) * expected
        low, high = (guess, high) if surplus > 0 else (low, guess)
    return round((low + high) / 2, 1)
