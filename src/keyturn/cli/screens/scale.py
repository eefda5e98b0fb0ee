"""Pictures made of characters: where an estimate and its interval lie against a line, how full a gauge is.

Never needs colour to be read: the estimate is a dot, the interval a heavy bar, the line a heavy stroke.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from keyturn.core.terms import Json

LEGEND: Final = "● estimate   ━ interval   ░ margin   ┃ line"
_SPARKS: Final = "▁▂▃▄▅▆▇█"
_STEPS: Final = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One threshold as far as one candidate was tried on it; `verdict` is `missing` where it was not."""

    threshold: str
    kind: str
    reference: str
    line: float
    margin: float
    verdict: str
    items: int = 0
    estimate: float = 0.0
    low: float = 0.0
    high: float = 1.0
    leaf: int = -1

    @property
    def holds(self) -> bool:
        """Whether this measure stands in the way of a release, whatever people sign."""
        if self.kind == "limit":
            return self.verdict != "CLEAR"
        return self.verdict == "missing" or (self.kind == "claim" and self.verdict == "CLEAR")

    @property
    def tone(self) -> str:
        """The colour of what it means: green clear, red tripped, yellow undecided."""
        good = "TRIP" if self.kind == "claim" else "CLEAR"
        bad = "CLEAR" if self.kind == "claim" else "TRIP"
        return "green" if self.verdict == good else "red" if self.verdict == bad else "yellow"

    @property
    def mark(self) -> str:
        """A shape for the tone, for eyes and printers without colour."""
        above = "▲" if self.kind == "capability" else "✖"
        return {"green": "✔", "red": above, "yellow": "?"}[self.tone]

    @property
    def meaning(self) -> str:
        """The verdict in words."""
        return _MEANINGS.get((self.kind, self.verdict), "not tried: counts as over the line")


_MEANINGS: Final = {
    ("limit", "CLEAR"): "shown to be within the limit",
    ("limit", "TRIP"): "shown over the limit: no quorum overrides that",
    ("limit", "UNDECIDED"): "not shown within it: no quorum overrides that",
    ("capability", "CLEAR"): "shown to be below the line",
    ("capability", "TRIP"): "shown above the line: raises the level",
    ("capability", "UNDECIDED"): "not shown below the line: raises the level",
    ("claim", "CLEAR"): "shown far below its own claim: refuses",
    ("claim", "TRIP"): "its own claim is borne out",
    ("claim", "UNDECIDED"): "not shown far below its own claim",
}


def measure_of(row: Json) -> Measure:
    """A row of a dossier's evidence table; what is not legible there reads as `missing`."""
    row = row if isinstance(row, dict) else {}
    return Measure(
        threshold=str(row.get("threshold", "")),
        kind=str(row.get("kind", "")),
        reference=str(row.get("reference", "")),
        line=number(row.get("line")),
        margin=number(row.get("margin")),
        verdict=str(row.get("verdict", "missing")),
        items=int(number(row.get("items"))),
        estimate=number(row.get("estimate")),
        low=number(row.get("low")),
        high=number(row.get("high"), 1.0),
        leaf=int(number(row.get("leaf"), -1.0)),
    )


def number(value: object, default: float = 0.0) -> float:
    """A finite number, or the default."""
    legible = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if legible and isinstance(value, int | float) else default


def figure(value: float, reference: str = "") -> str:
    """A value as people read it: a share, or where it is paired the difference from the reference."""
    return f"{2 * value - 1:+.3f}" if reference else f"{value:.3f}"


def ceiling(values: Sequence[float]) -> float:
    """The end of a scale from 0 on which all these values can be told apart: the next of a few round numbers."""
    top = max(values, default=1.0) * 1.15
    return next((step for step in _STEPS if step >= top), 1.0)


def scale(measure: Measure, cells: int, *, start: float = 0.0, end: float = 1.0) -> str:
    """The measure drawn on so many cells from `start` to `end`, without its ends' figures."""

    def cell(value: float) -> int:
        share = (value - start) / (end - start) if end > start else 0.0
        return min(cells - 1, max(0, int(share * (cells - 1) + 0.5)))

    drawn = ["─"] * cells
    for place in range(cell(measure.line - measure.margin), cell(measure.line)):
        drawn[place] = "░"
    stroke = cell(measure.line)
    drawn[stroke] = "┃"
    if measure.verdict == "missing":
        return "".join(drawn)
    for place in range(cell(measure.low), cell(measure.high) + 1):
        drawn[place] = "╋" if place == stroke else "━"
    drawn[cell(measure.estimate)] = "●"
    return "".join(drawn)


def domain(measure: Measure) -> tuple[float, float]:
    """Where a scale for this one measure begins and ends: around the line for what is paired, else from 0."""
    seen = [measure.line, measure.line - measure.margin]
    if measure.verdict != "missing":
        seen += [measure.low, measure.high, measure.estimate]
    if not measure.reference:
        return 0.0, ceiling(seen)
    reach = max(abs(value - 0.5) for value in seen)
    half = ceiling([reach * 2]) / 2
    return max(0.0, 0.5 - half), min(1.0, 0.5 + half)


def gauge(used: int, most: int, cells: int = 10) -> str:
    """How much of a bound is used: one full cell a unit where they fit."""
    if most <= 0:
        return "▒" * cells
    if most <= cells:
        return "█" * min(used, most) + "░" * max(0, most - used)
    full = min(cells, max(1 if used else 0, used * cells // most))
    return "█" * full + "░" * (cells - full)


def spark(values: Sequence[float], cells: int, *, top: float) -> str:
    """A curve from 0 to `top` in so many cells; each cell shows the highest of what it covers."""
    if not values:
        return ""
    cells = min(cells, len(values))
    shown = []
    for place in range(cells):
        part = values[place * len(values) // cells : max((place + 1) * len(values) // cells, 1)]
        level = max(part) / top if top > 0 else 0.0
        shown.append(" " if level <= 0 else _SPARKS[min(7, int(level * 8))])
    return "".join(shown)
