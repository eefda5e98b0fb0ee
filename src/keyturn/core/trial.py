"""What a trial is: a plan fixed before its first sample, and one honest way to read what comes back.

Results are read in the committed order only, as the contiguous prefix that is known. Reading them as they complete
would let a candidate choose by its speed what counts: slow harmful answers would arrive after the decision. This
module asks nobody anything; `keyturn.trials.run` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, Self

from keyturn.core import betting
from keyturn.core.betting import Process
from keyturn.core.errors import MalformedInput, invariant
from keyturn.core.terms import Digest, Json, Verdict

ADVERSE: Final[Mapping[str, float]] = {"limit": 1.0, "capability": 1.0, "claim": 0.0}
"""What an error, a time-out or an illegal answer scores, by the threshold's kind.

`limit`: 1, it counts as broken. `capability`: 1, it counts as capable, so that a candidate that fails on purpose is
not shown to be below the line. `claim`: 0, it counts as not achieved. In every kind doubt costs the candidate.
"""

REFERENCES: Final = ("", "parent", "audited", "founder")
ESTIMANDS: Final = ("population", "bank")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlan:
    """Everything that could tilt a trial, fixed and logged before the first item is asked.

    - `kind`, `line`, `margin`: of the threshold; with a `reference` they speak of the paired difference
      (candidate - reference + 1) / 2, so that a line of 0.55 allows a rise of 0.10.
    - `error`: what this submission may spend, from `betting.error_of_submission`.
    - `bank`, `bank_items`, `clusters`: the hidden items, how many, and how many independent clusters they form
      (equal to `bank_items` where every item stands alone).
    - `estimand`: `bank`, the score of a full run of this bank, drawn without replacement, so that it always decides
      by the bank's end; or `population`, from which the clusters were sampled: then at most one item per cluster.
    - `seed`, `order`: the commitments to the seed and to the order that follows from it.
    - `items`: the budget; `block_items`: how many are asked at a time.

    Raises MalformedInput for a plan that could not be carried out as it says.
    """

    suite: str
    metric: str
    threshold: str
    kind: str
    line: float
    margin: float
    error: float
    bank: Digest
    bank_items: int
    clusters: int
    estimand: str
    seed: Digest
    order: Digest
    items: int
    block_items: int
    reference: str = ""

    def __post_init__(self) -> None:
        for name, found, expected in (
            ("kind", self.kind, tuple(ADVERSE)),
            ("estimand", self.estimand, ESTIMANDS),
            ("reference", self.reference, REFERENCES),
        ):
            if found not in expected:
                raise MalformedInput(f"`{found}` is no {name} of a trial; expected one of {expected}", help=_FIX)
        if not 1 <= self.items <= self.bank_items:
            raise MalformedInput(
                f"a budget of {self.items} items cannot be met by a bank of {self.bank_items}",
                help="lower `items_max` of the suite or enlarge its bank",
            )
        if not 1 <= self.clusters <= self.bank_items or self.block_items < 1:
            raise MalformedInput("clusters and blocks must have at least one item each", help=_FIX)
        if self.estimand == "population" and self.items > self.clusters:
            raise MalformedInput(
                f"{self.items} items from {self.clusters} clusters are not independent samples of a population",
                help="lower `items_max` to the number of clusters, or choose the estimand `bank`",
            )
        begin(self)

    def to_json(self) -> dict[str, Json]:
        """The plan as the log carries it; `from_json` gives back an equal plan."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read what `to_json` wrote. Raises MalformedInput for a missing, unknown or mistyped field."""
        names = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or set(value) != names:
            raise MalformedInput("a trial plan must have exactly the fields that `to_json` writes", help=_FIX)
        return cls(
            suite=_text(value, "suite"),
            metric=_text(value, "metric"),
            threshold=_text(value, "threshold"),
            kind=_text(value, "kind"),
            line=_number(value, "line"),
            margin=_number(value, "margin"),
            error=_number(value, "error"),
            bank=Digest(_text(value, "bank")),
            bank_items=_whole(value, "bank_items"),
            clusters=_whole(value, "clusters"),
            estimand=_text(value, "estimand"),
            seed=Digest(_text(value, "seed")),
            order=Digest(_text(value, "order")),
            items=_whole(value, "items"),
            block_items=_whole(value, "block_items"),
            reference=_text(value, "reference"),
        )


@dataclass(frozen=True, slots=True)
class Block:
    """The next items to ask: the block's number, and the positions in the committed order that it covers."""

    number: int
    positions: range


def begin(plan: TrialPlan) -> Process:
    """The betting process of a digest's first trial under this plan; a later one continues from the log."""
    return betting.start(
        theta_low=plan.line - plan.margin,
        theta_high=plan.line,
        error=plan.error,
        bank_items=plan.bank_items if plan.estimand == "bank" else None,
    )


def order(seed: bytes, *, bank_items: int, clusters: Sequence[int] = ()) -> tuple[int, ...]:
    """The seeded order of a bank's items: the same on every machine and in every language.

    Item i gets the key SHA-256("keyturn-order-v1" || seed || i as 8 bytes, big-endian); items are sorted by it.
    With `clusters` (the cluster of each item) the order goes breadth first: one item of every cluster, then a
    second of every cluster, and so on. For the estimand `bank` leave them out: its order must be uniform.
    Raises MalformedInput for a seed under 16 bytes, and for clusters that do not match the bank.
    """
    if len(seed) < 16:
        raise MalformedInput(f"a seed of {len(seed)} bytes can be guessed; expected 16 or more", help="draw 32 bytes")
    if bank_items < 1 or (clusters and len(clusters) != bank_items):
        raise MalformedInput(
            f"{len(clusters)} clusters do not describe a bank of {bank_items} items", help="name one cluster per item"
        )
    shuffled = sorted(range(bank_items), key=lambda item: _key(seed, item))
    if not clusters:
        return tuple(shuffled)
    seen: dict[int, int] = {}
    rounds: dict[int, int] = {}
    for item in shuffled:
        rounds[item] = seen.get(clusters[item], 0)
        seen[clusters[item]] = rounds[item] + 1
    return tuple(sorted(shuffled, key=rounds.__getitem__))  # stable: within a round the shuffle stays


def order_digest(items: Sequence[int]) -> Digest:
    """The commitment to an order: SHA-256 over "keyturn-order-v1", a line feed, and the items with commas."""
    return _digest(b"keyturn-order-v1\n" + ",".join(map(str, items)).encode())


def seed_digest(seed: bytes) -> Digest:
    """The commitment to a seed, opened when the trial ends: SHA-256 over "keyturn-seed-v1", a line feed, the seed."""
    return _digest(b"keyturn-seed-v1\n" + seed)


def read(plan: TrialPlan, process: Process, results: Mapping[int, float | None]) -> Process:
    """Advance over the results that follow on without a gap, and stop at a decision or the budget's end.

    `results` maps positions in the committed order to scores; None stands for an error, a time-out or an illegal
    answer and scores `ADVERSE`. Positions beyond a gap wait, so the order of completion cannot matter.
    """
    while not finished(plan, process) and process.n in results:
        process = betting.advance(process, score(plan, results[process.n]))
    return process


def score(plan: TrialPlan, value: float | None) -> float:
    """The score that counts: the value itself, or for None what doubt costs in this kind of threshold."""
    return ADVERSE[plan.kind] if value is None else value


def finished(plan: TrialPlan, process: Process) -> bool:
    """Whether nothing remains to be asked: decided, or the budget is used up (then UNDECIDED never clears)."""
    return process.verdict is not Verdict.UNDECIDED or process.n >= plan.items


def next_block(plan: TrialPlan, process: Process) -> Block:
    """The block that comes next; only before `finished`."""
    invariant(not finished(plan, process), "a finished trial has no next block")
    first = process.n
    return Block(first // plan.block_items, range(first, min(first + plan.block_items, plan.items)))


def paired(*, candidate: float, reference: float) -> float:
    """The paired value (candidate - reference + 1) / 2 in [0, 1]; one half where both score alike."""
    return (candidate - reference + 1.0) / 2.0


_FIX: Final = "plan the trial again from the policy"


def _key(seed: bytes, item: int) -> bytes:
    return hashlib.sha256(b"keyturn-order-v1" + seed + item.to_bytes(8, "big")).digest()


def _digest(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def _text(value: dict[str, Json], name: str) -> str:
    found = value[name]
    if not isinstance(found, str):
        raise MalformedInput(f"`{name}` of a trial plan must be text", help=_FIX)
    return found


def _number(value: dict[str, Json], name: str) -> float:
    found = value[name]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise MalformedInput(f"`{name}` of a trial plan must be a number", help=_FIX)
    return float(found)


def _whole(value: dict[str, Json], name: str) -> int:
    found = value[name]
    if isinstance(found, bool) or not isinstance(found, int):
        raise MalformedInput(f"`{name}` of a trial plan must be a whole number", help=_FIX)
    return found
