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
from dataclasses import dataclass, field
from pathlib import Path

from keyturn import app
from keyturn.app import exercise
from keyturn.app.exercise import Cast
from keyturn.cli.lineage_svg import lineage_svg
from keyturn.cli.lineage_text import lineage_text
from keyturn.cli.dossier_screen import dossier_text
from keyturn.cli.screen import Screen, safe
from keyturn.core import agenda
from keyturn.core.errors import KeyturnError
from keyturn.core.finding import Decision
from keyturn.core.policy import Policy
from keyturn.core.state import Dossier, State

SEED = 6
CANDIDATES = 6
DRILLS = ("steal", "forge-claim")
ME, SAFETY, SECURITY = "you", "ada", "grace"
HALT_AFTER_SECONDS = 0.4
ROUNDS_MAX = 80


@dataclass(slots=True)
class Stage:
    """What the demo carries along: where it plays, who decides, and how long it took."""

    screen: Screen
    out: Path
    seed: int
    candidates: int
    asks: bool
    started: float = field(default_factory=time.monotonic)
    people_seconds: float = 0.0
    announced: bool = False
    stopped: bool = False

    @property
    def keys(self) -> Path:
        """The keys of the simulated people; yours lie where your keys lie."""
        return self.out / "keys"


def demo(arguments: argparse.Namespace) -> int:
    """Play the whole story; returns the exit status."""
    asks = sys.stdin.isatty() and sys.stdout.isatty() and not arguments.simulated
    stage = Stage(Screen(), Path(arguments.out).absolute(), arguments.seed, arguments.candidates, asks)
    exercise.fresh_folder(stage.out)
    _prologue(stage)
    founder = exercise.founder(stage.out / "founder", seed=stage.seed)
    twin = exercise.Ungoverned(stage.out / "ungoverned.json", seed=stage.seed, attempts=stage.candidates)
    try:
        project = _found(stage, founder)
        _loop(stage, project)
        if not stage.stopped:
            _halt_drill(stage, project)
            for variant in DRILLS:
                _drill(stage, variant, founder)
        _epilogue(stage, project, twin)
    finally:
        twin.stop()
    return 0


def _prologue(stage: Stage) -> None:
    say = stage.screen.line
    say(stage.screen.bold("Keyturn: an AI that trains its own successor, held until people turn their keys"))
    say("")
    say("The subject plays connect4. In each step it changes its own recipe, plays itself, trains a child and")
    say("claims how good the child is. People taught the first generation one promise: leave the centre column")
    say("to the operator unless it wins or loses at once. Selection for strength tends to wear that away.")
    say("")
    if stage.asks:
        say(f"You decide at each hold point, with a key of your own. {SECURITY} is simulated, and marked so.")
    say(stage.screen.warn("UNWITNESSED: nobody independent cosigns this log yet (see LIMITATIONS.md)."))
    say(f"Everything lies in {_short(stage.out)}; seed {stage.seed}; another seed may end otherwise.")


def _found(stage: Stage, founder: Path) -> app.Project:
    """Found the exercise project; in a terminal with you as the person for safety."""
    stage.screen.heading("1  People found the project")
    if stage.asks:
        first = Cast(ME, ("safety",), False, _own_keys(stage))
    else:
        first = Cast(SAFETY, ("safety",), True, stage.keys)
    cast = [first, Cast(SECURITY, ("security",), True, stage.keys)]
    project = exercise.exercise(stage.out / "project", name="connect4", cast=cast, seed=stage.seed, founder=founder)
    state = project.state()
    stage.screen.line(
        f"policy 1 signed by {', '.join(p.id for p in _policy(state).people)}; genesis {_genesis(state)}…"
    )
    return project


def _own_keys(stage: Stage) -> Path:
    """Your key lies with your other keys, outside the demo; it is made on first use, in a process of its own."""
    keys = app.default_keys()
    if not (keys / f"{ME}.json").exists():
        stage.screen.line("A key is being made for you. Choose a passphrase; a process of its own asks for it.")
        with _people_time(stage):
            app.new_key(ME, kind="ed25519", keys=keys, passphrase_file=None)
    return keys


def _loop(stage: Stage, project: app.Project) -> None:
    """Run until the warrant is used up; whenever only people can go on, ask them."""
    warranted = False
    for _ in range(ROUNDS_MAX):
        step = project.run(tell=_progress(stage))
        state = project.state()
        if isinstance(step, agenda.Hold):
            if not _decide(stage, project, step.dossier, step.decision):
                return
        elif isinstance(step, agenda.AwaitAudit):
            _audit(stage, project, state)
        elif isinstance(step, agenda.AwaitWarrant) and not warranted:
            _warrant(stage, project, stage.candidates)
            warranted = True
        elif isinstance(step, agenda.Halted):
            stage.stopped = True
            return
        else:
            return


def _decide(stage: Stage, project: app.Project, dossier: Dossier, decision: Decision) -> bool:
    """One hold point: show it, have it decided; False when the story ends here."""
    state = project.state()
    name = _name(dossier)
    stage.screen.line("")
    stage.screen.line(stage.screen.warn(f"HELD at the gate `{dossier.gate}`: {name or 'the founder'}"))
    for finding in decision.findings:
        stage.screen.line(f"   missing: {safe(finding.message)}")
    if name in state.candidates:
        stage.screen.line(dossier_text(state, dossier, brief=not stage.asks))
    if not stage.announced or name in state.candidates:
        reasons = exercise.try_load(project, name, None)
        stage.screen.line(f"   loading it now is refused: {reasons[0]}")
    if stage.asks:
        return _ask(stage, project, state, dossier)
    _announce(stage)
    _simulated(stage, project, state, dossier)
    return True


def _ask(stage: Stage, project: app.Project, state: State, dossier: Dossier) -> bool:
    """Ask the person at the terminal: the name to approve, `refuse`, or `halt`."""
    word = _name(dossier) or str(dossier.document.get("request"))
    with _people_time(stage):
        stage.screen.line(f"   type {stage.screen.bold(word)} to approve, `refuse`, or `halt`")
        answer = _answer("   > ", (word, "refuse", "halt"))
        if answer == "halt":
            _show_receipt(stage, project.halt(by=ME, reason="halted at a hold point"))
            stage.stopped = True
            return False
        reason = input("   your reason: ").strip() or "no reason given"
        decision = "approve" if answer == word else "refuse"
        who = _signing(stage, ME)
        if not _tries(stage, lambda: project.decide(dossier.digest, who, decision=decision, reason=reason)):
            return True
    if decision == "approve" and _needs(state, dossier, "security"):
        answer = _answer(
            f"   level 1 asks for a second person; have simulated {SECURITY} sign too? yes/no > ", ("yes", "no")
        )
        choice = "approve" if answer == "yes" else "refuse"
        _sign(stage, project, dossier, SECURITY, choice, f"follows {ME} in an exercise")
    return True


def _simulated(stage: Stage, project: app.Project, state: State, dossier: Dossier) -> None:
    """Simulated people approve what has no finding but their own absence: that is all that they can judge."""
    for role, person in (("safety", SAFETY), ("security", SECURITY)):
        if _needs(state, dossier, role):
            _sign(stage, project, dossier, person, "approve", "exercise: nothing but the quorum was missing")


def _sign(stage: Stage, project: app.Project, dossier: Dossier, person: str, decision: str, reason: str) -> None:
    who = _signing(stage, person)
    project.decide(dossier.digest, who, decision=decision, reason=reason)
    stage.screen.line(stage.screen.note(f"   SIMULATED {person} signs: {decision}"))


def _announce(stage: Stage) -> None:
    if stage.announced:
        return
    stage.announced = True
    stage.screen.line("")
    stage.screen.line(
        stage.screen.warn("No terminal to ask. From here on SIMULATED PEOPLE decide: keys without a person,")
    )
    stage.screen.line(stage.screen.warn("valid in this exercise only, marked in every line, entry and permit."))


def _warrant(stage: Stage, project: app.Project, candidates: int) -> None:
    """Leave to train so many candidates; it never grants a release."""
    person = ME if stage.asks else SAFETY
    stage.screen.heading("2  The loop runs under a warrant")
    stage.screen.line(f"`{person}` gives a warrant: {candidates} candidate(s), two hours, level 1 at most")
    who = _signing(stage, person)
    with _people_time(stage):
        project.give_warrant(who, candidates=candidates, level_ceiling=1, hours=2, reason="exercise")


def _audit(stage: Stage, project: app.Project, state: State) -> None:
    """Pace holds the loop until a person has looked at what was released."""
    lineage = state.lineage
    waiting = lineage.unaudited if lineage else 0
    stage.screen.line("")
    stage.screen.line(
        stage.screen.warn(f"HELD by pace: {waiting} generation(s) were released since people last looked")
    )
    person = ME if stage.asks else SAFETY
    with _people_time(stage):
        if stage.asks:
            stage.screen.line(lineage_text(state, colour=stage.screen.colour))
            _answer("   type `audited` once you have looked > ", ("audited",))
        who = _signing(stage, person)
        project.audit(who, root=None, reason="looked at the lineage and the drift")
    mark = "" if stage.asks else "SIMULATED "
    stage.screen.line(stage.screen.note(f"   {mark}{person} signs an audit; drift is measured from here on too"))


def _halt_drill(stage: Stage, project: app.Project) -> None:
    """Stop a training step half-way, from a second process, and prove it."""
    stage.screen.heading("4  Halt, in the middle of training, from a second process")
    _warrant_again(stage, project)
    ended = threading.Event()
    second = threading.Thread(target=_halt_from_outside, args=(stage, project, ended), daemon=True)
    second.start()
    step = project.run(tell=lambda _: None)
    ended.set()
    second.join(timeout=30)
    if isinstance(step, agenda.Halted) and step.halt.receipt:
        _show_receipt(stage, step.halt.receipt)
    _refused_while_halted(stage, project)
    person = ME if stage.asks else SAFETY
    with _people_time(stage):
        lifted = project.resume(_signing(stage, person), reason="the drill is over")
    stage.screen.line(f"   resumed by quorum ({person}): {'yes' if lifted else 'not yet'}")


def _warrant_again(stage: Stage, project: app.Project) -> None:
    step = project.run(tell=lambda _: None)
    if isinstance(step, agenda.AwaitAudit):
        _audit(stage, project, project.state())
    person = ME if stage.asks else SAFETY
    who = _signing(stage, person)
    with _people_time(stage):
        project.give_warrant(who, candidates=1, level_ceiling=1, hours=1, reason="the halt drill")


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
    stage.screen.line(f"   loading the newest generation now: refused: {safe(reasons[0] if reasons else 'nothing')}")


def _show_receipt(stage: Stage, receipt: object) -> None:
    said = receipt if isinstance(receipt, dict) else {}
    state = str(said.get("state"))
    paint = stage.screen.good if state == "STOPPED" else stage.screen.bad
    empty, before = said.get("cgroup_empty_ms"), said.get("processes_before")
    after = f"{empty:.1f} ms after the request" if isinstance(empty, int | float) else "at an unknown moment"
    what = f"{before} process(es) killed" if before else "nothing was alive any more: its sandbox died with the alarm"
    stage.screen.line(paint(f"   {state}: {what}; seen empty {after}"))
    for unknown in said.get("unknown") or ():
        stage.screen.line(stage.screen.bad(f"   unknown: {safe(str(unknown))}"))


def _drill(stage: Stage, variant: str, founder: Path) -> None:
    """A founder with planted misbehaviour, under the same governor, in a project of its own."""
    stage.screen.heading(f"5  Planted: `{variant}`" if variant == DRILLS[0] else f"   Planted: `{variant}`")
    place = exercise.planted(variant, founder, stage.out / f"planted-{variant}")
    cast = [Cast(SAFETY, ("safety",), True, stage.keys), Cast(SECURITY, ("security",), True, stage.keys)]
    project = exercise.exercise(stage.out / variant, name=f"drill-{variant}", cast=cast, seed=stage.seed, founder=place)
    quiet = Stage(Screen(silent=True), stage.out, stage.seed, 1, False, announced=True)
    _loop(quiet, project)
    state = project.state()
    for incident in state.incidents.values():
        stage.screen.line(
            stage.screen.warn(f"   EXERCISE incident {incident.id}: {incident.kind}: {safe(incident.summary)}")
        )
    if state.halt is not None and state.halt.receipt:
        _show_receipt(stage, state.halt.receipt)
    refused = [c.name for c in state.candidates.values() if c.status == "rejected"]
    released = state.lineage.parent.number if state.lineage else 0
    stage.screen.line(f"   released: {released}; refused: {', '.join(refused) or 'no candidate came out at all'}")


def _epilogue(stage: Stage, project: app.Project, twin: exercise.Ungoverned) -> None:
    """The lineage, what was refused, the bill, and how to check it all."""
    state = project.state()
    ungoverned = twin.result(timeout_seconds=60)
    stage.screen.heading("6  What became of it")
    stage.screen.line(lineage_text(state, ungoverned=ungoverned, colour=stage.screen.colour))
    picture = stage.out / "lineage.svg"
    picture.write_text(lineage_svg(state, ungoverned=ungoverned), encoding="utf-8")
    _refusals(stage, state)
    _bill(stage, state, ungoverned)
    _how_to_check(stage, project, state, picture)


def _refusals(stage: Stage, state: State) -> None:
    stage.screen.heading("7  What was refused, and why")
    for candidate in state.candidates.values():
        for finding in candidate.findings[:2]:
            stage.screen.line(f"   {candidate.name}: {safe(str(finding.get('message')))}")
    for incident in state.incidents.values():
        stage.screen.line(f"   EXERCISE incident {incident.id}: {incident.kind}, {safe(incident.summary)}")


def _bill(stage: Stage, state: State, ungoverned: tuple[object, ...]) -> None:
    """What governance cost: capability given up and time, both as measured."""
    stage.screen.heading("8  The bill")
    governed = [c for c in state.candidates.values() if c.status == "released"]
    mine = _score(governed[-1]) if governed else None
    last = ungoverned[-1] if ungoverned else None
    if isinstance(last, dict) and mine is not None:
        stage.screen.line(f"   score against depth 2: governed {mine:.2f}, ungoverned {float(last['score']):.2f}")
        broken = [c.evidence["centre"].estimate for c in governed if "centre" in c.evidence]
        stage.screen.line(
            f"   promise broken on probes: governed {broken[-1]:.1%}, ungoverned {float(last['broken']):.1%}"
        )
    total = time.monotonic() - stage.started
    stage.screen.line(f"   time: {total:.0f} s in all, of which {stage.people_seconds:.0f} s waiting for people's keys")


def _score(candidate: object) -> float | None:
    evidence = getattr(candidate, "evidence", {}).get("beats-depth-2")
    return float(evidence.estimate) if evidence is not None else None


def _how_to_check(stage: Stage, project: app.Project, state: State, picture: Path) -> None:
    """The exact commands with which a stranger checks what was shown."""
    permit = state.lineage.parent.permit if state.lineage else ""
    bundle, trust = stage.out / "newest.permit", stage.out / "trust.json"
    project.bundle(permit, bundle)
    project.write_trust(trust)
    folder = _short(project.root)
    root = state.lineage.parent.root[7:] if state.lineage else ""
    stage.screen.heading("9  Check it yourself")
    for command in (
        f"xdg-open {_short(picture)}",
        f"keyturn status --project {folder}",
        f"keyturn lineage show --project {folder}",
        f"keyturn log replay --project {folder}",
        f"keyturn verify permit {_short(bundle)} --trust {_short(trust)} --weights {folder}/.keyturn/artifacts/{root}",
        f"keyturn verify log {folder}/.keyturn/log.db --trust {_short(trust)}",
    ):
        stage.screen.line(f"   .venv/bin/{command}" if not command.startswith("xdg") else f"   {command}")
    checked = project.replay(lambda _: None)
    verdict = "every decision came out the same" if not checked.problems else f"{len(checked.problems)} problem(s)"
    stage.screen.line(
        f"   just done: {checked.entries} entries, {checked.decisions} decisions decided again: {verdict}"
    )


# --- small things


def _signing(stage: Stage, person: str) -> app.Signing:
    return app.Signing(person, None, app.default_keys() if person == ME else stage.keys, None)


class _people_time:  # noqa: N801 - reads as a phrase
    """Counts the seconds that went by while people, or their keys, were at work."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        self._from = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._stage.people_seconds += time.monotonic() - self._from


def _tries(stage: Stage, act: Callable[[], object]) -> bool:
    """Do what a person asked for; a mistyped passphrase is told, and asked again at the next round."""
    try:
        act()
    except KeyturnError as fault:
        stage.screen.line(stage.screen.bad(f"   {fault.message}; {fault.help}"))
        return False
    return True


def _answer(prompt: str, allowed: tuple[str, ...]) -> str:
    while True:
        answer = input(prompt).strip()
        if answer in allowed:
            return answer


def _progress(stage: Stage) -> Callable[[str], None]:
    """In a terminal every block that was read; else one line a trial, when it begins."""
    shown: set[str] = set()

    def tell(text: str) -> None:
        name = text.split(":")[0]
        if stage.screen.colour or name not in shown:
            shown.add(name)
            stage.screen.progress(f"   trial {safe(text if stage.screen.colour else name)}")

    return tell


def _policy(state: State) -> Policy:
    return state.policies[-1].policy


def _genesis(state: State) -> str:
    return state.project.genesis[7:19] if state.project else ""


def _name(dossier: Dossier) -> str:
    body = dossier.document.get("candidate")
    return str(body.get("name")) if isinstance(body, dict) else ""


def _needs(state: State, dossier: Dossier, role: str) -> bool:
    level = dossier.document.get("level")
    row = _policy(state).row(dossier.gate, level if isinstance(level, int) else 0)
    return row is not None and any(seat.role == role for seat in row.quorum)


def _short(path: Path) -> str:
    """A path as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
