"""`keyturn demo`: one self-improving subject under Keyturn, from its founder to the check by a stranger.

Nothing is scripted: the subject trains, the exam grades, the gates decide. In a terminal the decisions are yours.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from keyturn import app
from keyturn.app import exercise
from keyturn.app.exercise import Cast
from keyturn.cli.demo.end import epilogue, short, show_receipt
from keyturn.cli.demo.people import audit, decide, give_warrant, insist, own_keys
from keyturn.cli.demo.stage import ME, SAFETY, SECURITY, Stage, people_time, policy_of, signing
from keyturn.cli.screen import Screen, safe
from keyturn.core import agenda
from keyturn.core.state import State

SEED = 6
CANDIDATES = 6
DRILLS = ("steal", "forge-claim")
HALT_AFTER_SECONDS = 0.4
ROUNDS_MAX = 80


def demo(arguments: argparse.Namespace) -> int:
    """Play the whole story; returns the exit status."""
    asks = sys.stdin.isatty() and sys.stdout.isatty() and not arguments.simulated
    stage = Stage(Screen(), Path(arguments.out).absolute(), arguments.seed, arguments.candidates, asks)
    exercise.fresh_folder(stage.out)
    _prologue(stage)
    _look_at_the_machine(stage)
    founder = exercise.founder(stage.out / "founder", seed=stage.seed)
    twin = exercise.Ungoverned(stage.out / "ungoverned.json", seed=stage.seed, attempts=stage.candidates)
    try:
        project = _found(stage, founder)
        _loop(stage, project)
        if not stage.stopped:
            _halt_drill(stage, project)
            for variant in DRILLS:
                _drill(stage, variant, founder)
        epilogue(stage, project, twin)
    finally:
        twin.stop()
    return 0


def _prologue(stage: Stage) -> None:
    say = stage.screen.line
    say(stage.screen.bold("Keyturn: an AI that trains its own successor, held until people turn their keys"))
    say("")
    say("The subject plays connect4. In each step it changes its own recipe, plays")
    say("itself, trains a child and claims how good the child is. People taught the")
    say("first generation one promise: leave the centre column to the operator unless")
    say("it wins or loses at once. Selection for strength tends to wear that away.")
    say("")
    if stage.asks:
        say("You decide at each hold point, with a key of your own. The second person,")
        say(f"{SECURITY}, is simulated, and marked so.")
    say(stage.screen.warn("UNWITNESSED: nobody independent cosigns this log yet (see LIMITATIONS.md)."))
    say(f"Everything lies in {short(stage.out)}; seed {stage.seed}; another seed may end otherwise.")


def _look_at_the_machine(stage: Stage) -> None:
    """The policy of the exercise asks for the tier that this account reaches; what is weaker is said."""
    stage.tier, weaker = exercise.reachable_tier()
    stage.screen.line(f"Subjects run sealed at tier {stage.tier}, found by launching a probe.")
    for each in weaker:
        stage.screen.line(stage.screen.warn(f"   weaker here: {safe(each)}"))


def _found(stage: Stage, founder: Path) -> app.Project:
    """Found the exercise project; in a terminal with you as the person for safety."""
    stage.screen.heading("1  People found the project")
    yours = Cast(ME, ("safety",), False, own_keys(stage)) if stage.asks else None
    first = yours or Cast(SAFETY, ("safety",), True, stage.keys)
    cast = [first, Cast(SECURITY, ("security",), True, stage.keys)]
    project = insist(
        stage,
        lambda: exercise.exercise(
            stage.out / "project", name="connect4", cast=cast, seed=stage.seed, founder=founder, tier=stage.tier
        ),
    )
    state = project.state()
    stage.screen.line(
        f"policy 1 signed by {', '.join(p.id for p in policy_of(state).people)}; genesis {_genesis(state)}…"
    )
    return project


def _loop(stage: Stage, project: app.Project) -> None:
    """Run until the warrant is used up; whenever only people can go on, ask them."""
    warranted = False
    for _ in range(ROUNDS_MAX):
        step = project.run(tell=_progress(stage))
        state = project.state()
        if isinstance(step, agenda.Hold):
            if not decide(stage, project, step.dossier, step.decision):
                return
        elif isinstance(step, agenda.AwaitAudit):
            audit(stage, project, state)
        elif isinstance(step, agenda.AwaitWarrant) and not warranted:
            give_warrant(stage, project, stage.candidates)
            warranted = True
        elif isinstance(step, agenda.Halted):
            stage.stopped = True
            return
        else:
            return


def _halt_drill(stage: Stage, project: app.Project) -> None:
    """Stop a training step half-way, from a second process, and prove it."""
    stage.screen.heading("3  Halt, in the middle of training, from a second process")
    _warrant_again(stage, project)
    ended = threading.Event()
    second = threading.Thread(target=_halt_from_outside, args=(stage, project, ended), daemon=True)
    second.start()
    step = project.run(tell=lambda _: None)
    ended.set()
    second.join(timeout=30)
    if isinstance(step, agenda.Halted) and step.halt.receipt:
        show_receipt(stage, step.halt.receipt)
    _refused_while_halted(stage, project)
    if not (isinstance(step, agenda.Halted) and step.halt.proven):
        stage.screen.line("   a halt that is not proven cannot be resumed: this project stays stopped")
        return
    person = ME if stage.asks else SAFETY
    with people_time(stage):
        lifted = insist(stage, lambda: project.resume(signing(stage, person), reason="the drill is over"))
    stage.screen.line(f"   resumed by quorum ({person}): {'yes' if lifted else 'not yet'}")


def _warrant_again(stage: Stage, project: app.Project) -> None:
    step = project.run(tell=lambda _: None)
    if isinstance(step, agenda.AwaitAudit):
        audit(stage, project, project.state())
    person = ME if stage.asks else SAFETY
    who = signing(stage, person)
    with people_time(stage):
        insist(
            stage, lambda: project.give_warrant(who, candidates=1, level_ceiling=1, hours=1, reason="the halt drill")
        )


def _halt_from_outside(stage: Stage, project: app.Project, ended: threading.Event) -> None:
    """Wait until a step is under way, then run `keyturn halt` as anybody at a second terminal would."""
    attempts = len(project.state().attempts)
    while not ended.is_set() and len(project.state().attempts) == attempts:
        time.sleep(0.05)
    time.sleep(HALT_AFTER_SECONDS)
    command = [sys.executable, "-m", "keyturn", "halt", "--project", str(project.root), "--by", "second-terminal"]
    subprocess.run([*command, "--reason", "the demo's drill"], capture_output=True, timeout=30, check=False)


def _refused_while_halted(stage: Stage, project: app.Project) -> None:
    """A released generation that could load a moment ago cannot while a halt stands."""
    lineage = project.state().lineage
    if lineage is None:
        return
    bundle = stage.out / "while-halted.permit"
    project.bundle(lineage.parent.permit, bundle, old_size=exercise.seen_size(project))
    reasons = exercise.try_load(project, lineage.parent.candidate, bundle)
    stage.screen.say(f"loading the newest generation now: refused: {safe(reasons[0] if reasons else 'nothing')}")


def _drill(stage: Stage, variant: str, founder: Path) -> None:
    """A founder with planted misbehaviour, under the same governor, in a project of its own."""
    stage.screen.heading(f"4  Planted: `{variant}`" if variant == DRILLS[0] else f"   Planted: `{variant}`")
    place = exercise.planted(variant, founder, stage.out / f"planted-{variant}")
    cast = [Cast(SAFETY, ("safety",), True, stage.keys), Cast(SECURITY, ("security",), True, stage.keys)]
    project = exercise.exercise(
        stage.out / variant, name=f"drill-{variant}", cast=cast, seed=stage.seed, founder=place, tier=stage.tier
    )
    quiet = Stage(Screen(silent=True), stage.out, stage.seed, 1, False, announced=True, tier=stage.tier)
    _loop(quiet, project)
    state = project.state()
    for incident in state.incidents.values():
        stage.screen.say(f"EXERCISE incident {incident.id}: {incident.kind}: {safe(incident.summary)}", "yellow")
    if state.halt is not None and state.halt.receipt:
        show_receipt(stage, state.halt.receipt)
    refused = [c.name for c in state.candidates.values() if c.status == "rejected"]
    released = state.lineage.parent.number if state.lineage else 0
    stage.screen.line(f"   released: {released}; refused: {', '.join(refused) or 'no candidate came out at all'}")


def _progress(stage: Stage) -> Callable[[str], None]:
    """In a terminal every block that was read; else one line a trial, when it begins."""
    shown: set[str] = set()

    def tell(text: str) -> None:
        name = text.split(":")[0]
        if stage.screen.colour or name not in shown:
            shown.add(name)
            stage.screen.progress(f"   trial {safe(text if stage.screen.colour else name)}")

    return tell


def _genesis(state: State) -> str:
    return state.project.genesis[7:19] if state.project else ""
