"""The commands by which the loop runs and people decide: each says what it did and what is still missing.

Never touches a key: the person's own process signs, `keyturn.app` only names the file.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import datetime

from keyturn.cli import context
from keyturn.cli import dossier_screen as dossiers
from keyturn.cli.looking import find_dossier
from keyturn.cli.screen import count, safe, short, utc
from keyturn.cli.screens import loop
from keyturn.cli.screens import stop as stops
from keyturn.cli.screens import waiting as waits
from keyturn.cli.trials.growing import Growing
from keyturn.core import agenda
from keyturn.core.agenda import Step
from keyturn.core.bounds import Bounds
from keyturn.core.errors import Conflict, MalformedInput
from keyturn.core.events import Document
from keyturn.core.state import State
from keyturn.core.terms import Gate, Instant

MORE_PEOPLE = "signed and in the log; more people are needed"
UNPROVEN = "signed and in the log; but the halt is not proven yet, and only a proven halt can be lifted"


def run(args: argparse.Namespace) -> int:
    """Run the loop until people are needed: 1 when HELD, 6 when halted, 0 where a loop of others is to be run now."""
    project = context.project(args)
    if args.shadow and waits.is_looped(project.state()):
        raise MalformedInput(
            "a loop of others makes the candidates of this project, and `keyturn run` cannot start it",
            help=f"`{waits.RUN_THE_LOOP}{context.there(args)} --shadow`, or `shadow=True` in a loop of your own",
        )
    growing = Growing(context.teller(args), sys.stderr if args.json else sys.stdout)
    try:
        step = project.run(
            shadow=args.shadow, wait=args.wait, standby=args.standby, tell=growing.tell, grown=growing.block
        )
    finally:
        growing.close()
    if args.shadow and not isinstance(step, agenda.Halted):
        return _shadowed(args, project.state())
    state = project.state()
    if isinstance(step, agenda.Halted):  # as people read it, with the words that the log's own step withholds
        step = waits.behind(state, context.now())
    return _stopped_at(args, state, step)


def _shadowed(args: argparse.Namespace, state: State) -> int:
    """Say what every gate would have said about the newest candidate; nothing was held and nothing issued."""
    made = [candidate for candidate in state.candidates.values() if candidate.status == "shadowed"]
    found = [str(finding.get("message")) for finding in made[-1].findings] if made else []
    if args.json:
        name = made[-1].name if made else ""
        context.emit({"word": "SHADOW", "candidate": name, "would_hold": found, "exit_code": 0})
        return 0
    sheet = context.sheet()
    waits.head(sheet, state, "SHADOW", "the loop went on by itself; nothing was held, nothing was issued", "yellow")
    if made:
        sheet.say(f"`{safe(made[-1].name)}` would have been held, because")
    for message in found or ["no candidate came out of the newest step"]:
        sheet.say(f"· {safe(message, 300)}", indent=2, hang=2)
    sheet.command("keyturn run --shadow", "the next candidate")
    context.out(sheet)
    return 0


def _stopped_at(args: argparse.Namespace, state: State, step: Step) -> int:
    """Say what the loop waits for."""
    what, code = waits.waiting(state, step, context.now()), 6 if isinstance(step, agenda.Halted) else 1
    if isinstance(step, agenda.Improve):  # nobody else governs while this command does: the loop is not running
        what, code = replace(what, word="READY"), 0
    if args.json:
        body = {"word": what.word, "waits_for": what.sentence, "next": [command for command, _ in what.commands]}
        context.emit({**body, "step": type(step).__name__, "exit_code": code, "banners": waits.banners(state)})
        return code
    sheet = context.sheet()
    waits.head(sheet, state, what.word, what.sentence, waits.TONES.get(what.word, ""))
    for command, note in what.commands:
        sheet.command(command + context.there(args), note)
    context.out(sheet)
    return code


def permit_revoke(args: argparse.Namespace) -> int:
    """End a permit: loosening needs a quorum, ending does not."""
    project = context.project(args)
    permits = {name: name for name in project.state().permits}
    name = context.find("permit", args.permit, permits, where="`keyturn lineage show` lists them")
    project.revoke(name, by=args.by, reason=args.reason)
    if args.json:
        context.emit({"word": "REVOKED", "permit": name, "exit_code": 0})
        return 0
    sheet = context.sheet()
    sheet.line(sheet.paint(f"REVOKED {safe(name)}", "red", "bold"))
    sheet.say("a bundle made before loads offline until its status is too old; hand out fresh trust and bundles")
    context.out(sheet)
    return 0


def approval_give(args: argparse.Namespace) -> int:
    """Sign for a dossier."""
    return _decide(args, "approve")


def approval_refuse(args: argparse.Namespace) -> int:
    """Sign against a dossier."""
    return _decide(args, "refuse")


def _decide(args: argparse.Namespace, decision: str) -> int:
    """Show once more what is at stake, have the person's own process sign, and say what is still missing."""
    project = context.project(args)
    state, now = project.state(), context.now()
    dossier = find_dossier(state, args.dossier, now)
    if not args.json:
        sheet = context.sheet()
        dossiers.summary(sheet, state, dossier, now)
        context.out(sheet)
    word, _, sentence = dossiers.verdict(state, dossier, now)
    if word not in {"HELD", "CLEAR", "REFUSED"}:
        raise Conflict(f"{word}: {sentence}", help="`keyturn status` says what waits for people now")
    project.decide(dossier.digest, context.signing(args), decision=decision, reason=context.reason(args))
    after = project.state()
    held = after.dossiers[dossier.digest]
    missing = waits.missing_roles(after, held, context.now())
    done = "APPROVED" if decision == "approve" else "REFUSED"
    if args.json:
        context.emit({"word": done, "dossier": dossier.digest, "person": args.person, "missing": missing})
        return 0
    sheet = context.sheet()
    sheet.say(f"{done} by {safe(args.person, 40)}: dossier {short(dossier.digest)}, in the log", "bold")
    if decision == "refuse":
        sheet.say("one refusal ends it: the next `keyturn run` rejects the candidate", indent=2)
    elif word == "REFUSED":
        sheet.say("a refusal stands, and one refusal ends it: nothing comes of this approval", "yellow", indent=2)
    elif missing:
        sheet.say(f"still missing: {'; '.join(f'{number} as {role}' for role, number in missing)}", "yellow", indent=2)
    else:
        sheet.say(f"the quorum is met; `keyturn run{context.there(args)}` goes on", "green", indent=2)
    context.out(sheet)
    return 0


def warrant_give(args: argparse.Namespace) -> int:
    """Sign for leave to make candidates: 1 while more people are needed."""
    project = context.project(args)
    given = project.give_warrant(
        context.signing(args),
        candidates=args.candidates,
        level_ceiling=args.level_ceiling,
        hours=args.hours,
        loop=Bounds(args.programs, int(args.wall_minutes * 60), args.requests, args.tokens, args.usd),
        reason=context.reason(args),
    )
    state = project.state()
    warrant = state.warrant
    if given and warrant is not None:
        bounds = f"{count(warrant.candidates_max, 'candidate')}, level {warrant.level_ceiling} at most"
        if warrant.bounds.given:
            bounds += f", {loop.in_words(warrant.bounds, None)}"
        goes_on = waits.RUN_THE_LOOP if warrant.bounds.given else "keyturn run"
        said = f"until {utc(warrant.expires_at)}; it never grants release. Next: `{goes_on}{context.there(args)}`"
        return _say(args, f"WARRANT {safe(given, 40)}: {bounds}, {said}", {"warrant": given, "issued": True}, code=0)
    asked = [each for each in state.dossiers.values() if each.gate == Gate.TRAIN and not each.used]
    lacks = not asked or bool(waits.missing_roles(state, asked[-1], context.now()))
    later = "signed by enough people and in the log; it is issued when the loop comes to it"
    return _still_held(args, state, {"warrant": "", "issued": False}, said=MORE_PEOPLE if lacks else later)


def _say(args: argparse.Namespace, sentence: str, body: dict[str, object], *, code: int) -> int:
    if args.json:
        context.emit({**body, "exit_code": code})
    else:
        sheet = context.sheet()
        sheet.say(sentence, "bold")
        context.out(sheet)
    return code


def _still_held(args: argparse.Namespace, state: State, body: dict[str, object], *, said: str = MORE_PEOPLE) -> int:
    """Signed, but something else comes first: more people, as a rule."""
    what = waits.waiting(state, waits.behind(state, context.now()), context.now())
    if args.json:
        context.emit({**body, "word": what.word, "waits_for": what.sentence, "exit_code": 1})
        return 1
    sheet = context.sheet()
    sheet.say(said, "yellow")
    waits.head(sheet, state, what.word, what.sentence, waits.TONES.get(what.word, ""))
    for command, note in what.commands:
        sheet.command(command + context.there(args), note)
    context.out(sheet)
    return 1


def audit(args: argparse.Namespace) -> int:
    """Sign that a person reviewed a released generation; pace starts anew from it."""
    project = context.project(args)
    state = project.state()
    members = state.lineage.generations if state.lineage else ()
    root = None
    if args.generation:
        known = {each.root.removeprefix("sha256:"): each for each in members}
        named = {each.candidate: each for each in members}
        wanted = args.generation.removeprefix("sha256:")
        found = named.get(wanted) or context.find("generation", wanted, known, where="`keyturn lineage show`")
        root = found.root.removeprefix("sha256:")
    project.audit(context.signing(args), root=root, reason=context.reason(args))
    after = project.state()
    unaudited = after.lineage.unaudited if after.lineage else 0
    said = f"AUDITED by {safe(args.person, 40)}; {count(unaudited, 'generation')} since the last audit"
    return _say(args, said, {"person": args.person, "unaudited": unaudited}, code=0)


def halt(args: argparse.Namespace) -> int:
    """Stop everything now: 0 when proven, 7 when something could not be seen to be dead. Nothing is read before."""
    by = f"person:{args.person}" if args.person else args.by or "somebody at the terminal"
    if args.drill:
        return _drilled(args, context.project(args).drill(by=by))
    receipt = context.what_is_left(args).halt(by=by, reason=args.reason)
    proven = receipt.get("state") == "STOPPED"
    if args.json:
        context.emit({"word": "STOPPED" if proven else "UNPROVEN", "receipt": receipt, "exit_code": 0 if proven else 7})
    else:
        sheet = context.sheet()
        stops.receipt(sheet, receipt)
        after = "keyturn resume --as PERSON --reason TEXT" if proven else "keyturn halt --reason TEXT"
        sheet.command(
            after + context.there(args), "by quorum" if proven else "again, on the machine that ran the subject"
        )
        context.out(sheet)
    return 0 if proven else 7


def _drilled(args: argparse.Namespace, said: Document) -> int:
    """Say what a drill measured: 0 when a halt would be proven, 7 when something would not have worked."""
    proven = said.get("state") == "STOPPED"
    if args.json:
        word = "STOPPED" if proven else "UNPROVEN"
        context.emit({"word": word, "drill": True, "receipt": said, "exit_code": 0 if proven else 7})
        return 0 if proven else 7
    sheet = context.sheet()
    stops.drill(sheet, said)
    context.out(sheet)
    return 0 if proven else 7


def resume(args: argparse.Namespace) -> int:
    """Sign for lifting the halt: 0 when it is lifted, 1 while more people are needed."""
    project = context.project(args)
    lifted = project.resume(context.signing(args), reason=context.reason(args))
    if lifted:
        said = f"RESUMED: the halt is lifted. Next: `keyturn run{context.there(args)}`"
        return _say(args, said, {"lifted": True}, code=0)
    state = project.state()
    unproven = state.halt is not None and not state.halt.proven
    return _still_held(args, state, {"lifted": False}, said=UNPROVEN if unproven else MORE_PEOPLE)


def incident_aware(args: argparse.Namespace) -> int:
    """Sign a moment and show which clocks it started."""
    project = context.project(args)
    state = project.state()
    about = context.find("incident", args.incident, state.incidents, where="`keyturn incident list`")
    before = {(row.regime, row.state, row.due_at) for row in project.clocks(about.id)}
    at = moment(args.at)
    who = context.signing(args)
    project.aware(who, incident=about.id, moment=args.moment, at=at, reason=context.reason(args))
    after = project.clocks(about.id)
    started = tuple(row for row in after if (row.regime, row.state, row.due_at) not in before)
    if args.json:
        context.emit({"incident": about.id, "moment": args.moment, "started": started, "exercise": about.exercise})
        return 0
    sheet = context.sheet()
    exercise = "EXERCISE: " if about.exercise else ""
    said = f"{exercise}{safe(args.person, 40)} signed `{safe(args.moment, 40)}` for {safe(about.id, 40)}"
    sheet.say(f"{said}; {count(len(started), 'clock')} changed", "bold")
    stops.table(sheet, started, context.now())
    sheet.say("This is not legal advice.", "dim")
    context.out(sheet)
    return 0


def moment(text: str | None) -> Instant | None:
    """A moment as people write it; only with its offset from UTC is it one."""
    if text is None:
        return None
    help = "write it in UTC, such as `2026-11-23T21:05:10Z`"
    try:
        read = datetime.fromisoformat(text.strip())
    except ValueError as fault:
        raise MalformedInput(f"`{safe(text, 60)}` is not a moment", help=help) from fault
    if read.tzinfo is None:
        raise MalformedInput(f"`{safe(text, 60)}` does not say in which zone", help=help)
    return Instant(int(read.timestamp() * 1000))
