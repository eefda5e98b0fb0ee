"""What is held still: since when, until when, by whom, and what each sandbox came to, as the kernel tells of it."""

from __future__ import annotations

from collections.abc import Mapping

from keyturn.cli.screen import Sheet, actor, count, safe, span, utc
from keyturn.cli.screens.scale import number
from keyturn.cli.screens.waiting import Waiting
from keyturn.core.state import Freeze
from keyturn.core.terms import Instant, Json

MEBIBYTE = 1 << 20
TONE = "cyan"


def frozen(freeze: Freeze, now: Instant) -> Waiting:
    """What a freeze waits for: people who look, within its bound."""
    left = freeze.until_at - now
    bound = (
        f"until {utc(freeze.until_at)}, {span(left)} left" if left > 0 else "its bound has passed: it ends as a halt"
    )
    sentence = f"held still by {actor(freeze.by)} at {utc(freeze.at)}: {safe(freeze.reason)} ({bound})"
    look = ("keyturn freeze show", "what is held still")
    thaw = ("keyturn thaw --as PERSON", "lets it go on; anyone enrolled may, within the bound")
    halt = ("keyturn halt --reason TEXT", "stops it, with proof; it needs no thaw")
    return Waiting("FROZEN", sentence, (look, thaw, halt) if left > 0 else (look, halt))


def held(sheet: Sheet, said: Mapping[str, Json]) -> None:
    """What was seen of a freeze that was just asked for."""
    state = str(said.get("state"))
    tone = TONE if state == "HELD" else "red"
    sheet.line(sheet.paint(f" {safe(state, 20)} ", "inverse", "bold", tone) + f"  {safe(said.get('scope'), 80)}")
    for unknown in _rows(said.get("unknown")):
        sheet.say(f"✖ {safe(unknown)}", "red", indent=2, hang=4)
    if state != "HELD":
        sheet.say("Nothing is claimed to be held still. A halt stops it with proof.", "bold")
    took = said.get("frozen_ms")
    if isinstance(took, float):
        processes = count(int(number(said.get("processes"))), "process", "processes")
        sheet.entry("held", f"{processes}, {took:.1f} ms after it was asked for")
    sheet.entry("until", utc(int(number(said.get("until_at")))))


def show(sheet: Sheet, said: Mapping[str, Json]) -> None:
    """What runs sealed or is held still, one line for each sandbox."""
    rows = [row for row in _rows(said.get("sandboxes")) if isinstance(row, dict)]
    state = safe(said.get("state"), 20)
    what = f"{safe(said.get('doing'), 100)}; {count(len(rows), 'sandbox', 'sandboxes')}"
    sheet.line(f"{sheet.paint(f' {state} ', 'inverse', 'bold', TONE)}  {sheet.paint(what, 'bold')}")
    if said.get("freeze"):
        sheet.entry("by", f"{actor(str(said.get('by')))}, until {utc(int(number(said.get('until_at'))))}")
    for row in rows:
        memory = row.get("memory_bytes")
        held = f"{number(memory) / MEBIBYTE:.0f} MiB" if isinstance(memory, int) else "memory not counted"
        cpu = row.get("cpu_seconds")
        used = f"{number(cpu):.2f} s of processor" if isinstance(cpu, float | int) else "processor not counted"
        begun = "nothing of the subject has begun" if row.get("waits") else "running"
        part = f" ({safe(row.get('part'), 30)})" if row.get("part") else ""
        sheet.line(f"  {safe(row.get('id'), 40)}{part}: {'still' if row.get('still') else begun}")
        processes = count(int(number(row.get("processes"))), "process", "processes")
        sheet.say(f"{processes}, {used}, {held}, made {span(number(row.get('age_seconds')) * 1000)} ago", indent=4)


def _rows(value: Json) -> list[Json]:
    return value[:200] if isinstance(value, list) else []
