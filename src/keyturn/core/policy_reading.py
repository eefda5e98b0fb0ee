"""From plain data to a `Policy`: every mistake is found and named by its place; nothing is guessed.

The data come from TOML, read elsewhere; a place is a path such as `thresholds[1].line`, for which the door finds
the line. A reading returns either a policy or all problems, never a policy with problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from keyturn.core.bounds import OUTPUT_BYTES_RESERVED
from keyturn.core.errors import MalformedInput
from keyturn.core.keys.public import read_ssh
from keyturn.core.keys.vkey import COSIGNATURE, read_vkey
from keyturn.core.policy import (
    CHECK_SECONDS,
    Applicability,
    Clause,
    FileRule,
    Freshness,
    GateRow,
    GovernorKeys,
    Key,
    Level,
    Loop,
    Party,
    Person,
    Policy,
    SandboxLimits,
    Seat,
    Subject,
    Suite,
    Threshold,
    Tripwire,
    Witnesses,
)
from keyturn.core.policy_contradictions import Problem, contradictions
from keyturn.core.terms import Custody, Digest, Gate, Json, Tier

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
DEVICE = re.compile(r"/dev(/[A-Za-z0-9][A-Za-z0-9:._-]{0,80}){1,3}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PUBLIC = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,200}(/[A-Za-z0-9._~/-]{0,200})?")
VKEY = re.compile(r"[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{4,4000}")
KINDS = ("limit", "capability", "claim")
REFERENCES = ("parent", "audited", "founder")
PROTECT = ("evolve-blocks", "nothing")
TRIPWIRES = ("decoy_opened", "processes_left", "limit_reached", "undeclared_output")


@dataclass(slots=True)
class _Table:
    """A table under reading; it remembers which keys were asked for so that unknown ones are found."""

    data: Mapping[str, Json]
    path: str
    problems: list[Problem]
    seen: set[str] = field(default_factory=set)

    def fault(self, key: str, message: str, help: str) -> None:
        self.problems.append(Problem(f"{self.path}.{key}".strip("."), message, help))

    def take(self, key: str, kind: type | tuple[type, ...], expected: str, default: object = None) -> object:
        """The value of `key`, or the default; a missing or wrongly typed one is a problem."""
        self.seen.add(key)
        if key not in self.data:
            if default is None:
                self.fault(key, f"`{key}` is missing; {expected} is expected", f"add `{key}`")
            return default
        value = self.data[key]
        boolean_as_number = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or boolean_as_number:
            self.fault(key, f"`{key}` is `{value!r}`; {expected} is expected", f"change `{key}`")
            return default
        return value

    def text(self, key: str, default: str | None = None, pattern: re.Pattern[str] | None = None) -> str:
        value = self.take(key, str, "a text", default)
        value = value if isinstance(value, str) else ""
        if pattern is not None and isinstance(self.data.get(key), str) and not pattern.fullmatch(value):
            self.fault(key, f"`{key}` is `{value}`; a text like `{pattern.pattern}` is expected", f"change `{key}`")
        return value

    def choice(self, key: str, values: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in values and isinstance(self.data.get(key), str):
            self.fault(key, f"`{key}` is `{value}`; one of {', '.join(values)} is expected", "use one of these")
        return value if value in values else values[0]

    def member(self, key: str, kind: type[E], default: E | None = None) -> E:
        return kind(self.choice(key, tuple(kind), default))

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.take(key, int, f"a whole number from {low} to {high}", default)
        value = value if isinstance(value, int) else low
        if key in self.data and not low <= value <= high:
            self.fault(key, f"`{key}` is {value}; {low} to {high} is expected", f"change `{key}`")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        value = self.take(key, (int, float), f"a number from {low:g} to {high:g}", default)
        value = float(value) if isinstance(value, int | float) else low
        if not low <= value <= high:
            self.fault(key, f"`{key}` is {value:g}; {low:g} to {high:g} is expected", f"change `{key}`")
        return value

    def flag(self, key: str, default: bool) -> bool:
        return self.take(key, bool, "true or false", default) is True

    def texts(self, key: str, *, empty: bool = False, optional: bool = False) -> tuple[str, ...]:
        value = self.take(key, list, "a list of texts", [] if optional else None)
        items = value if isinstance(value, list) else []
        if any(not isinstance(item, str) or not item for item in items):
            self.fault(key, f"`{key}` holds something that is not a text", "write every item as a text")
        if value == [] and not empty and key in self.data:
            self.fault(key, f"`{key}` is empty; at least one item is expected", "name at least one")
        return tuple(item for item in items if isinstance(item, str))

    def table(self, key: str, read: Callable[[_Table], T], *, optional: bool = False) -> T:
        value = self.take(key, dict, "a table", {} if optional else None)
        inner = _Table(value if isinstance(value, dict) else {}, f"{self.path}.{key}".strip("."), self.problems)
        if not isinstance(value, dict):
            inner = _Table({}, inner.path, [])  # the missing table was named already; its keys need not be
        result = read(inner)
        inner.refuse_unknown()
        return result

    def tables(self, key: str, read: Callable[[_Table], T], *, optional: bool = False) -> tuple[T, ...]:
        value = self.take(key, list, "a list of tables", [] if optional else None)
        rows = value if isinstance(value, list) else []
        if value == [] and not optional and key in self.data:
            self.fault(key, f"`{key}` is empty; at least one is expected", f"add one `[[{key}]]`")
        result = []
        for number, row in enumerate(rows):
            path = f"{self.path}.{key}[{number}]".strip(".")
            if not isinstance(row, dict):
                self.problems.append(Problem(path, f"`{path}` is not a table", "write it as a table"))
                continue
            inner = _Table(row, path, self.problems)
            result.append(read(inner))
            inner.refuse_unknown()
        return tuple(result)

    def refuse_unknown(self) -> None:
        for key in sorted(set(self.data) - self.seen):
            known = ", ".join(sorted(self.seen))
            self.fault(key, f"`{key}` is not a key of this table", f"remove it; the keys are: {known}")


def read_policy(document: Mapping[str, Json]) -> Policy | tuple[Problem, ...]:
    """Read a whole policy; returns every problem found instead when there is any."""
    problems: list[Problem] = []
    table = _Table(document, "", problems)
    policy = _policy(table, dict(document))
    table.refuse_unknown()
    if not problems:
        problems.extend(contradictions(policy))
    return tuple(problems) if problems else policy


def _policy(table: _Table, document: dict[str, Json]) -> Policy:
    table.whole("schema", 1, 1)
    name, origin, demo, separate, least = table.table("project", _project)
    pace = table.table("pace", lambda t: t.whole("unaudited_max", 1, 1000))
    return Policy(
        name=name,
        origin=origin,
        demo=demo,
        separate_warrant=separate,
        custody_least=least,
        applicability=table.table("applicability", _applicability),
        subject=table.table("subject", lambda t: _subject(t, looped="loop" in document)),
        people=table.tables("people", _person),
        charter=table.tables("charter", _clause),
        suites=table.tables("suites", _suite),
        levels=table.tables("levels", lambda t: _level(t, pace)),
        thresholds=table.tables("thresholds", _threshold),
        gates=table.tables("gates", _gate),
        lease_seconds=table.table("lease", lambda t: t.number("seconds", 0.5, 60)),
        sandbox=table.table("sandbox", _sandbox),
        tripwires=table.tables("tripwires", _tripwire, optional=True),
        freshness=table.table("freshness", _freshness),
        witnesses=table.table("witnesses", _witnesses),
        loop=table.table("loop", _loop) if "loop" in document else None,
        governor=table.table("governor", _governor, optional=True),
        document=document,
    )


def _project(t: _Table) -> tuple[str, str, bool, bool, Custody]:
    return (
        t.text("name", pattern=NAME),
        t.text("origin", pattern=re.compile(r"[A-Za-z0-9./-]{3,100}")),
        t.flag("demo", False),
        t.flag("separate_warrant", False),
        t.member("custody_least", Custody, Custody.SHARED_ACCOUNT),
    )


def _applicability(t: _Table) -> Applicability:
    return Applicability(
        t.text("role"),
        t.texts("jurisdictions", empty=True),
        t.number("training_flop", 0, 1e40),
        t.number("revenue_usd", 0, 1e16),
    )


def _subject(t: _Table, *, looped: bool) -> Subject:
    def file(row: _Table) -> FileRule:
        return FileRule(row.text("name", pattern=FILE_NAME), row.whole("bytes_max", 1, 2**40))

    if looped and "improve" in t.data:
        t.fault("improve", "`improve` stands beside `[loop]`, which makes the candidates; one is expected", "keep one")
    return Subject(
        improve=() if looped else t.texts("improve"),
        answer=t.texts("answer"),
        runtime=t.text("runtime"),
        founder=Digest(t.text("founder", pattern=DIGEST)),
        seed=t.whole("seed", 0, 2**31, 1),
        files=t.tables("files", file),
    )


def _person(t: _Table) -> Person:
    def key(row: _Table) -> Key:
        kind = row.choice("kind", ("ed25519", "ssh", "simulated"))
        ssh = kind == "ssh"
        public = row.text("public", pattern=None if ssh else PUBLIC)
        device = _is_security_key(row, public) if ssh and public else False
        custody = row.member("custody", Custody, Custody.HARDWARE if device else Custody.SHARED_ACCOUNT)
        made = Key(kind, public, custody, touch=row.flag("touch", False), pin=row.flag("pin", False))
        for name in ("touch", "pin"):
            if getattr(made, name) and not device:
                message = f"`{name}` is demanded of a key that is no security key; it could never sign"
                row.fault(name, message, "remove it, or enrol a key of a type `sk-...`")
        return made

    return Person(t.text("id", pattern=NAME), t.texts("roles"), t.tables("keys", key))


def _is_security_key(row: _Table, public: str) -> bool:
    """Whether the SSH key under `public` lies in a device; a line that is no such key is a problem."""
    try:
        return read_ssh(public).security_key
    except MalformedInput as fault:
        row.fault("public", fault.message, fault.help)
        return False


def _clause(t: _Table) -> Clause:
    return Clause(t.text("clause", pattern=NAME), t.text("text"), t.text("bank", pattern=NAME))


def _suite(t: _Table) -> Suite:
    return Suite(
        t.text("id", pattern=NAME),
        t.texts("grader"),
        t.text("exam"),
        t.text("metric"),
        t.whole("items_max", 1, 1_000_000),
        t.whole("block", 1, 1000),
        t.choice("estimand", ("population", "bank"), "population"),
    )


def _level(t: _Table, unaudited_max: int) -> Level:
    pace = t.whole("unaudited_max", 1, 1000, unaudited_max)
    return Level(t.whole("id", 0, 9), t.member("sandbox", Tier), pace)


def _threshold(t: _Table) -> Threshold:
    kind = t.choice("kind", KINDS)
    return Threshold(
        id=t.text("id", pattern=NAME),
        kind=kind,
        suite=t.text("suite", pattern=NAME),
        metric=t.text("metric"),
        reference=t.choice("reference", ("", *REFERENCES), ""),
        line=t.number("line", 0.001, 0.999) if kind != "claim" else 1.0,
        margin=t.number("margin", 0, 0.9),
        lifetime_error=t.number("lifetime_error", 1e-9, 0.2),
        raises_to=t.whole("raises_to", 1, 9) if kind == "capability" else 0,
    )


def _gate(t: _Table) -> GateRow:
    def seat(row: _Table) -> Seat:
        return Seat(row.text("role"), row.whole("persons", 1, 100))

    return GateRow(
        t.member("action", Gate),
        t.whole("level", 0, 9),
        t.texts("require"),
        t.tables("quorum", seat),
        t.whole("expires_after_seconds", 1, 400 * 86400),
    )


def _sandbox(t: _Table) -> SandboxLimits:
    cpus, seconds = t.number("cpus", 0.1, 4096, 1.0), t.whole("cpu_seconds_max", 1, 10**9, 1)
    said = t.whole("output_bytes_lineage_max", OUTPUT_BYTES_RESERVED, 1 << 50, 1 << 50)
    check = t.whole("check_seconds_max", 60, 366 * 86400, CHECK_SECONDS)
    devices = t.texts("devices", empty=True, optional=True)
    for device in devices:
        if not DEVICE.fullmatch(device):
            t.fault("devices", f"`{device}` is no device node under `/dev`", "name each by its full path")
    return SandboxLimits(
        t.whole("memory_bytes", 16 << 20, 1 << 50),
        t.whole("processes_max", 4, 100_000),
        t.whole("wall_seconds", 1, 30 * 86400),
        cpus=cpus if "cpus" in t.data else None,
        cpu_seconds_max=seconds if "cpu_seconds_max" in t.data else None,
        output_bytes_lineage_max=said if "output_bytes_lineage_max" in t.data else None,
        devices=devices,
        accept_unproven_devices=t.flag("accept_unproven_devices", False),
        check_seconds_max=check if "check_seconds_max" in t.data else None,
    )


def _loop(t: _Table) -> Loop:
    return Loop(
        t.text("program", pattern=FILE_NAME),
        t.choice("protect", PROTECT),
        t.whole("batch", 1, 100, 50),
        t.whole("program_seconds", 1, 86400),
    )


def _governor(t: _Table) -> GovernorKeys:
    keys = t.texts("log_keys", optional=True)
    for key in keys:
        try:
            if read_vkey(key).kind == COSIGNATURE:
                t.fault(
                    "log_keys", f"`{key[:80]}` is a witness's key; a log's own is expected", "`keyturn key rotate log`"
                )
        except MalformedInput:
            t.fault("log_keys", f"`{key[:80]}` is no verifier key `name+hash+base64`", "`keyturn key rotate log`")
    return GovernorKeys(t.text("service_key", "", PUBLIC), keys)


def _tripwire(t: _Table) -> Tripwire:
    return Tripwire(t.choice("when", TRIPWIRES), t.choice("do", ("halt", "incident")))


def _freshness(t: _Table) -> Freshness:
    return Freshness(t.whole("evidence_seconds", 60, 366 * 86400), t.whole("permit_seconds", 1, 366 * 86400))


def _witnesses(t: _Table) -> Witnesses:
    return Witnesses(
        required=t.whole("required", 0, 50),
        allow_unwitnessed=t.flag("allow_unwitnessed", False),
        auditors=t.whole("auditors", 0, 50, 0),
        parties=t.tables("parties", _party, optional=True),
    )


def _party(t: _Table) -> Party:
    party = Party(
        id=t.text("id", pattern=NAME),
        keys=t.texts("keys"),
        url=t.text("url", pattern=URL),
        independent=t.flag("independent", False),
        auditor=t.flag("auditor", False),
    )
    for key in party.keys:
        try:
            if not read_vkey(key).is_cosigner:
                t.fault("keys", f"`{key[:80]}` signs notes, not other people's logs", "copy a witness's own key")
        except MalformedInput as fault:
            t.fault("keys", fault.message, fault.help)
    return party
