"""The lineage as a picture worth printing: a rail of generations, capability above, the charter below.

Never draws a point that was not measured, and never tells things apart by colour alone: shape says the verdict, filling
says whether a candidate was released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape

from keyturn.cli.screen import count, safe, utc
from keyturn.cli.screens.rail import Point, Rail, halts_before, rail
from keyturn.cli.screens.scale import Measure, ceiling, figure, number
from keyturn.cli.screens.waiting import banners
from keyturn.core.policy import Threshold
from keyturn.core.state import State
from keyturn.core.terms import Json

Series = Sequence[Mapping[str, Json]]

_BARS = "Bars are intervals: each end is wrong, ever, with a chance of at most 5 %. They decide nothing."
LEFT, RIGHT, STEP_MIN, PAGE = 96, 150, 34, 1200
RAIL, UPPER, LOWER, PANEL = 164, 252, 532, 210
REASONS_MAX, REASON_ROWS = 12, 6

# Colours of Okabe and Ito (2008), which people with any kind of colour vision can tell apart.
STYLE: Final = """
  svg { font-family: 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif; }
  .paper { fill: #fbfaf7; } .ink { fill: #1c1c1c; } .soft { fill: #5d5b57; } .edge { stroke: #1c1c1c; }
  .grid { stroke: #dedbd3; stroke-width: 1; } .axis { stroke: #8b8880; stroke-width: 1; }
  .band { fill: #e69f00; fill-opacity: 0.16; } .over { fill: #d55e00; fill-opacity: 0.07; }
  .line { stroke: #b34700; stroke-width: 2; }
  .clear { stroke: #00795a; fill: #00795a; } .trip { stroke: #c04e00; fill: #c04e00; }
  .undecided { stroke: #a87400; fill: #a87400; } .hollow { fill: #fbfaf7; }
  .trend { fill: none; stroke: #00795a; stroke-width: 2; stroke-opacity: 0.5; }
  .wild { fill: none; stroke: #8c3f73; stroke-width: 2; } .wildtext { fill: #8c3f73; }
  .rail { stroke: #3b3a37; stroke-width: 3; } .raised { stroke: #a87400; stroke-width: 9; stroke-opacity: 0.35; }
  .branch { fill: none; stroke: #8b8880; stroke-width: 1.5; }
  .audit { fill: #0072b2; } .halt { fill: #b3261e; } .haltline { stroke: #b3261e; stroke-width: 1.2; }
  .pill { fill: none; stroke: #a85200; stroke-width: 1.3; } .pilltext { fill: #a85200; }
  .hollow.clear, .hollow.trip, .hollow.undecided { fill: #fbfaf7; stroke-width: 2.2; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #1b1b1d; } .ink { fill: #eceae4; } .soft { fill: #a9a69f; } .grid { stroke: #343437; }
    .hollow { fill: #1b1b1d; } .rail { stroke: #cfccc4; } .line { stroke: #ff8a47; }
    .clear { stroke: #2fc79c; fill: #2fc79c; } .trip { stroke: #ff8a47; fill: #ff8a47; } .trend { stroke: #2fc79c; }
    .undecided { stroke: #f0b429; fill: #f0b429; } .wild { stroke: #d98bbf; } .wildtext { fill: #d98bbf; }
    .audit { fill: #56b4e9; } .halt { fill: #ff6b61; } .haltline { stroke: #ff6b61; } .hollow.clear, .hollow.trip,
    .hollow.undecided { fill: #1b1b1d; } .pill { stroke: #f0a35e; } .pilltext { fill: #f0a35e; }
  }
"""


@dataclass(slots=True)
class Canvas:
    """Elements of a picture under construction; every text is escaped here."""

    columns: int
    parts: list[str] = field(default_factory=list)

    @property
    def step(self) -> float:
        """The distance of two columns."""
        return max(STEP_MIN, (PAGE - LEFT - RIGHT) / max(self.columns - 1, 4))

    @property
    def right(self) -> float:
        """Where the panels end."""
        return max(PAGE - RIGHT, LEFT + self.step * max(self.columns - 1, 1)) + 14

    @property
    def width(self) -> float:
        """The width of the page."""
        return self.right + RIGHT - 14

    def x(self, place: float) -> float:
        """Where a column stands."""
        return LEFT + 10 + self.step * place

    def add(self, element: str) -> None:
        """This element."""
        self.parts.append(element)

    def text(self, at: tuple[float, float], words: str, kind: str, size: float = 12, *, anchor: str = "start") -> None:
        """Words of whomever, made safe; `kind` may also hold `bold`."""
        weight = ' font-weight="700"' if "bold" in kind else ""
        where = f'x="{at[0]:.1f}" y="{at[1]:.1f}" font-size="{size:g}" text-anchor="{anchor}"{weight}'
        self.add(f'<text class="{kind.replace("bold", "").strip()}" {where}>{escape(safe(words, 160))}</text>')

    def stroke(self, start: tuple[float, float], end: tuple[float, float], kind: str, extra: str = "") -> None:
        """A straight line."""
        ends = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
        self.add(f'<line class="{kind}" {ends} {extra}/>')

    def box(self, at: tuple[float, float], size: tuple[float, float], kind: str, extra: str = "") -> None:
        """A rectangle; one without a height is left out."""
        if size[0] > 0 and size[1] > 0:
            where = f'x="{at[0]:.1f}" y="{at[1]:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"'
            self.add(f'<rect class="{kind}" {where} {extra}/>')


def lineage_svg(state: State, *, ungoverned: Series | None = None) -> str:
    """The picture as one SVG document; rows of `ungoverned` hold `generation`, `score` and `broken`.

    A row's generation is drawn above the candidate that came as its so-manieth: without hold points each became the
    parent.
    """
    found, wild = rail(state), list(ungoverned or ())
    far = max((int(number(row.get("generation"))) for row in wild), default=0)
    canvas = Canvas(columns=max(len(found.points), far + 1, 2))
    _head(canvas, state, found, wild=bool(wild))
    _halts(canvas, found)
    _rail(canvas, found)
    upper = _Panel(UPPER, found.capability, "capability", "higher is more able", "score")
    lower = _Panel(LOWER, found.charter, "charter", "lower keeps the promise", "broken")
    for panel in (upper, lower):
        _panel(canvas, found, panel, wild)
    _names(canvas, found)
    foot = _reasons(canvas, found, LOWER + PANEL + 62)
    height = _legend(canvas, foot + 30, wild=bool(wild)) + 22
    return _document(canvas, state, found, height)


def _document(canvas: Canvas, state: State, found: Rail, height: float) -> str:
    name = escape(safe(state.project.name, 60)) if state.project else "no project"
    width = f"{canvas.width:.0f}"
    size, named = f'width="{width}" height="{height:.0f}"', 'aria-labelledby="title description"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" {size} role="img" {named}>',
            f'<title id="title">Lineage of {name}</title>',
            f'<desc id="description">{escape(describe(state, found))}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{width}" height="{height:.0f}"/>',
            *canvas.parts,
            "</svg>",
            "",
        ]
    )


def describe(state: State, found: Rail) -> str:
    """The picture in words, for those who cannot see it."""
    parts = [f"As of {utc(state.last_at)}: {', '.join(banners(state)) or 'no banner'}."]
    for point in found.points:
        became = f"generation {point.generation}" if point.generation is not None else point.status
        seen = [
            f"{what} {figure(measure.estimate)} ({measure.verdict})"
            for what, measure in (("capability", point.capability), ("broken", point.charter))
            if measure is not None
        ]
        why = f", {point.reason}" if point.reason else ""
        parts.append(f"{safe(point.name, 40)}: {', '.join([became, *seen])}{why}.")
    return " ".join(parts)


def _head(canvas: Canvas, state: State, found: Rail, *, wild: bool) -> None:
    name = state.project.name if state.project else "no project"
    released = sum(1 for point in found.points if point.generation)
    refused = sum(1 for point in found.points if point.status == "rejected")
    made = max(len(found.points) - 1, 0)
    beside = ", and the same seed ungoverned" if wild else ""
    canvas.text((LEFT - 60, 46), f"What {name} is becoming{beside}", "ink bold", 22)
    said = f"{count(made, 'candidate')}, {released} released, {refused} refused · level {found.level}"
    canvas.text((LEFT - 60, 70), f"{said} · as of {utc(state.last_at)} · {state.size} entries of the log", "soft", 13)
    x: float = LEFT - 60
    for word in banners(state):
        wide = 18 + 8.1 * len(word)
        canvas.box((x, 84), (wide, 22), "pill", 'rx="11"')
        canvas.text((x + wide / 2, 99), word, "pilltext bold", 11, anchor="middle")
        x += wide + 8


def _rail(canvas: Canvas, found: Rail) -> None:
    """Generations on one line, candidates that were not released branching off below it."""
    canvas.text((LEFT - 60, RAIL + 4), "lineage", "ink bold", 12)
    members = [place for place, point in enumerate(found.points) if point.generation is not None]
    if members:
        canvas.stroke((canvas.x(members[0]), RAIL), (canvas.x(members[-1]), RAIL), "rail")
    _raised(canvas, found, members)
    last = 0
    for place, point in enumerate(found.points):
        last = place if point.generation is not None else last
        if last != place:
            _branch(canvas, point, canvas.x(last), canvas.x(place))
    for place in members:
        _member(canvas, found.points[place], canvas.x(place))


def _raised(canvas: Canvas, found: Rail, members: Sequence[int]) -> None:
    """Where the lineage reached a higher level, the rail is underlaid from there on."""
    for place in members:
        level = found.points[place].raised_to
        if level is not None:
            x = canvas.x(place)
            canvas.stroke((x, RAIL), (canvas.x(len(found.points) - 1) + 12, RAIL), "raised")
            canvas.text((x, RAIL - 38), f"▲ level {level}", "soft bold", 11, anchor="middle")


def _member(canvas: Canvas, point: Point, x: float) -> None:
    canvas.add(f'<circle class="hollow edge" cx="{x:.1f}" cy="{RAIL}" r="11" stroke-width="2.5"/>')
    canvas.text((x, RAIL + 4), str(point.generation), "ink bold", 12, anchor="middle")
    if point.audited_by and point.generation:
        canvas.add(f'<path class="audit" d="M{x:.1f} {RAIL - 31} l6 7 l-6 7 l-6 -7 z"/>')


def _branch(canvas: Canvas, point: Point, start: float, x: float) -> None:
    y = RAIL + 32
    bend = f"M{start:.1f} {RAIL} C{start + 16:.1f} {y}, {start + 20:.1f} {y}, {max(x - 10, start + 24):.1f} {y}"
    canvas.add(f'<path class="branch" d="{bend}"/>')
    if point.status == "rejected":
        cross = f"M{x - 5:.1f} {y - 5} l10 10 M{x + 5:.1f} {y - 5} l-10 10"
        canvas.add(f'<path class="trip" d="{cross}" stroke-width="3" fill="none"/>')
    else:
        canvas.add(f'<circle class="undecided hollow" cx="{x:.1f}" cy="{y}" r="6"/>')


def _halts(canvas: Canvas, found: Rail) -> None:
    """Each halt as an octagon on the rail, with a line through everything below; those of one place share a label."""
    for place in range(len(found.points) + 1):
        halts = list(halts_before(found, place))
        for number_, _ in enumerate(halts):
            x = canvas.x(place - 0.5) + 9 * number_
            canvas.stroke((x, RAIL - 18), (x, UPPER - 24), "haltline", 'stroke-dasharray="2 4"')
            canvas.add(f'<path class="halt" d="M{x - 4:.1f} {RAIL - 38} h8 l6 6 v8 l-6 6 h-8 l-6 -6 v-8 z"/>')
        doubt = sum(not halt.proven for halt in halts)
        proof = f"{doubt} UNPROVEN" if 0 < doubt < len(halts) else "UNPROVEN" if doubt else "stopped"
        if halts:
            label = f"{'halt' if len(halts) == 1 else f'{len(halts)} halts'}, {proof}"
            middle = canvas.x(place - 0.5) + 9 * (len(halts) - 1) / 2
            canvas.text((middle, RAIL - 44), label, "soft", 10.5, anchor="middle")


@dataclass(frozen=True, slots=True)
class _Panel:
    """One of the two panels: where it begins, what it measures, and which way is which."""

    top: float
    threshold: Threshold | None
    word: str
    sense: str
    series: str

    def measure(self, point: Point) -> Measure | None:
        """What this panel shows of a point."""
        return point.capability if self.word == "capability" else point.charter


def _panel(canvas: Canvas, found: Rail, panel: _Panel, wild: Series) -> None:
    measures = [(place, panel.measure(point)) for place, point in enumerate(found.points)]
    values = [measure.high for _, measure in measures if measure]
    values += [number(row.get(panel.series)) for row in wild]
    values += [panel.threshold.line] if panel.threshold else []
    end = ceiling(values)

    def y(value: float) -> float:
        return panel.top + PANEL - PANEL * min(max(value, 0.0), end) / end

    metric = (
        panel.threshold.metric.removeprefix("charter.")
        if panel.threshold
        else "no threshold of this kind in the policy"
    )
    canvas.text((LEFT - 60, panel.top - 14), f"{panel.word}: {metric}", "ink bold", 13)
    canvas.text((canvas.right, panel.top - 14), panel.sense, "soft", 12, anchor="end")
    _axes(canvas, panel, end)
    if panel.threshold is not None:
        _bands(
            canvas, panel, panel.threshold, y(panel.threshold.line), y(panel.threshold.line - panel.threshold.margin)
        )
    if panel.threshold is not None and wild:
        points = [(int(number(row.get("generation"))), y(number(row.get(panel.series)))) for row in wild]
        _wild(canvas, points, y(panel.threshold.line))
    released = [(p, m) for p, m in measures if m is not None and found.points[p].generation is not None]
    path = " ".join(f"{canvas.x(place):.1f},{y(measure.estimate):.1f}" for place, measure in released)
    canvas.add(f'<polyline class="trend" points="{path}"/>')
    for place, measure in measures:
        if measure is not None:
            solid = found.points[place].generation is not None
            _point(
                canvas, measure, canvas.x(place), (y(measure.low), y(measure.estimate), y(measure.high)), solid=solid
            )


def _axes(canvas: Canvas, panel: _Panel, end: float) -> None:
    for tick in range(6):
        height = panel.top + PANEL * (1 - tick / 5)
        canvas.stroke((LEFT - 8, height), (canvas.right, height), "axis" if tick == 0 else "grid")
        canvas.text((LEFT - 14, height + 4), f"{end * tick / 5:.2g}", "soft", 11, anchor="end")


def _bands(canvas: Canvas, panel: _Panel, threshold: Threshold, line: float, inside: float) -> None:
    """The line, the margin inside it, and for a limit the forbidden side."""
    wide = canvas.right - LEFT + 8
    if threshold.kind == "limit":
        canvas.box((LEFT - 8, panel.top), (wide, line - panel.top), "over")
    canvas.box((LEFT - 8, line), (wide, inside - line), "band")
    canvas.stroke((LEFT - 8, line), (canvas.right, line), "line")
    word = "limit" if threshold.kind == "limit" else "line"
    tail = f"raises to level {threshold.raises_to}" if threshold.kind == "capability" else "no quorum overrides"
    canvas.text((canvas.right + 8, line - 1), f"{word} {threshold.line:g}", "ink bold", 12)
    canvas.text((canvas.right + 8, line + 13), tail, "soft", 10.5)
    canvas.text((canvas.right + 8, line + 26), f"margin {threshold.margin:g}", "soft", 10.5)


def _wild(canvas: Canvas, points: Sequence[tuple[int, float]], line: float) -> None:
    """The ungoverned run: crosses on a broken line, named at its end, clear of the words beside `line`."""
    path = " ".join(f"{canvas.x(place):.1f},{height:.1f}" for place, height in points)
    canvas.add(f'<polyline class="wild" points="{path}" stroke-dasharray="7 4"/>')
    for place, height in points:
        x = canvas.x(place)
        cross = f"M{x - 4:.1f} {height - 4:.1f} l8 8 M{x + 4:.1f} {height - 4:.1f} l-8 8"
        canvas.add(f'<path class="wild" d="{cross}"/>')
    place, height = points[-1]
    inside = canvas.x(place) + 80 < canvas.right
    near = not inside and line - 18 < height < line + 36
    canvas.text(
        (canvas.x(place) + (9 if inside else 22), line - 20 if near else height + 4), "ungoverned", "wildtext bold", 11
    )


SHAPES: Final = {
    "green": ("clear", "M{x} {y} m-6.5 0 a6.5 6.5 0 1 0 13 0 a6.5 6.5 0 1 0 -13 0 z"),
    "yellow": ("undecided", "M{x} {y} m-6 -6 h12 v12 h-12 z"),
    "red": ("trip", "M{x} {y} m0 -8 l7.5 13 h-15 z"),
}
"""The shape of each verdict, around a point."""


def _point(canvas: Canvas, measure: Measure, x: float, heights: tuple[float, float, float], *, solid: bool) -> None:
    """An estimate in the shape of its verdict, filled if it was released, on its interval."""
    low, middle, high = heights
    kind, shape = SHAPES[measure.tone]
    canvas.stroke((x, low), (x, high), kind, 'stroke-width="2"')
    for end in (low, high):
        canvas.stroke((x - 5, end), (x + 5, end), kind, 'stroke-width="2"')
    drawn = shape.replace("{x}", f"{x:.1f}").replace("{y}", f"{middle:.1f}")
    canvas.add(f'<path class="{"" if solid else "hollow "}{kind}" d="{drawn}"/>')


def _names(canvas: Canvas, found: Rail) -> None:
    """Below the panels: which candidate stands in each column; every so-many where they would touch."""
    longest = max((len(point.name) for point in found.points), default=1)
    every = max(1, -(-min(longest, 16) * 7 // int(canvas.step)))
    for place, point in enumerate(found.points):
        if place % every == 0:
            kind = "ink bold" if point.generation is not None else "soft"
            canvas.text((canvas.x(place), LOWER + PANEL + 20), safe(point.name, 16), kind, 11.5, anchor="middle")


def _reasons(canvas: Canvas, found: Rail, top: float) -> float:
    """Why each candidate was not released; returns where the list ends."""
    rows = [f"✕ {safe(p.name, 16)}: {p.reason}" for p in found.points if p.reason]
    if not rows:
        return top - 30
    canvas.text((LEFT - 60, top), "not released, because", "ink bold", 12)
    shown = rows[:REASONS_MAX]
    if len(rows) > REASONS_MAX:
        shown[-1] = f"and {len(rows) - REASONS_MAX + 1} more: `keyturn lineage show`"
    deep = min(REASON_ROWS, len(shown)) if len(shown) > 3 else len(shown)
    deep = -(-len(shown) // 2) if len(shown) > 3 else deep
    for place, row in enumerate(shown):
        x = LEFT - 60 + (place // deep) * (canvas.width / 2 - 40)
        canvas.text((x, top + 20 + (place % deep) * 18), row, "soft", 12)
    return top + 20 + (deep - 1) * 18


def _legend(canvas: Canvas, top: float, *, wild: bool) -> float:
    """What shapes and fillings mean; returns where it ends."""
    canvas.stroke((LEFT - 60, top - 18), (canvas.width - 36, top - 18), "grid")
    x = LEFT - 54.0
    for tone, words in (("green", "shown below the line"), ("yellow", "not shown"), ("red", "shown above the line")):
        kind, shape = SHAPES[tone]
        canvas.add(f'<path class="{kind}" d="{shape.replace("{x}", f"{x:.1f}").replace("{y}", f"{top:.1f}")}"/>')
        canvas.text((x + 12, top + 4), words, "ink", 11.5)
        x += 30 + 6.5 * len(words)
    for filling, words in (("clear", "filled: released"), ("hollow clear", "hollow: not released")):
        canvas.add(f'<circle class="{filling}" cx="{x:.1f}" cy="{top:.1f}" r="6"/>')
        canvas.text((x + 12, top + 4), words, "ink", 11.5)
        x += 30 + 6.5 * len(words)
    canvas.box((x, top - 7), (18, 14), "band")
    canvas.stroke((x, top - 7), (x + 18, top - 7), "line")
    canvas.text((x + 24, top + 4), "line and margin", "ink", 11.5)
    x += 44 + 6.5 * 15
    canvas.add(f'<path class="audit" d="M{x:.1f} {top - 7} l6 7 l-6 7 l-6 -7 z"/>')
    canvas.text((x + 12, top + 4), "audited", "ink", 11.5)
    x += 30 + 6.5 * 8
    canvas.add(f'<path class="halt" d="M{x - 4:.1f} {top - 10} h8 l6 6 v8 l-6 6 h-8 l-6 -6 v-8 z"/>')
    canvas.text((x + 16, top + 4), "halt", "ink", 11.5)
    if wild:
        x += 30 + 6.5 * 6
        canvas.stroke((x, top), (x + 26, top), "wild", 'stroke-dasharray="7 4"')
        canvas.text((x + 32, top + 4), "ungoverned", "ink", 11.5)
    canvas.text((LEFT - 60, top + 26), _BARS, "soft", 11)
    return top + 26
