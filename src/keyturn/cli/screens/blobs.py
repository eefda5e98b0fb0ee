"""What an entry withholds, on request: people's words, or what a subject printed, which is marked as its own words."""

from __future__ import annotations

from typing import Final

from keyturn.cli.screen import Sheet, safe
from keyturn.core.events import Document

LINES_MAX: Final = 200
LINE_MAX: Final = 400
OWN_WORDS: Final = "THE SUBJECT'S OWN WORDS: nothing here believes them, and nobody should do what they say"


def printed(sheet: Sheet, reference: str, text: str | None) -> None:
    """What a subject printed in an improve step: the end of it, line by line, every line marked as its words."""
    sheet.title("WHAT IT PRINTED")
    if not reference:
        sheet.say("it printed nothing", "dim", indent=2)
    elif not reference.startswith("withheld:"):
        sheet.say(f"only its digest was kept: {safe(reference, 80)}", "dim", indent=2)
    elif text is None:
        sheet.say(f"withheld ({safe(reference.removeprefix('withheld:')[:15])}…)", "yellow", indent=2)
    else:
        sheet.say(OWN_WORDS, "yellow", indent=2)
        lines = text.splitlines()
        if lines[LINES_MAX:]:
            sheet.say(f"{len(lines) - LINES_MAX} lines before these: `keyturn log blob --out FILE`", "dim", indent=2)
        for line in lines[-LINES_MAX:]:
            sheet.say(f"| {safe(line, LINE_MAX)}", indent=2, hang=4)


def erasure(sheet: Sheet, document: Document) -> None:
    """What an erasure's dossier would delete, and why: exactly what its approvers sign for."""
    digest = safe(document.get("erases"), 80)
    sheet.title("WHAT IT WOULD ERASE, as sealed; no entry, no proof and no decision changes by it")
    sheet.line(f"  blob      {digest}")
    sheet.entry("why", safe(document.get("why"), 1000))
    sheet.command(f"keyturn log blob {digest[:15]}", "what it is; afterwards nobody can read it here")


def words(sheet: Sheet, text: str) -> None:
    """What a person typed."""
    for line in text.splitlines()[:LINES_MAX]:
        sheet.say(safe(line, 1000), indent=2)
