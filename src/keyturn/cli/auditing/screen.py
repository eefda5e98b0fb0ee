"""What an auditor looks like: one bar for the whole log, and every finding in plain words.

Never hides a finding that was pardoned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyturn.cli.screen import Sheet, columns, count, safe, span, utc

if TYPE_CHECKING:
    from keyturn.app.auditor.folder import Shown
    from keyturn.core.terms import Instant

CELLS = 60
VKEY_COLUMNS = 160


def state(shown: Shown) -> tuple[str, str]:
    """In one word what it does now, and the colour of the word."""
    if shown.standing:
        return "REFUSES", "red"
    return ("COSIGNS", "green") if shown.cosigned else ("WAITS", "yellow")


def cells(shown: Shown, size: int) -> str:
    """The log from its first entry to its newest: █ cosigned, ▒ decided again, ✖ illegal, · not looked at."""
    made = []
    for at in range(CELLS):
        first, last = at * size // CELLS, max((at + 1) * size // CELLS - 1, at * size // CELLS)
        if any(first <= min(mark.entry, size - 1) <= last for mark in shown.standing):
            made.append("✖")
        else:
            made.append("█" if last < shown.cosigned else "▒" if last < shown.mirrored else "·")
    return "".join(made)


def show(sheet: Sheet, shown: Shown, *, folder: str, now: Instant, size: int = 0) -> None:
    """The auditor; `size` is what the log shows now, where that is known."""
    word, tone = state(shown)
    sheet.line(f"{sheet.paint(word, 'bold', tone)}  {safe(shown.name, 60)}, auditor of {safe(shown.origin, 60)}")
    if shown.simulated:
        sheet.say("SIMULATED PEOPLE: a demo; it is worth nothing outside one", "yellow")
    size = max(size, shown.mirrored, shown.cosigned)
    sheet.line()
    if size:
        tones = {"█": "green", "✖": "red", "▒": "cyan", "·": "dim"}
        sheet.line("  " + "".join(sheet.paint(cell, tones[cell]) for cell in cells(shown, size)))
        sheet.line("  " + sheet.paint("█ cosigned  ▒ decided again  ✖ illegal  · not looked at", "dim"))
    _counts(sheet, shown, now, size)
    _marks(sheet, shown)
    sheet.line()
    sheet.entry("rests on", shown.genesis.removeprefix("sha256:"))
    sheet.entry("files", safe(shown.tiles, 200))
    vkeys(sheet, shown, folder)


def vkeys(sheet: Sheet, shown: Shown, folder: str) -> None:
    """The keys for a project's policy, each on a line of its own to be copied whole; a long one is in its file."""
    for vkey in shown.vkeys:
        whole = columns(vkey) <= VKEY_COLUMNS
        text = safe(vkey, VKEY_COLUMNS) if whole else f"{safe(vkey, 60)}  ML-DSA-44, whole in {safe(folder)}/vkeys"
        sheet.line(f"  {sheet.paint(text, 'cyan')}")


def _counts(sheet: Sheet, shown: Shown, now: Instant, size: int) -> None:
    decided = f"{shown.mirrored} of {count(size, 'entry', 'entries')}; {count(shown.decisions, 'gate')} decided again"
    sheet.entry("mirrored", f"{decided}, {_when(shown.mirrored_at, now)}" if shown.mirrored else "nothing yet")
    sheet.entry("cosigned", f"{shown.cosigned}, {_when(shown.cosigned_at, now)}" if shown.cosigned else "nothing yet")


def _when(then_at: Instant, now: Instant) -> str:
    return f"{utc(then_at)} ({span(max(now - then_at, 0))} ago)"


def _marks(sheet: Sheet, shown: Shown) -> None:
    if not shown.marks:
        sheet.entry("found", "nothing illegal" if shown.mirrored else "nothing was looked at", "dim")
        return
    sheet.title(
        f"{count(len(shown.standing), 'illegal thing')} in this log: it is not cosigned"
        if shown.standing
        else "what was illegal was pardoned"
    )
    for mark in shown.marks:
        gone = mark.pardoned_at is not None
        sheet.say(
            f"{'–' if gone else '✖'} entry {mark.entry}: {safe(mark.message, 600)}",
            "dim" if gone else "red",
            indent=2,
            hang=4,
        )
        sheet.say(f"{safe(mark.rule, 60)}, under the head of {mark.size}, seen {utc(mark.found_at)}", "dim", indent=4)
        if mark.pardoned_at is not None:
            sheet.say(f"pardoned {utc(mark.pardoned_at)}: {safe(mark.reason, 400)}", "yellow", indent=4)
