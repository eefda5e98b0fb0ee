"""One trial: its plan in words, its two bets on their way to their lines, and what it showed.

Never decides: the curves are recomputed from the logged values by the same plain arithmetic that decided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from keyturn.cli.screen import Sheet, count, safe, short, utc
from keyturn.cli.screens.evidence import measures, numbers
from keyturn.cli.screens.scale import domain, figure, scale, spark
from keyturn.cli.screens.waiting import head
from keyturn.core import betting, trial
from keyturn.core.betting import Process
from keyturn.core.events import TrialAdvanced
from keyturn.core.state import State, Trial
from keyturn.core.terms import Verdict
from keyturn.core.trial import TrialPlan

TONES = {Verdict.CLEAR: "green", Verdict.TRIP: "red", Verdict.UNDECIDED: "yellow"}
CELLS = 58
ENDED = "no verdict yet"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A trial computed again from its logged scores, block by block."""

    items: int
    blocks: int
    verdict: str
    equal: bool
    differences: tuple[str, ...]


def show(sheet: Sheet, state: State, known: Trial) -> None:
    """The screen of one trial."""
    plan = TrialPlan.from_json(known.plan)
    verdict = known.verdict or Verdict.UNDECIDED
    word = verdict.value if known.verdict else "RUNNING?"
    measure = next(
        (m for m in measures(state, state.candidates[known.candidate]) if m.threshold == known.threshold), None
    )
    tone = measure.tone if measure and measure.verdict != "missing" else TONES[verdict]
    said = measure.meaning if measure and known.verdict else ENDED
    head(sheet, state, word, f"trial `{safe(known.id, 60)}`: {said}", tone)
    if measure is not None and measure.verdict != "missing":
        start, end = domain(measure)
        drawn = sheet.paint(scale(measure, CELLS, start=start, end=end), measure.tone)
        sheet.line(f"  {figure(start, plan.reference)} ├{drawn}┤ {figure(end, plan.reference)}")
        sheet.say(numbers(measure), "dim", indent=2)
    _bets(sheet, known, plan)
    _plan(sheet, known, plan)


def _bets(sheet: Sheet, known: Trial, plan: TrialPlan) -> None:
    """Both bets over the items, each to the height of its line."""
    lows, highs = curves(plan, known.values)
    top = math.log(1 / plan.error)
    sheet.title(
        f"THE TWO BETS over {count(len(known.values), 'item')}; a full cell is the line, {1 / plan.error:,.0f} to 1"
    )
    for name, curve, tone in zip(("CLEAR", "TRIP"), (lows, highs), sides(plan), strict=True):
        drawn = spark(curve, CELLS, top=top)
        now = math.exp(min(max(curve[-1], -700.0), 700.0)) if curve else 1.0
        reached = next((place for place, value in enumerate(curve, 1) if value >= top), None)
        tail = f"line reached at item {reached}" if reached else f"now {now:,.3g} to 1"
        sheet.line(f"  {name:6}│{sheet.paint(drawn, tone)}")
        sheet.line(f"        {sheet.paint(tail, 'dim')}")
    low, high = plan.line - plan.margin, plan.line
    reference = plan.reference
    sheet.say(
        f"CLEAR bets that the mean is below {figure(low, reference)}; TRIP that it is above {figure(high, reference)}.",
        "dim",
        indent=2,
    )


def sides(plan: TrialPlan) -> tuple[str, str]:
    """The colours of CLEAR and TRIP: a claim that is shown to be false is CLEAR, and no good news."""
    return ("red", "green") if plan.kind == "claim" else ("green", "red")


def curves(plan: TrialPlan, values: tuple[float, ...]) -> tuple[list[float], list[float]]:
    """The logarithms of both fortunes after every item."""
    process, lows, highs = trial.begin(plan), list[float](), list[float]()
    for value in values:
        process = betting.advance(process, value)
        low, high = betting.evidence(process)
        lows.append(math.log(max(low, 1e-300)))
        highs.append(math.log(max(high, 1e-300)))
    return lows, highs


def _plan(sheet: Sheet, known: Trial, plan: TrialPlan) -> None:
    against = f", paired against the {plan.reference}" if plan.reference else ""
    sheet.title(f"THE PLAN, in the log since {utc(known.planned_at)}, before the first item")
    kinds = {
        "limit": "a limit: not shown to be within it refuses",
        "capability": "a capability: not shown to be below it raises the level",
        "claim": "the candidate's own claim: shown to be far below it refuses",
    }
    estimand = (
        f"the score of the whole bank of {count(plan.bank_items, 'item')}"
        if plan.estimand == "bank"
        else f"the population that {count(plan.clusters, 'independent cluster')} were drawn from"
    )
    seen = f"{len(known.values)} of at most {plan.items} items, in blocks of {plan.block_items}"
    for name, text in (
        ("candidate", safe(known.candidate, 60)),
        ("measures", f"{safe(plan.metric, 60)} on the suite {safe(plan.suite, 40)}{against}"),
        ("kind", kinds[plan.kind]),
        ("about", estimand),
        ("error", f"at most {plan.error:.3g} to clear wrongly, however often one looks"),
        ("asked", f"{seen}; {count(known.faulty_blocks, 'faulty block')}, which count against it"),
        ("commits to", f"bank {short(plan.bank)}, order {short(plan.order)}, seed {short(plan.seed)}"),
    ):
        sheet.entry(name, text)


def replay(known: Trial, events: tuple[tuple[int, TrialAdvanced], ...]) -> Replayed:
    """Compute the trial again from the scores in the log; each block's logged state must be equal to the bit.

    `events` are this trial's blocks with their places in the log. A trial that continued an earlier one begins with
    that one's values.
    """
    plan = TrialPlan.from_json(known.plan)
    process = trial.begin(plan)
    differences = []
    before = known.values[: events[0][1].start] if events else known.values
    for value in before:
        process = betting.advance(process, value)
    for index, event in events:
        for value in event.values:
            process = betting.advance(process, value)
        if not same_bits(process, event):
            differences.append(f"entry {index}: the logged state after item {process.n} is another one")
    if known.verdict is not None and process.verdict is not known.verdict:
        differences.append(f"the log says {known.verdict}; the scores say {process.verdict}")
    if tuple(before) + tuple(value for _, event in events for value in event.values) != known.values:
        differences.append("the blocks in the log are not the values that were folded")
    return Replayed(process.n, len(events), process.verdict.value, not differences, tuple(differences))


def same_bits(process: Process, event: TrialAdvanced) -> bool:
    """Whether a logged state is this very state, compared number by number as their bits."""
    logged = Process.from_json(event.process)
    return logged == process and all(
        a.hex() == b.hex()
        for a, b in zip(
            (*process.low.parts, *process.high.parts, process.total),
            (*logged.low.parts, *logged.high.parts, logged.total),
            strict=True,
        )
    )


def show_replay(sheet: Sheet, state: State, known: Trial, found: Replayed) -> None:
    """What computing it again showed."""
    if found.equal:
        head(sheet, state, "EQUAL", f"trial `{safe(known.id, 60)}` computed again: equal to the bit", "green")
    else:
        head(sheet, state, "DIFFERS", f"trial `{safe(known.id, 60)}` computed again: not what the log says", "red")
    sheet.entry("items", f"{found.items} in {count(found.blocks, 'block')}")
    sheet.entry("verdict", found.verdict)
    for difference in found.differences[:20]:
        sheet.say(f"✖ {safe(difference)}", "red", indent=2)
