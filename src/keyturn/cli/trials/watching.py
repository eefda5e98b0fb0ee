"""`keyturn trial watch`: look on from another terminal while evidence grows, until nothing runs any more."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from keyturn.cli import context
from keyturn.cli.screen import Sheet, safe
from keyturn.cli.screens import waiting as waits
from keyturn.cli.trials.growing import board, words
from keyturn.core import trial as trials
from keyturn.core.betting import Process
from keyturn.core.errors import Conflict
from keyturn.core.state import State, Trial
from keyturn.core.trial import TrialPlan

if TYPE_CHECKING:
    from keyturn.app import Project

LOOK_SECONDS = 0.5
"""How often the log is read again."""

IDLE_SECONDS = 5.0
"""For how long the next trial is waited for."""


def watch(args: argparse.Namespace) -> int:
    """Redraw a trial as the log grows; without a name each one that runs, until nothing ran for a few seconds."""
    project = context.project(args)
    state, known = _wanted(args, project)
    while True:
        state, known = _to_its_end(args, project, state, known)
        code = _ended(args, state, known)
        follower = None if args.trial or code else _next(project, known)
        if follower is None:
            return code
        known = follower


def _to_its_end(args: argparse.Namespace, project: Project, state: State, known: Trial) -> tuple[State, Trial]:
    """Draw this trial whenever it has grown, until it ended, its candidate went, or everything was halted."""
    terminal, drawn, read = sys.stdout.isatty() and not args.json, 0, -1
    while True:
        if known.read != read or known.verdict is not None:
            read = known.read
            drawn = _drawn(args, known, back=drawn if terminal else 0)
        if state.halt is not None or not runs(state, known):
            return state, known
        time.sleep(LOOK_SECONDS)
        state = project.state()
        known = state.trials[known.id]


def _next(project: Project, known: Trial) -> Trial | None:
    """The trial that was planned after this one, as soon as there is one; None once nothing came for a while."""
    for _ in range(int(IDLE_SECONDS / LOOK_SECONDS)):
        trials = list(project.state().trials.values())
        later = trials[next(n for n, each in enumerate(trials) if each.id == known.id) + 1 :]
        if later:
            return later[0]
        time.sleep(LOOK_SECONDS)
    return None


def standing(known: Trial) -> tuple[TrialPlan, Process]:
    """A trial's plan, and where its bets stand in the log."""
    plan = TrialPlan.from_json(known.plan)
    return plan, Process.from_json(known.process) if known.process else trials.begin(plan)


def runs(state: State, known: Trial) -> bool:
    """Whether it may still grow: a candidate that was refused in mid-trial leaves its trial without a verdict."""
    return known.verdict is None and state.candidates[known.candidate].status == "proposed"


def _wanted(args: argparse.Namespace, project: Project) -> tuple[State, Trial]:
    """The trial of that name, or the one that runs; where none does, the next that starts within `--seconds`."""
    until = time.monotonic() + args.seconds
    while True:
        state = project.state()
        if args.trial:
            return state, context.find("trial", args.trial, state.trials, where="`keyturn candidate show`")
        running = [known for known in state.trials.values() if runs(state, known)]
        if running:
            return state, running[-1]
        if time.monotonic() >= until:
            help = "`keyturn run` starts them; `keyturn trial show TRIAL` shows one that ended"
            raise Conflict(f"no trial ran within {args.seconds:g} seconds", help=help)
        time.sleep(LOOK_SECONDS)


def _drawn(args: argparse.Namespace, known: Trial, *, back: int) -> int:
    """Draw the board over the last one, and return how high it is; where JSON is asked for, tell beside it."""
    plan, process = standing(known)
    if args.json:
        print(f"· {safe(known.id)}: {process.n} items; {words(plan, process)}", file=sys.stderr, flush=True)
        return 0
    sheet: Sheet = context.sheet()
    board(sheet, known.id, plan, process)
    sys.stdout.write(f"\x1b[{back}F\x1b[J" if back else "")
    context.out(sheet)
    return len(sheet.lines)


def _ended(args: argparse.Namespace, state: State, known: Trial) -> int:
    """Say that it is over: 0 where it came to its end, 6 where a halt came first, 1 where its candidate went."""
    word, code = (known.verdict.value, 0) if known.verdict else ("HALTED", 6) if state.halt else ("ENDED", 1)
    if args.json:
        body = {"trial": known.id, "word": word, "items": known.read, "banners": waits.banners(state)}
        context.emit({**body, "exit_code": code})
    elif code:
        why = "a halt stands" if state.halt else f"its candidate is {state.candidates[known.candidate].status}"
        print(f"{why}; the trial did not come to its end")
    return code
