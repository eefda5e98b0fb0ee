"""The part of replay that does arithmetic: plans, bets and evidence, each recomputed from what the log holds.

It runs no trial and sees no item; it shows that the verdict follows from the values that were logged in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from keyturn.core import betting, trial
from keyturn.core import events as ev
from keyturn.core.betting import Process
from keyturn.core.bounds import OUTPUT_BYTES_RESERVED, output_finding
from keyturn.core.dossier import claim_line
from keyturn.core.policy import Suite, Threshold
from keyturn.core.state import Candidate, Lineage, State, Trial
from keyturn.core.trial import ADVERSE, TrialPlan

SHOWN_ERROR: Final = 0.05
"""The error of the interval that evidence shows; it decides nothing."""

_SHOWN_WITHIN: Final = 2e-6  # shown figures are rounded, and the last digit of a logarithm differs between machines


def trial_planned(state: State, event: ev.TrialPlanned) -> Iterator[tuple[bool, str]]:
    """The plan asks what the policy asks, with the share of error that this submission may spend, once."""
    candidate, lineage, current = state.candidates.get(event.candidate), state.lineage, state.current
    threshold = current.policy.threshold(event.threshold) if current else None
    suite = current.policy.suite(threshold.suite) if current and threshold else None
    if candidate is None or lineage is None or threshold is None or suite is None:
        yield False, "it plans a trial for a threshold, a suite or a candidate that there is not"
        return
    yield state.halt is None, "it was planned while a halt stood"
    lack = output_finding(_output_most(state), state.output, starting=True)
    yield lack is None, lack.message if lack else ""
    yield candidate.status == "proposed", f"its candidate is {candidate.status} already"
    pair = (event.candidate, event.threshold)
    again = any((each.candidate, each.threshold) == pair for each in state.trials.values())
    yield not again, "this candidate had its trial for this threshold"
    plan = TrialPlan.from_json(event.plan)
    for name, wanted in _wanted(threshold, suite, candidate).items():
        found = getattr(plan, name)
        yield found == wanted, f"its `{name}` is {found}; the policy says {wanted}"
    yield plan.items <= suite.items_max, f"its budget is {plan.items}; the policy allows {suite.items_max}"
    other = asked_otherwise(state, candidate, plan)
    yield not other, other
    number = submission(lineage, event.threshold, candidate)
    share = betting.error_of_submission(lifetime_error=threshold.lifetime_error, submission=number)
    yield plan.error == share, f"it spends an error of {plan.error}; submission {number} may spend {share}"


QUESTION: Final = ("kind", "suite", "metric", "reference", "line", "margin", "estimand")
"""What of a plan says what is asked; bets on one question say nothing of another."""


def asked_otherwise(state: State, candidate: Candidate, plan: TrialPlan) -> str:
    """Why these bytes cannot be tried by this plan: an earlier trial of them asked another question; empty if none did.

    The same bytes go on with their earlier bets. Under a line that was tightened since, or another claim, they would
    pass by what was bet against the old one.
    """
    for earlier in state.trials.values():
        if earlier.threshold != plan.threshold or earlier.candidate == candidate.name:
            continue
        differs = [name for name in QUESTION if earlier.plan.get(name) != getattr(plan, name)]
        if differs and state.candidates[earlier.candidate].root == candidate.root:
            what = "claim" if plan.kind == "claim" and differs == ["line"] else " and ".join(differs)
            return f"the same bytes were tried as `{earlier.candidate}` under another {what}"
    return ""


def _wanted(threshold: Threshold, suite: Suite, candidate: Candidate) -> dict[str, object]:
    claim = threshold.kind == "claim"
    return {
        "threshold": threshold.id,
        "kind": threshold.kind,
        "suite": threshold.suite,
        "metric": threshold.metric,
        "reference": threshold.reference,
        "line": claim_line(candidate, threshold) if claim else threshold.line,
        "margin": 0.0 if claim else threshold.margin,
        "estimand": suite.estimand,
        "block_items": suite.block,
    }


def submission(lineage: Lineage, threshold: str, candidate: Candidate) -> int:
    """Which submission of this lineage for this threshold these bytes are, counted from 1."""
    charged = lineage.charges.get(threshold, ())
    return charged.index(candidate.root) + 1 if candidate.root in charged else len(charged) + 1


def _process(plan: TrialPlan, known: Trial) -> Process:
    return trial.begin(plan) if known.process is None else Process.from_json(known.process)


def trial_advanced(state: State, event: ev.TrialAdvanced) -> Iterator[tuple[bool, str]]:
    """The bets after this block follow from the bets before it and from its values; a fault counts as adverse."""
    known = state.trials[event.trial]
    plan = TrialPlan.from_json(known.plan)
    process = _process(plan, known)
    most = _output_most(state)
    if most is not None:
        yield state.output.used <= most, f"answers may have said {state.output.used} bytes already; {most} are allowed"
        reserved = state.output.reserved.get(event.trial, 0)
        yield event.output_bytes <= reserved, f"{event.output_bytes} bytes were said; {reserved} were reserved"
    yield process.n == event.start, f"it goes on from item {event.start}; the bets stand at {process.n}"
    yield bool(event.values), "it reads nothing"
    for value in event.values:
        if trial.finished(plan, process):
            yield False, "it reads on after the trial was decided or its budget used up"
            return
        process = betting.advance(process, value)
    yield process.to_json() == event.process, "its bets do not follow from its values"
    adverse = all(value == ADVERSE[plan.kind] for value in event.values)
    yield not event.faults or adverse, "a fault was not counted against the candidate"


def _output_most(state: State) -> int | None:
    return state.current.policy.sandbox.output_bytes_lineage_max if state.current else None


def answers_reserved(state: State, event: ev.AnswersReserved) -> Iterator[tuple[bool, str]]:
    """Before sandboxes start, what they may say is set aside, and it is within what the policy leaves."""
    fixed = OUTPUT_BYTES_RESERVED
    yield event.output_bytes == fixed, f"it reserves {event.output_bytes} bytes; {fixed} is what a trial may say"
    lack = output_finding(_output_most(state), state.output, starting=True)
    yield lack is None, lack.message if lack else ""


def trial_ended(state: State, event: ev.TrialEnded) -> Iterator[tuple[bool, str]]:
    """A trial ends when it is decided or its budget is used up, and with the verdict of its bets."""
    known = state.trials[event.trial]
    plan = TrialPlan.from_json(known.plan)
    process = _process(plan, known)
    yield trial.finished(plan, process), "it ended before it was decided or its budget was used up"
    yield event.verdict == process.verdict, f"it says {event.verdict}; the bets say {process.verdict}"


def evidence(state: State, event: ev.EvidenceRecorded) -> Iterator[tuple[bool, str]]:
    """What is shown about a trial is what its values give."""
    known, candidate, lineage = state.trials[event.trial], state.candidates[event.candidate], state.lineage
    plan = TrialPlan.from_json(known.plan)
    process = _process(plan, known)
    yield event.items == process.n, f"it speaks of {event.items} items; {process.n} were read"
    mean = process.total / process.n if process.n else 1.0
    low, high = betting.interval(process, error=SHOWN_ERROR, values=known.values)
    for name, value in (("estimate", mean), ("low", low), ("high", high)):
        found = getattr(event, name)
        yield abs(found - value) <= _SHOWN_WITHIN, f"its `{name}` is {found:g}; the values give {value:g}"
    number = submission(lineage, event.threshold, candidate) if lineage else 0
    yield event.charge == number, f"it says submission {event.charge}; it is number {number}"
    yield event.bank == plan.bank, "it names another bank than its plan"
