"""One loop twice, as a picture: the best score by program number, who entered the population, and what the hostile got.

Never tells things apart by colour alone: shape says who entered, a cross who meant harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from keyturn.app.minimise.seen import UNSEEN, Row, rewritten
from keyturn.cli.demo.deeds import Deed
from keyturn.cli.lineage_svg import LEFT, PAGE, RIGHT, STYLE, Canvas
from keyturn.cli.screen import safe, wrap

TOP, HIGH, FOOT = 150, 250, 470
"""Where the chart begins, how high it is, and where the strips below it begin."""

HONEST_MAX: Final = 1.0001

BAND: Final = 34
"""The band above the chart, for scores that no honest program can have."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs: its rows, what the first program scored, and what its best is worth on unseen functions."""

    rows: Sequence[Row]
    first: float
    worth: float


@dataclass(slots=True)
class _Wide(Canvas):
    """A canvas whose columns share the width of the page, however many there are."""

    @property
    def step(self) -> float:
        """The distance of two columns."""
        return (PAGE - LEFT - RIGHT) / max(self.columns - 1, 1)


def side_by_side_svg(ungoverned: Side, governed: Side, deeds: Sequence[Deed], said: str) -> str:
    """The picture as one SVG document; `said` is the line under its title."""
    canvas = _Wide(columns=max(len(ungoverned.rows), len(governed.rows), 2))
    canvas.text((LEFT - 60, 46), "OpenEvolve twice: the same answers, ungoverned and governed", "ink bold", 22)
    canvas.text((LEFT - 60, 70), said, "soft", 13)
    canvas.text((LEFT - 60, 96), "best score so far, as each loop counts it", "ink bold", 13)
    low = 0.1 * int(10 * min(ungoverned.first, governed.first))
    _axes(canvas, low, edited=any((row.score or 0) > HONEST_MAX for row in (*ungoverned.rows, *governed.rows)))
    _hostile(canvas, deeds)
    above = _line(canvas, ungoverned, low, "wild")
    beside = _line(canvas, governed, low, "trend")
    _end(canvas, ungoverned, above, "ungoverned")
    _end(canvas, governed, max(beside, above + 48) if beside >= above else min(beside, above - 48), "governed")
    _strip(canvas, ungoverned, FOOT, "ungoverned")
    _strip(canvas, governed, FOOT + 40, "governed")
    _legend(canvas, FOOT + 82)
    _notes(canvas, FOOT + 104)
    height = _deeds(canvas, deeds, FOOT + 142) + 14
    return _document(canvas, height, ungoverned, governed)


def _document(canvas: Canvas, height: float, ungoverned: Side, governed: Side) -> str:
    width = f"{canvas.width:.0f}"
    described = (
        f"Ungoverned the best program is worth {ungoverned.worth:.2f} on functions that it never saw, "
        f"governed {governed.worth:.2f}."
    )
    size, named = f'width="{width}" height="{height:.0f}"', 'aria-labelledby="title description"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" {size} role="img" {named}>',
            '<title id="title">OpenEvolve, ungoverned and governed</title>',
            f'<desc id="description">{escape(described)}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{width}" height="{height:.0f}"/>',
            *canvas.parts,
            "</svg>",
            "",
        ]
    )


def _y(score: float, low: float) -> float:
    """Where a score stands: on the scale up to 1, and in the band above for what can be no score."""
    if score > HONEST_MAX:
        return TOP - BAND / 2
    return TOP + HIGH * (1 - (max(score, low) - low) / (1 - low))


def _axes(canvas: Canvas, low: float, *, edited: bool) -> None:
    if edited:
        canvas.box((LEFT - 8, TOP - BAND), (canvas.right - LEFT + 8, BAND), "over")
        canvas.text((LEFT, TOP - BAND + 14), "above 1 there is no honest score: the grader was edited", "soft", 11)
    for tenth in range(round(10 * low), 11):
        y = _y(tenth / 10, low)
        canvas.stroke((LEFT - 8, y), (canvas.right, y), "axis" if tenth == round(10 * low) else "grid")
        canvas.text((LEFT - 14, y + 4), f"{tenth / 10:g}", "soft", 11, anchor="end")
    for number in range(1, canvas.columns + 1):
        if number == 1 or number % 5 == 0:
            canvas.text((canvas.x(number - 1), TOP + HIGH + 18), str(number), "soft", 11, anchor="middle")
    canvas.text((canvas.right, TOP + HIGH + 34), "program", "soft", 11, anchor="end")


def _hostile(canvas: Canvas, deeds: Sequence[Deed]) -> None:
    """A dotted line where each hostile program came, named at its foot."""
    for deed in deeds:
        x = canvas.x(deed.number - 1)
        canvas.stroke((x, TOP - BAND), (x, FOOT + 58), "haltline", 'stroke-dasharray="2 4"')
        canvas.text((x + 4, TOP + HIGH - 8), deed.name, "soft bold", 10.5)


def _line(canvas: Canvas, side: Side, low: float, kind: str) -> float:
    """The best score so far as steps; returns the height at which they end."""
    best, points = side.first, [(canvas.x(0), _y(side.first, low))]
    for place, row in enumerate(side.rows):
        points.append((canvas.x(place), points[-1][1]))
        best = max(best, row.score) if row.best and row.score is not None else best
        points.append((canvas.x(place), _y(best, low)))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="7 4"' if kind == "wild" else ""
    canvas.add(f'<polyline class="{kind}" points="{path}"{dashes}/>')
    return points[-1][1]


def _end(canvas: Canvas, side: Side, y: float, word: str) -> None:
    """Beside the end of a line: what the loop counts, and what the best program is worth where nobody counted."""
    kind = "wildtext bold" if word == "ungoverned" else "ink bold"
    best = max([side.first, *(row.score for row in side.rows if row.best and row.score is not None)])
    canvas.text((canvas.right + 4, y - 3), word, kind, 12)
    canvas.text((canvas.right + 4, y + 11), f"counted {best:.3f}", "soft", 11)
    canvas.text((canvas.right + 4, y + 25), f"unseen: {side.worth:.2f}", kind, 11)


def _strip(canvas: Canvas, side: Side, top: float, word: str) -> None:
    """One box for each program: filled where it entered the population, crossed where it was hostile."""
    canvas.text((LEFT - 6, top + 13), word, "ink bold", 11, anchor="end")
    for place, row in enumerate(side.rows):
        wide = min(canvas.step - 3, 20.0)
        x, bad = canvas.x(place) - wide / 2, row.answer.kind == "hostile"
        canvas.box((x, top), (wide, 18), _filling(row, bad=bad), 'rx="3"')
        if bad:
            cross = f"M{x + 4:.1f} {top + 4} l{wide - 8:.1f} 10 M{x + wide - 4:.1f} {top + 4} l{8 - wide:.1f} 10"
            canvas.add(f'<path class="edge" stroke-width="2" d="{cross}"/>')


def _filling(row: Row, *, bad: bool) -> str:
    """Filled where it entered with a score, hollow where it did not."""
    if not row.entered:
        return "hollow trip"
    if row.fault:
        return "hollow undecided"
    return "trip" if bad else "undecided" if rewritten(row.code) else "clear"


def _legend(canvas: Canvas, top: float) -> None:
    x: float = LEFT
    for kind, words in (
        ("clear", "entered the population"),
        ("undecided", "entered, with the task rewritten"),
        ("hollow undecided", "entered without a score: it timed out or did not run"),
        ("trip", "hostile, and entered"),
        ("hollow trip", "refused"),
    ):
        canvas.box((x, top - 11), (14, 14), kind, 'rx="3"')
        canvas.text((x + 20, top), words, "ink", 11.5)
        x += 44 + 6.1 * len(words)
    canvas.add(f'<path class="edge" stroke-width="2" d="M{x} {top - 9} l9 9 M{x + 9} {top - 9} l-9 9"/>')
    canvas.text((x + 16, top), "hostile", "ink", 11.5)


def _deeds(canvas: Canvas, deeds: Sequence[Deed], top: float) -> float:
    """What each hostile program got, and what stopped it; returns where the table ends."""
    columns = (LEFT - 60.0, LEFT + 80.0, LEFT + 540.0)
    for x, word in zip(columns, ("hostile program", "ungoverned", "governed"), strict=True):
        canvas.text((x, top), word, "ink bold", 12)
    y = top + 22
    for deed in deeds:
        cells = ([f"{deed.number} {deed.name}"], wrap(safe(deed.got), 68), wrap(safe(deed.stopped), 80))
        for x, lines in zip(columns, cells, strict=True):
            for number, line in enumerate(lines):
                canvas.text((x, y + 15 * number), line, "ink" if x == columns[0] else "soft", 11.5)
        y += 15 * max(map(len, cells)) + 7
    return y


def _notes(canvas: Canvas, top: float) -> None:
    """What the words at the ends of the lines mean."""
    words = (
        "counted: the best program's score in its own loop",
        f"unseen: how close the best program comes on {UNSEEN} functions that it never saw, by the same formula",
    )
    canvas.text((LEFT, top), " · ".join(words), "soft", 11.5)
