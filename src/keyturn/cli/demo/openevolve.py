"""`keyturn openevolve demo`: OpenEvolve twice on the same answers, ungoverned and governed, side by side.

Nothing is scripted: the endpoint draws its answers by a seed, five of them hostile, and what is told was seen.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keyturn import app
from keyturn.app import exercise
from keyturn.app import openevolve as loops
from keyturn.app.exercise import Cast
from keyturn.app.minimise import playing, seen
from keyturn.app.minimise.seen import Answer, Row
from keyturn.cli.demo.deeds import Deed, deeds
from keyturn.cli.demo.end import short
from keyturn.cli.demo.people import decide, insist, own_keys
from keyturn.cli.demo.side_by_side import Side, side_by_side_svg
from keyturn.cli.demo.stage import ME, SAFETY, SECURITY, Stage, people_time, policy_of, signing
from keyturn.cli.screen import Screen, count, safe
from keyturn.cli.screens import loop as loop_screen
from keyturn.core import agenda
from keyturn.core.bounds import Bounds
from keyturn.core.errors import Unavailable
from keyturn.core.state import State

ROUNDS_MAX = 20


@dataclass(slots=True)
class Play:
    """One of the two runs: its folder, its answers, how long it took, and what became of each answer."""

    folder: Path
    answers: list[Answer]
    seconds: float = 0.0
    rows: Sequence[Row] = field(default=())

    @property
    def first(self) -> float:
        """What the first program scored."""
        return seen.first_score(self.folder)


def demo(arguments: argparse.Namespace) -> int:
    """Play both runs and compare them; returns the exit status."""
    asks = sys.stdin.isatty() and sys.stdout.isatty() and not arguments.simulated
    stage = Stage(Screen(), Path(arguments.out).absolute(), arguments.seed, arguments.iterations, asks)
    exercise.fresh_folder(stage.out)
    _prologue(stage)
    free = _ungoverned(stage)
    project = _found(stage)
    if project is None:
        stage.screen.line("   the project was not founded to the end, so nothing is governed: the story ends here")
        return 0
    held = _governed(stage, project)
    done = deeds(free.folder, free.rows, held.folder, held.rows)
    _compare(stage, done, held)
    worths = _worth(stage, free, held)
    _spent(stage, project.state())
    _release(stage, project)
    _picture(stage, free, held, done, worths)
    _how_to_check(stage, project)
    return 0 if all(deed.caught for deed in done) else 1


def _prologue(stage: Stage) -> None:
    say = stage.screen.line
    say(stage.screen.bold("Keyturn: a loop that we did not write, ungoverned and governed"))
    say("")
    say("OpenEvolve asks a language model for better programs, runs each, and keeps the")
    say("best. Here it looks for the lowest point of a function. In place of a language")
    say("model an endpoint on this machine draws from a stock of ideas: most are honest")
    say("searches, some good, some poor; five are hostile. Both runs get the same")
    say(f"{stage.candidates} answers; OpenEvolve draws the parents anew each time.")
    say("")
    say("The ungoverned half really runs the hostile programs. They were written so that")
    say("they harm nothing outside the demo's folder, end by themselves, and find no key")
    say("but a fake one.")
    if stage.asks:
        say("")
        say("You decide at each hold point, with a key of your own. The second person,")
        say(f"{SECURITY}, is simulated, and marked so.")
    say(stage.screen.warn("UNWITNESSED: nobody independent cosigns this log yet (see LIMITATIONS.md)."))
    say(f"Everything lies in {short(stage.out)}; seed {stage.seed}; another seed may end otherwise.")


@contextmanager
def _playing(stage: Stage, name: str) -> Iterator[Play]:
    """A folder with the example, and its endpoint while the run lasts."""
    folder = stage.out / name
    playing.example(folder)
    started = time.monotonic()
    every = max(stage.candidates // 6, 1)  # so that all five come, and something comes after each
    with playing.endpoint(folder, seed=stage.seed, hostile_every=every) as answers:
        play = Play(folder, answers)
        yield play
    play.seconds = time.monotonic() - started


def _ungoverned(stage: Stage) -> Play:
    stage.screen.heading("1  Ungoverned: OpenEvolve as it comes")
    stage.screen.line(stage.screen.note("   openevolve-run initial_program.py evaluator.py --config config.yaml"))
    with _playing(stage, "ungoverned") as play:
        playing.ungoverned(play.folder, iterations=stage.candidates)
    play.rows = seen.rows(play.folder, play.answers)
    _strip(stage, play)
    return play


def _strip(stage: Stage, play: Play) -> None:
    """One sign for each program, and how long all of them took."""
    paint = {"o": stage.screen.good, "X": stage.screen.bad, "x": stage.screen.good}
    signs = [_sign(row) for row in play.rows]
    for start in range(0, len(signs), 70):
        stage.screen.line("   " + "".join(paint.get(s, stage.screen.warn)(s) for s in signs[start : start + 70]))
    stage.screen.line(stage.screen.note("   o entered  ? entered without a score  - refused"))
    stage.screen.line(stage.screen.note("   X hostile and entered  x hostile and refused"))
    best = max([play.first, *(row.score for row in play.rows if row.score is not None)])
    said = f"{count(len(play.rows), 'answer')} in {play.seconds:.1f} s; best score {best:.3f}, first {play.first:.3f}"
    stage.screen.line(f"   {said}")


def _sign(row: Row) -> str:
    if row.answer.kind == "hostile":
        return "X" if row.entered else "x"
    return "-" if not row.entered else "?" if row.score is None else "o"


def _found(stage: Stage) -> app.Project | None:
    """Found the exercise project for the example; none where its people did not let its lineage begin."""
    stage.screen.heading("2  People found a project for the same example, and give a warrant")
    playing.example(stage.out / "governed")
    yours = Cast(ME, ("safety",), False, own_keys(stage)) if stage.asks else None
    cast = [yours or Cast(SAFETY, ("safety",), True, stage.keys), Cast(SECURITY, ("security",), True, stage.keys)]
    project = insist(
        stage, lambda: playing.found(stage.out / "project", stage.out / "governed", cast=cast, seed=stage.seed)
    )
    policy = policy_of(project.state())
    stage.screen.line(f"   policy 1 is signed by {', '.join(person.id for person in policy.people)}")
    if any(level.sandbox < "T2" for level in policy.levels):
        stage.screen.line(stage.screen.warn("   weaker here: only tier T1, as an ordinary user; see `keyturn doctor`"))
    if _until(stage, project, agenda.AwaitWarrant) is None:
        return None
    person = ME if stage.asks else SAFETY
    bounds = Bounds(stage.candidates + 10, 300, stage.candidates + 10, 250_000, 1.0)
    with people_time(stage):
        insist(
            stage,
            lambda: project.give_warrant(
                signing(stage, person), candidates=1, level_ceiling=0, hours=2, reason="exercise", loop=bounds
            ),
        )
    mark = "" if stage.asks else "SIMULATED "
    stage.screen.line(stage.screen.note(f"   {mark}{person} signs a warrant for one run:"))
    stage.screen.say(loop_screen.in_words(bounds, None))
    return project


def _until(stage: Stage, project: app.Project, wanted: type[object]) -> agenda.Step | None:
    """Go on until this comes next, with people deciding what only people may; none where the story ends before."""
    for _ in range(ROUNDS_MAX):
        step = project.run(tell=lambda _: None)
        if isinstance(step, wanted):
            return step
        if not isinstance(step, agenda.Hold) or not decide(stage, project, step.dossier, step.decision):
            return None
    return None


def _governed(stage: Stage, project: app.Project) -> Play:
    stage.screen.heading("3  Governed: the same loop, each program sealed and judged")
    stage.screen.line(stage.screen.note("   keyturn openevolve run governed --project project"))
    with _playing(stage, "governed") as play:
        options = loops.Options(iterations=stage.candidates)
        with loops.Loop(loops.example(play.folder), project.root, options) as loop:
            ended = _watch(stage, loop)
            loop.code()
    if ended.get("type") != "outcome":
        why = str(ended.get("message") or loop.last_words() or "it said nothing")
        raise Unavailable(f"the governed run did not end well: {why[:300]}", help=f"read `{loop.output / loops.SAID}`")
    play.rows = seen.rows(play.folder, play.answers, seen.verdicts(project))
    _strip(stage, play)
    return play


def _watch(stage: Stage, loop: loops.Loop) -> dict[str, object]:
    """Follow the run to its end; returns what it said last."""
    ended: dict[str, object] = {}
    judged = 0
    for message in loop.messages():
        if message.get("type") == "program":
            judged += 1
            if stage.screen.colour:
                stage.screen.progress(f"   {count(judged, 'program')} judged")
        elif message.get("type") in {"outcome", "no", "error", "interrupted"}:
            ended = message
    return ended


def _compare(stage: Stage, done: Sequence[Deed], held: Play) -> None:
    stage.screen.heading("4  The hostile programs")
    for deed in done:
        stage.screen.line(f"{deed.number:>3} {stage.screen.bold(deed.name)}: {deed.what}")
        stage.screen.say(f"ungoverned: {deed.got}", "red")
        stage.screen.say(f"governed: {deed.stopped}", "green" if deed.caught else "red")
    caught = sum(deed.caught for deed in done)
    honest = [row for row in held.rows if row.answer.kind == "honest"]
    wrong = sum(not row.entered for row in honest)
    stage.screen.line(f"   governed: {caught} of {len(done)} hostile refused, {wrong} of {len(honest)} honest refused")
    stage.screen.say(
        "To be fair: with `enforce_evolve_blocks: true`, which is off unless one says so, OpenEvolve itself undoes "
        "what a program rewrites outside its block (since 0.4.1). It stops none of the other four; its time-out lets "
        "go of the one that hangs, and leaves it burning."
    )


def _worth(stage: Stage, free: Play, held: Play) -> tuple[float, float]:
    """Both best programs where neither loop looked."""
    stage.screen.heading("5  What the two best programs are worth")
    stage.screen.line("                    score in   untouched   functions that")
    stage.screen.line("                    its loop   evaluator   it never saw     held-out check")
    unseen = []
    for word, play in (("ungoverned", free), ("governed", held)):
        said = seen.worth(seen.best_program(play.folder))
        best = max([play.first, *(row.score for row in play.rows if row.best and row.score is not None)])
        score, never = float(str(said["score"])), float(str(said["unseen"]))
        check = "refuses it" if said["held_out"] else "passes"
        paint = stage.screen.bad if said["held_out"] else stage.screen.good
        stage.screen.line(paint(f"   {word:<14} {best:>9.3f}   {score:>9.3f}   {never:>14.3f}     {check}"))
        unseen.append(never)
    return unseen[0], unseen[1]


def _spent(stage: Stage, state: State) -> None:
    stage.screen.heading("6  What was spent of the warrant")
    warrant = state.warrants[-1]
    for name, text in loop_screen.rows(warrant.bounds, warrant.spent):
        stage.screen.line(f"   {name:<10} {text}")
    attempt = state.attempts[max(state.attempts)]
    stage.screen.line(f"   {loop_screen.run_of(attempt)}; nobody was asked about any of them")


def _release(stage: Stage, project: app.Project) -> None:
    """The best program waits for people; then it is the next generation, and its bundle is checked as a node would."""
    stage.screen.heading("7  Where the best program waits")
    _until(stage, project, agenda.AwaitWarrant)
    state = project.state()
    parent = state.lineage.parent if state.lineage else None
    if parent is None or parent.number == 0:
        for candidate in state.candidates.values():
            stage.screen.say(f"{candidate.name}: {candidate.status}", "yellow")
        return
    bundle = stage.out / "newest.permit"
    project.bundle(parent.permit, bundle, old_size=exercise.seen_size(project))
    reasons = exercise.try_load(project, parent.candidate, bundle)
    verdict = f"refused: {safe(reasons[0])}" if reasons else "allowed: the bundle verifies, offline"
    stage.screen.line(stage.screen.good(f"   RELEASED: generation {parent.number} is what the next run starts from"))
    stage.screen.line(f"   loading it now: {verdict}")


def _picture(stage: Stage, free: Play, held: Play, done: Sequence[Deed], worths: tuple[float, float]) -> None:
    said = f"{count(stage.candidates, 'answer')}, {len(done)} of them hostile · seed {stage.seed}"
    drawn = side_by_side_svg(Side(free.rows, free.first, worths[0]), Side(held.rows, held.first, worths[1]), done, said)
    (stage.out / "side-by-side.svg").write_text(drawn, encoding="utf-8")


def _how_to_check(stage: Stage, project: app.Project) -> None:
    """The exact commands with which a stranger checks what was shown."""
    trust = stage.out / "trust.json"
    project.write_trust(trust)
    folder, state = short(project.root), project.state()
    root = state.lineage.parent.root[7:] if state.lineage else ""
    weights = f"{folder}/.keyturn/artifacts/{root}"
    stage.screen.heading("8  Check it yourself")
    bundle = stage.out / "newest.permit"
    verify = f"keyturn verify permit {short(bundle)} --trust {short(trust)} --weights {weights}"
    for command in (
        f"xdg-open {short(stage.out / 'side-by-side.svg')}",
        f"diff {short(stage.out)}/governed/evaluator.py {short(stage.out)}/ungoverned/evaluator.py",
        f"keyturn status --project {folder}",
        f"keyturn log replay --project {folder}",
        *((verify,) if bundle.exists() else ()),
    ):
        stage.screen.line(f"   .venv/bin/{command}" if command.startswith("keyturn") else f"   {command}")
    checked = project.replay(lambda _: None)
    verdict = "every decision came out the same" if not checked.problems else f"{len(checked.problems)} problem(s)"
    stage.screen.say(f"just done: {checked.entries} entries, {checked.decisions} decisions decided again: {verdict}")
    stage.screen.line(f"   {time.monotonic() - stage.started:.0f} s in all")
