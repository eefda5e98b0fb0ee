"""`keyturn doctor` and `keyturn sandbox check`: what this machine gives, and whether it was shown to hold."""

from __future__ import annotations

import argparse
from pathlib import Path

from keyturn.cli import context
from keyturn.cli.machine import screen
from keyturn.cli.machine.progress import Passing


def doctor(args: argparse.Namespace) -> int:
    """What this machine gives: 4 when something is missing that the default tier needs."""
    from keyturn import app

    found = app.doctor(Path(args.project) if args.project else None)
    code = 4 if found.lacking else 0
    if args.json:
        context.emit({**_fields(found), "exit_code": code})
        return code
    sheet = context.sheet()
    screen.doctor(sheet, found, context.now())
    context.out(sheet)
    return code


def _fields(value: object) -> dict[str, object]:
    body = context.plain(value)
    return dict(body) if isinstance(body, dict) else {}


def check(args: argparse.Namespace) -> int:
    """Run the containment suite: 0 when the tier earned is enough, 1 when not, 4 when nothing can be launched."""
    from keyturn import app

    with Passing() as passing:
        found = app.check_sandbox(Path(args.project) if args.project else None, passing.tell)
    code = 0 if found.enough else 1
    if args.json:
        context.emit({**_fields(found), **_fields(found.checked), "enough": found.enough, "exit_code": code})
        return code
    sheet = context.sheet()
    screen.checked(sheet, found)
    context.out(sheet)
    return code
