"""The commands that hold everything still, look at it, and let it go on."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from keyturn.cli import context
from keyturn.cli.screens import still
from keyturn.core.errors import Unavailable

if TYPE_CHECKING:
    from keyturn.app import Project
    from keyturn.core.state import Freeze, State

NOT_HELD = Unavailable.exit_code


def freeze(args: argparse.Namespace) -> int:
    """Hold everything still, or only `show` what is: 0 when it is held, 4 when that could not be seen."""
    project = context.project(args)
    if args.verb == "show":
        return _show(args, project)
    by = f"person:{args.person}" if args.person else args.by or "somebody at the terminal"
    said = project.freeze(by=by, reason=args.reason, minutes=args.minutes)
    code = 0 if said.get("state") == "HELD" else NOT_HELD
    if args.json:
        context.emit({"word": said.get("state"), "freeze": said, "exit_code": code})
        return code
    sheet = context.sheet()
    still.held(sheet, said)
    if said.get("state") != "NOT HELD":
        still.show(sheet, project.look())
        sheet.command(f"keyturn thaw --as PERSON{context.there(args)}", "lets it go on, before the bound")
    sheet.command(f"keyturn halt --reason TEXT{context.there(args)}", "stops it, with proof")
    context.out(sheet)
    return code


def _show(args: argparse.Namespace, project: Project) -> int:
    said = project.look()
    if args.json:
        context.emit({"word": said.get("state"), "look": said, "exit_code": 0})
        return 0
    sheet = context.sheet()
    still.show(sheet, said)
    context.out(sheet)
    return 0


def thaw(args: argparse.Namespace) -> int:
    """Let everything go on that a freeze holds still; the log says who did."""
    said = context.project(args).thaw(by=f"person:{args.person}")
    if args.json:
        context.emit({"word": "THAWED", "freeze": said, "exit_code": 0})
        return 0
    sheet = context.sheet()
    sheet.say("THAWED: what was held still goes on", "bold")
    sheet.command(f"keyturn status{context.there(args)}", "what is waited for now")
    context.out(sheet)
    return 0


def standing(args: argparse.Namespace, project: Project, state: State) -> Freeze | None:
    """The freeze that stands: as its mark on this machine says, or else as the log tells; with words for a screen."""
    mark = project.frozen()
    if mark is None or state.halt is not None:
        return None if state.halt is not None else state.freeze
    logged = next((each for each in state.freezes if each.id == mark.id), mark)
    return logged if args.json else replace(logged, reason=project.reader(state).text(logged.reason))
