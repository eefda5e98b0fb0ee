"""What the commands of a witness do and show.

Never prints a key that signs, and shows nothing of a log's that has not passed `safe`.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.cli import context
from keyturn.cli.screen import columns, count, safe, utc

if TYPE_CHECKING:
    from keyturn.app.witnessing.folder import Log, Shown
    from keyturn.cli.screen import Sheet

VKEY_COLUMNS = 160


def init(args: argparse.Namespace) -> int:
    """Make a witness and say what to do next."""
    from keyturn.app.witnessing import folder

    made = folder.create(Path(args.dir), args.name, ml_dsa=args.ml_dsa)
    if args.json:
        context.emit({"name": made.name, "vkeys": made.vkeys, "dir": args.dir})
        return 0
    sheet = context.sheet()
    sheet.line(f"{sheet.paint('MADE', 'bold', 'green')}  the witness {safe(made.name, 80)} in {safe(args.dir)}")
    _vkeys(sheet, made, args.dir)
    sheet.say(
        "its keys lie there unencrypted, for a server starts unattended: guard the folder, and lose nothing of it"
    )
    where = safe(shlex.quote(args.dir))
    sheet.command(f"keyturn witness trust {where} --log VKEY", "the log's key, from its operator")
    sheet.command(f"keyturn witness serve {where}", "behind a proxy that speaks TLS")
    context.out(sheet)
    return 0


def trust(args: argparse.Namespace) -> int:
    """Let the witness know one more key of a log."""
    from keyturn.app.witnessing import folder

    origin, new = folder.trust(Path(args.dir), args.log, origin=args.origin)
    if args.json:
        context.emit({"origin": origin, "new": new})
        return 0
    sheet = context.sheet()
    word = sheet.paint("KNOWN", "bold", "green")
    sheet.line(f"{word}  {'from now on' if new else 'already'}: this key of the log {safe(origin, 80)}")
    sheet.say("the first head that it hands in is taken as it is; from then on it can only grow")
    context.out(sheet)
    return 0


def distrust(args: argparse.Namespace) -> int:
    """Take a key of a log away from the witness."""
    from keyturn.app.witnessing import folder

    origin, left = folder.distrust(Path(args.dir), args.log, origin=args.origin, forget=args.forget)
    if args.json:
        context.emit({"origin": origin, "left": left})
        return 0
    sheet = context.sheet()
    word = sheet.paint("DISTRUSTED", "bold", "yellow")
    sheet.line(f"{word}  from now on: this key of the log {safe(origin, 80)}")
    if left:
        sheet.say(f"{count(left, 'key')} of it still trusted; a head that only the other signed is refused")
    else:
        sheet.say("nothing of this log is cosigned any more; what was cosigned is kept, and goes on with a new `trust`")
    context.out(sheet)
    return 0


def show(args: argparse.Namespace) -> int:
    """Show a witness; 3 when a log was caught with two histories."""
    from keyturn.app.witnessing import folder

    shown = folder.show(Path(args.dir))
    code = 3 if any(each.forks for each in shown.logs) else 0
    if args.json:
        logs = [_body(each) for each in shown.logs]
        context.emit({"name": shown.name, "vkeys": shown.vkeys, "logs": logs, "exit_code": code})
        return code
    sheet = context.sheet()
    sheet.line(f"{sheet.paint('WITNESS', 'bold')}  {safe(shown.name, 80)}")
    _vkeys(sheet, shown, args.dir)
    sheet.title("Logs")
    rows = [(safe(log.origin, 60), str(len(log.keys)), *_head(log)) for log in shown.logs]
    sheet.table(("log", "keys", "size", "cosigned"), rows)
    if not rows:
        sheet.say("none yet: `keyturn witness trust DIR --log VKEY`", indent=2)
    for log in shown.logs:
        for key in log.keys if len(log.keys) > 1 else ():
            long = columns(key.vkey) > VKEY_COLUMNS
            sheet.line(
                f"  {safe(key.vkey, 60)}  ML-DSA-44, whole in `--json`" if long else f"  {safe(key.vkey, VKEY_COLUMNS)}"
            )
        if len(log.keys) > 1:
            sheet.say("several keys, the newest last; `keyturn witness distrust` takes a replaced one away", indent=2)
        for fork in log.forks:
            sheet.say(f"✖ {safe(log.origin, 60)} signed two histories; seen {utc(fork.at)}", "red", hang=4)
            sheet.say("  both signed notes are in `--json`: show them to everybody who relies on that log", hang=4)
    context.out(sheet)
    return code


def serve(args: argparse.Namespace) -> int:
    """Be the witness until SIGTERM or Ctrl-C."""
    from keyturn.app.witnessing import door, folder

    address = door.parse_listen(args.listen)
    tell = context.teller(args)
    with folder.opened(Path(args.dir)) as witness:
        listening = door.Door(address, witness, tell)
        tell(f"{witness.memory.name} listens at {listening.url}")
        tally = door.serve(listening)
    if args.json:
        context.emit(tally)
    else:
        tell(f"{count(tally.requests, 'request')} answered, {tally.cosigned} with a cosignature")
    return 0


def _vkeys(sheet: Sheet, shown: Shown, folder: str) -> None:
    """The keys, each on a line of its own to be copied whole; one too long for that is in its file."""
    for vkey in shown.vkeys:
        if columns(vkey) <= VKEY_COLUMNS:
            sheet.line(f"  {sheet.paint(safe(vkey, VKEY_COLUMNS), 'cyan')}")
        else:
            sheet.line(f"  {sheet.paint(safe(vkey, 60), 'cyan')}  ML-DSA-44, whole in {safe(folder)}/vkeys")


def _head(log: Log) -> tuple[str, str]:
    return (str(log.seen.head.size), utc(log.seen.at)) if log.seen else ("0", "never")


def _body(log: Log) -> dict[str, object]:
    seen = log.seen
    forks = [{"ours": each.ours.decode(), "theirs": each.theirs.decode(), "at": each.at} for each in log.forks]
    return {
        "origin": log.origin,
        "vkeys": [each.vkey for each in log.keys],
        "size": seen.head.size if seen else 0,
        "root": seen.head.root.hex() if seen else None,
        "cosigned_at": seen.at if seen else None,
        "forks": forks,
    }
