"""Whose approvals count, offline: everything that can be compared is compared with what each person signed.

It sees only what is shown: a refusal that is held back, and who asked for a dossier, are for a replay of the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from keyturn.core import events as ev
from keyturn.core.keys.governor import every_secret
from keyturn.core.keys.public import same_secret
from keyturn.core.policy import Adopted, Key, Policy, seated
from keyturn.core.terms import Digest, Gate, Instant
from keyturn.verify.trust import Trust


@dataclass(frozen=True, slots=True)
class Approved:
    """An approval whose signature was checked, and its place in the log."""

    index: int
    event: ev.ApprovalGiven


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What people had to approve: having seen the log beyond `after`, before entry `before`, for the moment `at`."""

    dossier: Digest
    gate: Gate
    level: int
    artifact: str
    scope: str
    after: int
    before: int
    at: Instant


@dataclass(frozen=True, slots=True)
class Count:
    """Who counts, with the key that signed, and in plain words what is missing."""

    counted: Mapping[str, Key]
    missing: tuple[str, ...]


def count(approvals: Iterable[Approved], asked: Asked, adopted: Adopted, trust: Trust) -> Count:
    """Seat distinct persons in the quorum of this gate and level; a gate without a row is missing everything."""
    row = adopted.policy.row(asked.gate, asked.level)
    if row is None:
        return Count({}, (f"the policy has no row for `{asked.gate}` on level {asked.level}",))
    wanted = {seat.role: seat.persons for seat in row.quorum}
    able: dict[str, list[str]] = {}
    keys: dict[str, Key] = {}
    others = []
    for each in approvals:
        person, key = each.event.person, _key(adopted.policy, each.event)
        doubt = why_not(each, asked, adopted, trust)
        if key is None or doubt:
            others.append(f"; `{person}` does not count: {doubt}")
        else:
            able.setdefault(person, []).append(each.event.role)
            keys.setdefault(person, key)
    seats = seated(wanted, able)
    return Count({person: keys[person] for person in seats}, tuple(_missing(wanted, seats, "".join(others))))


def _missing(wanted: Mapping[str, int], seats: Mapping[str, str], others: str) -> Iterator[str]:
    for role, persons in wanted.items():
        filled = list(seats.values()).count(role)
        if filled < persons:
            yield f"{filled} of {persons} person(s) in the role `{role}` approved exactly this{others}"


def why_not(approved: Approved, asked: Asked, adopted: Adopted, trust: Trust) -> str:
    """Why an approval does not count towards what was asked; empty when it does."""
    said, founded = approved.event, trust.founded
    person, key = adopted.policy.person(said.person), _key(adopted.policy, said)
    checks = (
        (said.dossier == asked.dossier, "it is for another dossier"),
        (said.artifact == asked.artifact, "it is for another artifact"),
        (said.gate == asked.gate and said.level == asked.level, f"it is for `{said.gate}` on level {said.level}"),
        (said.genesis == trust.genesis and said.origin == founded.origin, "it was given in another project"),
        (said.lineage == founded.name and said.scope == asked.scope, "it is for another lineage or scope"),
        ((said.policy, said.policy_version) == (adopted.digest, adopted.version), "it was given under another policy"),
        (asked.after < said.evidence_index <= approved.index, "what was signed is older than what it is about"),
        (approved.index < asked.before, "it came afterwards"),
        (said.not_before <= asked.at < said.not_after, "it was outside its window"),
        (person is not None and said.role in person.roles, f"the role `{said.role}` is not theirs"),
        (key is not None, "the key is not theirs"),
        (same_secret(said.key) not in every_secret(founded, (adopted,)), "the governor's own keys never count"),
        (key is not None and (key.kind != "simulated" or founded.demo), "a simulated key counts in a demo only"),
    )
    return next((reason for holds, reason in checks if not holds), "")


def _key(policy: Policy, said: ev.ApprovalGiven) -> Key | None:
    person = policy.person(said.person)
    return next((key for key in person.keys if key.public == said.key), None) if person else None
