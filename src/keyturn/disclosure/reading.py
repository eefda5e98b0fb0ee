"""Reads `regimes.json` and refuses, by record and field, whatever is missing, unknown, repeated or out of its list.

Never mends a record and never fills in a field that is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import resources
from typing import Final, TypeVar

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Instant, Json
from keyturn.disclosure.regimes import (
    DETECTED,
    NEEDS,
    Conditions,
    Confidence,
    IncidentKind,
    Kind,
    Period,
    Regime,
    Regimes,
    ReportField,
    Trigger,
    Unit,
)

SCHEMA: Final = 1
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")

T = TypeVar("T")


def load_regimes() -> Regimes:
    """Read the data that ships with Keyturn; raises MalformedInput if it is not whole."""
    return read_regimes(resources.files("keyturn.disclosure").joinpath("regimes.json").read_text("utf-8"))


def read_regimes(text: str) -> Regimes:
    """Read regimes from JSON and refuse, naming record and field, whatever is missing, unknown or out of its list."""
    try:
        data = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise MalformedInput("the regimes are not one JSON object", help=str(error)) from None
    top = _Fields("regimes", data)
    if top.whole("schema") != SCHEMA:
        raise top.fault("schema", f"{SCHEMA} is expected")
    moments = top.words_by_name("moments")
    kinds = tuple(_kind(row) for row in top.rows("kinds"))
    top.text("kinds_note")
    found = Regimes(
        as_of=top.day("as_of"),
        note=top.text("note"),
        moments=moments,
        kinds={kind.id: kind for kind in kinds},
        report_fields=tuple(_report_field(row) for row in top.rows("report_fields")),
        regimes=tuple(_regime(row) for row in top.rows("regimes")),
    )
    top.nothing_else()
    _check_references(found, count=len(kinds))
    return found


# --- reading one record -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Fields:
    """One JSON object being read: every field is taken once, and none may be left."""

    name: str
    data: dict[str, Json]
    taken: set[str]

    def __init__(self, name: str, data: Json) -> None:
        if not isinstance(data, dict):
            raise MalformedInput(f"`{name}` is not an object")
        self.name, self.data, self.taken = str(data.get("id", name)), data, set()

    def fault(self, field: str, expected: str) -> MalformedInput:
        message = f"`{field}` of `{self.name}` is `{self.data.get(field)}`; {expected}"
        return MalformedInput(message, help="correct the record in the regimes file")

    def _take(self, field: str) -> Json:
        self.taken.add(field)
        if field not in self.data:
            raise MalformedInput(f"`{self.name}` has no `{field}`", help="every record needs every field")
        return self.data[field]

    def text(self, field: str, *, empty: bool = False) -> str:
        value = self._take(field)
        if not isinstance(value, str) or (not empty and not value.strip()):
            raise self.fault(field, "a text is expected")
        return value

    def maybe(self, field: str, read: Callable[[str], T]) -> T | None:
        return None if self._take(field) is None else read(field)

    def one_of(self, field: str, allowed: tuple[str, ...]) -> str:
        value = self.text(field)
        if value not in allowed:
            raise self.fault(field, f"one of {', '.join(allowed)} is expected")
        return value

    def whole(self, field: str) -> int:
        value = self._take(field)
        if type(value) is not int or value < 1:
            raise self.fault(field, "a whole number above zero is expected")
        return value

    def number(self, field: str) -> float:
        value = self._take(field)
        if type(value) not in (int, float) or not isinstance(value, int | float) or not 0 < value < 1e40:
            raise self.fault(field, "a number above zero is expected")
        return float(value)

    def flag(self, field: str) -> bool:
        value = self._take(field)
        if not isinstance(value, bool):
            raise self.fault(field, "true or false is expected")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        value = self._take(field)
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.fault(field, "a list of texts is expected")
        return tuple(str(item) for item in value)

    def rows(self, field: str) -> list[_Fields]:
        value = self._take(field)
        if not isinstance(value, list) or not value:
            raise self.fault(field, "a list that is not empty is expected")
        return [_Fields(f"{self.name}.{field}", row) for row in value]

    def part(self, field: str) -> _Fields:
        part = _Fields(f"{self.name}.{field}", self._take(field))
        part.name = f"{self.name}.{field}"
        return part

    def words_by_name(self, field: str) -> dict[str, str]:
        part = self.part(field)
        return {name: part.text(name) for name in part.data}

    def day(self, field: str) -> str:
        value = self.text(field)
        try:
            valid = _DAY.fullmatch(value) is not None and date.fromisoformat(value) is not None
        except ValueError:
            valid = False
        if not valid:
            raise self.fault(field, "a day like 2027-01-01 is expected")
        return value

    def midnight(self, field: str) -> Instant:
        day = datetime.fromisoformat(self.day(field)).replace(tzinfo=UTC)
        return Instant(round(day.timestamp()) * 1000)

    def nothing_else(self) -> None:
        for field in sorted(set(self.data) - self.taken):
            raise MalformedInput(f"`{self.name}` has an unknown field `{field}`", help="remove or correct it")


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field occurs twice")
    return found


def _kind(row: _Fields) -> IncidentKind:
    kind = IncidentKind(row.text("id"), row.text("words"), row.flag("named_by_law"), row.texts("may_be"))
    row.nothing_else()
    return kind


def _report_field(row: _Fields) -> ReportField:
    field = ReportField(row.text("id"), row.text("words"), row.texts("asked_by"))
    row.nothing_else()
    return field


def _regime(row: _Fields) -> Regime:
    regime = Regime(
        id=row.text("id"),
        regime=row.text("regime"),
        jurisdiction=row.text("jurisdiction"),
        force=row.one_of("force", ("statute", "code")),
        title=row.text("title"),
        duty=row.text("duty"),
        scope=row.one_of("scope", ("incident", "standing")),
        roles=row.texts("roles"),
        conditions=_conditions(row.part("conditions")),
        trigger=_trigger(row.part("trigger")),
        kind=Kind(row.one_of("kind", tuple(Kind))),
        period=row.maybe("period", lambda field: _period(row.part(field))),
        calendar=row.one_of("calendar", ("elapsed", "gap", "none")),
        shortest_of=row.maybe("shortest_of", row.text),
        recipient=row.text("recipient"),
        source=row.text("source"),
        as_of=row.day("as_of"),
        status=row.text("status"),
        confidence=Confidence(row.one_of("confidence", tuple(Confidence))),
        note=row.text("note", empty=True),
    )
    row.nothing_else()
    _check_regime(regime, row)
    return regime


def _conditions(row: _Fields) -> Conditions:
    conditions = Conditions(
        training_flop_above=row.maybe("training_flop_above", row.number),
        revenue_usd_above=row.maybe("revenue_usd_above", row.number),
        effective_at=row.midnight("effective_from"),
        deferred_until_at=row.maybe("deferred_until", row.midnight),
        needs=row.texts("needs"),
        incident_kinds=row.texts("incident_kinds"),
    )
    if set(conditions.needs) - set(NEEDS):
        raise row.fault("needs", f"only {', '.join(NEEDS)} are known")
    row.nothing_else()
    return conditions


def _trigger(row: _Fields) -> Trigger:
    trigger = Trigger(
        moments=row.texts("moments"),
        choose=row.one_of("choose", ("earliest", "latest")),
        words=row.text("words"),
        from_detection=row.flag("from_detection"),
        ends_with=row.maybe("ends_with", row.text),
    )
    if not trigger.moments or DETECTED in trigger.moments:
        raise row.fault("moments", "at least one moment that a person signs is expected")
    row.nothing_else()
    return trigger


def _period(row: _Fields) -> Period:
    period = Period(row.whole("value"), Unit(row.one_of("unit", tuple(Unit))))
    row.nothing_else()
    return period


def _check_regime(regime: Regime, row: _Fields) -> None:
    """What the fields of one record owe each other."""
    timed = regime.kind in (Kind.REPORT_BY, Kind.REPEAT_EVERY, Kind.FINISH_BEFORE)
    if timed != (regime.period is not None):
        raise row.fault("period", "a period is expected exactly for kinds that are counted")
    counted = "none" if regime.period is None else "gap" if regime.period.milliseconds is None else "elapsed"
    if regime.calendar != counted:
        raise row.fault("calendar", f"`{counted}` is expected for this period")
    if not regime.source.startswith("https://"):
        raise row.fault("source", "an https address is expected")
    if not regime.roles:
        raise row.fault("roles", "at least one role is expected")
    if (regime.scope == "incident") != bool(regime.conditions.incident_kinds):
        raise row.fault("scope", "incident kinds are expected exactly for the scope `incident`")


def _check_references(found: Regimes, *, count: int) -> None:
    """Every moment, kind and id that a record names must exist, and exist once."""
    ids = [regime.id for regime in found.regimes]
    if len(set(ids)) != len(ids) or len(found.kinds) != count:
        raise MalformedInput("an id occurs twice in the regimes", help="every regime and kind has an id of its own")
    moments = {name for regime in found.regimes for name in _moments_of(regime)} | {DETECTED}
    named = {kind for regime in found.regimes for kind in regime.conditions.incident_kinds}
    maybe = {kind for row in found.kinds.values() for kind in row.may_be}
    legal = {kind.id for kind in found.kinds.values() if kind.named_by_law}
    for what, used, known in (("moment", moments, set(found.moments)), ("kind", named | maybe, legal)):
        for name in sorted(used - known):
            raise MalformedInput(f"the regimes use {what} `{name}`, which they do not list", help=f"list the {what}")
    for name in sorted(set(found.moments) - moments):
        raise MalformedInput(f"the regimes list moment `{name}`, which nothing uses", help="remove it")


def _moments_of(regime: Regime) -> set[str]:
    ends = regime.trigger.ends_with
    return {*regime.trigger.moments, *([ends] if ends is not None else [])}
