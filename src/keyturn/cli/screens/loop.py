"""What a loop of somebody else's may use and has used, and what became of its programs, in a few lines.

Always says of each bound that was not given that nothing bounds it, and of a price that it was not reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.cli.screen import Sheet, count, safe, span, utc
from keyturn.cli.screens.scale import number
from keyturn.core import bounds as limits
from keyturn.core.bounds import Bounds, Used
from keyturn.core.errors import MalformedInput
from keyturn.core.events import Document, ProgramsJudged
from keyturn.core.programs import ADMITTED
from keyturn.core.state import Attempt
from keyturn.core.terms import Json

UNBOUNDED = "not bounded"


def rows(bounds: Bounds, used: Used | None) -> Iterator[tuple[str, str]]:
    """Each bound by its name: what it is, and how much of it is used where something is known of that."""
    texts: list[str | None] = [None] * 5 if used is None else _texts(used)
    most = [
        f"{bounds.programs_max:,}",
        _time(bounds.wall_seconds_max),
        f"{bounds.requests_max:,}" if bounds.requests_max else UNBOUNDED,
        f"{bounds.tokens_max:,}" if bounds.tokens_max else UNBOUNDED,
        f"{bounds.usd_max:.2f} USD" if bounds.usd_max else UNBOUNDED,
    ]
    names = ("programs", "time", "requests", "tokens", "money")
    yield from ((name, _of(text, bound)) for name, text, bound in zip(names, texts, most, strict=True))


def _texts(used: Used) -> list[str | None]:
    return [f"{used.programs:,}", _time(used.wall_seconds), f"{used.requests:,}", f"{used.tokens:,}", _price(used)]


def _of(used: str | None, most: str) -> str:
    if used is None:
        return most if most == UNBOUNDED else f"{most} at most"
    return f"{used}, {UNBOUNDED}" if most == UNBOUNDED else f"{used} of {most}"


def _price(used: Used) -> str:
    return "a price that nobody reported" if used.usd is None else f"{used.usd:.2f}"


def _time(seconds: float) -> str:
    return span(seconds * 1000)


def in_words(bounds: Bounds, used: Used | None) -> str:
    """All of it in one sentence."""
    return "; ".join(f"{name}: {text}" for name, text in rows(bounds, used))


def used_up(bounds: Bounds, used: Used) -> bool:
    """Whether nothing more may run."""
    return bool(limits.findings(bounds, used))


def read(body: Json) -> Bounds:
    """The bounds that a dossier names; none where it names none that can be read, which gives no leave."""
    try:
        return Bounds.from_json(body) if isinstance(body, dict) else Bounds()
    except MalformedInput:
        return Bounds()


def leave(sheet: Sheet, document: Document) -> None:
    """What a warrant's dossier would allow: exactly what its approvers sign for."""
    said = document.get("bounds")
    if not isinstance(said, dict):
        return
    sheet.title("THE LEAVE THAT IT WOULD GIVE, as sealed")
    sheet.entry("candidates", f"{safe(said.get('candidates_max'), 12)} at most")
    sheet.entry("level", f"{safe(said.get('level_ceiling'), 12)} at most")
    sheet.entry("until", utc(int(number(said.get("expires_at")))))
    if said.get("loop") is not None:
        for name, text in rows(read(said.get("loop")), None):
            sheet.entry(name, text, "yellow" if text == UNBOUNDED else "")


def programs(sheet: Sheet, body: Document) -> None:
    """The programs of the run that a candidate came from, as its dossier has them sealed."""
    sheet.title("THE RUN IT COMES FROM: programs were admitted by rule, and nobody was asked")
    sheet.entry("judged", f"{_count(body, 'judged')}, of which {safe(body.get('admitted'), 12)} may be proposed")
    refused = body.get("refused")
    for rule, times in refused.items() if isinstance(refused, dict) else ():
        sheet.entry("refused", f"{safe(times, 12)} by {safe(rule, 60)}")
    if number(body.get("lost")):
        sheet.entry("lost", f"{_count(body, 'lost')}: charged, but a crash kept them from the log", "yellow")
    bounds, spent = body.get("bounds"), _used(body.get("spent"))
    for name, text in rows(read(bounds), spent) if bounds else ():
        sheet.entry(name, text, "yellow" if UNBOUNDED in text else "")


def _count(body: Document, key: str) -> str:
    return count(int(number(body.get(key))), "program")


def _used(body: Json) -> Used:
    try:
        return Used.from_json(body) if isinstance(body, dict) else Used()
    except MalformedInput:
        return Used()


def run_of(attempt: Attempt) -> str:
    """What became of the programs of one improve step."""
    refused = sum(attempt.refused.values())
    lost = f", {attempt.lost} lost" if attempt.lost else ""
    return f"{count(attempt.judged, 'program')} judged, {refused} refused{lost}"


def batch(event: ProgramsJudged) -> str:
    """One entry of the log about programs."""
    admitted = sum(row.get("verdict") == ADMITTED for row in event.programs)
    said = (
        f"attempt {event.attempt}, batch {event.batch}: {admitted} of {count(len(event.programs), 'program')} admitted"
    )
    lost = f", {event.lost} lost" if event.lost else ""
    return f"{said}{lost}{', closed' if event.closing else ''}"
