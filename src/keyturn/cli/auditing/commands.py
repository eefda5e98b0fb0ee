"""Make an auditor, let it look, let it answer, see what it found.

Never says more than was decided again on this machine; a finding is exit code 3, and so is a log that differs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.cli import context
from keyturn.cli.auditing import screen
from keyturn.cli.screen import count, safe

if TYPE_CHECKING:
    from keyturn.app.auditor.folder import Shown

UNTRUSTED = 3


def init(args: argparse.Namespace) -> int:
    """Make an auditor in a new folder."""
    from keyturn.app.auditor import folder

    shown = folder.create(Path(args.dir), args.name, trust=Path(args.trust), tiles=args.tiles, ml_dsa=args.ml_dsa)
    if args.json:
        context.emit(_body(shown))
        return 0
    sheet = context.sheet()
    sheet.line(f"{sheet.paint('AUDITOR', 'bold')}  {safe(shown.name, 60)} of {safe(shown.origin, 60)}")
    sheet.entry("rests on", shown.genesis.removeprefix("sha256:"))
    sheet.say("compare that by voice with the people who founded the project: everything rests on it", "yellow")
    screen.vkeys(sheet, shown, args.dir)
    sheet.say("give the vkey to the project, for its policy; then:")
    sheet.command(f"keyturn auditor check {safe(args.dir)}", "fetch and decide what is there")
    sheet.command(f"keyturn auditor serve {safe(args.dir)}", "answer who asks for a cosignature")
    context.out(sheet)
    return 0


def serve(args: argparse.Namespace) -> int:
    """Answer until somebody ends it."""
    from keyturn.app.auditor import folder

    tally = folder.serve(Path(args.dir), args.listen, context.teller(args))
    if args.json:
        context.emit({"requests": tally.requests, "cosigned": tally.cosigned})
    else:
        context.teller(args)(f"{count(tally.requests, 'request')}, {tally.cosigned} cosigned")
    return 0


def check(args: argparse.Namespace) -> int:
    """Fetch and decide what is published now: 3 with everything illegal that stands."""
    from keyturn.app.auditor import folder

    done = folder.check(Path(args.dir), context.teller(args))
    code = UNTRUSTED if done.shown.standing else 0
    if args.json:
        context.emit({**_body(done.shown), "size": done.size, "new": done.new, "exit_code": code})
        return code
    sheet = context.sheet()
    screen.show(sheet, done.shown, folder=args.dir, now=context.now(), size=done.size)
    if done.size < done.shown.mirrored:
        older = f"the files show a head of {count(done.size, 'entry', 'entries')}; {done.shown.mirrored} were mirrored"
        sheet.say(f"{older}; the operator's `keyturn log tiles` moves it on, or an older log is shown", "yellow")
    sheet.say(f"{count(done.new, 'entry', 'entries')} fetched and decided just now; nothing was cosigned", "dim")
    context.out(sheet)
    return code


def show(args: argparse.Namespace) -> int:
    """What this auditor is, how far it looked, and what it found: 3 while something illegal stands."""
    from keyturn.app.auditor import folder

    shown = folder.show(Path(args.dir))
    code = UNTRUSTED if shown.standing else 0
    if args.json:
        context.emit({**_body(shown), "exit_code": code})
        return code
    sheet = context.sheet()
    screen.show(sheet, shown, folder=args.dir, now=context.now())
    context.out(sheet)
    return code


def pardon(args: argparse.Namespace) -> int:
    """Remove a mark, with a reason that stays."""
    from keyturn.app.auditor import folder

    reason = context.reason(args)
    many = folder.pardon(Path(args.dir), args.entry, reason=reason, tell=context.teller(args))
    left = len(folder.show(Path(args.dir)).standing)
    if args.json:
        context.emit({"entry": args.entry, "removed": many, "standing": left, "reason": reason})
        return 0
    sheet = context.sheet()
    sheet.line(f"{sheet.paint('PARDONED', 'bold', 'yellow')}  {count(many, 'mark')} of entry {args.entry}")
    sheet.say("the entry stands in the log as before, and `keyturn auditor show` lists it for ever, with your reason")
    if left:
        sheet.say(f"{count(left, 'mark')} still stand: nothing is cosigned", "red")
    else:
        sheet.say("from now on this auditor cosigns this log again, this entry included", "yellow")
    context.out(sheet)
    return 0


def _body(shown: Shown) -> dict[str, object]:
    body = context.plain(shown)
    return {**(body if isinstance(body, dict) else {}), "cosigns": not shown.standing}
