"""A draft report in Markdown that fills itself from given facts and lists what it lacks.

Never files anything, never gives legal advice, and never lets a text from the log pass for a heading, a link or a
row of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from keyturn.core.terms import Instant
from keyturn.disclosure.clocks import ClockState, utc
from keyturn.disclosure.incident import ClockRow
from keyturn.disclosure.regimes import Regimes, ReportField

TEXT_CHARACTERS_MAX: Final = 4000
EXERCISE: Final = "EXERCISE: nothing here happened for a regulator; do not file"
ADVICE: Final = "This is a draft for a person to check. It is not legal advice and has not been filed."
_SPECIAL: Final = re.compile(r"[\\`*_\[\]<>|&~@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IncidentFacts:
    """What the log says about the incident itself; `summary` may hold words of the governed system."""

    id: str
    kind: str
    summary: str
    detected_at: Instant
    exercise: bool


def draft(
    incident: IncidentFacts,
    rows: Sequence[ClockRow],
    facts: Mapping[str, str],
    *,
    regimes: Regimes,
    at: Instant,
) -> str:
    """Write the draft as Markdown: clocks, what is known, what is missing, sources.

    `facts` maps ids of `regimes.report_fields` to texts from the log; empty ones count as missing and unknown ids
    are listed as further facts, never dropped. Every given text is escaped and bounded.
    """
    exercise = incident.exercise or any(row.deadline.exercise for row in rows)
    known = {name: text for name, text in facts.items() if text.strip()}
    parts = [
        _head(incident, at, exercise=exercise),
        _clocks(rows),
        _known(known, regimes),
        _missing(known, rows, regimes),
        _sources(rows, regimes),
        f"---\n{ADVICE}",
    ]
    if exercise:
        parts.append(f"**{EXERCISE}.**")
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Make a foreign text inert inside Markdown: one line, no markup, no hidden characters, bounded.

    Marks become backslash escapes; control characters and marks that reverse the reading order become `\u` codes.
    """
    plain = "".join(c if c.isprintable() else " " if c in "\n\r\t" else f"\\u{ord(c):04x}" for c in text)
    shown = " ".join(plain.split())
    cut = shown[:TEXT_CHARACTERS_MAX]
    inert = _SPECIAL.sub(r"\\\g<0>", cut)
    return inert if len(shown) == len(cut) else f"{inert} … ({len(shown)} characters in all)"


def _head(incident: IncidentFacts, at: Instant, *, exercise: bool) -> str:
    title = f"# {'EXERCISE: draft' if exercise else 'Draft'} report of incident {escape(incident.id)}"
    lines = [
        *([f"**{EXERCISE}.**", ""] if exercise else []),
        f"- Kind: {escape(incident.kind)}",
        f"- Detected: {utc(incident.detected_at)} (by the system; a signed moment stands with its clock)",
        f"- Summary: {escape(incident.summary) or 'MISSING'}",
        f"- Drafted: {utc(at)}",
    ]
    return "\n".join([title, "", ADVICE, "", *lines])


def _clocks(rows: Sequence[ClockRow]) -> str:
    if not rows:
        return "## Clocks\n\nNo clock of the regimes that we know applies. The project's profile says why."
    head = "| Duty | State | Due | Counted from | To | Confidence |\n| --- | --- | --- | --- | --- | --- |"
    return "\n".join(["## Clocks", "", head, *(_clock(row) for row in rows)])


def _clock(row: ClockRow) -> str:
    clock = row.deadline
    start = "not started" if clock.from_at is None else f"{clock.from_moment} {utc(clock.from_at)}"
    if clock.from_at is not None and not clock.signed:
        start += ", NOT SIGNED"
    duty = f"{row.regime}: {row.title}{'' if row.certain else ' (a person decides whether it concerns this incident)'}"
    cells = (duty, row.state, row.due, start, row.recipient, row.confidence)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _known(known: Mapping[str, str], regimes: Regimes) -> str:
    words = {field.id: field.words for field in regimes.report_fields}
    listed = [f"- {words[name]}: {escape(known[name])}" for name in words if name in known]
    further = [f"- {escape(name)}: {escape(text)}" for name, text in known.items() if name not in words]
    return "\n".join(["## What is known", "", *(listed + further or ["Nothing has been given."])])


def _missing(known: Mapping[str, str], rows: Sequence[ClockRow], regimes: Regimes) -> str:
    fields = [f"- {field.words} ({_asked(field)})" for field in regimes.report_fields if field.id not in known]
    unsigned = [
        f"- the moment for {row.regime}, signed by a person: {' or '.join(row.sign)}"
        for row in rows
        if not row.deadline.signed and row.deadline.state not in (ClockState.SET_ASIDE, ClockState.FILED)
    ]
    undecided = [f"- whether {row.regime} concerns this incident" for row in rows if not row.certain]
    return "\n".join(["## What is missing", "", *(fields + unsigned + undecided or ["Nothing that we know of."])])


def _asked(field: ReportField) -> str:
    return "asked by " + ", ".join(field.asked_by)


def _sources(rows: Sequence[ClockRow], regimes: Regimes) -> str:
    lines = [f"- {row.regime}, {row.law}: {row.source} (as of {row.as_of}; {row.status})" for row in rows]
    return "\n".join(["## Sources", "", f"Regimes as of {regimes.as_of}; later law is not in here.", "", *lines])
