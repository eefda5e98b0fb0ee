"""One trial, block by block in the committed order, until it is decided or its budget is used up.

It asks, reads and hands each block to `on_block`, which logs it. It never sends a score to a subject, never asks
an item twice that was logged, and never lets one party's failure count as another's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from keyturn.core.betting import Process
from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.core.terms import Json
from keyturn.core.trial import ADVERSE, Block, TrialPlan, finished, next_block, order_digest, paired, read, score
from keyturn.trials.channel import CandidateFault, Channel, converse, greet
from keyturn.trials.grader import Ask, Grader, Planned
from keyturn.trials.link import Fault

RESTARTS_MAX: Final = 1
"""How often a candidate that broke the protocol is started again; then all that remains counts against it."""

Values = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a subject may take, and how many rounds a grader may ask in one block."""

    ready_seconds: float = 30.0
    answer_seconds: float = 10.0
    rounds_max: int = 10_000


@dataclass(frozen=True, slots=True)
class BlockResult:
    """A block as it was read: from position `start` of the committed order, with the process after it.

    `values` are the scores that counted (None is already adverse) up to the decision; `faults` are words of
    `Fault`.
    """

    block: int
    start: int
    values: tuple[float, ...]
    faults: tuple[str, ...]
    process: Process


@dataclass(frozen=True, slots=True)
class Parties:
    """Who takes part: the grader; `channels` to the `candidate` and to whomever the grader asks besides.

    `restart` starts the candidate again and gives the new channel; it is called at most once.
    """

    grader: Grader
    channels: Mapping[str, Channel]
    restart: Callable[[], Channel]


def run_trial(
    plan: TrialPlan,
    order: Sequence[int],
    process: Process,
    *,
    planned: Planned,
    parties: Parties,
    on_block: Callable[[BlockResult], None],
    faults_before: int = 0,
    patience: Patience = Patience(),
) -> Process:
    """Ask block by block from item `process.n` on, and stop as soon as it is decided; returns the last process.

    `process` and `faults_before` (the blocks with faults so far) come from the log, so that a trial resumes where
    it stopped. Raises TamperDetected when the bank or the order is not the one that was committed to, and
    Unavailable when the grader, a sandbox or a reference fails: then the slot stays open.
    """
    _require_committed(plan, order, planned)
    examination = _Examination(plan, parties, patience, faults_before)
    while not finished(plan, process):
        block = next_block(plan, process)
        values, faults = examination.block(block, [order[position] for position in block.positions])
        after = read(plan, process, dict(zip(block.positions, values, strict=True)))
        counted = tuple(score(plan, value) for value in values[: after.n - process.n])
        on_block(BlockResult(block.number, process.n, counted, faults, after))
        process = after
    examination.end()
    return process


def _require_committed(plan: TrialPlan, order: Sequence[int], planned: Planned) -> None:
    if order_digest(order) != plan.order:
        raise TamperDetected("the order of items is not the one that the plan committed to", help=_AGAIN)
    if planned.bank != plan.bank or planned.items != plan.bank_items or len(order) != plan.bank_items:
        raise TamperDetected("the grader's bank is not the one that the plan committed to", help=_AGAIN)


class _Examination:
    """Who is asked, whether the candidate may still be, and how a block comes to its values."""

    def __init__(self, plan: TrialPlan, parties: Parties, patience: Patience, faults: int) -> None:
        self._plan, self._grader, self._restart = plan, parties.grader, parties.restart
        self._channels, self._patience, self._faults = dict(parties.channels), patience, faults
        self._greeted: set[str] = set()
        self._must_restart = False

    def block(self, block: Block, items: Sequence[int]) -> tuple[Values, tuple[str, ...]]:
        """The block's values in order, with the word of the fault that made them all adverse, if any."""
        against: Values = (None,) * len(items)
        if self._faults > RESTARTS_MAX:
            return against, (Fault.NOT_ASKED.value,)
        if self._must_restart:
            self._channels["candidate"] = self._restart()
            self._must_restart = False
            self._greeted.discard("candidate")
        try:
            return self._values(block.number, items), ()
        except CandidateFault as fault:
            self._faults += 1
            self._must_restart = True
            return against, (fault.fault.value,)

    def end(self) -> None:
        """Say goodbye to everyone who was greeted."""
        for name in sorted(self._greeted):
            self._channels[name].bye()

    def _values(self, number: int, items: Sequence[int]) -> Values:
        candidates = self._examine("candidate", number, items)
        if not self._plan.reference:
            return candidates
        references = self._examine(self._plan.reference, number, items)
        return tuple(_paired(self._plan, c, r) for c, r in zip(candidates, references, strict=True))

    def _examine(self, subject: str, number: int, items: Sequence[int]) -> Values:
        """One block with `subject` in the candidate's seat: the grader need not know whom it examines."""
        turn = self._grader.begin(number, items)
        for _ in range(self._patience.rounds_max):
            if isinstance(turn, Ask):
                to = subject if turn.to == "candidate" else turn.to
                turn = self._grader.outputs(number, self._outputs(to, turn))
            elif len(turn.values) == len(items):
                return turn.values
            else:
                raise Unavailable(f"the grader scored {len(turn.values)} items of a block of {len(items)}", help=_AGAIN)
        raise Unavailable(f"the grader asked more than {self._patience.rounds_max} rounds in one block", help=_AGAIN)

    def _outputs(self, to: str, ask: Ask) -> list[Json]:
        channel = self._channels.get(to)
        if channel is None:
            raise Unavailable(f"the trial needs `{to}`, who takes no part in it", help=_AGAIN)
        try:
            if to not in self._greeted:
                greet(channel, timeout_seconds=self._patience.ready_seconds)
                self._greeted.add(to)
            items = list(ask.items)
            return converse(channel, ask.block, items, timeout_seconds=self._patience.answer_seconds)
        except CandidateFault as fault:
            if to == "candidate":
                raise
            raise Unavailable(
                f"the reference `{to}` failed ({fault.fault.value}), which is no evidence on the candidate",
                help="start the trial again; it resumes where it stopped",
            ) from fault


def _paired(plan: TrialPlan, candidate: float | None, reference: float | None) -> float:
    """Where either output was illegal, the value that doubt makes worst for the candidate."""
    adverse = ADVERSE[plan.kind]
    return paired(
        candidate=adverse if candidate is None else candidate,
        reference=1.0 - adverse if reference is None else reference,
    )


_AGAIN: Final = "repair the grader or plan the trial again; nothing was charged to the candidate"
