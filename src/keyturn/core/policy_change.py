"""What differs between two policies, and which of it is shown to tighten; it never decides whether to adopt one.

Anything that is not shown to tighten counts as loosening, because doubt holds: tightening is free, the rest waits for
a quorum (promise 3). The words of `policy_prose` are offered here too, as `explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from keyturn.core.policy import GateRow, Level, Loop, Policy, SandboxLimits, Seat, Suite, Threshold, Tripwire, Witnesses
from keyturn.core.policy_prose import explain
from keyturn.core.terms import Custody, Gate

__all__ = ["Difference", "change", "explain", "needs_quorum"]

TIGHTENS: Final = "tightens"
LOOSENS: Final = "loosens"
OTHER: Final = "other"

_DOUBT: Final = "nothing shows that this tightens"
_STRONGER: Final = {"": 0, "incident": 1, "halt": 2}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the new policy says otherwise; a side that says nothing is empty.

    `effect` is `tightens`, `loosens` or, for a mere change of order, `other`; `why` says so in words.
    """

    path: str
    old: str
    new: str
    effect: str
    why: str


def change(old: Policy, new: Policy) -> tuple[Difference, ...]:
    """Every difference from `old` to `new`, in the order of the file; none between equal policies."""
    found = [
        *_project(old, new),
        *_doubtful("applicability", _fields(old.applicability), _fields(new.applicability)),
        *_subject(old, new),
        *_doubtful("governor", _fields(old.governor), _fields(new.governor)),
        *_rows("people", {p.id: p for p in old.people}, {p.id: p for p in new.people}),
        *_charter(old, new),
        *_rows("suites", _by_id(old.suites), _by_id(new.suites)),
        *_levels(old, new),
        *_thresholds(old, new),
        *_gates(old, new),
        *_bounds(old, new),
        *_loop(old.loop, new.loop),
        *_tripwires(old.tripwires, new.tripwires),
    ]
    return tuple(found or _order(old, new))


def needs_quorum(differences: Iterable[Difference]) -> bool:
    """Whether anything among these could loosen, so that people must clear it under `amend`."""
    return any(difference.effect == LOOSENS for difference in differences)


# One kind of difference at a time


def _smaller(path: str, old: float, new: float, why: str) -> Iterator[Difference]:
    """A number that tightens as it falls."""
    if old != new:
        yield Difference(path, str(old), str(new), TIGHTENS if new < old else LOOSENS, why)


def _greater(path: str, old: float, new: float, why: str) -> Iterator[Difference]:
    """A number that tightens as it rises."""
    if old != new:
        yield Difference(path, str(old), str(new), TIGHTENS if new > old else LOOSENS, why)


def _switched(path: str, old: bool, new: bool, *, tight: bool, why: str) -> Iterator[Difference]:
    """A flag of which one position is the tighter."""
    if old is not new:
        yield Difference(path, str(old).lower(), str(new).lower(), TIGHTENS if new is tight else LOOSENS, why)


def _doubtful(path: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Difference]:
    """Whatever differs here might loosen."""
    for name in [*old, *(name for name in new if name not in old)]:
        before, after = old.get(name), new.get(name)
        if before != after:
            yield Difference(f"{path}.{name}", _said(before), _said(after), LOOSENS, _DOUBT)


def _rows(path: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[Difference]:
    """Rows of which any that is added, gone or changed might loosen; changed ones are shown field by field."""
    for id in [*old, *(id for id in new if id not in old)]:
        if id not in new:
            yield Difference(f"{path}.{id}", _said(old[id]), "", LOOSENS, "it is gone")
        elif id not in old:
            yield Difference(f"{path}.{id}", "", _said(new[id]), LOOSENS, _DOUBT)
        else:
            yield from _doubtful(f"{path}.{id}", _fields(old[id]), _fields(new[id]))


def _fields(row: object) -> dict[str, object]:
    slots: Sequence[str] = getattr(row, "__slots__", ())
    return {name: getattr(row, name) for name in slots}


def _by_id(rows: Sequence[Suite]) -> dict[str, object]:
    return {row.id: row for row in rows}


def _said(value: object) -> str:
    """A value in short words, for people; a row by its fields."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(_said(item) for item in value) or "none"
    fields = _fields(value)
    return "; ".join(f"{name} {_said(item)}" for name, item in fields.items()) if fields else str(value)


# The tables of a policy


def _project(old: Policy, new: Policy) -> Iterator[Difference]:
    yield from _doubtful(
        "project",
        {"name": old.name, "origin": old.origin, "demo": old.demo},
        {"name": new.name, "origin": new.origin, "demo": new.demo},
    )
    why = "those who sign a warrant are kept out of its releases"
    yield from _switched("project.separate_warrant", old.separate_warrant, new.separate_warrant, tight=True, why=why)
    if old.custody_least is not new.custody_least:
        order = list(Custody)
        tight = order.index(new.custody_least) > order.index(old.custody_least)
        effect, why = TIGHTENS if tight else LOOSENS, "how well every key must be kept"
        yield Difference("project.custody_least", old.custody_least, new.custody_least, effect, why)


def _subject(old: Policy, new: Policy) -> Iterator[Difference]:
    before, after = _fields(old.subject), _fields(new.subject)
    del before["files"], after["files"]
    yield from _doubtful("subject", before, after)
    sizes = {rule.name: rule.bytes_max for rule in old.subject.files}
    files = {rule.name: rule.bytes_max for rule in new.subject.files}
    for name in [*sizes, *(name for name in files if name not in sizes)]:
        path = f"subject.files.{name}.bytes_max"
        if name in sizes and name in files:
            yield from _smaller(path, sizes[name], files[name], "how large a candidate's file may be")
        else:
            why = "a candidate consists of other files"
            yield Difference(path, _said(sizes.get(name)), _said(files.get(name)), LOOSENS, why)


def _charter(old: Policy, new: Policy) -> Iterator[Difference]:
    before = {clause.clause: clause for clause in old.charter}
    after = {clause.clause: clause for clause in new.charter}
    added = [name for name in after if name not in before]
    yield from _rows("charter", before, {name: clause for name, clause in after.items() if name in before})
    for name in added:
        yield Difference(f"charter.{name}", "", _said(after[name]), TIGHTENS, "the charter says more")


def _levels(old: Policy, new: Policy) -> Iterator[Difference]:
    before, after = {level.id: level for level in old.levels}, {level.id: level for level in new.levels}
    for id in sorted({*before, *after}):
        path = f"levels.{id}"
        if id in before and id in after:
            yield from _level(path, before[id], after[id])
        else:
            why = "it is gone" if id in before else "what reached it before was held; now it has duties to meet"
            yield Difference(path, _said(before.get(id)), _said(after.get(id)), LOOSENS, why)


def _level(path: str, old: Level, new: Level) -> Iterator[Difference]:
    if old.sandbox is not new.sandbox:
        effect = TIGHTENS if new.sandbox.rank > old.sandbox.rank else LOOSENS
        yield Difference(f"{path}.sandbox", old.sandbox, new.sandbox, effect, "how tight every sandbox must be")
    why = "how many generations may wait for an audit"
    yield from _smaller(f"{path}.unaudited_max", old.unaudited_max, new.unaudited_max, why)


def _thresholds(old: Policy, new: Policy) -> Iterator[Difference]:
    before, after = {t.id: t for t in old.thresholds}, {t.id: t for t in new.thresholds}
    climbs = duties_climb(new)
    for id in [*before, *(id for id in after if id not in before)]:
        path = f"thresholds.{id}"
        if id not in after:
            yield Difference(path, _said(before[id]), "", LOOSENS, "nothing tests this any more")
        elif id in before:
            yield from _threshold(path, before[id], after[id], climbs=climbs)
        else:
            effect = TIGHTENS if after[id].kind != "capability" or climbs else LOOSENS
            yield Difference(path, "", _said(after[id]), effect, "one line more to be shown")


def _threshold(path: str, old: Threshold, new: Threshold, *, climbs: bool) -> Iterator[Difference]:
    """Where each part of a threshold must move to tighten it.

    A limit or a capability must be shown to be below its line, so less of the line, more margin and less error ask
    for more. A claim is refused once it is shown to be false: there less margin and more error refuse sooner.
    """
    names = ("kind", "suite", "metric", "reference")
    yield from _doubtful(path, {n: getattr(old, n) for n in names}, {n: getattr(new, n) for n in names})
    found: list[Difference]
    if new.kind == "claim":
        found = [
            *_smaller(f"{path}.margin", old.margin, new.margin, "how far a claim may miss"),
            *_greater(f"{path}.lifetime_error", old.lifetime_error, new.lifetime_error, "how soon a claim is doubted"),
        ]
    else:
        found = [
            *_smaller(f"{path}.line", old.line, new.line, "below which line it must be shown"),
            *_greater(f"{path}.margin", old.margin, new.margin, "how far inside the line it must be shown"),
            *_smaller(f"{path}.lifetime_error", old.lifetime_error, new.lifetime_error, "how often we may be wrong"),
            *_greater(f"{path}.raises_to", old.raises_to, new.raises_to, "which duties follow"),
        ]
    for difference in found:
        unsafe = new.kind == "capability" and not climbs
        yield _doubted(difference, "a higher level does not ask for more here") if unsafe else difference


def _doubted(difference: Difference, why: str) -> Difference:
    return Difference(difference.path, difference.old, difference.new, LOOSENS, why)


def duties_climb(policy: Policy) -> bool:
    """Whether every level asks for at least as much as the one below, so that reaching a level never helps."""
    levels = sorted(policy.levels, key=lambda level: level.id)
    return all(
        high.sandbox.rank >= low.sandbox.rank
        and high.unaudited_max <= low.unaudited_max
        and all(_as_strict(policy.row(gate, low.id), policy.row(gate, high.id)) for gate in Gate)
        for low, high in pairwise(levels)
    )


def _as_strict(low: GateRow | None, high: GateRow | None) -> bool:
    """Whether a gate asks for at least as much as another one does; a gate without a row never clears."""
    if high is None:
        return True
    if low is None:
        return False
    wanted = {seat.role: seat.persons for seat in high.quorum}
    seats = all(wanted.get(seat.role, 0) >= seat.persons for seat in low.quorum)
    return seats and high.expires_after_seconds <= low.expires_after_seconds


def _gates(old: Policy, new: Policy) -> Iterator[Difference]:
    before = {f"gates.{row.action}.{row.level}": row for row in old.gates}
    after = {f"gates.{row.action}.{row.level}": row for row in new.gates}
    for path in [*before, *(path for path in after if path not in before)]:
        if path not in after:
            yield Difference(path, _said(before[path].quorum), "", LOOSENS, "nobody could open this gate any more")
        elif path not in before:
            yield Difference(path, "", _said(after[path].quorum), LOOSENS, "this gate never cleared before")
        else:
            yield from _gate(path, before[path], after[path])


def _gate(path: str, old: GateRow, new: GateRow) -> Iterator[Difference]:
    for name in [*old.require, *(name for name in new.require if name not in old.require)]:
        if (name in old.require) is not (name in new.require):
            gone = name in old.require
            yield Difference(
                f"{path}.require.{name}",
                name if gone else "",
                "" if gone else name,
                LOOSENS if gone else TIGHTENS,
                "what the gate looks at",
            )
    before, after = _persons(old.quorum), _persons(new.quorum)
    for role in [*before, *(role for role in after if role not in before)]:
        why = "how many people must turn their keys"
        yield from _greater(f"{path}.quorum.{role}", before.get(role, 0), after.get(role, 0), why)
    path = f"{path}.expires_after_seconds"
    yield from _smaller(path, old.expires_after_seconds, new.expires_after_seconds, "how long people may take")


def _persons(quorum: Sequence[Seat]) -> dict[str, int]:
    return {seat.role: seat.persons for seat in quorum}


def _bounds(old: Policy, new: Policy) -> Iterator[Difference]:
    yield from _smaller("lease.seconds", old.lease_seconds, new.lease_seconds, "how soon all stops unattended")
    for name, what in (
        ("memory_bytes", "how much memory a sealed run may use"),
        ("processes_max", "how many processes a sealed run may have"),
        ("wall_seconds", "how long a sealed run may take"),
    ):
        yield from _smaller(f"sandbox.{name}", getattr(old.sandbox, name), getattr(new.sandbox, name), what)
    yield from _check(old.sandbox, new.sandbox)
    for name, what in (
        ("cpus", "how many processors a sealed run may use"),
        ("cpu_seconds_max", "how much processor time a sealed run may use"),
        ("output_bytes_lineage_max", "how much all answers of the lineage may say"),
    ):
        yield from _bounded(f"sandbox.{name}", getattr(old.sandbox, name), getattr(new.sandbox, name), what)
    yield from _devices(old.sandbox, new.sandbox)
    for name, what in (
        ("evidence_seconds", "how old evidence may be"),
        ("permit_seconds", "how old the log's head may be when a permit is used"),
    ):
        yield from _smaller(f"freshness.{name}", getattr(old.freshness, name), getattr(new.freshness, name), what)
    before, after = old.witnesses, new.witnesses
    yield from _greater("witnesses.required", before.required, after.required, "how many must cosign the log")
    yield from _greater("witnesses.auditors", before.auditors, after.auditors, "how many of them must be auditors")
    yield from _rows("witnesses.parties", _parties(before), _parties(after))
    path, why = "witnesses.allow_unwitnessed", "whether the log may go without witnesses"
    yield from _switched(path, before.allow_unwitnessed, after.allow_unwitnessed, tight=False, why=why)


def _bounded(path: str, old: float | None, new: float | None, why: str) -> Iterator[Difference]:
    """A number that tightens as it falls, where none at all bounds nothing."""
    if old != new:
        tightens = new is not None and (old is None or new < old)
        yield Difference(path, _said(old), _said(new), TIGHTENS if tightens else LOOSENS, why)


def _devices(old: SandboxLimits, new: SandboxLimits) -> Iterator[Difference]:
    """What is shown of the host's devices, of none of which a halt is proven."""
    why = "which devices a sealed run sees"
    for name in sorted({*old.devices} ^ {*new.devices}):
        gone = name in old.devices
        path, effect = f"sandbox.devices.{name}", TIGHTENS if gone else LOOSENS
        yield Difference(path, name if gone else "", "" if gone else name, effect, why)
    path, why = "sandbox.accept_unproven_devices", "whether a device may be shown where no halt of it is proven"
    yield from _switched(path, old.accept_unproven_devices, new.accept_unproven_devices, tight=False, why=why)


def _check(old: SandboxLimits, new: SandboxLimits) -> Iterator[Difference]:
    """How old the sandbox's last check may be; a replay holds the governor to it only where the policy says so."""
    if old.check_seconds_max == new.check_seconds_max:
        return
    silent = new.check_seconds_max is None or new.check_seconds > old.check_seconds
    was, now = (f"{each.check_seconds}{'' if each.check_seconds_max else ', not said'}" for each in (old, new))
    why = "how old the sandbox's last check may be, and whether a replay looks for it"
    yield Difference("sandbox.check_seconds_max", was, now, LOOSENS if silent else TIGHTENS, why)


def _parties(witnesses: Witnesses) -> dict[str, object]:
    """Whoever is named may come to count, so that any change of them might loosen."""
    return {party.id: party for party in witnesses.parties}


def _loop(old: Loop | None, new: Loop | None) -> Iterator[Difference]:
    """Whether somebody else's loop makes the candidates, and how closely its programs are watched."""
    if old is None or new is None:
        if old is not new:
            yield Difference("loop", _said(old), _said(new), LOOSENS, "who makes the candidates")
        return
    yield from _doubtful("loop", {"program": old.program}, {"program": new.program})
    path, why = "loop.protect", "whether what lies outside the evolve blocks must stand"
    yield from _chosen(path, old.protect, new.protect, tight="evolve-blocks", why=why)
    yield from _smaller("loop.batch", old.batch, new.batch, "how many programs a crash can keep from the log")
    why = "how long one program may take"
    yield from _smaller("loop.program_seconds", old.program_seconds, new.program_seconds, why)


def _chosen(path: str, old: str, new: str, *, tight: str, why: str) -> Iterator[Difference]:
    """A choice of which one is the tighter."""
    if old != new:
        yield Difference(path, old, new, TIGHTENS if new == tight else LOOSENS, why)


def _tripwires(old: Sequence[Tripwire], new: Sequence[Tripwire]) -> Iterator[Difference]:
    """A tripwire tightens as it does more: nothing, an incident, a halt."""
    before, after = _strongest(old), _strongest(new)
    for when in [*before, *(when for when in after if when not in before)]:
        was, now = before.get(when, ""), after.get(when, "")
        if was != now:
            effect = TIGHTENS if _STRONGER[now] > _STRONGER[was] else LOOSENS
            yield Difference(f"tripwires.{when}", was, now, effect, "what happens by itself")


def _strongest(tripwires: Sequence[Tripwire]) -> dict[str, str]:
    found: dict[str, str] = {}
    for wire in tripwires:
        found[wire.when] = max(found.get(wire.when, ""), wire.do, key=lambda do: _STRONGER[do])
    return found


def _order(old: Policy, new: Policy) -> Iterator[Difference]:
    """Policies that say the same in another order or another spelling, though not in the same bytes."""
    if old.document != new.document:
        yield Difference("", "", "", OTHER, "the same rules in another order or spelling")
