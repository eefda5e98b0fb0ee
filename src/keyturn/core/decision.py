"""The heart: which rules stand between a request and its gate. Anything that cannot be evaluated holds the gate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from keyturn.core.approval import (
    dossier_must_be_unused,
    dossier_must_fit,
    nobody_must_have_refused,
    quorum_must_be_met,
    row_of,
)
from keyturn.core.audit import pace_must_hold
from keyturn.core.candidate import (
    conduct_must_be_clean,
    lineage_must_be_complete,
    sandbox_must_be_tight,
    warrant_must_cover,
)
from keyturn.core.evidence import evidence_must_be_fresh, evidence_must_cover_thresholds
from keyturn.core.finding import REQUESTS, Decision, Finding, Request
from keyturn.core.halt import halt_must_be_lifted, halt_must_be_proven
from keyturn.core.state import State
from keyturn.core.terms import Digest, Gate, Instant

RULES_NUMBER = 2
"""Counts changes in what a rule means; a change of meaning without a new number would falsify replays."""

Rule = Callable[[State, Request, Instant], Iterable[Finding]]
"""A rule looks at the state, the request and the moment, and yields every reason to hold."""


def gate_must_have_a_row(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """The policy says what this gate demands on this level; silence is not consent."""
    if row_of(state, request) is None:
        message = f"the policy has no row for the gate `{REQUESTS[request.name]}` on the level that applies"
        yield Finding("gate_must_have_a_row", message, "amend the policy, by quorum")


def lineage_must_be_founded(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """There is a founder to improve on."""
    if state.lineage is None:
        yield Finding("lineage_must_be_founded", "no lineage is founded yet", "`keyturn run` to found it, by quorum")


GATES: Mapping[Gate, tuple[Rule, ...]] = {  # order is precedence
    Gate.TRAIN: (
        gate_must_have_a_row,
        halt_must_be_lifted,
        lineage_must_be_founded,
        dossier_must_be_unused,
        dossier_must_fit,
        nobody_must_have_refused,
        quorum_must_be_met,
    ),
    Gate.RELEASE: (
        gate_must_have_a_row,
        halt_must_be_lifted,
        lineage_must_be_complete,
        conduct_must_be_clean,
        warrant_must_cover,
        sandbox_must_be_tight,
        evidence_must_cover_thresholds,
        evidence_must_be_fresh,
        pace_must_hold,
        dossier_must_be_unused,
        dossier_must_fit,
        nobody_must_have_refused,
        quorum_must_be_met,
    ),
    Gate.RESUME: (
        gate_must_have_a_row,
        halt_must_be_proven,
        dossier_must_be_unused,
        dossier_must_fit,
        nobody_must_have_refused,
        quorum_must_be_met,
    ),
    Gate.AMEND: (
        gate_must_have_a_row,
        dossier_must_be_unused,
        dossier_must_fit,
        nobody_must_have_refused,
        quorum_must_be_met,
    ),
}
"""The rules of each gate; a gate that is not here never clears."""

PEOPLE: frozenset[Rule] = frozenset(
    {dossier_must_be_unused, dossier_must_fit, nobody_must_have_refused, quorum_must_be_met}
)
"""The rules that only people can satisfy; `prepare` leaves them out, because a dossier comes before its signatures."""

_NAMES = ";".join(f"{gate}:{','.join(rule.__name__ for rule in rules)}" for gate, rules in GATES.items())
RULES = Digest("sha256:" + hashlib.sha256(f"{RULES_NUMBER};{_NAMES}".encode()).hexdigest())
"""Names the rules that made a decision, so that a replay can tell that it applied the same ones."""


def decide(state: State, request: Request, now: Instant) -> Decision:
    """Say whether the gate clears and, if not, everything still missing. `now` never runs behind the log."""
    return _decision(state, request, now, GATES.get(REQUESTS[request.name], ()))


def prepare(state: State, request: Request, now: Instant) -> Decision:
    """The same decision before people are asked: every rule but those that only signatures can satisfy."""
    rules = GATES.get(REQUESTS[request.name], ())
    return _decision(state, request, now, tuple(rule for rule in rules if rule not in PEOPLE))


def _decision(state: State, request: Request, now: Instant, rules: tuple[Rule, ...]) -> Decision:
    gate = REQUESTS[request.name]
    moment = Instant(max(now, state.last_at))
    findings = [finding for rule in rules for finding in _apply(rule, state, request, moment)]
    if not rules:
        findings.append(Finding("gate_must_have_rules", f"the gate `{gate}` has no rules yet, so it never clears", ""))
    return Decision(gate, tuple(findings), RULES, state.size)


def _apply(rule: Rule, state: State, request: Request, now: Instant) -> tuple[Finding, ...]:
    """A rule's findings; a rule that breaks yields one, because doubt holds."""
    try:
        return tuple(rule(state, request, now))
    except Exception as fault:  # noqa: BLE001 - a broken rule must hold its gate, whatever broke it; it is reported, not swallowed
        message = f"the rule `{rule.__name__}` could not be evaluated: {type(fault).__name__}: {fault}"
        return (Finding(rule.__name__, message, "report this; the gate holds until the rule can be evaluated"),)
