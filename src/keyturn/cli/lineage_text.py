"""The lineage drawn in the terminal: a rail of generations, refused candidates branching off, two scales a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keyturn.cli.screen import WIDTH, Paint, Sheet, actor, clip, count, pad, safe, utc
from keyturn.cli.screens.rail import Point, Rail, halts_before, rail
from keyturn.cli.screens.scale import LEGEND, Measure, ceiling, figure, number, scale
from keyturn.cli.screens.waiting import banners
from keyturn.core.policy import Threshold
from keyturn.core.state import Halt, State
from keyturn.core.terms import Json

NAME, CELLS = 12, 20
Series = Sequence[Mapping[str, Json]]


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where the two scales end, so that every row of the screen can be compared with every other."""

    score: float
    broken: float


def lineage_text(state: State, *, ungoverned: Series | None = None, colour: bool = True, width: int = WIDTH) -> str:
    """The lineage as lines of at most `width` columns; `ungoverned` adds a run of the same seed that nothing held.

    Each row of `ungoverned` holds `generation`, `score` and `broken`.
    """
    sheet = Sheet(width=width, paint=Paint(colour=colour))
    found = rail(state)
    _head(sheet, state, found)
    axes = _axes(found, ungoverned or ())
    _titles(sheet, found)
    for place, point in enumerate(found.points):
        for halt in halts_before(found, place):
            _halt(sheet, halt)
        _point(sheet, point, axes, parent=_parent(found, place))
    for halt in halts_before(found, len(found.points)):
        _halt(sheet, halt)
    if not found.points:
        sheet.say("no lineage is founded yet", "dim", indent=2)
    sheet.line(f"  {sheet.paint(LEGEND, 'dim')}")
    if ungoverned:
        _ungoverned(sheet, found, ungoverned, axes)
    return sheet.text()


def _head(sheet: Sheet, state: State, found: Rail) -> None:
    name = safe(state.project.name, 40) if state.project else "no project"
    released = sum(1 for point in found.points if point.generation)
    refused = sum(1 for point in found.points if point.status == "rejected")
    proposed = len(found.points) - 1 if found.points else 0
    sheet.line(sheet.paint(f"lineage {name}", "bold") + f"   level {found.level}, as of {utc(state.last_at)}")
    sheet.line(f"{count(proposed, 'candidate')}: {released} released, {refused} refused")
    words = banners(state)
    if words:
        sheet.line(sheet.paint(" · ".join(words), "yellow"))
    sheet.rule()


def _axes(found: Rail, ungoverned: Series) -> _Axes:
    scores = [m.high for m in (point.capability for point in found.points) if m]
    broken = [m.high for m in (point.charter for point in found.points) if m]
    scores += [number(row.get("score")) for row in ungoverned]
    broken += [number(row.get("broken")) for row in ungoverned]
    scores.append(found.capability.line if found.capability else 0.0)
    broken.append(found.charter.line if found.charter else 0.0)
    return _Axes(ceiling(scores), ceiling(broken))


def _titles(sheet: Sheet, found: Rail) -> None:
    left = f"capability {safe(found.capability.id, 14)}" if found.capability else "no capability threshold"
    right = f"charter {safe(found.charter.id, 14)}" if found.charter else "no charter limit"
    sheet.line(sheet.paint(f"gen     {pad('member', NAME)}{pad(left, CELLS + 9)} {right}", "dim"))
    if found.capability and found.charter:
        lines = f"line {found.capability.line:g}", f"limit {found.charter.line:g}, broken share"
        sheet.line(sheet.paint(f"        {' ' * NAME}{pad(lines[0], CELLS + 9)} {lines[1]}", "dim"))


def _parent(found: Rail, place: int) -> bool:
    """Whether a later generation exists, so that the rail goes on below this point."""
    return any(point.generation is not None for point in found.points[place + 1 :])


def _point(sheet: Sheet, point: Point, axes: _Axes, *, parent: bool) -> None:
    if point.generation is not None:
        mark, tone, joint = "●", "green", f"{point.generation:>3} ●  "
    else:
        mark, tone = {"proposed": ("?", "yellow"), "shadowed": ("·", "yellow")}.get(point.status, ("✖", "red"))
        joint = f"    {'├' if parent else '└'}─{mark}"
    row = f"{sheet.paint(pad(joint, 8), tone)}{pad(clip(safe(point.name, 40), NAME - 1), NAME)}"
    row += _cell(sheet, point.capability, axes.score) + " " + _cell(sheet, point.charter, axes.broken)
    sheet.line(row)
    stem = "    │   " if parent else "        "
    for text, tone in _notes(point):
        sheet.line(f"{stem}{sheet.paint(clip(text, sheet.width - 8), tone)}")


def _notes(point: Point) -> list[tuple[str, str]]:
    notes = []
    if point.reason:
        notes.append((f"✖ {point.reason}", "red"))
    elif point.status == "proposed":
        notes.append(("? under way: not decided", "yellow"))
    if point.raised_to is not None:
        released = "from here on" if point.generation is not None else "would apply to it"
        notes.append((f"▲ level {point.raised_to} {released}", "yellow"))
    if point.audited_by:
        notes.append((f"◆ audited by {safe(point.audited_by, 40)}", "cyan"))
    return notes


def _cell(sheet: Sheet, measure: Measure | None, end: float) -> str:
    """One scale with its figure and mark, always the same number of columns."""
    if measure is None:
        return pad(sheet.paint("·" * CELLS, "dim"), CELLS + 9)
    drawn = scale(measure, CELLS, end=end)
    return pad(sheet.paint(f"{drawn} {figure(measure.estimate)} {measure.mark}", measure.tone), CELLS + 9)


def _halt(sheet: Sheet, halt: Halt) -> None:
    proof = "STOPPED" if halt.proven else "UNPROVEN"
    lifted = ", lifted by quorum" if halt.resumed else ", stands"
    text = f"HALT {proof} {utc(halt.requested_at)} by {actor(halt.by)}: {safe(halt.reason, 80)}{lifted}"
    sheet.line(f"    {sheet.paint('■   ' + clip(text, sheet.width - 8), 'red', 'bold')}")


def _ungoverned(sheet: Sheet, found: Rail, rows: Series, axes: _Axes) -> None:
    """What the same seed became without hold points."""
    sheet.title("THE SAME SEED, UNGOVERNED: every candidate became the parent")
    for row in rows:
        score, broken = number(row.get("score")), number(row.get("broken"))
        generation = int(number(row.get("generation")))
        left = _bare(sheet, found.capability, score, axes.score)
        right = _bare(sheet, found.charter, broken, axes.broken)
        sheet.line(f"{generation:>3} {sheet.paint('○   ', 'dim')}{pad('ungoverned', NAME)}{left} {right}")
    last = rows[-1]
    here = [point for point in found.points if point.generation is not None and point.charter is not None]
    there = f"broken {figure(number(last.get('broken')))}, score {figure(number(last.get('score')))}"
    if here and here[-1].charter is not None:
        ability = here[-1].capability
        reached = figure(ability.estimate) if ability else "not tried"
        mine = f"broken {figure(here[-1].charter.estimate)}, score {reached}"
        sheet.say(f"in the end: governed {mine}; ungoverned {there}", "bold", indent=2)


def _bare(sheet: Sheet, threshold: Threshold | None, value: float, end: float) -> str:
    """A value without an interval: nothing was shown about it, so it has a dot only."""
    over = threshold is not None and value >= threshold.line
    limit = threshold is not None and threshold.kind == "limit"
    drawn = Measure(
        threshold="",
        kind="limit" if limit else "capability",
        reference="",
        line=threshold.line if threshold else 1.0,
        margin=threshold.margin if threshold else 0.0,
        verdict="TRIP" if over else "UNDECIDED",
        estimate=value,
        low=value,
        high=value,
    )
    mark, tone = ("✖", "red") if over and limit else ("▲", "yellow") if over else (" ", "dim")
    return pad(sheet.paint(f"{scale(drawn, CELLS, end=end)} {figure(value)} {mark}".rstrip(), tone), CELLS + 9)
