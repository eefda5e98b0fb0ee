"""A trial as a picture: both bets on their way to their lines, and the mean so far against the threshold.

Never draws what was not read, and never tells the two bets apart by colour alone: each is named where it ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from keyturn.cli.lineage_svg import STYLE, Canvas
from keyturn.cli.screen import safe, short, utc
from keyturn.cli.screens.scale import ceiling, figure
from keyturn.cli.screens.trial import curves, sides
from keyturn.cli.screens.waiting import banners
from keyturn.cli.trials import watching
from keyturn.cli.trials.growing import measured
from keyturn.core import betting, trial
from keyturn.core.state import State, Trial
from keyturn.core.terms import Verdict
from keyturn.core.trial import TrialPlan

LEFT, RIGHT, WIDE = 96.0, 1010.0, 1200
BETS_TOP, MEAN_TOP, HIGH = 150.0, 466.0, 236.0
SHOWN_ERROR: Final = 0.05
POINTS: Final = 160
"""At how many items an interval is drawn at most: each costs a bisection."""

BAND: Final = "The band is an interval: each end is wrong, ever, with a chance of at most 5 %."

MORE_STYLE: Final = """
  .clearcurve { fill: none; stroke: #00795a; stroke-width: 2.4; }
  .tripcurve { fill: none; stroke: #c04e00; stroke-width: 2.4; stroke-dasharray: 7 3; }
  .cleartext { fill: #00795a; } .triptext { fill: #c04e00; } .undecidedtext { fill: #a87400; }
  .mean { fill: none; stroke: #1c1c1c; stroke-width: 2; } .interval { fill: #0072b2; fill-opacity: 0.16; }
  @media (prefers-color-scheme: dark) {
    .clearcurve { stroke: #2fc79c; } .tripcurve { stroke: #ff8a47; } .mean { stroke: #eceae4; }
    .interval { fill: #56b4e9; fill-opacity: 0.25; }
    .cleartext { fill: #2fc79c; } .triptext { fill: #ff8a47; } .undecidedtext { fill: #f0b429; }
  }
"""


def trial_svg(state: State, known: Trial) -> str:
    """The picture of this trial as one SVG document."""
    plan = TrialPlan.from_json(known.plan)
    canvas = Canvas(columns=2)
    _head(canvas, state, known, plan)
    _bets(canvas, known, plan)
    _mean(canvas, known, plan)
    _items(canvas, plan, known)
    height = MEAN_TOP + HIGH + 116
    canvas.text((LEFT, height - 46), BAND, "soft")
    canvas.text((LEFT, height - 26), f"It decides nothing; the bets do. {_commitments(plan)}", "soft")
    size = f'viewBox="0 0 {WIDE} {height:.0f}" width="{WIDE}" height="{height:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title description">',
            f'<title id="title">Trial {escape(safe(known.id, 80))}</title>',
            f'<desc id="description">{escape(described(known, plan))}</desc>',
            f"<style>{STYLE}{MORE_STYLE}</style>",
            f'<rect class="paper" width="{WIDE}" height="{height:.0f}"/>',
            *canvas.parts,
            "</svg>",
            "",
        ]
    )


def described(known: Trial, plan: TrialPlan) -> str:
    """The picture in words, for those who cannot see it."""
    many = len(known.values)
    mean = figure(math.fsum(known.values) / many, plan.reference) if many else "nothing"
    verdict = known.verdict.value if known.verdict else "no verdict yet"
    return (
        f"{verdict} after {many} of at most {plan.items} items; mean {mean}, line {figure(plan.line, plan.reference)}."
    )


def _commitments(plan: TrialPlan) -> str:
    return f"Committed before the first item: bank {short(plan.bank)}, order {short(plan.order)}."


_KINDS: Final = {"green": "clear", "red": "trip", "yellow": "undecided"}


def _head(canvas: Canvas, state: State, known: Trial, plan: TrialPlan) -> None:
    verdict = known.verdict.value if known.verdict else "RUNNING?"
    tone = _KINDS[measured(plan, watching.standing(known)[1]).tone] if known.verdict else "undecided"
    canvas.text((LEFT - 60, 46), f"{verdict}: {known.id}", f"{tone}text bold", 22)
    against = f", paired against the {plan.reference}" if plan.reference else ""
    canvas.text((LEFT - 60, 70), f"{plan.metric} on the suite {plan.suite}{against} · {plan.kind}", "soft", 13)
    seen = f"{len(known.values)} of at most {plan.items} items · planned {utc(known.planned_at)}"
    canvas.text((LEFT - 60, 90), " · ".join([seen, *banners(state)]), "soft", 13)


def _x(plan: TrialPlan, item: float, known: Trial) -> float:
    return LEFT + (RIGHT - LEFT) * item / max(len(known.values), 1)


def _items(canvas: Canvas, plan: TrialPlan, known: Trial) -> None:
    """The scale below both panels: items in the committed order."""
    y, many = MEAN_TOP + HIGH, max(len(known.values), 1)
    for tick in range(5):
        item = round(many * tick / 4)
        canvas.text((_x(plan, item, known), y + 20), str(item), "soft", 11, anchor="middle")
    canvas.text(
        ((LEFT + RIGHT) / 2, y + 40), "items read, in the order that was committed to", "soft", 12, anchor="middle"
    )


def _bets(canvas: Canvas, known: Trial, plan: TrialPlan) -> None:
    """Both fortunes on a scale of logarithms; the dashed stroke is where they decide."""
    top = math.log(1.0 / plan.error)
    floor = -0.35 * top

    def y(value: float) -> float:
        return BETS_TOP + HIGH * (1.0 - (min(max(value, floor), top * 1.12) - floor) / (top * 1.12 - floor))

    canvas.text((LEFT - 60, BETS_TOP - 22), "the two bets, in coins for each coin staked", "ink bold", 13)
    for power in range(0, int(top / math.log(10)) + 1, 1 if top < 14 else 2):
        at = y(power * math.log(10))
        canvas.stroke((LEFT, at), (RIGHT, at), "grid")
        canvas.text((LEFT - 8, at + 4), f"{10**power:,}", "soft", 11, anchor="end")
    canvas.stroke((LEFT, y(top)), (RIGHT, y(top)), "line", 'stroke-dasharray="8 5"')
    canvas.text((RIGHT + 8, y(top) - 6), f"{1 / plan.error:,.0f} to 1 decides", "soft", 11)
    ends: list[float] = []
    for name, curve, kind in zip(("CLEAR", "TRIP"), curves(plan, known.values), _sides(plan), strict=True):
        points = [(_x(plan, 0, known), y(0.0))]
        points += [(_x(plan, item, known), y(value)) for item, value in _thinned(curve)]
        _curve(canvas, points, f"{kind}curve")
        at = points[-1][1]
        at = at + 16 if ends and abs(at - ends[0]) < 15 else at
        ends.append(at)
        canvas.text((RIGHT + 8, at + 10), f"bet on {name}", f"{kind}text bold", 12)
    if known.verdict in {Verdict.CLEAR, Verdict.TRIP}:
        x = _x(plan, len(known.values), known)
        kind = _sides(plan)[known.verdict is Verdict.TRIP]
        canvas.add(f'<circle class="{kind}" cx="{x:.1f}" cy="{y(top):.1f}" r="6"/>')


def _sides(plan: TrialPlan) -> tuple[str, str]:
    """How CLEAR and TRIP are drawn."""
    clear, trip = sides(plan)
    return _KINDS[clear], _KINDS[trip]


def _thinned(values: Sequence[float]) -> list[tuple[int, float]]:
    """At most a thousand points of a curve, its last one always among them, with the item of each."""
    step = max(1, len(values) // 1000)
    places = [*range(step - 1, len(values), step)]
    if values and places[-1] != len(values) - 1:
        places.append(len(values) - 1)
    return [(place + 1, values[place]) for place in places]


def _curve(canvas: Canvas, points: Sequence[tuple[float, float]], kind: str) -> None:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    canvas.add(f'<polyline class="{kind}" points="{path}"/>')


def _mean(canvas: Canvas, known: Trial, plan: TrialPlan) -> None:
    """The mean so far with its interval, against the line and its margin."""
    rows = _means(known, plan)
    start, end = _domain(plan, rows)

    def y(value: float) -> float:
        return MEAN_TOP + HIGH * (1.0 - (min(max(value, start), end) - start) / (end - start))

    what = "the mean difference so far" if plan.reference else "the mean so far"
    canvas.text((LEFT - 60, MEAN_TOP - 22), what, "ink bold", 13)
    for tick in range(5):
        value = start + (end - start) * tick / 4
        canvas.stroke((LEFT, y(value)), (RIGHT, y(value)), "grid")
        canvas.text((LEFT - 8, y(value) + 4), figure(value, plan.reference), "soft", 11, anchor="end")
    canvas.box((LEFT, y(plan.line)), (RIGHT - LEFT, y(plan.line - plan.margin) - y(plan.line)), "band")
    canvas.stroke((LEFT, y(plan.line)), (RIGHT, y(plan.line)), "line")
    word = {"limit": "limit", "claim": "claim, less the margin"}.get(plan.kind, "line")
    canvas.text((RIGHT + 8, y(plan.line) + 4), f"{word} {figure(plan.line, plan.reference)}", "soft", 11)
    if not rows:
        return
    upper = [(_x(plan, item, known), y(high)) for item, _, _, high in rows]
    lower = [(_x(plan, item, known), y(low)) for item, _, low, _ in rows]
    band = " ".join(f"{x:.1f},{at:.1f}" for x, at in [*upper, *reversed(lower)])
    canvas.add(f'<polygon class="interval" points="{band}"/>')
    _curve(canvas, [(_x(plan, item, known), y(mean)) for item, mean, _, _ in rows], "mean")
    last = rows[-1]
    at = y(last[1])
    if abs(at - y(plan.line)) < 15:
        at += 16 if last[1] <= plan.line else -16
    canvas.text((RIGHT + 8, at + 4), f"mean {figure(last[1], plan.reference)}", "ink bold", 12)


def _means(known: Trial, plan: TrialPlan) -> list[tuple[int, float, float, float]]:
    """Item, mean and interval at some items, the last always among them."""
    many = len(known.values)
    wanted = {round((place + 1) * many / POINTS) for place in range(POINTS)} if many > POINTS else {*range(1, many + 1)}
    process, rows = trial.begin(plan), []
    for item, value in enumerate(known.values, 1):
        process = betting.advance(process, value)
        if item in wanted:
            low, high = betting.interval(process, error=SHOWN_ERROR, values=known.values[:item])
            rows.append((item, process.total / item, low, high))
    return rows


def _domain(plan: TrialPlan, rows: Sequence[tuple[int, float, float, float]]) -> tuple[float, float]:
    """From where to where the mean is drawn: around one half where it is paired, else from 0; the first are cut."""
    late = rows[len(rows) // 8 :]
    seen = [plan.line, plan.line - plan.margin, *(value for row in late for value in row[1:])]
    if not plan.reference:
        return 0.0, ceiling(seen)
    half = ceiling([2 * abs(value - 0.5) for value in seen]) / 2
    return max(0.0, 0.5 - half), min(1.0, 0.5 + half)
