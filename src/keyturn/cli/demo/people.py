"""The people of a demo at their hold points: you, asked in the terminal, or simulated ones, marked in every line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from keyturn import app
from keyturn.app import exercise
from keyturn.cli.demo.end import show_receipt
from keyturn.cli.demo.stage import ME, SAFETY, SECURITY, Stage, people_time, policy_of, signing
from keyturn.cli.dossier_screen import dossier_text
from keyturn.cli.lineage_text import lineage_text
from keyturn.cli.screen import safe
from keyturn.core.errors import KeyturnError, MalformedInput, UntrustedInput
from keyturn.core.finding import Decision
from keyturn.core.state import Dossier, State

T = TypeVar("T")
TRIES = 3


def own_keys(stage: Stage) -> Path:
    """Your key lies with your other keys, outside the demo; it is made on first use, in a process of its own."""
    keys = app.default_keys()
    if not (keys / f"{ME}.json").exists():
        stage.screen.line("A key is being made for you. Choose a passphrase; a process of its own asks.")
        with people_time(stage):
            insist(stage, lambda: app.new_key(ME, kind="ed25519", keys=keys, passphrase_file=None))
    return keys


def decide(stage: Stage, project: app.Project, dossier: Dossier, decision: Decision) -> bool:
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
        stage.screen.say(f"loading it now is refused: {reasons[0]}")
    if stage.asks:
        return _ask(stage, project, state, dossier)
    _announce(stage)
    _simulated(stage, project, state, dossier)
    return True


def _ask(stage: Stage, project: app.Project, state: State, dossier: Dossier) -> bool:
    """Ask the person at the terminal: the name to approve, `refuse`, or `halt`."""
    word = _name(dossier) or str(dossier.document.get("request"))
    with people_time(stage):
        stage.screen.line(f"   type {stage.screen.bold(word)} to approve, `refuse`, or `halt`")
        answer = _answer("   > ", (word, "refuse", "halt"))
        if answer == "halt":
            show_receipt(stage, project.halt(by=ME, reason="halted at a hold point"))
            stage.stopped = True
            return False
        reason = _typed("   your reason: ") or "no reason given"
        decision = "approve" if answer == word else "refuse"
        who = signing(stage, ME)
        if not _tries(stage, lambda: project.decide(dossier.digest, who, decision=decision, reason=reason)):
            return True
    if decision == "approve" and _needs(state, dossier, "security"):
        answer = _answer(
            f"   the policy asks for a second person; have simulated {SECURITY} sign too? yes/no > ", ("yes", "no")
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
    who = signing(stage, person)
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


def give_warrant(stage: Stage, project: app.Project, candidates: int) -> None:
    """Leave to train so many candidates; it never grants a release."""
    person = ME if stage.asks else SAFETY
    stage.screen.heading("2  The loop runs under a warrant")
    stage.screen.line(f"`{person}` gives a warrant: {candidates} candidate(s), two hours, level 1 at most")
    who = signing(stage, person)
    with people_time(stage):
        insist(
            stage,
            lambda: project.give_warrant(who, candidates=candidates, level_ceiling=1, hours=2, reason="exercise"),
        )


def audit(stage: Stage, project: app.Project, state: State) -> None:
    """Pace holds the loop until a person has looked at what was released."""
    lineage = state.lineage
    waiting = lineage.unaudited if lineage else 0
    stage.screen.line("")
    stage.screen.line(
        stage.screen.warn(f"HELD by pace: {waiting} generation(s) were released since people last looked")
    )
    person = ME if stage.asks else SAFETY
    with people_time(stage):
        if stage.asks:
            stage.screen.line(lineage_text(state, colour=stage.screen.colour))
            _answer("   type `audited` once you have looked > ", ("audited",))
        who = signing(stage, person)
        insist(stage, lambda: project.audit(who, root=None, reason="looked at the lineage and the drift"))
    mark = "" if stage.asks else "SIMULATED "
    stage.screen.line(stage.screen.note(f"   {mark}{person} signs an audit; drift is measured from here on too"))


def _tries(stage: Stage, act: Callable[[], object]) -> bool:
    """Do what a person asked for; a mistyped passphrase is told, and asked again at the next round."""
    try:
        act()
    except KeyturnError as fault:
        stage.screen.line(stage.screen.bad(f"   {fault.message}; {fault.help}"))
        return False
    return True


def insist(stage: Stage, act: Callable[[], T]) -> T:
    """Do what needs a person's passphrase; one that was mistyped is asked again, three times in all."""
    for _ in range(TRIES - 1):
        try:
            return act()
        except (MalformedInput, UntrustedInput) as fault:
            if not stage.asks:
                raise
            stage.screen.line(stage.screen.bad(f"   {fault.message}; {fault.help}"))
    return act()


def _typed(prompt: str) -> str:
    """A line that a person typed; a terminal that was closed decides nothing."""
    try:
        return input(prompt).strip()
    except EOFError:
        raise MalformedInput(
            "the terminal was closed at a hold point; nothing was decided", help="run the demo again, or `--simulated`"
        ) from None


def _answer(prompt: str, allowed: tuple[str, ...]) -> str:
    while True:
        answer = _typed(prompt)
        if answer in allowed:
            return answer
        print(f"   `{safe(answer, 40)}` is none of {', '.join(f'`{safe(each, 60)}`' for each in allowed)}")


def _name(dossier: Dossier) -> str:
    body = dossier.document.get("candidate")
    return str(body.get("name")) if isinstance(body, dict) else ""


def _needs(state: State, dossier: Dossier, role: str) -> bool:
    level = dossier.document.get("level")
    row = policy_of(state).row(dossier.gate, level if isinstance(level, int) else 0)
    return row is not None and any(seat.role == role for seat in row.quorum)
