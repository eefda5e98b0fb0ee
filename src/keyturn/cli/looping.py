"""The command by which a loop that others wrote is served: it says what every batch came to and what is waited for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keyturn.cli import context
from keyturn.cli.screen import count, safe, short
from keyturn.cli.screens import waiting as waits
from keyturn.core import agenda
from keyturn.core.state import Attempt

if TYPE_CHECKING:
    from keyturn.app.loop.serve import Served


def serve(args: argparse.Namespace) -> int:
    """Be the governor of one loop's run: 0 when nothing waits for people, 1 when HELD or refused, 6 when halted."""
    from keyturn.app.loop.serve import serve as serve_loop

    project = context.project(args)
    served = serve_loop(project, shadow=args.shadow, warm=args.warm, tell=context.teller(args))
    code = _code(served)
    if args.json:
        context.emit(_body(served, code))
        return code
    sheet = context.sheet()
    what = waits.waiting(served.state, served.step, context.now())
    word, sentence, commands = what.word, what.sentence, what.commands
    if isinstance(served.step, agenda.Improve):
        word, sentence = "ENDED", "the loop has ended; nothing waits for people"
        commands = (("keyturn loop serve", "for its next run, under the same warrant"),)
    if served.shadow and code == 0:
        word, sentence, commands = "SHADOW", "the loop went on by itself; nothing was held, nothing was issued", ()
    waits.head(sheet, served.state, word, sentence, waits.TONES.get(word, ""))
    for line in _lines(served):
        sheet.say(line)
    for command, note in commands:
        sheet.command(command + context.there(args), note)
    context.out(sheet)
    return code


def _code(served: Served) -> int:
    """The exit code: a loop that ended by itself, or whose candidate is released or shadowed, leaves nothing to do."""
    if isinstance(served.step, agenda.Halted):
        return 6
    if served.attempt is None:
        return 1
    if served.candidate is None:
        return 0 if served.attempt.outcome == "ended" else 1
    return 0 if served.released or served.shadow else 1


def _lines(served: Served) -> list[str]:
    """What became of the loop's programs, and of what it proposed."""
    attempt, candidate = served.attempt, served.candidate
    if attempt is None:
        return ["the loop was given no leave and was told why"]
    let_in = attempt.judged - sum(attempt.refused.values())
    refused = "".join(f", {number} refused by {safe(rule, 60)}" for rule, number in sorted(attempt.refused.items()))
    lost = f", {attempt.lost} charged that a crash may have lost" if attempt.lost else ""
    lines = [f"{count(attempt.judged, 'program')}: {let_in} admitted{refused}{lost}"]
    if candidate is None:
        return [*lines, f"no candidate: {safe(attempt.detail, 300)}"]
    dossier = f", dossier {short(candidate.dossier)}" if candidate.dossier else ""
    return [*lines, f"candidate `{safe(candidate.name, 60)}` is {safe(candidate.status, 20)}{dossier}"]


def _body(served: Served, code: int) -> dict[str, object]:
    attempt: Attempt | None = served.attempt
    return {
        "step": type(served.step).__name__,
        "attempt": attempt.number if attempt else None,
        "programs": attempt.judged if attempt else 0,
        "refused": dict(attempt.refused) if attempt else {},
        "candidate": served.candidate.name if served.candidate else "",
        "status": served.candidate.status if served.candidate else "",
        "dossier": served.candidate.dossier if served.candidate else "",
        "shadow": served.shadow,
        "exit_code": code,
    }
