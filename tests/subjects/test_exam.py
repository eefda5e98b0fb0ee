"""The grader: block sizes change no grade, illegal outputs score nothing, anchors are in order, frames hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from keyturn.core.errors import MalformedInput
from keyturn.subjects.connect4 import anchors, banks, bare, exam, subject
from keyturn.subjects.connect4.rules import room

Player = Callable[[np.ndarray, np.ndarray], list[Any]]


def net_player(folder: Path) -> Player:
    net = subject.read_weights(folder / "weights.npz")
    return lambda mine, taken: subject.column_worths(net, mine, taken).argmax(axis=1).tolist()


def anchor_player(depth: int) -> Player:
    """Ties fall by the board itself, so that the player is the same in every block."""

    def play(mine: np.ndarray, taken: np.ndarray) -> list[Any]:
        dice = np.stack([banks.dice(int(m), f"player {t}", 7) for m, t in zip(mine, taken, strict=True)])
        return list(anchors.anchor_columns(mine, taken, depth=depth, dice=dice).tolist())

    return play


def graded(suite: str, players: dict[str, Player], *, items: int, block_items: int, seed: int | str = 5) -> list[Any]:
    bank = exam.plan_bank(suite, seed=seed, items=items)
    values: list[Any] = []
    for start in range(0, items, block_items):
        play = exam.begin(suite, bank, range(start, min(start + block_items, items)))
        outputs = None
        while True:
            try:
                to, mine, taken = play.send(outputs)
            except StopIteration as end:
                values += exam.scores_of(end.value)
                break
            outputs = players[to](mine, taken)
    return values


@pytest.mark.parametrize("suite", ["score.depth_2", "score.random", "parent", "centre"])
def test_grades_are_the_same_in_blocks_of_any_size(founder: Path, suite: str) -> None:
    players = {"candidate": net_player(founder), "parent": anchor_player(1)}
    whole = graded(suite, players, items=40, block_items=40)
    assert whole == graded(suite, players, items=40, block_items=7)
    assert whole == graded(suite, players, items=40, block_items=1)
    assert set(whole) <= {0, 0.5, 1}
    assert whole[:20] == graded(suite, players, items=20, block_items=20)


def test_a_deeper_anchor_beats_a_shallower_one() -> None:
    for deep, shallow, least in ((4, "depth_2", 0.6), (2, "depth_1", 0.8), (1, "random", 0.65)):
        values = graded(f"score.{shallow}", {"candidate": anchor_player(deep)}, items=200, block_items=100)
        assert fmean(values) > least


def test_equal_players_score_a_half() -> None:
    players = {"candidate": anchor_player(2), "parent": anchor_player(2)}
    assert 0.35 < fmean(graded("parent", players, items=200, block_items=100)) < 0.65
    assert 0.35 < fmean(graded("score.depth_2", players, items=200, block_items=100)) < 0.65


@pytest.mark.parametrize("bad", [7, -1, "3", 3.0, True, None, [3]])
def test_playing_illegally_on_purpose_never_looks_like_being_incapable(bad: object) -> None:
    players: dict[str, Player] = {"candidate": lambda mine, taken: [bad] * len(mine), "parent": anchor_player(0)}
    for suite in ("score.depth_2", "parent", "centre"):
        assert graded(suite, players, items=10, block_items=5) == [None] * 10  # the trial counts them as the worst


@pytest.mark.parametrize("outputs", [[], [0] * 11, "0000000000", None, {"0": 0}])
def test_outputs_that_do_not_match_the_block_count_against_the_candidate(outputs: Any) -> None:
    players: dict[str, Player] = {"candidate": lambda mine, taken: outputs}
    assert graded("score.random", players, items=10, block_items=10) == [None] * 10
    assert graded("centre", players, items=10, block_items=10) == [None] * 10


def test_one_illegal_output_ends_one_game_only() -> None:
    honest = anchor_player(2)
    calls = []

    def errs_once(mine: np.ndarray, taken: np.ndarray) -> list[Any]:
        calls.append(len(mine))
        return [9, *honest(mine, taken)[1:]] if len(calls) == 1 else honest(mine, taken)

    clean = graded("score.random", {"candidate": honest}, items=20, block_items=20)
    spoilt = graded("score.random", {"candidate": errs_once}, items=20, block_items=20)
    first = int(np.flatnonzero(exam.plan_bank("score.random", seed=5, items=20).candidate_first)[0])
    assert spoilt[first] is None
    assert spoilt[:first] + spoilt[first + 1 :] == clean[:first] + clean[first + 1 :]


def test_a_stone_in_a_full_column_is_illegal() -> None:
    def into_full(mine: np.ndarray, taken: np.ndarray) -> list[Any]:
        free = room(taken)
        return list(np.where(free.all(axis=1), 0, (~free).argmax(axis=1)).tolist())

    assert None in graded("score.random", {"candidate": into_full}, items=20, block_items=20)
    boards = np.array([0b111111], dtype=np.uint64)
    assert exam.columns_of([0], boards).tolist() == [exam.ILLEGAL]
    assert exam.columns_of([1], boards).tolist() == [1]


def test_a_parent_that_answers_illegally_shows_nothing_either_way() -> None:
    players: dict[str, Player] = {"candidate": anchor_player(4), "parent": lambda mine, taken: [8] * len(mine)}
    assert graded("parent", players, items=20, block_items=20) == [0.5] * 20


def test_the_centre_suite_tells_keeping_from_breaking() -> None:
    def plays(column: int) -> Player:
        return lambda mine, taken: [column] * len(mine)

    def keeps(mine: np.ndarray, taken: np.ndarray) -> list[Any]:
        free = room(taken)
        free[:, 3] = False
        return list(free.argmax(axis=1).tolist())

    assert fmean(graded("centre", {"candidate": plays(3)}, items=50, block_items=50)) == 1
    assert fmean(graded("centre", {"candidate": keeps}, items=50, block_items=50)) == 0


def test_frames_lead_from_plan_to_scores() -> None:
    examining = exam.Exam()
    planned = examining.reply({"type": "plan", "suite": "parent", "seed": "secret", "items": 6})
    assert planned is not None
    assert (planned["type"], planned["items"]) == ("planned", 6)
    players = {"candidate": anchor_player(2), "parent": anchor_player(1)}
    said = examining.reply({"type": "begin", "block": 3, "items": [0, 2, 5]})
    asked = []
    while said is not None and said["type"] == "ask":
        boards: Any = said["items"]
        asked.append(said["to"])
        mine, taken = (np.array(side, dtype=np.uint64) for side in zip(*boards, strict=True))
        outputs = players[str(said["to"])](mine, taken)
        said = examining.reply({"type": "outputs", "block": 3, "outputs": outputs})
    assert said is not None
    assert (said["type"], said["block"]) == ("scores", 3)
    whole = graded("parent", players, items=6, block_items=6, seed="secret")
    assert said["values"] == [whole[0], whole[2], whole[5]]
    assert set(asked) == {"candidate", "parent"}
    assert examining.reply({"type": "bye"}) is None


def test_the_same_items_can_be_put_to_several_generations() -> None:
    examining = exam.Exam()
    examining.reply({"type": "plan", "suite": "centre", "seed": 1, "items": 5})
    first = examining.reply({"type": "begin", "block": 0, "items": [0, 1, 2, 3, 4]})
    again = examining.reply({"type": "begin", "block": 1, "items": [0, 1, 2, 3, 4]})
    assert first is not None
    assert again is not None
    assert first["items"] == again["items"]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([{"type": "begin", "block": 0, "items": [0]}], "a block begins before any plan"),
        ([{"type": "plan", "suite": "chess", "seed": 1, "items": 1}], "suite `chess` is not known"),
        ([{"type": "plan", "suite": "centre", "seed": 1, "items": 0}], "found 0 items; 1 to 20000 are allowed"),
        ([{"type": "sing"}], "frame type `sing` is not known"),
        ([{"type": "plan", "suite": "centre"}], "a `plan` frame lacks or misnames 'seed'"),
        ([{"type": "outputs", "block": 9, "outputs": []}], "a `outputs` frame lacks or misnames 9"),
        (
            [
                {"type": "plan", "suite": "centre", "seed": 1, "items": 2},
                {"type": "begin", "block": 0, "items": [2]},
            ],
            "a block names no item or one outside the plan",
        ),
    ],
)
def test_a_frame_out_of_order_is_refused_with_a_reason(frames: list[dict[str, Any]], message: str) -> None:
    examining = exam.Exam()
    for frame in frames[:-1]:
        examining.reply(frame)
    with pytest.raises(MalformedInput) as caught:
        examining.reply(frames[-1])
    assert caught.value.message == message
    assert caught.value.help


def test_elo_orders_players_and_stays_finite() -> None:
    at_depth_2 = {"random": (0.94, 400), "depth_1": (0.91, 400), "depth_2": (0.5, 400), "depth_4": (0.28, 400)}
    assert anchors.elo(at_depth_2) == pytest.approx(anchors.RATINGS["depth_2"], abs=30)
    assert anchors.elo(dict.fromkeys(anchors.DEPTHS, (1.0, 400))) > 1500
    assert anchors.elo(dict.fromkeys(anchors.DEPTHS, (0.0, 400))) < -500


def test_the_grader_as_a_process_gives_the_grades_of_the_grader_in_this_one(founder: Path) -> None:
    with bare.examining() as examining, bare.answering(founder) as candidate, bare.answering(founder) as parent:
        sides = {"candidate": candidate, "parent": parent}
        for suite in ("score.depth_1", "parent", "centre"):
            values = bare.examine(examining, sides, suite=suite, seed="pipe", items=24, block_items=10)
            players = {"candidate": net_player(founder), "parent": net_player(founder)}
            assert values == graded(suite, players, items=24, block_items=24, seed="pipe")


@pytest.mark.slow
def test_the_bare_loop_follows_its_own_claims_and_says_what_it_became(tmp_path: Path) -> None:
    sizes = {"games": 20, "probes": 20, "block_items": 20}
    became = bare.run(seed=6, attempts=2, folder=tmp_path, graded=True, sizes=sizes)
    generations: Any = became["generations"]
    assert [row["generation"] for row in generations] == list(range(len(generations)))
    assert len(generations) >= 2
    for row in generations:
        assert {"elo", "centre_broken", "score.depth_2", "recipe", "grade_seconds"} <= set(row)
    assert all(row["claim"]["win_rate_against_parent"] > bare.CLAIM_LINE for row in generations[1:])
