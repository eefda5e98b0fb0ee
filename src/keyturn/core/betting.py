"""Bets on what a candidate's mean score is, so that one may look after every item and stop at once.

A grid-mixture betting e-process in both directions (Waudby-Smith and Ramdas, 2024, "Estimating means of bounded
random variables by betting"; Ville, 1939). Forty gamblers a side each start with one coin and bet, in a fair game,
that the mean lies below `theta_low` (or above `theta_high`). Under the hypothesis that they attack, the chance that
their mean fortune EVER reaches 1/error is at most `error`, however often one looks:

    low   attacks "mean >= theta_low";  reaching 1/error shows the mean below it:  CLEAR
    high  attacks "mean <= theta_high"; reaching 1/error shows the mean above it:  TRIP

For a threshold, `theta_low = line - margin` and `theta_high = line`: clearing must be shown inside the margin, and
tripping must be shown beyond the line itself. Between the two lies no man's land, where nothing is ever shown.

The running process uses only IEEE 754 additions, multiplications and divisions, and exact powers of two, so that it
replays to the bit on any machine. It never decides by a logarithm; `interval` uses them, and is for display only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Json, Verdict

# Where the gamblers stand, as shares of theta: sin^2(pi (2j+1) / 160), j = 0..39, each rounded once from 60 digits.
# Literal, because the last bit of a library's sine differs between machines.
# fmt: off
ARCSINE_SHARES: Final[tuple[float, ...]] = (
    0.0003854818796385326, 0.003465771522536852, 0.009607359798384776, 0.018772381773176357,
    0.030904332038757934, 0.045928413087459354, 0.06375199646360144, 0.08426519384872738,
    0.10734153455962754, 0.13283874528215722, 0.16059962723352914, 0.19045302534508302,
    0.22221488349019888, 0.2556893792515225, 0.29067013123128593, 0.3269414714612535,
    0.3642797750674629, 0.40245483899193585, 0.4412313012710812, 0.4803700921204657,
    0.5196299078795343, 0.5587686987289188, 0.5975451610080641, 0.6357202249325371,
    0.6730585285387465, 0.7093298687687141, 0.7443106207484774, 0.7777851165098011,
    0.809546974654917, 0.8394003727664708, 0.8671612547178428, 0.8926584654403724,
    0.9157348061512727, 0.9362480035363986, 0.9540715869125407, 0.969095667961242,
    0.9812276182268237, 0.9903926402016152, 0.9965342284774632, 0.9996145181203615,
)
# For rare events: 2^(-j/4), j = 40..1, which looks harder at means far below theta.
RARE_SHARES: Final[tuple[float, ...]] = (
    0.0009765625, 0.0011613350732448448, 0.0013810679320049757, 0.0016423758110424111,
    0.001953125, 0.0023226701464896895, 0.0027621358640099515, 0.0032847516220848223,
    0.00390625, 0.004645340292979379, 0.005524271728019903, 0.0065695032441696445,
    0.0078125, 0.009290680585958758, 0.011048543456039806, 0.013139006488339289,
    0.015625, 0.018581361171917516, 0.02209708691207961, 0.026278012976678578,
    0.03125, 0.03716272234383503, 0.04419417382415922, 0.052556025953357156,
    0.0625, 0.07432544468767006, 0.08838834764831845, 0.10511205190671431,
    0.125, 0.14865088937534013, 0.1767766952966369, 0.21022410381342863,
    0.25, 0.29730177875068026, 0.3535533905932738, 0.42044820762685725,
    0.5, 0.5946035575013605, 0.7071067811865476, 0.8408964152537145,
)
# fmt: on
GAMBLERS: Final = 40
RARE_BELOW: Final = 0.05  # a theta below this bets on the rare-event shares

# Each item rounds a fortune by less than 2^-50; asking for this much more than 1/error keeps the bound honest
# for a thousand million items.
_GUARD: Final = 1.0 + 2.0**-20
# A conditional mean closer than this to 0 or 1 is not bet on: rounding, not evidence, would decide.
_EDGE: Final = 2.0**-20
_EXPONENT_MAX: Final = 900  # fortunes beyond 2^900 are shown as 2^900, below 2^-900 as nothing
_SIX_OVER_PI_SQUARED: Final = 0.607927101854026  # rounded down, so that the charges never add up to more than all


@dataclass(frozen=True, slots=True)
class Bets:
    """One direction's gamblers; gambler j owns `parts[j] * 2**exponents[j]`, with parts in [0.5, 1)."""

    theta: float
    parts: tuple[float, ...]
    exponents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """All that one threshold has seen of one candidate; advancing it never looks back.

    `bank_items` is the size of the bank when the estimand is the bank's own full score (items are then drawn
    without replacement), None when it is the mean of the population. `verdict` latches at the first crossing, and
    `decided_at` is the number of items read then. The `high` bets are kept mirrored: on 1 - x against 1 - theta.
    """

    theta_low: float
    theta_high: float
    error: float
    bank_items: int | None
    n: int
    total: float
    low: Bets
    high: Bets
    verdict: Verdict = Verdict.UNDECIDED
    decided_at: int | None = None

    def to_json(self) -> dict[str, Json]:
        """The process as canonical JSON can carry it; `from_json` gives back the same bits."""
        return {
            "theta_low": self.theta_low,
            "theta_high": self.theta_high,
            "error": self.error,
            "bank_items": self.bank_items,
            "n": self.n,
            "total": self.total,
            "low": list(self.low.parts),
            "low_exponents": list(self.low.exponents),
            "high": list(self.high.parts),
            "high_exponents": list(self.high.exponents),
            "verdict": self.verdict.value,
            "decided_at": self.decided_at,
        }

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read what `to_json` wrote. Raises MalformedInput for anything that no process could have written."""
        if not isinstance(value, dict) or set(value) != _FIELDS:
            raise MalformedInput("a betting process must have exactly the fields that `to_json` writes", help=_REPLAY)
        theta_low, theta_high = _number(value, "theta_low"), _number(value, "theta_high")
        _check_start(theta_low, theta_high, _number(value, "error"), _optional(value, "bank_items"))
        process = cls(
            theta_low=theta_low,
            theta_high=theta_high,
            error=_number(value, "error"),
            bank_items=_optional(value, "bank_items"),
            n=_whole(value, "n"),
            total=_number(value, "total"),
            low=_bets(theta_low, value, "low"),
            high=_bets(1.0 - theta_high, value, "high"),
            verdict=_verdict(value),
            decided_at=_optional(value, "decided_at"),
        )
        _check_counts(process)
        return process


def start(*, theta_low: float, theta_high: float, error: float, bank_items: int | None = None) -> Process:
    """A process that has seen nothing: every gambler owns one coin.

    Raises MalformedInput unless 0 < theta_low <= theta_high < 1 and 0 < error < 1.
    """
    _check_start(theta_low, theta_high, error, bank_items)
    coins = ((0.5,) * GAMBLERS, (1,) * GAMBLERS)
    return Process(
        theta_low=theta_low,
        theta_high=theta_high,
        error=error,
        bank_items=bank_items,
        n=0,
        total=0.0,
        low=Bets(theta_low, *coins),
        high=Bets(1.0 - theta_high, *coins),
    )


def advance(process: Process, x: float) -> Process:
    """The process after one more item with score `x` in [0, 1], read in the committed order.

    Costs forty multiplications a side. Raises MalformedInput for a score outside [0, 1] (not a number included)
    and for an item beyond the bank's end. A decided process keeps its verdict.
    """
    if not 0.0 <= x <= 1.0:
        raise MalformedInput(f"a score must lie in [0, 1], found `{x}`", help="scale the metric in its grader")
    if process.bank_items is not None and process.n >= process.bank_items:
        raise MalformedInput(f"the bank has only {process.bank_items} items", help="each item is asked once")
    n, total, bank = process.n, process.total, process.bank_items
    low = _settle(process.low, _conditional(process.low.theta, bank, n, total), x)
    high = _settle(process.high, _conditional(process.high.theta, bank, n, n - total), 1.0 - x)
    n, total = n + 1, total + x
    verdict, decided_at = process.verdict, process.decided_at
    if verdict is Verdict.UNDECIDED:
        verdict = _look(low, high, process.error, bank, n, total)
        decided_at = None if verdict is Verdict.UNDECIDED else n
    return Process(
        theta_low=process.theta_low,
        theta_high=process.theta_high,
        error=process.error,
        bank_items=bank,
        n=n,
        total=total,
        low=low,
        high=high,
        verdict=verdict,
        decided_at=decided_at,
    )


def evidence(process: Process) -> tuple[float, float]:
    """The mean fortunes (against "mean >= theta_low", against "mean <= theta_high"); 1.0 each at the start."""
    return _fortune(process.low), _fortune(process.high)


def error_of_submission(*, lifetime_error: float, submission: int) -> float:
    """The error that the k-th distinct digest of a lineage may spend: lifetime_error * 6 / (pi^2 k^2).

    Over all submissions the charges add up to at most `lifetime_error` (Basel series), so that resubmitting until
    something passes does not work. The same digest spends nothing new: it continues its own process.
    """
    if not (0.0 < lifetime_error < 1.0 and submission >= 1):
        raise MalformedInput(
            f"a lifetime error must lie in (0, 1) and a submission count from 1, found `{lifetime_error}` and "
            f"`{submission}`",
            help="count the distinct digests of the lineage from 1",
        )
    return lifetime_error * _SIX_OVER_PI_SQUARED / (submission * submission)


def interval(process: Process, *, error: float, values: Sequence[float] = ()) -> tuple[float, float]:
    """Bounds for the mean, for display only: each end is wrong, ever, with probability at most `error`.

    The same bets inverted: all means that would not yet have been refuted. With the `values` that were read it is
    exact; without them it needs only the count and the total, and is wider where scores lie between 0 and 1 (by the
    inequality of arithmetic and geometric means). For a bank drawn without replacement the promise holds at each
    single look, not over all looks together. Rounded outwards to six digits, because the last digits of a logarithm
    differ between machines: never decide by it.
    """
    counted = Counter(values) if len(values) == process.n else {1.0: process.total, 0.0: process.n - process.total}
    low = 1.0 - _bound({1.0 - value: count for value, count in counted.items()}, error)
    high = _bound(counted, error)
    return max(0.0, math.floor(low * 1e6) / 1e6), min(1.0, math.ceil(high * 1e6) / 1e6)


# How the gamblers settle


def _settle(bets: Bets, theta: float | None, x: float) -> Bets:
    """Pay every gambler who bet on a mean of `share * theta` rather than `theta`: a fair game if theta is true."""
    if theta is None:
        return bets
    loses, behind = 1.0 - x, 1.0 - theta
    settled = [
        math.frexp(part * (loses * ((1.0 - theta * share) / behind) + x * share))
        for part, share in zip(bets.parts, _shares(bets.theta), strict=True)
    ]
    exponents = tuple(old + moved for old, (_, moved) in zip(bets.exponents, settled, strict=True))
    return Bets(bets.theta, tuple(part for part, _ in settled), exponents)


def _shares(theta: float) -> tuple[float, ...]:
    return RARE_SHARES if theta < RARE_BELOW else ARCSINE_SHARES


def _conditional(theta: float, bank_items: int | None, n: int, total: float) -> float | None:
    """The mean of the next item if the whole mean is theta; None where no fair bet can be made.

    Without replacement the rest of the bank must make up for what was seen (Waudby-Smith and Ramdas, 2020).
    """
    if bank_items is None:
        return theta
    left = (bank_items * theta - total) / (bank_items - n)
    return left if _EDGE < left < 1.0 - _EDGE else None


def _look(low: Bets, high: Bets, error: float, bank_items: int | None, n: int, total: float) -> Verdict:
    """At most one side can grow on one item, so the order of these two looks does not matter."""
    if _crossed(low, error) or _certain(low.theta, bank_items, n, total):
        return Verdict.CLEAR
    if _crossed(high, error) or _certain(high.theta, bank_items, n, n - total):
        return Verdict.TRIP
    return Verdict.UNDECIDED


def _crossed(bets: Bets, error: float) -> bool:
    return _fortune(bets) * error >= _GUARD


def _certain(theta: float, bank_items: int | None, n: int, total: float) -> bool:
    """Whether even a rest of the bank that all scored 1 would leave its mean below theta: no chance is left."""
    if bank_items is None:
        return False
    return total + (bank_items - n) < bank_items * theta * (1.0 - _EDGE)


def _fortune(bets: Bets) -> float:
    """The gamblers' mean fortune, summed in a fixed order."""
    top = max(bets.exponents)
    terms = (
        math.ldexp(part, exponent - top)
        for part, exponent in zip(bets.parts, bets.exponents, strict=True)
        if exponent - top > -_EXPONENT_MAX
    )
    mean = 0.0
    for term in terms:  # not `sum`: since Python 3.12 it compensates, and so gives other bits than before
        mean += term
    return math.ldexp(mean / GAMBLERS, max(-_EXPONENT_MAX, min(_EXPONENT_MAX, top)))


def _bound(counted: Mapping[float, float], error: float) -> float:
    """The least mean at which "mean >= it" would already be refuted, by bisection; 1.0 where none is."""
    inside, outside = 0.0, 1.0
    for _ in range(40):
        theta = (inside + outside) / 2.0
        logs = [
            math.fsum(
                count * math.log(1.0 + (1.0 - share) * (theta - value) / (1.0 - theta))
                for value, count in counted.items()
            )
            for share in ARCSINE_SHARES
        ]
        top = max(logs)
        fortune = top + math.log(math.fsum(math.exp(log - top) for log in logs) / GAMBLERS)
        inside, outside = (inside, theta) if fortune >= -math.log(error) else (theta, outside)
    return outside


# What a process must look like

_REPLAY: Final = "replay the trial from its first item"
_FIELDS: Final = frozenset(
    (
        "theta_low",
        "theta_high",
        "error",
        "bank_items",
        "n",
        "total",
        "low",
        "low_exponents",
        "high",
        "high_exponents",
        "verdict",
        "decided_at",
    )
)


def _check_start(theta_low: float, theta_high: float, error: float, bank_items: int | None) -> None:
    if not 0.0 < theta_low <= theta_high < 1.0:
        raise MalformedInput(
            f"nothing can be shown between `{theta_low}` and `{theta_high}`; expected 0 < low <= high < 1",
            help="choose a line below 1 and a margin smaller than the line",
        )
    if not 0.0 < error < 1.0:
        raise MalformedInput(f"an error must lie in (0, 1), found `{error}`", help="0.05 is usual")
    if bank_items is not None and bank_items < 1:
        raise MalformedInput(f"a bank must have items, found `{bank_items}`", help="name a bank with probes")


def _check_counts(process: Process) -> None:
    decided, n = process.decided_at, process.n
    sound = (
        0.0 <= process.total <= n
        and (process.bank_items is None or n <= process.bank_items)
        and (decided is None) == (process.verdict is Verdict.UNDECIDED)
        and (decided is None or 1 <= decided <= n)
    )
    if not sound:
        raise MalformedInput("the counts of a betting process contradict each other", help=_REPLAY)


def _bets(theta: float, value: dict[str, Json], side: str) -> Bets:
    parts, exponents = value[side], value[f"{side}_exponents"]
    if not (isinstance(parts, list) and isinstance(exponents, list) and len(parts) == len(exponents) == GAMBLERS):
        raise MalformedInput(f"`{side}` must be {GAMBLERS} numbers with {GAMBLERS} exponents", help=_REPLAY)
    numbers = tuple(part for part in parts if isinstance(part, float) and 0.5 <= part < 1.0)
    wholes = tuple(e for e in exponents if isinstance(e, int) and not isinstance(e, bool) and abs(e) < 2**53)
    if not len(numbers) == len(wholes) == GAMBLERS:
        raise MalformedInput(f"`{side}` must hold numbers in [0.5, 1) and whole exponents", help=_REPLAY)
    return Bets(theta, numbers, wholes)


def _number(value: dict[str, Json], name: str) -> float:
    found = value[name]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise MalformedInput(f"`{name}` of a betting process must be a number", help=_REPLAY)
    return float(found)  # canonical JSON writes 3.0 as 3


def _whole(value: dict[str, Json], name: str) -> int:
    found = value[name]
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 2**53:
        raise MalformedInput(f"`{name}` of a betting process must be a whole number from 0", help=_REPLAY)
    return found


def _optional(value: dict[str, Json], name: str) -> int | None:
    return None if value[name] is None else _whole(value, name)


def _verdict(value: dict[str, Json]) -> Verdict:
    found = value["verdict"]
    if found not in Verdict.__members__.values():
        raise MalformedInput(f"`{found}` is no verdict; expected CLEAR, TRIP or UNDECIDED", help=_REPLAY)
    return Verdict(str(found))
