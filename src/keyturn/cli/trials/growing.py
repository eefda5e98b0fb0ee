"""The evidence of a trial as it grows: one passing line beside a run, or a small board in another terminal.

Never waits for anything but the log: whoever looks on holds nothing up.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TextIO

from keyturn.cli.screen import WIDTH, Paint, Sheet, clip, count, pad, safe, wants_colour
from keyturn.cli.screens.scale import Measure, domain, figure, scale
from keyturn.cli.screens.trial import sides
from keyturn.cli.trials.expecting import expected
from keyturn.core import betting, trial
from keyturn.core.betting import Process
from keyturn.core.terms import Verdict
from keyturn.core.trial import TrialPlan

SHOWN_ERROR = 0.05
CELLS, BAR = 58, 6


def measured(plan: TrialPlan, process: Process) -> Measure:
    """What was read so far, as every other screen draws it: its colour says what the verdict means, of claims too."""
    low, high = betting.interval(process, error=SHOWN_ERROR)
    return Measure(
        threshold=plan.threshold,
        kind=plan.kind,
        reference=plan.reference,
        line=plan.line,
        margin=plan.margin,
        verdict=process.verdict.value if process.n else "missing",
        items=process.n,
        estimate=process.total / process.n if process.n else 0.0,
        low=low,
        high=high,
    )


def progress(process: Process) -> tuple[float, float]:
    """How far each bet has come to its line, from 0 to 1 on the scale of logarithms; a loss is 0."""
    top = math.log(1.0 / process.error)
    low, high = (math.log(max(value, 1e-300)) / top for value in betting.evidence(process))
    return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)


def words(plan: TrialPlan, process: Process) -> str:
    """The forecast in words."""
    if process.verdict is not Verdict.UNDECIDED:
        return f"{process.verdict.value} at item {process.decided_at}"
    found = expected(plan, process)
    if found.verdict is Verdict.UNDECIDED:
        return f"{found.items} to the end"
    return f"~{found.items} to {found.verdict.value}"


def line(name: str, plan: TrialPlan, process: Process, paint: Paint) -> str:
    """One line: how much of the budget is read, the mean so far, how far both bets are, what to expect."""
    full = BAR * process.n // plan.items
    low, high = progress(process)
    mean = figure(process.total / process.n, plan.reference) if process.n else "no item"
    shown = safe(name, 23)
    bets = ""
    if process.verdict is Verdict.UNDECIDED:
        bets = f"TRIP {high:.0%}," if high > low else f"CLEAR {low:.0%},"
    text = " ".join(filter(None, [f"{process.n}/{plan.items}".rjust(9), mean, bets, words(plan, process)]))
    bar = paint("█" * full, measured(plan, process).tone) + paint("·" * (BAR - full), "dim")
    return f"{pad(shown, 23)} {bar} {clip(text, WIDTH - BAR - 26)}"


class Growing:
    """Where a run tells of each block: a line that gives way to the next on a terminal, one line a trial elsewhere."""

    def __init__(self, tell: Callable[[str], None], stream: TextIO | None = None) -> None:
        self._tell, self._stream = tell, stream or sys.stdout
        self._terminal = bool(getattr(self._stream, "isatty", lambda: False)())
        self._paint = Paint(colour=wants_colour(self._stream))
        self._open = False

    def block(self, name: str, plan: TrialPlan, process: Process) -> None:
        """A block was read; at the end of a trial its line stays."""
        over = trial.finished(plan, process)
        if not self._terminal:
            if over:
                self._tell(f"{name}: {count(process.n, 'item')} read; {words(plan, process)}")
            return
        self._stream.write("\r\x1b[K" + line(name, plan, process, self._paint) + ("\n" if over else ""))
        self._stream.flush()
        self._open = not over

    def tell(self, message: str) -> None:
        """Something else is told, in place of the line that was growing."""
        self.close()
        self._tell(message)

    def close(self) -> None:
        """Take away a line whose trial did not come to its end."""
        if self._open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._open = False


def board(sheet: Sheet, name: str, plan: TrialPlan, process: Process) -> None:
    """The board of one trial that grows: its estimate against its line, its bets, and what is to be expected."""
    measure = measured(plan, process)
    word = process.verdict.value if trial.finished(plan, process) else "RUNNING"
    sheet.line(sheet.paint(f"{word}  {safe(name, 60)}", measure.tone, "bold"))
    sheet.line(f"  {process.n} of at most {plan.items} items read, in blocks of {plan.block_items}")
    start, end = domain(measure)
    drawn = sheet.paint(scale(measure, CELLS, start=start, end=end), measure.tone)
    sheet.line(f"  {figure(start, plan.reference)} ├{drawn}┤ {figure(end, plan.reference)}")
    names, shares, fortunes = ("CLEAR", "TRIP"), progress(process), betting.evidence(process)
    for side, tone, share, value in zip(names, sides(plan), shares, fortunes, strict=True):
        full = int(share * CELLS)
        bar = sheet.paint("█" * full, tone) + sheet.paint("·" * (CELLS - full), "dim")
        sheet.line(f"  {side:5}  {bar} {min(value, 1e300):,.3g} to 1")
    sheet.line(f"  {1.0 / plan.error:,.0f} to 1 decides; expected: {words(plan, process)}")
