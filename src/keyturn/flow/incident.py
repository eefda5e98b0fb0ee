"""Open an incident for what happened, and record the moments that people sign for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput
from keyturn.core.policy import Person, Policy
from keyturn.core.terms import Json
from keyturn.flow.governor import Governor
from keyturn.flow.log import Fact, Log
from keyturn.flow.ports import Alarm
from keyturn.wire import leaf
from keyturn.wire.people_statements import AwarenessTerms

KINDS = {
    "decoy_opened": "decoy",
    "processes_left": "undeclared-copy",
    "limit_reached": "overrun",
    "undeclared_output": "undeclared-output",
}
"""Which kind of incident each alarm opens."""

MOMENTS = (
    "aware_at",
    "model_involvement_aware_at",
    "discovered_at",
    "reasonable_belief_at",
    "determined_at",
    "imminent_risk_at",
    "condition_met_at",
    "resolved_at",
)
"""The moments from which legal clocks run; each is signed by itself."""


def opened(
    governor: Governor,
    kind: str,
    summary: str,
    *,
    attempt: int = 0,
    candidate: str = "",
    facts: ev.Document | None = None,
) -> Fact:
    """The fact that an incident opened; in a demo it is an EXERCISE."""
    return lambda stamp: ev.IncidentOpened(
        **stamp,
        incident=f"i-{stamp['id'][:8]}",
        kind=kind,
        summary=summary[:500],
        attempt=attempt,
        candidate=candidate,
        facts=facts or {},
        exercise=governor.policy.demo,
    )


def alarm_facts(governor: Governor, alarms: Sequence[Alarm], *, attempt: int, candidate: str) -> list[Fact]:
    """An incident for each alarm that a safeguard raised during a sealed run."""
    return [
        opened(
            governor,
            KINDS.get(alarm.kind, alarm.kind),
            alarm.detail,
            attempt=attempt,
            candidate=candidate,
            facts={"alarm": alarm.kind},
        )
        for alarm in alarms
    ]


def programs_facts(governor: Governor, alarms: Sequence[Alarm], *, attempt: int) -> list[Fact]:
    """One incident for each kind of alarm that programs of a batch raised, naming them by digest.

    It names no attempt: a program that was refused does not taint what its step proposes.
    """
    found: list[Fact] = []
    for kind in dict.fromkeys(alarm.kind for alarm in alarms):
        same = [alarm for alarm in alarms if alarm.kind == kind]
        programs: list[Json] = [*dict.fromkeys(alarm.program for alarm in same if alarm.program)]
        also = f" (and {len(same) - 1} more like it)" if len(same) > 1 else ""
        facts: ev.Document = {"alarm": kind, "improve": attempt, "programs": programs}
        found.append(opened(governor, KINDS.get(kind, kind), f"{same[0].detail}{also}", facts=facts))
    return found


def halting(policy: Policy, alarms: Sequence[Alarm]) -> Alarm | None:
    """The first alarm on which the policy says to halt."""
    halts = {tripwire.when for tripwire in policy.tripwires if tripwire.do == "halt"}
    return next((alarm for alarm in alarms if alarm.kind in halts), None)


def awareness(log: Log, incident: str, moment: str, *, moment_at: int, person: Person, reason: str) -> AwarenessTerms:
    """The statement by which a person says that a moment which the law names has come."""
    state = log.state
    if state.current is None or state.project is None or incident not in state.incidents:
        raise MalformedInput(f"`{incident}` is not an incident of this log", help="`keyturn incident list`")
    if moment not in MOMENTS:
        raise MalformedInput(f"`{moment}` starts no clock; one of {', '.join(MOMENTS)} is expected", help="`--moment`")
    if moment_at > log.now():
        raise MalformedInput("the moment lies in the future; a moment that has come is expected", help="`--at`")
    return AwarenessTerms(
        genesis=state.project.genesis,
        policy=state.current.digest,
        incident=incident,
        moment=moment,
        moment_at=moment_at,
        signed_at=log.now(),
        person=person.id,
        nonce=log.ids.new(),
        origin=state.project.origin,
        reason=reason,
    )


def aware(
    log: Log, terms: AwarenessTerms, *, public: str, sign: leaf.Sign, keep: Callable[[], None] = lambda: None
) -> None:
    """Record that a person signed a moment for an incident, after `keep` made durable what its reason refers to."""
    log.append_signed(leaf.encode_awareness(terms, public=public, sign=sign), require=keep)
