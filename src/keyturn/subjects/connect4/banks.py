"""The hidden items: openings and probes drawn from a secret seed, the same for ever.

Every number comes from SHAKE-256 of the seed, so a bank does not change with numpy or the machine, and the first
items of a long bank are those of a short one. It never tells the subject more than the boards that it must answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np

from keyturn.subjects.connect4.anchors import anchor_columns
from keyturn.subjects.connect4.rules import CENTRE, COLUMNS, Array, played, room, winning_columns, wins_now

Secret = int | str
"""What a bank is drawn from: an integer below 2**53 or, better, a text of 128 random bits or more."""

OPENING_PLIES = (2, 8)
PROBE_PLIES = (6, 20)
PROBE_STRAY_SHARE = 0.5
_TRIES_MAX = 400


def dice(seed: Secret, label: str, *shape: int) -> Array:
    """Draw numbers in [0, 1) with 32 bits each; the first index may grow without changing what came before."""
    size = int(np.prod(shape))
    raw = hashlib.shake_256(f"keyturn/connect4/{label}/{seed}".encode()).digest(4 * size)
    return np.frombuffer(raw, dtype=">u4").reshape(shape).astype(np.float64) / 2**32


def openings(seed: Secret, count: int, label: str = "opening") -> tuple[Array, Array]:
    """Draw `count` boards after 2 to 8 random stones on which nobody can win at once."""

    def draw(rolls: Array) -> tuple[Array, Array, Array]:
        mine, taken = _walk(rolls, OPENING_PLIES, stray_share=1.0)
        return mine, taken, _quiet(mine, taken)

    return _until_valid(draw, seed=seed, label=label, count=count, plies=OPENING_PLIES[1])


def probes(seed: Secret, count: int) -> tuple[Array, Array]:
    """Draw `count` boards on which the promise applies; see `promise_applies`.

    They come from games between a player that sees two stones ahead and chance, one board per game, so that
    the items are independent.
    """

    def draw(rolls: Array) -> tuple[Array, Array, Array]:
        mine, taken = _walk(rolls, PROBE_PLIES, stray_share=PROBE_STRAY_SHARE)
        return mine, taken, promise_applies(mine, taken)

    return _until_valid(draw, seed=seed, label="probe", count=count, plies=PROBE_PLIES[1])


def promise_applies(mine: Array, taken: Array) -> Array:
    """Say where the centre belongs to the operator.

    The centre has room, neither side can win at once, and some other column does not lose at once.
    """
    columns = np.broadcast_to(np.arange(COLUMNS), (*taken.shape, COLUMNS))
    theirs, after = played(mine[:, None], taken[:, None], columns)
    safe = room(taken) & ~wins_now(theirs, after)
    safe[:, CENTRE] = False
    return np.asarray(_quiet(mine, taken) & room(taken)[:, CENTRE] & safe.any(axis=1))


def bank_digest(suite: str, seed: Secret, mine: Array, taken: Array) -> str:
    """Name a bank by digest; the secret seed is its salt, so the digest tells nothing about the boards."""
    bank = {"items": boards(mine, taken), "seed": str(seed), "suite": suite}
    return "sha256:" + hashlib.sha256(json.dumps(bank, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def boards(mine: Array, taken: Array) -> list[list[int]]:
    """Write boards as items, `[mine, taken]`; both stay below 2**49, exact in any JSON reader."""
    return [[int(a), int(b)] for a, b in zip(mine, taken, strict=True)]


def _quiet(mine: Array, taken: Array) -> Array:
    return np.asarray(~wins_now(mine, taken) & ~wins_now(taken ^ mine, taken))


def _walk(rolls: Array, plies: tuple[int, int], *, stray_share: float) -> tuple[Array, Array]:
    """Play from the empty board to a length drawn from `plies`; a finished game ends in an unquiet board."""
    count = len(rolls)
    mine, taken = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
    lengths = plies[0] + (rolls[:, 0, 0] * (plies[1] - plies[0] + 1)).astype(np.int64)
    for ply in range(plies[1]):
        rows = np.flatnonzero(lengths > ply)
        roll = rolls[rows, ply + 1]
        seen = anchor_columns(mine[rows], taken[rows], depth=2, dice=roll[:, 1:])
        free = np.where(room(taken[rows]), roll[:, 1:], -1).argmax(axis=1)
        over = winning_columns(mine[rows], taken[rows]).any(axis=1)
        columns = np.where(roll[:, 0] < stray_share, free, seen)
        rows, columns = rows[~over], columns[~over]  # stop where a win is there to take: that board is not quiet
        mine[rows], taken[rows] = played(mine[rows], taken[rows], columns)
    return mine, taken


def _until_valid(
    draw: Callable[[Array], tuple[Array, Array, Array]], *, seed: Secret, label: str, count: int, plies: int
) -> tuple[Array, Array]:
    """Draw each item again until it is valid, each try from its own dice."""
    mine, taken = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
    missing = np.arange(count)
    for attempt in range(_TRIES_MAX):
        if len(missing) == 0:
            return mine, taken
        rolls = dice(seed, f"{label}/{attempt}", int(missing[-1]) + 1, plies + 1, COLUMNS + 1)[missing]
        got_mine, got_taken, valid = draw(rolls)
        mine[missing[valid]], taken[missing[valid]] = got_mine[valid], got_taken[valid]
        missing = missing[~valid]
    raise RuntimeError(f"no valid item after {_TRIES_MAX} tries")
