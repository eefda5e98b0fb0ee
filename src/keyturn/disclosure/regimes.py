"""Law and codes as dated data: what one record says.

Never decides whether a regime applies nor when it is due (`clocks.py`), and never holds a figure: those lie in
`regimes.json` and are read by `reading.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Instant

DETECTED: Final = "detected_at"
NEEDS: Final = ("high-risk-system", "code-signatory")


class Unit(StrEnum):
    """What a period is counted in; only the first three have a length that every source agrees on."""

    HOURS = "hours"
    DAYS = "days"
    WEEKS = "weeks"
    MONTHS = "months"
    YEARS = "years"
    BUSINESS_DAYS = "business days"

    @property
    def milliseconds(self) -> int | None:
        """The length under the strict reading (a day is 24 hours of UTC); None marks a gap in the sources."""
        hours = {Unit.HOURS: 1, Unit.DAYS: 24, Unit.WEEKS: 7 * 24}.get(self)
        return None if hours is None else hours * 3_600_000


class Kind(StrEnum):
    """What a clock asks for."""

    REPORT_BY = "report by"
    REPEAT_EVERY = "repeat every"
    FINISH_BEFORE = "finish before"
    AT_ONCE = "at once"
    AS_REQUESTED = "as requested"
    HOLD = "hold"


class Confidence(StrEnum):
    """How sure we are of a record: read as text, from several secondary sources, or less."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Period:
    """How long the law leaves, in the unit that the law uses."""

    value: int
    unit: Unit

    @property
    def milliseconds(self) -> int | None:
        """The length under the strict reading; None where no source lets us compute it."""
        unit = self.unit.milliseconds
        return None if unit is None else self.value * unit

    def __str__(self) -> str:
        return f"{self.value} {self.unit.value if self.value != 1 else self.unit.value.removesuffix('s')}"


@dataclass(frozen=True, slots=True)
class Conditions:
    """When a regime can apply: lines are crossed from above, dates count from 00:00 UTC, every need must hold."""

    training_flop_above: float | None
    revenue_usd_above: float | None
    effective_at: Instant
    deferred_until_at: Instant | None
    needs: tuple[str, ...]
    incident_kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trigger:
    """The moments that start the clock, `choose` between them, and the moment that ends it, if any.

    `from_detection` says that an unsigned detection already gives a provisional deadline.
    """

    moments: tuple[str, ...]
    choose: str
    words: str
    from_detection: bool
    ends_with: str | None


@dataclass(frozen=True, slots=True)
class Regime:
    """One duty with a clock, of one law or code; `source`, `as_of`, `status` and `confidence` always travel with it."""

    id: str
    regime: str
    jurisdiction: str
    force: str
    title: str
    duty: str
    scope: str
    roles: tuple[str, ...]
    conditions: Conditions
    trigger: Trigger
    kind: Kind
    period: Period | None
    calendar: str
    shortest_of: str | None
    recipient: str
    source: str
    as_of: str
    status: str
    confidence: Confidence
    note: str


@dataclass(frozen=True, slots=True)
class IncidentKind:
    """A kind of incident, and which kinds that the law names it may turn out to be; a person decides that."""

    id: str
    words: str
    named_by_law: bool
    may_be: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportField:
    """Something that a report must say, and which records ask for it."""

    id: str
    words: str
    asked_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Regimes:
    """The whole data: when it was gathered, its vocabulary of moments and kinds, and its records."""

    as_of: str
    note: str
    moments: Mapping[str, str]
    kinds: Mapping[str, IncidentKind]
    report_fields: tuple[ReportField, ...]
    regimes: tuple[Regime, ...]

    def get(self, id: str) -> Regime:
        """The record of this id; raises MalformedInput for an unknown one."""
        found = next((regime for regime in self.regimes if regime.id == id), None)
        if found is None:
            raise MalformedInput(f"there is no regime `{id}`", help="its ids stand in `regimes.json`")
        return found
