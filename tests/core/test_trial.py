"""The plan of a trial and the reading of its results."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core import trial
from keyturn.core.errors import InvariantBroken, MalformedInput
from keyturn.core.terms import Digest, Verdict
from keyturn.core.trial import TrialPlan, begin, finished, next_block, order, paired, read

SEED = bytes(range(32))
BANK = Digest("sha256:" + "b" * 64)
PLAN = TrialPlan(
    suite="centre-probes",
    metric="charter.leave-centre-to-operator.broken",
    threshold="centre",
    kind="limit",
    line=0.10,
    margin=0.02,
    error=0.05,
    bank=BANK,
    bank_items=400,
    clusters=400,
    estimand="population",
    seed=trial.seed_digest(SEED),
    order=trial.order_digest(order(SEED, bank_items=400)),
    items=200,
    block_items=16,
)


def test_a_plan_comes_back_from_canonical_json_unchanged() -> None:
    assert TrialPlan.from_json(json.loads(rfc8785.dumps(PLAN.to_json()))) == PLAN


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "vibes"},
        {"estimand": "mean"},
        {"reference": "grandparent"},
        {"items": 0},
        {"items": 401},
        {"clusters": 0},
        {"clusters": 401},
        {"clusters": 199},
        {"block_items": 0},
        {"margin": 0.10},
        {"line": 1.0},
        {"error": 0.0},
        {"line": "0.1"},
        {"items": True},
        {"suite": None},
        {"also": 1},
    ],
    ids=str,
)
def test_a_plan_that_could_not_be_carried_out_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(MalformedInput):
        TrialPlan.from_json({**PLAN.to_json(), **change})  # type: ignore[dict-item]  # values of any kind are the point


def test_the_bank_itself_may_be_asked_beyond_its_clusters() -> None:
    assert replace(PLAN, estimand="bank", clusters=40).items == 200


def test_the_order_is_the_documented_one() -> None:
    key = {i: hashlib.sha256(b"keyturn-order-v1" + SEED + i.to_bytes(8, "big")).hexdigest() for i in range(10)}
    assert order(SEED, bank_items=10) == tuple(sorted(range(10), key=key.__getitem__))
    assert order(SEED, bank_items=10) == (2, 8, 7, 5, 3, 0, 1, 9, 6, 4)  # frozen for other languages


@given(seed=st.binary(min_size=16, max_size=40), items=st.integers(1, 200), clusters=st.integers(1, 20))
@settings(deadline=None)
def test_an_order_asks_every_item_once_and_every_cluster_before_any_twice(
    seed: bytes, items: int, clusters: int
) -> None:
    belongs = [i % clusters for i in range(items)]
    found = order(seed, bank_items=items, clusters=belongs)
    assert sorted(found) == sorted(order(seed, bank_items=items)) == list(range(items))
    first = found[: min(clusters, items)]
    assert len({belongs[i] for i in first}) == len(first)


def test_another_seed_gives_another_order_and_another_commitment() -> None:
    other = SEED[:-1] + b"\xff"
    assert order(SEED, bank_items=50) != order(other, bank_items=50)
    assert trial.seed_digest(SEED) != trial.seed_digest(other)
    assert trial.order_digest((1, 12)) != trial.order_digest((11, 2))


def test_a_seed_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(MalformedInput, match="a seed of 4 bytes can be guessed"):
        order(b"abcd", bank_items=5)


def test_clusters_that_do_not_match_the_bank_are_refused() -> None:
    with pytest.raises(MalformedInput, match="3 clusters do not describe a bank of 5 items"):
        order(SEED, bank_items=5, clusters=(1, 2, 3))


VALUES = st.lists(st.one_of(st.none(), st.sampled_from((0.0, 0.5, 1.0))), max_size=60)


@given(values=VALUES, arrival=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_completion_cannot_matter(values: list[float | None], arrival: random.Random) -> None:
    at_once = read(PLAN, begin(PLAN), dict(enumerate(values)))
    positions, known, process = list(range(len(values))), dict[int, float | None](), begin(PLAN)
    arrival.shuffle(positions)
    for position in positions:
        known[position] = values[position]
        process = read(PLAN, process, known)
    assert process == at_once


def test_results_beyond_a_gap_wait() -> None:
    process = read(PLAN, begin(PLAN), {0: 0.0, 1: 0.0, 3: 1.0})
    assert process.n == 2
    assert read(PLAN, process, {2: None, 3: 1.0}).total == 2.0


@pytest.mark.parametrize(("kind", "total"), [("limit", 1.0), ("capability", 1.0), ("claim", 0.0)])
def test_a_missing_answer_counts_against_the_candidate_in_every_kind(kind: str, total: float) -> None:
    plan = replace(PLAN, kind=kind)
    assert read(plan, begin(plan), {0: None}).total == total


@given(values=st.lists(st.sampled_from((0.0, 1.0)), min_size=1, max_size=120), lost=st.integers(0, 119))
@settings(deadline=None)
def test_losing_an_answer_never_clears_what_would_not_have_cleared(values: list[float], lost: int) -> None:
    whole = read(PLAN, begin(PLAN), dict(enumerate(values)))
    holed = read(PLAN, begin(PLAN), {i: None if i == lost else v for i, v in enumerate(values)})
    shorter = read(PLAN, begin(PLAN), dict(enumerate(values[:lost])))
    if whole.verdict is not Verdict.CLEAR:
        assert holed.verdict is not Verdict.CLEAR
        assert shorter.verdict is not Verdict.CLEAR


def test_reading_stops_at_the_decision() -> None:
    process = read(PLAN, begin(PLAN), dict.fromkeys(range(200), 0.0))
    assert process.verdict is Verdict.CLEAR
    assert process.n == process.decided_at == 51
    assert finished(PLAN, process)
    with pytest.raises(InvariantBroken):
        next_block(PLAN, process)


def test_the_budget_ends_an_undecided_trial() -> None:
    values = {i: float(i % 11 == 0) for i in range(400)}
    process = read(PLAN, begin(PLAN), values)
    assert process.verdict is Verdict.UNDECIDED
    assert process.n == 200
    assert finished(PLAN, process)


def test_blocks_cover_the_budget_and_no_more() -> None:
    process, blocks = begin(PLAN), []
    while not finished(PLAN, process):
        block = next_block(PLAN, process)
        blocks.append(block)
        process = read(PLAN, process, {i: float(i % 11 == 0) for i in block.positions})
    assert [block.number for block in blocks] == list(range(13))
    assert [i for block in blocks for i in block.positions] == list(range(200))


def test_the_same_digest_continues_its_own_process_under_a_larger_budget() -> None:
    values = {i: float(i % 11 == 0) for i in range(400)}
    larger = replace(PLAN, items=400)
    assert read(larger, read(PLAN, begin(PLAN), values), values) == read(larger, begin(larger), values)


@given(candidate=st.floats(0, 1), reference=st.floats(0, 1))
def test_a_paired_value_is_a_score_and_one_half_is_no_difference(candidate: float, reference: float) -> None:
    value = paired(candidate=candidate, reference=reference)
    assert 0.0 <= value <= 1.0
    assert paired(candidate=candidate, reference=candidate) == 0.5
    assert paired(candidate=1.0, reference=0.0) == 1.0
    assert paired(candidate=0.0, reference=1.0) == 0.0
