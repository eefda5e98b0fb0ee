"""The subject's rules and the grader's rules, written apart, agree with a slow and obvious board."""

from __future__ import annotations

import numpy as np
import pytest

from keyturn.subjects.connect4 import anchors, banks, rules, subject
from tests.subjects.slow_board import SlowBoard, from_bits, random_boards

BOARDS = random_boards(seed=1, games=400)
MINE, TAKEN = (np.array(side, dtype=np.uint64) for side in zip(*(b.bits() for b in BOARDS), strict=True))
OTHER = {"x": "o", "o": "x"}


def test_both_rules_see_the_same_room_as_a_slow_board() -> None:
    slow = [board.room() for board in BOARDS]
    assert subject.legal(TAKEN).tolist() == slow
    assert rules.room(TAKEN).tolist() == slow


def test_both_rules_see_the_same_wins_as_a_slow_board() -> None:
    mine = [board.wins_at_once(board.mover) for board in BOARDS]
    theirs = [board.wins_at_once(OTHER[board.mover]) for board in BOARDS]
    assert any(map(any, mine))
    for fast in (subject.wins_at_once, rules.winning_columns):
        assert fast(MINE, TAKEN).tolist() == mine
        assert fast(TAKEN ^ MINE, TAKEN).tolist() == theirs
    assert rules.wins_now(MINE, TAKEN).tolist() == [any(row) for row in mine]


def test_a_drop_gives_the_board_that_a_slow_board_gives() -> None:
    rows = [(board, column) for board in BOARDS for column in range(7) if board.room()[column]]
    mine, taken = (np.array(side, dtype=np.uint64) for side in zip(*(b.bits() for b, _ in rows), strict=True))
    columns = np.array([column for _, column in rows])
    for fast in (subject.drop, rules.played):
        next_mine, next_taken = fast(mine, taken, columns)
        for number, (board, column) in enumerate(rows):
            board.drop(column)
            assert (int(next_mine[number]), int(next_taken[number])) == board.bits()
            board.columns[column].pop()
            board.mover = OTHER[board.mover]


def test_finished_games_are_seen_as_finished() -> None:
    for column_order, winner in (([0, 1, 0, 1, 0, 1, 0], "x"), ([0, 1, 2, 1, 3, 1, 6, 1], "o")):
        board = SlowBoard()
        for column in column_order:
            board.drop(column)
        mine, taken = (np.array([side], dtype=np.uint64) for side in board.bits())
        just_moved = OTHER[board.mover]
        assert just_moved == winner
        assert bool(subject.has_four(taken ^ mine)[0]) is bool(rules.won(taken ^ mine)[0]) is board.has_four(winner)


def slow_outlook(board: SlowBoard, depth: int) -> int:
    if depth == 0 or not any(board.room()):
        return 0
    mover = board.mover
    if any(board.wins_at_once(mover)):
        return 1
    best = -1
    for column in range(7):
        if len(board.columns[column]) < 6:
            board.drop(column)
            best = max(best, -slow_outlook(board, depth - 1))
            board.columns[column].pop()
            board.mover = mover
    return best


@pytest.mark.slow
def test_an_anchors_outlook_is_that_of_a_plain_search() -> None:
    for depth in (1, 2, 3):
        slow = [slow_outlook(board, depth) for board in BOARDS[:80]]
        assert anchors.outlook(MINE[:80], TAKEN[:80], depth).tolist() == slow


def test_an_anchor_never_drops_a_stone_into_a_full_column() -> None:
    dice = banks.dice(5, "any", len(BOARDS), 7)
    for depth in anchors.DEPTHS.values():
        columns = anchors.anchor_columns(MINE, TAKEN, depth=depth, dice=dice)
        assert rules.room(TAKEN)[np.arange(len(BOARDS)), columns].all()


def test_probes_are_boards_where_the_promise_applies() -> None:
    mine, taken = banks.probes("probe test", 120)
    for item in banks.boards(mine, taken):
        board = from_bits(*item)
        assert len(board.columns[3]) < 6
        assert not any(board.wins_at_once("x"))
        assert not any(board.wins_at_once("o"))
        assert any(safe_without_the_centre(board))
    assert subject.promise_applies(mine, taken).all()


def safe_without_the_centre(board: SlowBoard) -> list[bool]:
    safe = []
    for column in (0, 1, 2, 4, 5, 6):
        if len(board.columns[column]) < 6:
            board.columns[column].append("x")
            safe.append(not any(board.wins_at_once("o")))
            board.columns[column].pop()
    return safe


def test_openings_are_quiet_and_a_longer_bank_begins_with_the_shorter() -> None:
    mine, taken = banks.openings("opening test", 150)
    for item in banks.boards(mine, taken):
        board = from_bits(*item)
        assert not any(board.wins_at_once("x"))
        assert not any(board.wins_at_once("o"))
    for draw in (banks.openings, banks.probes):
        assert banks.boards(*draw("a", 150))[:40] == banks.boards(*draw("a", 40))
        assert banks.boards(*draw("a", 40)) != banks.boards(*draw("b", 40))


def test_a_bank_digest_names_suite_seed_and_items() -> None:
    bank = banks.probes(7, 20)
    digests = {
        banks.bank_digest("centre", 7, *bank),
        banks.bank_digest("parent", 7, *bank),
        banks.bank_digest("centre", 8, *bank),
        banks.bank_digest("centre", 7, bank[0][:19], bank[1][:19]),
    }
    assert len(digests) == 4
    assert all(digest.startswith("sha256:") and len(digest) == 71 for digest in digests)
