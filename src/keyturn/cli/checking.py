"""The commands that compute again what was said: a trial to the bit, a whole log, a stranger's bundle.

Never says more than was checked here and now; every problem is shown, none only counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.cli import context
from keyturn.cli.screen import count
from keyturn.cli.screens import permit as screen
from keyturn.cli.screens import trial as trials
from keyturn.core.errors import MalformedInput
from keyturn.core.events import TrialAdvanced

if TYPE_CHECKING:
    from keyturn.app import Replay

UNTRUSTED = 3


def trial_replay(args: argparse.Namespace) -> int:
    """Compute a trial again from its logged scores: 3 when a bit differs."""
    project = context.project(args)
    state = project.state()
    known = context.find("trial", args.trial, state.trials, where="`keyturn candidate show`")
    events = tuple(
        (index, event)
        for index, event in project.entries(0, state.size)
        if isinstance(event, TrialAdvanced) and event.trial == known.id
    )
    found = trials.replay(known, events)
    code = 0 if found.equal else UNTRUSTED
    if args.json:
        context.emit({"trial": known.id, **_fields(found), "exit_code": code})
        return code
    sheet = context.sheet()
    trials.show_replay(sheet, state, known, found)
    context.out(sheet)
    return code


def _fields(value: object) -> dict[str, object]:
    body = context.plain(value)
    return dict(body) if isinstance(body, dict) else {}


def log_replay(args: argparse.Namespace) -> int:
    """Decide this project's whole log again, or the log in an export."""
    if args.file:
        return _replay_export(args)
    if args.trust:
        raise MalformedInput("`--trust` is for an export; a project pins its own", help="name the file too")
    return _replayed(args, context.project(args).replay(context.teller(args)))


def log_export(args: argparse.Namespace) -> int:
    """Write this project's log into one file for an auditor."""
    from keyturn import app

    found = app.export_log(context.project(args), Path(args.file), with_blobs=not args.without_blobs)
    if args.json:
        context.emit({"file": args.file, **_fields(found)})
        return 0
    sheet = context.sheet()
    sheet.line(f"{args.file}: {found.entries} entries under {found.checkpoints} checkpoints, {found.bytes} bytes")
    if found.left_out:
        newer = f"{count(found.left_out, 'newer entry', 'newer entries')} left out: no witnessed head has them yet"
        sheet.say(f"{newer}; `keyturn status` says who is silent", "yellow")
    sheet.entry("rests on", found.genesis.removeprefix("sha256:"))
    if found.blobs:
        said = f"{count(found.blobs, 'reason')} that people typed {'is' if found.blobs == 1 else 'are'} in it, in clear"
        sheet.say(said, "yellow")
    rest = "erased, lost, printed by a subject, or left out by `--without-blobs`"
    more = f"{count(found.withheld, 'blob')} withheld: {rest}" if found.withheld else "nothing is withheld"
    sheet.say(f"{more}; people's ids stand in its entries", "yellow")
    sheet.say(f"decide it again anywhere: `keyturn log replay {args.file} --trust FILE`")
    context.out(sheet)
    return 0


def _replay_export(args: argparse.Namespace) -> int:
    """Decide an export again: 3 with everything that is wrong with it."""
    from keyturn import app
    from keyturn.cli.screen import safe

    trust = Path(args.trust) if args.trust else None
    found = app.replay_export(Path(args.file), trust=trust, tell=context.teller(args))
    code = UNTRUSTED if found.problems else 0
    if args.json:
        problems = [{"index": index, "rule": rule, "message": said} for index, rule, said in found.problems]
        body = {**_fields(found), "problems": problems}
        context.emit({"equal": not found.problems, **body, "exit_code": code})
        return code
    sheet = context.sheet()
    screen.replayed(
        sheet,
        entries=found.entries,
        decisions=found.decisions,
        problems=found.problems,
        root=found.root_hex,
        witnesses=found.witnesses,
    )
    sheet.entry("checkpoints", f"{found.checkpoints} signed by the log's key")
    sheet.entry("log", safe(found.origin, 80))
    sheet.entry("rests on", safe(found.genesis.removeprefix("sha256:"), 66) or "nothing: no founding was read")
    sheet.entry("blobs", f"{found.shown} shown, each what its entry names; {found.withheld} withheld")
    if found.simulated:
        sheet.say("SIMULATED PEOPLE: a demo; it is worth nothing outside one", "yellow")
    if not found.pinned:
        said = "nobody pinned that founding: compare it by voice with the people who founded the project, or `--trust`"
        sheet.say(said, "yellow")
    context.out(sheet)
    return code


def verify_log(args: argparse.Namespace) -> int:
    """Recompute somebody's log and decide it again."""
    import tarfile

    from keyturn import app

    if Path(args.db).is_file() and tarfile.is_tarfile(args.db):
        message = f"`{args.db}` is an export; a log is expected"
        raise MalformedInput(message, help="`keyturn log replay FILE --trust FILE`")
    trust = Path(args.trust) if args.trust else None
    return _replayed(args, app.verify_log(args.db, trust=trust, tell=context.teller(args)))


def _replayed(args: argparse.Namespace, found: Replay) -> int:
    code = UNTRUSTED if found.problems else 0
    if args.json:
        problems = [{"index": index, "rule": rule, "message": said} for index, rule, said in found.problems]
        body = {"entries": found.entries, "decisions": found.decisions, "root": found.root_hex, "problems": problems}
        body["witnesses"] = found.witnesses
        context.emit({"equal": not found.problems, **body, "exit_code": code})
        return code
    sheet = context.sheet()
    screen.replayed(
        sheet,
        entries=found.entries,
        decisions=found.decisions,
        problems=found.problems,
        root=found.root_hex,
        witnesses=found.witnesses,
    )
    context.out(sheet)
    return code


def verify_permit(args: argparse.Namespace) -> int:
    """May this artifact be used, here, now: 3 with every doubt by its number when not."""
    from keyturn import app

    weights = Path(args.weights) if args.weights else None
    found = app.verify_permit(
        Path(args.bundle), trust=Path(args.trust), weights=weights, action=args.action, scope=args.scope
    )
    code = 0 if found.ok else UNTRUSTED
    words = [word for word, holds in _words(unwitnessed=found.unwitnessed, simulated=found.simulated) if holds]
    if args.json:
        doubts = [{"check": number, "message": said, "help": help} for number, said, help in found.doubts]
        body = {"ok": found.ok, "doubts": doubts, "permit": found.permit, "status": found.status}
        context.emit(
            {
                **body,
                "people": found.people,
                "witnesses": found.witnesses,
                "banners": words,
                "weights": args.weights,
                "exit_code": code,
            }
        )
        return code
    sheet = context.sheet()
    screen.verified(
        sheet,
        doubts=found.doubts,
        permit=found.permit,
        status=found.status,
        people=found.people,
        witnesses=found.witnesses,
        words=words,
        weights=f"the files in {args.weights}" if args.weights else "",
    )
    if found.ok and weights is None:
        sheet.say("no weights were looked at: `--weights DIR` hashes them", "yellow")
    context.out(sheet)
    return code


def _words(*, unwitnessed: bool, simulated: bool) -> tuple[tuple[str, bool], ...]:
    return ("UNWITNESSED", unwitnessed), ("SIMULATED PEOPLE", simulated)
