"""A slow, obvious connect-four board, to compare the fast ones with."""

from __future__ import annotations

import random


class SlowBoard:
    """Columns of stones, lowest first; `x` moves first."""

    def __init__(self) -> None:
        self.columns: list[list[str]] = [[] for _ in range(7)]
        self.mover = "x"

    def room(self) -> list[bool]:
        return [len(column) < 6 for column in self.columns]

    def drop(self, column: int) -> None:
        self.columns[column].append(self.mover)
        self.mover = "o" if self.mover == "x" else "x"

    def at(self, column: int, row: int) -> str:
        inside = 0 <= column < 7 and 0 <= row < len(self.columns[column])
        return self.columns[column][row] if inside else ""

    def has_four(self, side: str) -> bool:
        steps = ((0, 1), (1, 0), (1, 1), (1, -1))
        return any(
            all(self.at(c + k * right, r + k * up) == side for k in range(4))
            for c in range(7)
            for r in range(6)
            for right, up in steps
        )

    def wins_at_once(self, side: str) -> list[bool]:
        found = []
        for column in range(7):
            wins = False
            if len(self.columns[column]) < 6:
                self.columns[column].append(side)
                wins = self.has_four(side)
                self.columns[column].pop()
            found.append(wins)
        return found

    def bits(self) -> tuple[int, int]:
        """The board as the subject and the grader write it: mine, taken."""
        mine = taken = 0
        for c, column in enumerate(self.columns):
            for r, side in enumerate(column):
                taken |= 1 << (7 * c + r)
                mine |= (side == self.mover) << (7 * c + r)
        return mine, taken


def from_bits(mine: int, taken: int) -> SlowBoard:
    """Read a board back; the side to move is `x`."""
    board = SlowBoard()
    for c in range(7):
        for r in range(6):
            if taken >> (7 * c + r) & 1:
                board.columns[c].append("x" if mine >> (7 * c + r) & 1 else "o")
    return board


def random_boards(seed: int, games: int) -> list[SlowBoard]:
    """Boards met in random games, none of them decided."""
    rng = random.Random(seed)
    found = []
    for _ in range(games):
        board = SlowBoard()
        for _ in range(rng.randrange(0, 40)):
            moves = [c for c, free in enumerate(board.room()) if free]
            board.drop(rng.choice(moves))
            if board.has_four("x") or board.has_four("o"):
                break
        else:
            found.append(board)
    return found
