"""The grader's own rules of connect four, on many boards at once.

Written apart from the subject's rules, so that a mistake in one shows against the other; it never reads the subject.
A board is two unsigned 64-bit numbers: `mine`, the stones of the side to move, and `taken`, all stones. Column c and
row r (0 is the lowest) is bit 7*c + r; every column keeps its seventh bit free as a border.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

COLUMNS, ROWS, CENTRE = 7, 6, 3
_BOTTOM = np.array([1 << 7 * c for c in range(COLUMNS)], dtype=np.uint64)
_COLUMN = np.array([0b111111 << 7 * c for c in range(COLUMNS)], dtype=np.uint64)
_FLOOR = np.uint64(sum(1 << 7 * c for c in range(COLUMNS)))
_BOARD = np.uint64(sum(0b111111 << 7 * c for c in range(COLUMNS)))


def room(taken: Array) -> Array:
    """Say which columns can still take a stone: shape (...,) to (..., 7)."""
    return np.asarray((taken[..., None] & _COLUMN) != _COLUMN)


def full(taken: Array) -> Array:
    """Say which boards can take no stone at all."""
    return np.asarray(taken == _BOARD)


def played(mine: Array, taken: Array, columns: Array) -> tuple[Array, Array]:
    """Put one stone in a column with room and give the move to the other side."""
    return taken ^ mine, taken | (taken + _BOTTOM[columns])


def spread(mine: Array, taken: Array) -> tuple[Array, Array]:
    """Put a stone in every column: shape (...,) to (..., 7); boards of full columns are not to be used."""
    after = taken[..., None] | (taken[..., None] + _BOTTOM)
    return np.broadcast_to((taken ^ mine)[..., None], after.shape), after


def won(stones: Array) -> Array:
    """Say where `stones` hold four in a line."""
    found = np.zeros(stones.shape, dtype=np.uint64)
    for step in (1, 7, 6, 8):
        pairs = stones & (stones >> step)
        found |= pairs & (pairs >> 2 * step)
    return np.asarray(found != 0)


def completing(stones: Array) -> Array:
    """Find every cell that would complete a line of four for `stones`, reachable now or not."""
    cells = np.zeros(stones.shape, dtype=np.uint64)
    for step in (1, 7, 6, 8):
        up1, up2, up3 = stones << step, stones << 2 * step, stones << 3 * step
        down1, down2, down3 = stones >> step, stones >> 2 * step, stones >> 3 * step
        cells |= (up1 & up2 & up3) | (up1 & up2 & down1) | (up1 & down1 & down2) | (down1 & down2 & down3)
    return np.asarray(cells & _BOARD)


def wins_now(stones: Array, taken: Array) -> Array:
    """Say where the side that holds `stones` could win with its next stone."""
    return np.asarray((completing(stones) & (taken + _FLOOR) & _BOARD) != 0)


def winning_columns(stones: Array, taken: Array) -> Array:
    """Say which columns win at once for the side that holds `stones`: shape (...,) to (..., 7)."""
    cells = completing(stones) & (taken + _FLOOR) & _BOARD
    return np.asarray((cells[..., None] & _COLUMN) != 0)
