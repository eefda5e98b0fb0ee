"""What people must see when something went wrong: a halt's receipt, an incident, and the clocks that run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from keyturn.cli.screen import Sheet, count, safe, span, until, utc
from keyturn.cli.screens.scale import number
from keyturn.cli.screens.waiting import head
from keyturn.core.state import Incident, State
from keyturn.core.terms import Instant, Json

_TIMES: Final = (
    ("kill_written_ms", "kill written to the kernel"),
    ("init_exited_ms", "init seen to be gone"),
    ("cgroup_empty_ms", "cgroup seen to be empty"),
)

_CHECKS: Final = {
    "daemons": "all of them came up, and all are gone",
    "attest": "the sandbox was as it is for a subject",
    "kill": "the kill of everything could be written",
    "latch": "a latch could be set on disk",
    "log": "the log took the record",
    "door": "the governor's door answered",
}
_ALONE: Final = "no governor runs here; the door of one for the drill alone answered"
ROWS_MAX = 20
"""How many lines of a receipt are shown."""


class Clock(Protocol):
    """A duty and its clock, as `keyturn.app` hands it over."""

    @property
    def regime(self) -> str:
        """Which duty."""

    @property
    def state(self) -> str:
        """How its clock stands, in words."""

    @property
    def due_at(self) -> Instant | None:
        """When it is due; None where nothing has started or no source lets us compute it."""

    @property
    def trigger(self) -> str:
        """From which moment it counts, in words."""

    @property
    def recipient(self) -> str:
        """Who is told."""

    @property
    def source(self) -> str:
        """Where the duty stands written."""

    @property
    def as_of(self) -> str:
        """The day on which the source was read."""

    @property
    def confidence(self) -> str:
        """How sure the reading is."""

    @property
    def exercise(self) -> bool:
        """Whether all this is an exercise."""

    @property
    def why(self) -> str:
        """Why it applies or does not."""


def receipt(sheet: Sheet, said: Mapping[str, Json]) -> bool:
    """A halt's receipt, its verdict big; returns whether it was proven."""
    stopped = said.get("state") == "STOPPED"
    word, tone = ("S T O P P E D", "green") if stopped else ("U N P R O V E N", "red")
    sheet.line(sheet.paint("━" * sheet.width, tone, "bold"))
    sheet.line(sheet.paint(f"  {word}", tone, "bold"))
    sheet.line(sheet.paint("━" * sheet.width, tone, "bold"))
    if not stopped:
        sheet.say("Something could not be seen to be dead. Launches stay blocked until a halt is proven.", "bold")
    for unknown in _list(said.get("unknown")):
        sheet.say(f"✖ unknown: {safe(unknown)}", "red", indent=2, hang=4)
    survivors = int(number(said.get("survivors")))
    if survivors:
        sheet.say(f"✖ {count(survivors, 'process', 'processes')} seen alive after the kill", "red", indent=2)
    sheet.entry("scope", safe(said.get("scope")))
    _reached(sheet, said.get("reached"))
    sheet.entry("processes", f"{int(number(said.get('processes_before')))} before, {survivors} after")
    _times(sheet, said)
    return stopped


def _reached(sheet: Sheet, rows: Json) -> None:
    """Line by line what the halt reached, the worst first; without copies or runners the scope has said it all."""
    listed = [row for row in (rows if isinstance(rows, list) else []) if isinstance(row, dict)]
    if len(listed) < 2:
        return
    bad = [row for row in listed if row.get("state") != "STOPPED"]
    for row in [*bad, *(row for row in listed if row.get("state") == "STOPPED")][:ROWS_MAX]:
        stopped = row.get("state") == "STOPPED"
        why = f": {safe(row.get('why'), 200)}" if row.get("why") else ""
        named = f"{safe(row.get('what'), 20)}: {safe(row.get('name'), 100)}{why}"
        sheet.entry("✓ STOPPED" if stopped else "✖ UNPROVEN", named, "" if stopped else "red")
    if len(listed) > ROWS_MAX:
        sheet.say(f"and {len(listed) - ROWS_MAX} more; `--json` lists them all", "dim", indent=2)


def drill(sheet: Sheet, said: Mapping[str, Json]) -> None:
    """What a drill measured: nothing of the project was stopped, and the screen says so first."""
    stopped = said.get("state") == "STOPPED"
    word, tone = ("DRILL: STOPPED", "green") if stopped else ("DRILL: UNPROVEN", "red")
    sheet.line(sheet.paint(f"{word} in {_took(said)}" if stopped else word, tone, "bold"))
    daemons = int(number(said.get("daemons")))
    sheet.say(f"{count(daemons, 'daemon')} of ours in a sandbox of their own; nothing else was touched.")
    for unknown in _list(said.get("unknown")):
        sheet.say(f"✖ {safe(unknown, 300)}", "red", indent=2, hang=4)
    checks = said.get("checks")
    words = _CHECKS if said.get("governed") is not False else {**_CHECKS, "door": _ALONE}
    for name, found in (checks if isinstance(checks, dict) else {}).items():
        if found == "ok":
            sheet.say(f"✓ {words.get(name, safe(name, 20))}", indent=2, hang=4)
    _times(sheet, said)


def last_drill(state: State, now: Instant) -> tuple[str, str]:
    """When a halt was last measured and what came of it, in words, and the tone for it."""
    drilled = state.drill
    if drilled is None:
        return "never; `keyturn halt --drill` measures one", "yellow"
    if drilled.receipt.get("state") != "STOPPED":
        return f"{span(now - drilled.at)} ago: UNPROVEN", "red"
    return f"{span(now - drilled.at)} ago: STOPPED in {_took(drilled.receipt)}", ""


def _took(said: Mapping[str, Json]) -> str:
    """How long it took until both were seen: init gone, and the cgroup empty."""
    return f"{max(number(said.get('init_exited_ms')), number(said.get('cgroup_empty_ms'))):.1f} ms"


def _times(sheet: Sheet, said: Mapping[str, Json]) -> None:
    """When it was asked, and how long everything took from there."""
    requested = int(number(said.get("requested_at_ms", said.get("requested_at"))))
    if requested:
        sheet.entry("requested", utc(requested))
    for key, what in _TIMES:
        value = said.get(key)
        seen = isinstance(value, int | float) and not isinstance(value, bool)
        sheet.entry("", f"{number(value):9.1f} ms  {what}" if seen else f"        —     {what}: not seen")


def _list(value: Json) -> list[Json]:
    if isinstance(value, list):
        return value[:20]
    return [value] if value else []


def incident(sheet: Sheet, state: State, about: Incident, clocks: Iterable[Clock], now: Instant) -> None:
    """The incident, what is known, and every clock: those that run, then those that cannot apply and why."""
    word = "EXERCISE" if about.exercise else "INCIDENT"
    head(
        sheet, state, word, f"{safe(about.kind, 40)}: {safe(about.summary, 300)}", "yellow" if about.exercise else "red"
    )
    sheet.entry("incident", f"{safe(about.id, 40)}, detected {utc(about.detected_at)} (a detection is no awareness)")
    if about.candidate or about.attempt:
        named = f"candidate `{safe(about.candidate, 60)}`, " if about.candidate else ""
        sheet.entry("about", f"{named}attempt {about.attempt}")
    for key, value in list(about.facts.items())[:20]:
        sheet.entry(safe(key, 12), safe(value, 300))
    sheet.title("MOMENTS THAT A PERSON SIGNED")
    for moment, event in about.moments.items():
        said = f"{utc(event.moment_at)} by {safe(event.person, 40)}: {safe(event.reason)}"
        sheet.entry(safe(moment, 28), said, wide=29)
    if not about.moments:
        sheet.say("none: every deadline below is provisional until somebody signs", "yellow", indent=2)
        who = "keyturn incident aware"
        sheet.command(f"{who} {safe(about.id, 40)} --as PERSON --reason TEXT", "`--moment` names another one")
    rows = tuple(clocks)
    table(sheet, [row for row in rows if applies(row)], now)
    idle = [row for row in rows if not applies(row)]
    if idle:
        sheet.title(f"DO NOT APPLY ({len(idle)})")
        for (regime, why), number_ in Counter((row.regime, row.why) for row in idle).items():
            duties = f" ({number_} duties)" if number_ > 1 else ""
            sheet.say(f"· {safe(regime, 100)}{duties}: {safe(why, 300)}", "dim", indent=2, hang=4)
    sheet.say("This is not legal advice.", "dim")


def applies(row: Clock) -> bool:
    """Whether a row is of a duty that can apply."""
    return row.state != "does not apply"


def table(sheet: Sheet, rows: Iterable[Clock], now: Instant) -> None:
    """The clocks that can run: due moment and state first, then the duty, its trigger and its source."""
    sheet.title("CLOCKS")
    nothing = True
    for row in rows:
        nothing = False
        overdue = row.due_at is not None and row.due_at <= now
        tone = "red" if overdue else "yellow" if row.due_at is not None else "dim"
        due = f"{utc(row.due_at)} ({until(row.due_at, now)})" if row.due_at is not None else "no moment yet"
        exercise = "EXERCISE " if row.exercise and "EXERCISE" not in row.state else ""
        sheet.say(f"{due}  {exercise}{safe(row.state, 60)}", tone, "bold", indent=2)
        sheet.say(safe(row.regime, 160), indent=4)
        sheet.say(f"tell {safe(row.recipient, 100)}; counts from: {safe(row.trigger, 160)}", "dim", indent=4)
        sheet.say(f"{safe(row.source, 120)} (read {safe(row.as_of, 10)}, {safe(row.confidence, 20)})", "dim", indent=4)
        if row.why:
            sheet.say(safe(row.why, 240), "dim", indent=4)
    if nothing:
        sheet.say("none can run for this project as it describes itself", "dim", indent=2)
