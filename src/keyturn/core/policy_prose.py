"""A policy in plain sentences, for people who will be bound by it; it explains and never judges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from keyturn.core.policy import GateRow, Level, Loop, Policy, Threshold, Witnesses
from keyturn.core.terms import Custody, Gate, Tier

_NO_ROW: Final = "cannot be opened: the policy has no row for it"
FAR_BELOW: Final = 10
"""How many times smaller than a member all answers of a lineage must be to count as far below it."""

_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
_LOOKS_AT: Final = {
    Gate.TRAIN: "leave to make candidates (a warrant)",
    Gate.RELEASE: "making a candidate the parent of the next generation",
    Gate.RESUME: "going on after a halt",
    Gate.AMEND: "founding the lineage and loosening this policy",
}
_CHECKS: Final = {
    "lineage": "an unbroken lineage",
    "evidence": "evidence for every threshold",
    "fresh": "its freshness",
    "pace": "the pace",
}
_HAPPENS: Final = {
    "decoy_opened": "a decoy is opened",
    "processes_left": "a step leaves processes behind",
    "limit_reached": "a sealed run reaches one of its limits",
    "undeclared_output": "a step writes anything that was not declared",
}


def explain(policy: Policy) -> tuple[str, ...]:
    """The policy as sentences: what it warns of first, then gates, thresholds, charter, pace, tripwires, people."""
    return (
        f"`{policy.name}` writes the log `{policy.origin}`.",
        *_warnings(policy),
        *_gates(policy),
        *(_threshold(policy, threshold) for threshold in policy.thresholds),
        *(f"The charter says, in `{clause.clause}`: {clause.text}" for clause in policy.charter),
        *(_pace(level) for level in policy.levels),
        *_running(policy),
        *_witnesses(policy.witnesses),
        *_loop(policy.loop),
        *_tripwires(policy),
        *_people(policy),
    )


def _warnings(policy: Policy) -> Iterator[str]:
    """What every screen must show, before anything else."""
    if policy.demo:
        yield "DEMO: this project may use simulated people, for ever; everything that it files is an EXERCISE."
    simulated = [person.id for person in policy.people if person.simulated]
    if simulated:
        yield f"SIMULATED: a program holds keys of {_listed(simulated)}; no human being need have decided."
    if policy.single_person:
        yield "SINGLE PERSON: one person alone can clear a release."
    if policy.witnesses.required == 0:
        yield "UNWITNESSED: nobody else keeps the log's heads; whoever runs this machine could rewrite its history."
    if policy.witnesses.splits:
        yield f"TWO HISTORIES: {policy.witnesses.splits}."
    yield from _outlets(policy)
    if any(key.custody is Custody.SHARED_ACCOUNT for person in policy.people for key in person.keys):
        yield "SHARED ACCOUNT: the operator can use some people's keys; this does not protect against the operator."


def _outlets(policy: Policy) -> Iterator[str]:
    """Ways out that no bound closes."""
    most, weights = policy.sandbox.output_bytes_lineage_max, sum(rule.bytes_max for rule in policy.subject.files)
    if most is None:
        yield "OUTPUT: nothing bounds what answers may say in all; weights could leave through them, piece by piece."
    elif most * FAR_BELOW > weights:
        yield (
            f"OUTPUT: answers may say {most} bytes in all, a member has at most {weights}: not far below (a "
            f"{FAR_BELOW}th), so most of one could leave through them, piece by piece."
        )
    if policy.sandbox.devices:
        yield "DEVICES: sealed runs see devices of this machine, and no halt of a device is proven."
        closed = [str(level.id) for level in policy.levels if level.sandbox.rank > Tier.T1.rank]
        if closed:
            asking = f"level {closed[0]} asks" if len(closed) == 1 else f"levels {_listed(closed)} ask"
            yield f"NOTHING RUNS: with devices no sandbox has more than T1, and {asking} for more."


def _gates(policy: Policy) -> Iterator[str]:
    for gate in Gate:
        if not any(row.action is gate for row in policy.gates):
            yield f"The gate `{gate}` {_NO_ROW}."
            continue
        yield f"The gate `{gate}` stands before {_LOOKS_AT[gate]}."
        for level in policy.levels:
            row = policy.row(gate, level.id)
            yield f"  On level {level.id} it {_asks(row) if row else _NO_ROW}."
    if policy.separate_warrant:
        yield "Whoever signs a warrant cannot sign the releases under it."


def _asks(row: GateRow) -> str:
    people = _listed([f"{seat.persons} in the role `{seat.role}`" for seat in row.quorum])
    alone = " (a single person)" if sum(seat.persons for seat in row.quorum) == 1 else ""
    checks = _listed([_CHECKS.get(name, f"`{name}`") for name in row.require if name != "quorum"])
    also = f", besides {checks}" if checks else ""
    return f"asks for {people}{alone}, within {_time(row.expires_after_seconds)}{also}"


def _threshold(policy: Policy, threshold: Threshold) -> str:
    than = f" compared with the {threshold.reference}" if threshold.reference else ""
    suite = policy.suite(threshold.suite)
    items = f" with at most {suite.items_max} items" if suite else ""
    what = f"`{threshold.metric}`{than}, tried on `{threshold.suite}`{items}"
    wrong = f"wrong at most {_share(threshold.lifetime_error)} of the time over the whole lineage"
    if threshold.kind == "claim":
        return (
            f"The claim `{threshold.id}` refuses a candidate shown to be more than {threshold.margin:g} below what it "
            f"claims in {what}; {wrong}."
        )
    line = f"below {threshold.line - threshold.margin:g} (the line {threshold.line:g} less {threshold.margin:g})"
    if threshold.kind == "capability":
        return (
            f"The capability `{threshold.id}` puts a candidate on level {threshold.raises_to} unless it is shown to be "
            f"{line} in {what}; {wrong}."
        )
    return (
        f"The limit `{threshold.id}` refuses a candidate unless it is shown to be {line} in {what}; {wrong}. "
        "No quorum overrides it."
    )


def _pace(level: Level) -> str:
    many = _counted(level.unaudited_max, "generation")
    return f"On level {level.id} sandboxes are at least {level.sandbox}, and at most {many} may wait for an audit."


def _running(policy: Policy) -> Iterator[str]:
    limits = policy.sandbox
    yield (
        f"A sealed run has at most {limits.memory_bytes / 2**20:g} MiB, {_counted(limits.processes_max, 'process')} "
        f"and {_time(limits.wall_seconds)}; without the governor it stops after {policy.lease_seconds:g} s."
    )
    yield from _used(policy)
    if limits.check_seconds_max is not None:
        yield (
            f"No tier counts without a containment check at most {_time(limits.check_seconds_max)} old, and a replay "
            "of the log looks for it."
        )
    yield (
        f"Evidence counts for {_time(policy.freshness.evidence_seconds)}; a permit is accepted on a head of the log "
        f"that is at most {_time(policy.freshness.permit_seconds)} old."
    )


def _used(policy: Policy) -> Iterator[str]:
    """Processors, what answers may say in all, and devices."""
    limits = policy.sandbox
    if limits.cpus is None and limits.cpu_seconds_max is None:
        yield "Processor time is not bounded but by the time that a run may take."
    if limits.cpus is not None:
        yield f"A sealed run has {limits.cpus:g} of the machine's processors, all its processes together."
    if limits.cpu_seconds_max is not None:
        yield f"A sealed run ends when its processes have together used {limits.cpu_seconds_max} s of processor time."
    most = limits.output_bytes_lineage_max
    if most is not None:
        yield (
            f"All answers in all trials of the lineage, its references' too, may come to {most / 2**20:g} MiB; then "
            "nothing more is tried until people amend it."
        )
    if limits.devices:
        yield f"A sealed run sees the devices {_listed([f'`{name}`' for name in limits.devices])}."


def _witnesses(witnesses: Witnesses) -> Iterator[str]:
    if witnesses.required:
        auditing = f", {witnesses.auditors} of them auditing every event" if witnesses.auditors else ""
        yield (
            f"No permit is issued or used until {witnesses.required} independent parties have cosigned the log's head"
            f"{auditing}."
        )
    for party in witnesses.parties:
        who = "independent" if party.independent else "the operator's own, which never counts"
        yield f"`{party.id}` {'audits and cosigns' if party.auditor else 'cosigns'} the log ({who}), at {party.url}."


def _loop(loop: Loop | None) -> Iterator[str]:
    if loop is None:
        return
    yield (
        f"A loop of somebody else's makes the candidates: `{loop.program}` is the best of the programs that it made "
        "within one warrant and that were admitted; no person is asked about a program."
    )
    outside = "anything in the text of a program may change"
    if loop.protect == "evolve-blocks":
        outside = "a program that changes anything outside its parent's evolve blocks is refused unrun"
    yield (
        f"A program runs sealed for at most {_time(loop.program_seconds)}; {outside}. The log tells of programs at "
        f"most {loop.batch} at a time."
    )


def _tripwires(policy: Policy) -> Iterator[str]:
    if not policy.tripwires:
        yield "No tripwire stops anything by itself."
    for wire in policy.tripwires:
        does = "everything halts" if wire.do == "halt" else "an incident opens"
        yield f"When {_HAPPENS.get(wire.when, f'`{wire.when}` happens')}, {does}."


def _people(policy: Policy) -> Iterator[str]:
    for person in policy.people:
        roles = _listed([f"`{role}`" for role in person.roles])
        kept = _listed(sorted({f"`{key.custody}`" for key in person.keys}))
        yield f"`{person.id}` decides as {roles}, with {_counted(len(person.keys), 'key')} kept {kept}."


def _listed(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def _counted(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _share(error: float) -> str:
    return f"{error * 100:g} %"


def _time(seconds: int) -> str:
    """A length in the largest unit that measures it exactly."""
    for unit, noun in _UNITS:
        if seconds % unit == 0 and seconds >= unit:
            return _counted(seconds // unit, noun)
    return _counted(seconds, "second")
