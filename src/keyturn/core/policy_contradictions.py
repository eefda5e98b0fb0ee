"""What each table of a policy allows alone but the whole does not: duplicates, dangling names, impossible quorums."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from keyturn.core.keys import lines
from keyturn.core.keys.public import public_of, same_secret
from keyturn.core.keys.vkey import MLDSA_COSIGNATURE, read_vkey
from keyturn.core.policy import GateRow, Loop, Person, Policy, seated
from keyturn.core.terms import Custody, Gate, Tier

REQUIREMENTS: Mapping[Gate, tuple[str, ...]] = {
    Gate.TRAIN: ("quorum",),
    Gate.RELEASE: ("lineage", "evidence", "fresh", "pace", "quorum"),
    Gate.RESUME: ("quorum",),
    Gate.AMEND: ("quorum",),
}
"""What each gate's row must name; a gate that is absent here cannot have a row yet."""

PROGRAM_BYTES_MAX = 1_000_000
"""The largest program of a loop: it is a text, and is compared with its parent before it runs."""

LOG_KEYS_MAX = 8
"""How many log keys may stand side by side: each signs every checkpoint."""

RESERVED = ("governor", "service", "subject")
"""Who never decides, and so must not be mistaken for a person."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a policy: where, what was found and expected, and what to do."""

    path: str
    message: str
    help: str


def contradictions(policy: Policy) -> list[Problem]:
    """Every contradiction within a policy whose tables are each well formed."""
    found = [*_duplicates(policy), *_dangling(policy)]
    if policy.loop is not None:
        found += _loop_problems(policy, policy.loop)
    for number, row in enumerate(policy.gates):
        found += _gate_problems(policy, row, f"gates[{number}]")
    found += _device_problems(policy)
    found += _witness_problems(policy)
    found += _governor_problems(policy)
    for number, person in enumerate(policy.people):
        found += _key_problems(policy, person, f"people[{number}]")
    return found or _room_problems(policy)  # a length is known only of keys that are keys


def _duplicates(policy: Policy) -> list[Problem]:
    lists: dict[str, list[str]] = {
        "people": [person.id for person in policy.people],
        "people.keys": [same_secret(key.public) for person in policy.people for key in person.keys],
        "witnesses.parties": [party.id for party in policy.witnesses.parties],
        "witnesses.parties.keys": _secrets(policy),
        "witnesses.parties.keys.names": [
            name for party in policy.witnesses.parties for name in {read_vkey(key).name for key in party.keys}
        ],
        "subject.files": [rule.name for rule in policy.subject.files],
        "charter": [clause.clause for clause in policy.charter],
        "suites": [suite.id for suite in policy.suites],
        "levels": [str(level.id) for level in policy.levels],
        "thresholds": [threshold.id for threshold in policy.thresholds],
        "gates": [f"{row.action} at level {row.level}" for row in policy.gates],
    }
    return [
        Problem(path, f"`{name}` stands more than once", "keep one")
        for path, names in lists.items()
        for name in sorted({name for name in names if names.count(name) > 1})
    ]


def _dangling(policy: Policy) -> list[Problem]:
    found = []
    suites = {suite.id for suite in policy.suites}
    for number, clause in enumerate(policy.charter):
        if clause.bank not in suites:
            found.append(_unknown(f"charter[{number}].bank", clause.bank, "suite", suites))
        elif not any(t.suite == clause.bank and t.kind == "limit" and not t.reference for t in policy.thresholds):
            message = f"no `limit` threshold tests the clause `{clause.clause}`; an untested charter is decoration"
            found.append(Problem(f"charter[{number}]", message, f"add a threshold on the suite `{clause.bank}`"))
    levels = {level.id for level in policy.levels}
    if 0 not in levels:
        found.append(Problem("levels", "there is no level 0, on which every lineage starts", "add it"))
    for number, threshold in enumerate(policy.thresholds):
        path = f"thresholds[{number}]"
        if threshold.suite not in suites:
            found.append(_unknown(f"{path}.suite", threshold.suite, "suite", suites))
        if threshold.kind == "capability" and threshold.raises_to not in levels:
            found.append(_unknown(f"{path}.raises_to", str(threshold.raises_to), "level", set(map(str, levels))))
        if threshold.margin >= threshold.line:
            message = f"the margin {threshold.margin:g} leaves nothing below the line {threshold.line:g}"
            found.append(Problem(f"{path}.margin", message, "make the margin smaller than the line"))
    return found


def _loop_problems(policy: Policy, loop: Loop) -> list[Problem]:
    """A program becomes one declared file, small enough to be read, and takes no longer than a sealed run may."""
    found = []
    file = next((rule for rule in policy.subject.files if rule.name == loop.program), None)
    if file is None:
        declared = {rule.name for rule in policy.subject.files}
        found.append(_unknown("loop.program", loop.program, "declared file", declared))
    elif file.bytes_max > PROGRAM_BYTES_MAX:
        message = f"a program of {file.bytes_max} bytes; at most {PROGRAM_BYTES_MAX} can be looked at before it runs"
        found.append(Problem("loop.program", message, f"lower `bytes_max` of `{file.name}`"))
    if loop.program_seconds > policy.sandbox.wall_seconds:
        message = (
            f"a program may take {loop.program_seconds} seconds; a sealed run at most {policy.sandbox.wall_seconds}"
        )
        found.append(Problem("loop.program_seconds", message, "lower it, or raise `[sandbox] wall_seconds`"))
    return found


def _device_problems(policy: Policy) -> list[Problem]:
    """A device where no machine ends with it: nothing proves that what it was told to do has stopped."""
    sandbox, path = policy.sandbox, "sandbox.devices"
    found = [
        Problem(path, f"`{name}` stands more than once", "keep one")
        for name in sorted({name for name in sandbox.devices if sandbox.devices.count(name) > 1})
    ]
    low = [str(level.id) for level in policy.levels if level.sandbox.rank < Tier.T4.rank]
    if sandbox.devices and low and not sandbox.accept_unproven_devices:
        message = f"devices on level {', '.join(low)}, below tier T4: no halt of a device is proven there"
        found.append(Problem(path, message, "remove them, ask for T4, or set `accept_unproven_devices = true`"))
    return found


def _unknown(path: str, name: str, noun: str, known: set[str]) -> Problem:
    names = ", ".join(sorted(known)) or "none"
    message = f"`{name}` is not a {noun} of this policy; known: {names}"
    return Problem(path, message, f"add that {noun} or name a known one")


def _gate_problems(policy: Policy, row: GateRow, path: str) -> list[Problem]:
    found: list[Problem] = []
    needed = REQUIREMENTS.get(row.action)
    if needed is None:
        message = f"the gate `{row.action}` cannot be opened by this Keyturn; a row for it would promise too much"
        return [Problem(f"{path}.action", message, "remove the row: a gate without one never clears")]
    found += [
        Problem(f"{path}.require", f"`{row.action}` does not require `{name}`", f"add `{name}`")
        for name in needed
        if name not in row.require
    ]
    found += [
        Problem(f"{path}.require", f"`{name}` is not a requirement of `{row.action}`", "remove it")
        for name in row.require
        if name not in needed
    ]
    if policy.level(row.level) is None:
        found.append(_unknown(f"{path}.level", str(row.level), "level", {str(level.id) for level in policy.levels}))
    return found + _quorum_problems(policy, row, path)


def _quorum_problems(policy: Policy, row: GateRow, path: str) -> list[Problem]:
    found = []
    for number, seat in enumerate(row.quorum):
        holders = [person.id for person in policy.people if seat.role in person.roles]
        if len(holders) < seat.persons:
            message = f"{seat.persons} person(s) in the role `{seat.role}` are asked for; {len(holders)} are enrolled"
            found.append(Problem(f"{path}.quorum[{number}]", message, "enrol more people or ask for fewer"))
    roles = [seat.role for seat in row.quorum]
    for role in sorted({role for role in roles if roles.count(role) > 1}):
        message = f"the role `{role}` has more than one seat; one seat with the number of persons is expected"
        found.append(Problem(f"{path}.quorum", message, "add the persons up in one seat"))
    needed = sum(seat.persons for seat in row.quorum)
    able = _most_seated(policy, row)
    if not found and able < needed:
        message = f"{needed} distinct persons are asked for; only {able} could sit: nobody could meet this quorum"
        found.append(Problem(f"{path}.quorum", message, "a person counts once; enrol more people"))
    return found or _separation_problems(policy, row, path)


def _most_seated(policy: Policy, *rows: GateRow) -> int:
    """How many seats of these rows together distinct people could fill at best."""
    wanted = {f"{row.action}:{seat.role}": seat.persons for row in rows for seat in row.quorum}
    able = {p.id: [f"{row.action}:{role}" for row in rows for role in p.roles] for p in policy.people}
    return len(seated(wanted, able))


def _separation_problems(policy: Policy, row: GateRow, path: str) -> list[Problem]:
    """Under `separate_warrant` a release needs people besides those whom its warrant takes."""
    warrant = policy.row(Gate.TRAIN, row.level)
    if not policy.separate_warrant or row.action is not Gate.RELEASE or warrant is None:
        return []
    needed = sum(seat.persons for each in (warrant, row) for seat in each.quorum)
    able = _most_seated(policy, warrant, row)
    if able >= needed:
        return []
    message = f"`separate_warrant` asks for {needed} distinct persons for warrant and release; only {able} could sit"
    return [Problem(f"{path}.quorum", message, "enrol more people, or set `separate_warrant = false`")]


def _witness_problems(policy: Policy) -> list[Problem]:
    """A number that nobody could reach, a promise taken back in the next line, or one key behind two parties."""
    witnesses, path, found = policy.witnesses, "witnesses", []
    if not witnesses.required and not witnesses.allow_unwitnessed:
        message = "no witness is required and `allow_unwitnessed` is not true; no permit could ever be issued"
        help = "set `allow_unwitnessed = true`; every screen will then say UNWITNESSED"
        found.append(Problem(f"{path}.allow_unwitnessed", message, help))
    if witnesses.required and witnesses.allow_unwitnessed:
        message = f"{witnesses.required} witness(es) are required, and `allow_unwitnessed` takes that back"
        found.append(Problem(f"{path}.allow_unwitnessed", message, "remove it, or set `required = 0`"))
    if witnesses.auditors > witnesses.required:
        message = f"{witnesses.auditors} auditors are asked for among {witnesses.required} witnesses"
        found.append(Problem(f"{path}.auditors", message, "ask for no more auditors than witnesses"))
    for lack in witnesses.lacking([party.id for party in witnesses.parties]):
        message = f"if all cosigned, {lack}: nobody could meet this"
        found.append(Problem(f"{path}.parties", message, "name more independent parties, or ask for fewer"))
    return found


def _room_problems(policy: Policy) -> list[Problem]:
    """A head that everybody cosigned fits into one note, and the record that enough did into one entry."""
    found, path = [], "witnesses.parties"
    help = "name fewer parties, fewer keys of ML-DSA-44, or an Ed25519 key beside each"
    many, long = lines.lines(policy), lines.note_bytes(policy)
    if long > lines.NOTE_BYTES_MAX or many > lines.SIGNATURES_MAX:
        message = (
            f"a head that all of them cosigned has {many} signatures in {long} bytes; "
            f"{lines.SIGNATURES_MAX} in {lines.NOTE_BYTES_MAX} are the most"
        )
        found.append(Problem(path, message, help))
    if lines.recorded_bytes(policy) > lines.RECORD_BYTES_MAX:
        message = (
            f"the signatures that are required take {lines.recorded_bytes(policy)} bytes; an entry of the log, which "
            f"must hold them, has room for {lines.RECORD_BYTES_MAX}"
        )
        found.append(Problem(path, message, help))
    return found


def _secrets(policy: Policy) -> list[str]:
    """The key of every party in one spelling, so that one secret cannot count as two witnesses."""
    return [base64.b64encode(read_vkey(key).raw).decode() for party in policy.witnesses.parties for key in party.keys]


def _governor_problems(policy: Policy) -> list[Problem]:
    """The governor's own keys are none of a person's, and its log keys carry the log's name, each once."""
    keys, path = policy.governor.log_keys, "governor.log_keys"
    found = [
        Problem(path, f"the key `{key[:80]}` is not of the log `{policy.origin}`", "`keyturn key rotate log` makes one")
        for key in keys
        if key.split("+", 1)[0] != policy.origin
    ]
    if keys and read_vkey(keys[0]).kind == MLDSA_COSIGNATURE:
        message = (
            "the first log key is of ML-DSA-44, which public witnesses do not know; an Ed25519 key is expected first"
        )
        found.append(Problem(path, message, "put the Ed25519 key first, and the other beside it"))
    if len(set(keys)) != len(keys) or len(keys) > LOG_KEYS_MAX:
        message = f"{len(keys)} log keys, {len(set(keys))} of them distinct; 1 to {LOG_KEYS_MAX} distinct are expected"
        found.append(Problem(path, message, "keep the current key first, and those that others still pin"))
    own = {same_secret(key) for key in (policy.governor.service_key, *map(public_of, keys)) if key}
    for person in policy.people:
        if any(same_secret(key.public) in own for key in person.keys):
            message = f"`{person.id}` is given a key of the governor's; the governed never governs"
            found.append(Problem("governor", message, "give the person a key of their own"))
    return found


def _key_problems(policy: Policy, person: Person, path: str) -> list[Problem]:
    found = []
    if person.id in RESERVED:
        message = f"`{person.id}` is a part of Keyturn; a human being is expected"
        found.append(Problem(f"{path}.id", message, "give the person another id"))
    order = list(Custody)
    for number, key in enumerate(person.keys):
        if key.kind == "simulated" and not policy.demo:
            message = f"`{person.id}` has a simulated key, but `demo` is not true"
            found.append(Problem(f"{path}.keys[{number}].kind", message, "give the person a key of their own"))
        if order.index(key.custody) < order.index(policy.custody_least):
            message = f"custody `{key.custody}` is weaker than the least, `{policy.custody_least}`"
            found.append(Problem(f"{path}.keys[{number}].custody", message, "keep the key where the policy asks for"))
    return found
