"""`keyturn openevolve`: found a project for a folder in OpenEvolve's layout, and watch a run of it under governance.

Never imports OpenEvolve: the run is a process of its own that reports in plain lines.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from keyturn.app import Project, openevolve
from keyturn.cli import context
from keyturn.cli.screen import Screen, Sheet, count, safe
from keyturn.cli.screens import loop as loop_screen
from keyturn.cli.screens import policy as policies
from keyturn.cli.screens import waiting as waits
from keyturn.core import agenda
from keyturn.core.bounds import Bounds, Used
from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.state import State

EXAM = "keyturn.sdk.exam"
"""The grader that examines with a loop's own evaluator."""

EVERY_SECONDS = 5.0
"""How often, at the most, progress is a line of its own where it cannot pass."""


def init(args: argparse.Namespace) -> int:
    """Found a project for an example; its lineage then waits for the `amend` quorum."""
    of = openevolve.example(Path(args.example))
    project = openevolve.init(
        of,
        Path(args.project) if args.project else Path.cwd(),
        name=args.name or openevolve.name_of(of),
        person=args.person,
        keys=context.keys(args),
        passphrase_file=context.passphrase_file(args),
        demo=args.demo,
        unseen=args.unseen,
    )
    state = project.state()
    policy = state.policies[-1].policy
    genesis = state.project.genesis if state.project else ""
    if args.json:
        context.emit({"root": project.root, "name": policy.name, "genesis": genesis, "policy": project.policy_path})
        return 0
    sheet = context.sheet()
    sheet.say(f"FOUNDED {safe(policy.name, 60)}: policy 1 is signed by everyone whom it names", "green", "bold")
    sheet.entry("folder", safe(project.root))
    sheet.entry("genesis", f"{safe(genesis, 80)}: pin this out of band; all trust starts from it")
    sheet.entry("policy", f"{safe(project.policy_path)}: read it; each table says what it is for")
    for warning in policies.warnings(policy):
        sheet.say(f"! {warning}", "yellow", hang=2)
    there, who = context.there(args), safe(args.person, 40)
    sheet.command(f"keyturn run{there}", "asks for leave to found the lineage")
    sheet.command(f"keyturn approval give founder{there} --as {who} --reason TEXT", "then run once more")
    bounds = "--programs 200 --wall-minutes 60"
    sheet.command(f"keyturn warrant give{there} --as {who} {bounds} --reason TEXT", "leave for one run")
    sheet.command(f"keyturn openevolve run {safe(args.example)}{there}")
    context.out(sheet)
    return 0


def run(args: argparse.Namespace) -> int:
    """Run an example under governance until people are needed: 1 when HELD, 6 when halted."""
    of = openevolve.example(Path(args.example))
    project = context.project(args)
    options = openevolve.Options(
        config=Path(args.config) if args.config else None,
        iterations=args.iterations,
        checkpoint=Path(args.checkpoint) if args.checkpoint else None,
        output=Path(args.output) if args.output else None,
        shadow=args.shadow,
    )
    view = View(Screen(silent=args.json))
    for file in changed(of, project):
        view.screen.line(f"! {safe(file)} is not the file that people signed for: what this run proposes will not pass")
        view.screen.line("  its trial. Put it back, or change its digest in the policy and `keyturn policy adopt`")
    with openevolve.Loop(of, project.root, options) as loop, passed_on(loop, view):
        for message in loop.messages():
            view.take(message)
        code = loop.code()
        if not view.ended:
            view.ended = _unexplained(loop, code)
    return _ended(args, view, project)


def changed(of: openevolve.Example, project: Project) -> list[str]:
    """The files that the policy in force pins for its exams, and that are other ones by now."""
    state = project.state()
    suites = state.current.policy.suites if state.current else ()
    pinned = [suite.exam.split()[-1] for suite in suites if EXAM in suite.grader and suite.exam]
    graders = {word for suite in suites for word in suite.grader}
    files = [file for file in (of.evaluator, of.held_out) if file is not None and str(file) in graders]
    return [file.name for file in files if f"sha256:{sha256(file.read_bytes()).hexdigest()}" not in pinned]


@contextmanager
def passed_on(loop: openevolve.Loop, view: View) -> Iterator[None]:
    """Pass the first Ctrl-C on to the run and go on watching it; the second one leaves at once."""

    def stop(number: int, frame: object) -> None:
        if view.interrupted:
            raise KeyboardInterrupt
        view.interrupted = True
        view.screen.line("stopping: waits for what is under way; Ctrl-C once more stops at once")
        loop.interrupt()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _unexplained(loop: openevolve.Loop, code: int) -> dict[str, Any]:
    said = loop.last_words() or "it said nothing"
    return {
        "type": "error",
        "message": f"the run's process ended with {code} before it said how the run ended: {said[:300]}",
        "help": f"read `{loop.output / openevolve.SAID}`; the step stays open, and the next run goes on with it",
        "exit_code": Unavailable.exit_code,
    }


@dataclass(slots=True)
class View:
    """A run as it is seen from here: what was judged, the best score, and what is spent of the warrant's bounds."""

    screen: Screen
    admitted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    best: float | None = None
    bounds: Bounds | None = None
    used: Used = field(default_factory=Used)
    interrupted: bool = False
    stopped: str = ""
    ended: dict[str, Any] = field(default_factory=dict)
    shown_at: float = 0.0

    def take(self, message: dict[str, Any]) -> None:
        """Show one report of the run; what is not known is let pass."""
        kind = message.get("type")
        if kind == "started":
            self._started(message)
        elif kind == "program":
            self._judged(message)
        elif kind == "tell":
            self.screen.line(f"· {safe(message.get('text'), 400)}")
        elif kind == "stopping":
            self.stopped = str(message.get("why") or "")
            self.screen.line(f"the governor stops the run: {safe(self.stopped, 400)}")
        elif kind in {"outcome", "no", "error", "interrupted"}:
            self.ended = message

    def _started(self, message: dict[str, Any]) -> None:
        bounds = message.get("bounds")
        self.bounds = Bounds.from_json(bounds) if isinstance(bounds, dict) else None
        self._uses(message)
        goes = "goes on with" if message.get("resumed") else "starts"
        leave = "in shadow mode: nothing is bounded and nothing held" if self.bounds is None else "under its warrant"
        self.screen.line(f"generation {safe(message.get('generation'), 12)} {goes} its run, {leave}")
        for name, text in self.spent():
            self.screen.line(f"   {name}: {text}")

    def _judged(self, message: dict[str, Any]) -> None:
        rules, best = message.get("rules"), message.get("best")
        if message.get("admitted") is True and not rules:
            self.admitted += 1
        else:  # in shadow mode it is let in all the same
            self.refused[str(rules[0]) if isinstance(rules, list) and rules else "unknown"] += 1
        self._uses(message)
        self.best = float(best) if isinstance(best, int | float) else self.best
        now = time.monotonic()
        if self.screen.colour or now - self.shown_at >= EVERY_SECONDS:
            self.shown_at = now
            self.screen.progress(self.line())

    def _uses(self, message: dict[str, Any]) -> None:
        used = message.get("used")
        self.used = Used.from_json(used) if isinstance(used, dict) else self.used

    def line(self) -> str:
        """Where the run stands, in one line; the counts of rules last, for they may be cut."""
        best = "none yet" if self.best is None else f"{self.best:.4f}"
        refused = ", ".join(f"{number} by {safe(rule, 40)}" for rule, number in self.refused.most_common())
        judged = f"{count(self.admitted + sum(self.refused.values()), 'program')}: {self.admitted} admitted"
        most = f" of {self.bounds.programs_max:,}" if self.bounds is not None else ""
        spent = f"{self.used.programs:,}{most} used"
        return f"{judged}, {sum(self.refused.values())} refused; best {best}; {spent}" + (
            f"; {refused}" if refused else ""
        )

    def spent(self) -> list[tuple[str, str]]:
        """What is used of each bound; in shadow mode there are none."""
        return list(loop_screen.rows(self.bounds, self.used)) if self.bounds is not None else []


def _ended(args: argparse.Namespace, view: View, project: Project) -> int:
    """Say how the run ended, in plain words, and what is needed now."""
    kind = view.ended.get("type")
    if kind == "error":
        fault = KeyturnError(str(view.ended.get("message")), help=str(view.ended.get("help") or ""))
        fault.exit_code = int(view.ended.get("exit_code") or 1)
        if view.admitted or view.refused:
            view.screen.line(view.line())
        raise fault
    if kind == "interrupted":
        raise KeyboardInterrupt
    state, now = project.state(), context.now()
    step = waits.behind(state, now)
    what = waits.waiting(state, step, now)
    word, sentence, commands = what.word, what.sentence, what.commands
    shadow, ended = bool(view.ended.get("shadow")), kind == "outcome" and not view.ended.get("candidate")
    if shadow:
        word, sentence, commands = "SHADOW", "nothing was held and nothing issued; what is refused below was let in", ()
    elif ended and isinstance(step, agenda.Improve):
        word, sentence, commands = "ENDED", "the run ended without a candidate; nothing waits for people", ()
    elif ended and isinstance(step, agenda.AwaitWarrant):
        word, sentence = "ENDED", "the run ended without a candidate, and its warrant is used up"
    elif isinstance(step, agenda.Improve):
        word, sentence = "OPEN", "the step stays open: the next run goes on with it under the same warrant"
        commands = ((f"keyturn openevolve run {safe(args.example)}", "once the reason is gone"),)
    code = 6 if isinstance(step, agenda.Halted) else int(not (shadow or ended or view.ended.get("released")))
    if args.json:
        body = {"word": word, "waits_for": sentence, "next": [command for command, _ in commands]}
        seen = {"admitted": view.admitted, "refused": dict(view.refused), "best": view.best, "used": view.used}
        context.emit({**body, "run": view.ended, "programs": seen, "exit_code": code, "banners": waits.banners(state)})
        return code
    sheet = context.sheet()
    waits.head(sheet, state, word, sentence, waits.TONES.get(word, ""))
    _told(sheet, view, _detail(state) if ended else "")
    for command, note in commands:
        sheet.command(command + context.there(args), note)
    context.out(sheet)
    return code


def _detail(state: State) -> str:
    """Why the newest step ended without a candidate."""
    newest = max(state.attempts, default=0)
    return state.attempts[newest].detail if newest else ""


def _told(sheet: Sheet, view: View, detail: str) -> None:
    """What came of the run: its programs, by which rules the refused were refused, and what it spent."""
    ended = view.ended
    sheet.entry("programs", f"{view.admitted} admitted, {sum(view.refused.values())} refused")
    for rule, number in view.refused.most_common():
        sheet.entry("", f"{number} by {safe(rule, 60)}")
    for name, text in view.spent():
        sheet.entry(name, text, "yellow" if loop_screen.UNBOUNDED in text else "")
    if view.best is not None:
        sheet.entry("best", f"{view.best:.4f}, by the loop's own score")
    if ended.get("candidate"):
        sheet.entry("candidate", f"{safe(ended['candidate'], 60)}: the best program, proposed and tried")
    if view.stopped:
        sheet.entry("stopped", safe(view.stopped, 400), "yellow")
    why = str(ended.get("why") or detail)
    if why:
        sheet.entry("ended", safe(why, 400))
    for finding in ended.get("findings") or ():
        message = str(finding.get("message") if isinstance(finding, dict) else finding)
        if message not in why:
            sheet.say(f"· {safe(message, 300)}", indent=2, hang=4)
