"""The betting process: what it promises about error, and that it replays to the bit."""

from __future__ import annotations

import itertools
import json
import math
import random
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core import betting
from keyturn.core.betting import Process, advance, error_of_submission, evidence, interval, start
from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Verdict

SCORES = st.one_of(st.sampled_from((0.0, 1.0, 0.5)), st.floats(0.0, 1.0))


def at(theta: float, *, error: float = 0.05, bank_items: int | None = None) -> Process:
    return start(theta_low=theta, theta_high=theta, error=error, bank_items=bank_items)


def run(process: Process, scores: list[float]) -> Process:
    for score in scores:
        process = advance(process, score)
    return process


def items_until_decided(process: Process, score: float) -> int:
    while process.decided_at is None:
        process = advance(process, score)
    return process.decided_at


def sine_squared(numerator: int) -> float:
    """sin^2(pi * numerator / 160) from 60 digits, rounded once."""
    with localcontext() as context:
        context.prec = 60
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
        angle, term, cosine, k = pi * numerator / 80, Decimal(1), Decimal(1), 0
        while abs(term) > Decimal(10) ** -58:
            k += 2
            term = -term * angle * angle / (k * (k - 1))
            cosine += term
        return float((1 - cosine) / 2)


def test_grid_constants_are_the_nearest_doubles_of_their_formulas() -> None:
    assert tuple(sine_squared(2 * j + 1) for j in range(40)) == betting.ARCSINE_SHARES
    with localcontext() as context:
        context.prec = 60
        assert tuple(float(Decimal(2) ** (Decimal(-j) / 4)) for j in range(40, 0, -1)) == betting.RARE_SHARES


@pytest.mark.parametrize(
    ("theta", "error", "items"),
    [
        (0.05, 0.05, 82),
        (0.20, 0.05, 19),
        (0.20, 0.001, 38),  # arcsine grid
        (0.01, 0.05, 326),
        (0.01, 0.01, 494),
        (0.01, 0.001, 732),
        (0.005, 0.05, 654),  # rare grid
    ],
)
def test_failures_never_seen_clear_after_a_known_number_of_items(theta: float, error: float, items: int) -> None:
    assert items_until_decided(at(theta, error=error), 0.0) == items
    assert items_until_decided(at(1.0 - theta, error=error), 1.0) == pytest.approx(items, abs=1)  # the mirror


@pytest.mark.parametrize(
    ("n", "failures", "confseq"),
    [(50, 6, (0.034, 0.282)), (100, 10, (0.045, 0.212)), (200, 21, (0.060, 0.184)), (400, 42, (0.070, 0.162))],
)
def test_interval_is_of_the_width_of_the_confseq_library(n: int, failures: int, confseq: tuple[float, float]) -> None:
    """Golden values of confseq 0.0.11 `betting_cs`, 95 %, on numpy's rng(0) with failure rate 0.1."""
    process = run(at(0.5), [1.0] * failures + [0.0] * (n - failures))
    low, high = interval(process, error=0.025)
    assert low < 0.1 < high
    assert 0.85 < (high - low) / (confseq[1] - confseq[0]) < 1.2


def test_interval_says_what_the_verdict_says() -> None:
    process = run(at(0.2), [0.0] * 18)
    assert process.verdict is Verdict.UNDECIDED
    assert interval(process, error=0.05)[1] > 0.2
    process = advance(process, 0.0)
    assert process.verdict is Verdict.CLEAR
    assert interval(process, error=0.05)[1] <= 0.2


@given(scores=st.lists(SCORES, max_size=60))
def test_interval_holds_the_mean_that_was_seen(scores: list[float]) -> None:
    low, high = interval(run(at(0.5), scores), error=0.05)
    assert 0.0 <= low <= high <= 1.0
    if scores:
        assert low - 1e-6 <= math.fsum(scores) / len(scores) <= high + 1e-6


@pytest.mark.parametrize(("bank_items", "theta"), [(None, 0.2), (None, 0.02), (200, 0.2)])
def test_looking_after_every_item_shows_a_falsehood_no_more_often_than_promised(
    bank_items: int | None, theta: float
) -> None:
    """Ville's inequality at the boundary itself, where the hypothesis is hardest to respect."""
    rng, error, runs, false = random.Random(7), 0.1, 120, dict.fromkeys(Verdict, 0)
    for _ in range(runs):
        process = at(theta, error=error, bank_items=bank_items)
        if bank_items is None:
            scores = [float(rng.random() < theta) for _ in range(200)]
        else:
            scores = [1.0] * round(bank_items * theta) + [0.0] * (bank_items - round(bank_items * theta))
            rng.shuffle(scores)
        for score in scores:
            process = advance(process, score)
            if process.decided_at is not None:
                break
        false[process.verdict] += 1
    slack = 3 * math.sqrt(error * (1 - error) / runs)
    assert false[Verdict.CLEAR] / runs <= error + slack
    assert false[Verdict.TRIP] / runs <= error + slack


def exact_fortune(theta: float, shares: tuple[float, ...], scores: list[float]) -> Fraction:
    """The gamblers' mean fortune in exact rational arithmetic, straight from the definition."""
    line, total = Fraction(theta), Fraction(0)
    for share in map(Fraction, shares):
        bet = (line - line * share) / (line * (1 - line))
        fortune = Fraction(1)
        for score in scores:
            fortune *= 1 + bet * (line - Fraction(score))
        total += fortune
    return total / len(shares)


@given(scores=st.lists(st.sampled_from((0.0, 0.25, 0.5, 1.0)), max_size=12), theta=st.sampled_from((0.02, 0.2, 0.5)))
@settings(deadline=None, max_examples=40)
def test_fortune_is_the_one_of_the_definition(scores: list[float], theta: float) -> None:
    low, high = evidence(run(at(theta), scores))
    shares = betting.RARE_SHARES if theta < 0.05 else betting.ARCSINE_SHARES
    assert low == pytest.approx(float(exact_fortune(theta, shares, scores)), rel=1e-12)
    mirrored = [1.0 - score for score in scores]
    assert high == pytest.approx(float(exact_fortune(1.0 - theta, betting.ARCSINE_SHARES, mirrored)), rel=1e-12)


@given(theta=st.floats(0.01, 0.99))
def test_every_bet_is_fair_and_none_can_lose_more_than_it_owns(theta: float) -> None:
    wins, loses = evidence(advance(at(theta), 0.0)), evidence(advance(at(theta), 1.0))
    for won, lost in zip(wins, loses, strict=True):
        assert won >= 0
        assert lost >= 0
        assert (1 - theta) * won + theta * lost == pytest.approx(1.0, abs=1e-12)


@given(scores=st.lists(SCORES, max_size=80), cut=st.integers(0, 80), bank=st.sampled_from((None, 80, 1000)))
@settings(deadline=None)
def test_a_process_resumed_from_canonical_json_ends_in_the_same_bits(
    scores: list[float], cut: int, bank: int | None
) -> None:
    first = start(theta_low=0.08, theta_high=0.10, error=0.05, bank_items=bank)
    whole = run(first, scores)
    resumed = Process.from_json(json.loads(rfc8785.dumps(run(first, scores[:cut]).to_json())))
    assert run(resumed, scores[cut:]) == whole
    assert rfc8785.dumps(run(resumed, scores[cut:]).to_json()) == rfc8785.dumps(whole.to_json())


def test_the_bits_of_a_process_are_these_on_every_machine() -> None:
    process = run(start(theta_low=0.08, theta_high=0.10, error=0.05), [0.0, 1.0, 0.25, 0.0, 0.0])
    assert process.low.parts[20].hex() == "0x1.121a19b4ea5d0p-1"
    assert process.high.parts[20].hex() == "0x1.48fbd67d1c5a3p-1"
    assert tuple(value.hex() for value in evidence(process)) == ("0x1.03fb0511a5c30p-1", "0x1.c300000000002p-1")


def test_fortunes_beyond_the_range_of_floats_are_kept() -> None:
    process = run(at(0.5), [1.0] * 3000)
    assert min(process.low.exponents) < -20_000
    assert min(process.low.parts) >= 0.5
    assert evidence(process)[0] < 1e-2
    assert evidence(process)[1] > 1e200
    back = run(process, [0.0] * 3000)
    assert evidence(back)[0] == pytest.approx(evidence(back)[1])  # nothing was lost under way


def test_a_verdict_latches_at_its_first_crossing() -> None:
    process = run(at(0.2), [0.0] * 19)
    assert (process.verdict, process.decided_at) == (Verdict.CLEAR, 19)
    process = run(process, [1.0] * 200)
    assert (process.verdict, process.decided_at) == (Verdict.CLEAR, 19)
    assert evidence(process)[1] > 1e6


def test_nothing_is_shown_about_a_mean_inside_the_margin() -> None:
    rng, shown = random.Random(3), 0
    for _ in range(60):
        process = start(theta_low=0.10, theta_high=0.30, error=0.01)
        shown += run(process, [float(rng.random() < 0.2) for _ in range(600)]).decided_at is not None
    assert shown <= 1


def test_a_bank_always_decides_by_its_end() -> None:
    for failures, verdict in ((19, Verdict.CLEAR), (20, Verdict.UNDECIDED), (21, Verdict.TRIP)):
        scores = [1.0] * failures + [0.0] * (100 - failures)
        random.Random(failures).shuffle(scores)
        process = at(0.2, error=1e-6, bank_items=100)
        assert run(process, scores).verdict is verdict


@pytest.mark.parametrize("ones", [1, 3, 5])
def test_drawing_a_bank_without_replacement_is_a_fair_game_at_every_look(ones: int) -> None:
    """Over all orders of a bank whose mean is exactly theta, the mean fortune stays one: nothing is won for free."""
    orders = list(set(itertools.permutations([1.0] * ones + [0.0] * (6 - ones))))
    for looked in range(1, 7):
        fortunes = [evidence(run(at(ones / 6, error=1e-9, bank_items=6), list(o[:looked]))) for o in orders]
        for side in zip(*fortunes, strict=True):
            assert math.fsum(side) / len(orders) == pytest.approx(1.0, abs=1e-9)


def test_a_bank_has_no_item_beyond_its_end() -> None:
    with pytest.raises(MalformedInput, match="the bank has only 2 items"):
        run(at(0.2, error=1e-6, bank_items=2), [0.0, 0.0, 0.0])


@given(lifetime=st.floats(1e-6, 0.5), submissions=st.integers(1, 400))
def test_resubmitting_never_spends_more_than_the_lifetime_error(lifetime: float, submissions: int) -> None:
    charges = [error_of_submission(lifetime_error=lifetime, submission=k) for k in range(1, submissions + 1)]
    tail = Fraction(lifetime) * Fraction(607, 1000) / (submissions + 1)  # the rest of the series is at least this
    assert sum(map(Fraction, charges)) + tail <= Fraction(lifetime)
    assert charges == sorted(charges, reverse=True)


def test_resubmitting_until_something_passes_does_not_work() -> None:
    """Facts, section 2b: fifty resubmissions at the line clear with probability .82 without spending."""
    rng, lifetime, passed = random.Random(11), 0.05, 0
    for _ in range(40):
        for submission in range(1, 16):
            process = at(0.2, error=error_of_submission(lifetime_error=lifetime, submission=submission))
            for _ in range(60):
                process = advance(process, float(rng.random() < 0.2))
            passed += process.verdict is Verdict.CLEAR
    assert passed <= 6  # expected at most 2 of 40 lineages; 6 has a chance below 1 in 100


@pytest.mark.parametrize("score", [-0.001, 1.001, math.nan, math.inf, -math.inf])
def test_a_score_outside_the_unit_interval_is_never_evidence(score: float) -> None:
    with pytest.raises(MalformedInput, match=r"a score must lie in \[0, 1\]"):
        advance(at(0.2), score)


@pytest.mark.parametrize(
    ("low", "high", "error"),
    [
        (0.0, 0.1, 0.05),
        (-0.1, 0.1, 0.05),
        (0.2, 0.1, 0.05),
        (0.5, 1.0, 0.05),
        (0.1, 0.2, 0.0),
        (0.1, 0.2, 1.0),
        (math.nan, 0.2, 0.05),
        (0.1, 0.2, math.nan),
    ],
)
def test_a_threshold_at_which_nothing_could_be_shown_is_refused(low: float, high: float, error: float) -> None:
    with pytest.raises(MalformedInput):
        start(theta_low=low, theta_high=high, error=error)


@pytest.mark.parametrize(
    "change",
    [
        {"low": [0.5] * 39},
        {"low": [2.0] * 40},
        {"high": ["0.5"] * 40},
        {"low_exponents": [1.5] * 40},
        {"high_exponents": [True] * 40},
        {"n": -1},
        {"n": True},
        {"total": 9.0},
        {"verdict": "PASSED"},
        {"verdict": "CLEAR"},
        {"decided_at": 1},
        {"error": 0},
        {"theta_low": 0.2},
        {"bank_items": 0},
        {"more": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_process_that_cannot_have_been_is_not_read(change: dict[str, object]) -> None:
    written = run(start(theta_low=0.08, theta_high=0.10, error=0.05), [0.0]).to_json()
    assert Process.from_json(written).n == 1
    with pytest.raises(MalformedInput):
        Process.from_json({**written, **change})  # type: ignore[dict-item]  # values of any kind are the point
