"""The evidence table: every threshold with its verdict, its scale and its figures, for dossiers and candidates."""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.cli.screen import Sheet, count, pad, safe
from keyturn.cli.screens.scale import LEGEND, Measure, domain, figure, scale
from keyturn.core.dossier import claimed
from keyturn.core.state import Candidate, State

CELLS = 54
LOOSER = "Intervals are looser than the bets that decide, so one may cross a line that was cleared."


def measures(state: State, candidate: Candidate) -> tuple[Measure, ...]:
    """What the log shows about a candidate on each threshold of the policy, missing ones included."""
    found = []
    for threshold in state.current.policy.thresholds if state.current else ():
        evidence = candidate.evidence.get(threshold.id)
        claim = threshold.kind == "claim"
        rest = (
            {}
            if evidence is None
            else {
                "items": evidence.items,
                "estimate": evidence.estimate,
                "low": evidence.low,
                "high": evidence.high,
                "leaf": evidence.index,
            }
        )
        found.append(
            Measure(
                threshold=threshold.id,
                kind=threshold.kind,
                reference=threshold.reference,
                line=claimed(candidate, threshold.metric) if claim else threshold.line,
                margin=threshold.margin,
                verdict=evidence.verdict.value if evidence else "missing",
                **rest,  # type: ignore[arg-type]  # figures only where there is evidence
            )
        )
    return tuple(found)


def table(sheet: Sheet, rows: Sequence[Measure]) -> None:
    """Two lines a threshold: verdict and meaning, then the scale; the legend stands once below."""
    for row in rows:
        _row(sheet, row)
    if rows:
        sheet.line(f"  {sheet.paint(LEGEND, 'dim')}")
    if any(row.tone == "green" and row.kind != "claim" and row.high > row.line for row in rows):
        sheet.say(LOOSER, "dim", indent=2)


def _row(sheet: Sheet, row: Measure) -> None:
    verdict = sheet.paint(f"{row.mark} {pad(row.verdict, 9)}", row.tone, "bold")
    name = pad(safe(row.threshold, 16), 16)
    room = sheet.width - 31
    sheet.line(f"  {verdict} {name} {sheet.paint(safe(row.meaning, room), row.tone)}")
    start, end = domain(row)
    left, right = figure(start, row.reference), figure(end, row.reference)
    drawn = sheet.paint(scale(row, CELLS, start=start, end=end), row.tone)
    sheet.line(f"{left.rjust(11)} ├{drawn}┤ {right}")
    sheet.say(numbers(row), "dim", indent=13)


def numbers(row: Measure) -> str:
    """The figures of a measure in one line."""
    line = {"claim": "claim", "limit": "limit"}.get(row.kind, "line")
    margin = figure((row.margin + 1) / 2, row.reference)[1:] if row.reference else figure(row.margin)
    bound = f"{line} {figure(row.line, row.reference)}" + (f", margin {margin}" if row.margin else "")
    against = f" vs {row.reference}" if row.reference else ""
    if row.verdict == "missing":
        return f"no evidence · {bound}{against}"
    low, high = figure(row.low, row.reference), figure(row.high, row.reference)
    seen = f"{figure(row.estimate, row.reference)} [{low}, {high}] over {count(row.items, 'item')}"
    return f"{seen} · {bound}{against}"
