"""What the project waits for, for whom, and the exact next command: read off the agenda, in one look.

Never guesses whether a governor runs elsewhere; where it may, the word is `RUNNING?`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from keyturn.cli.screen import Sheet, actor, count, safe, short, span, utc, wrap
from keyturn.core import agenda
from keyturn.core.agenda import Step, next_step
from keyturn.core.approval import quorum, refused_by, row_of
from keyturn.core.dossier import as_request, moment, named
from keyturn.core.events import Document
from keyturn.core.finding import Decision
from keyturn.core.policy import Policy
from keyturn.core.state import Dossier, State
from keyturn.core.terms import Gate, Instant

TONES = {"HELD": "yellow", "HALTED": "red", "FROZEN": "cyan", "RUNNING?": "green", "READY": "green"}
WAITS = (agenda.Halted, agenda.Hold, agenda.AwaitAudit, agenda.AwaitBudget, agenda.AwaitWarrant)
RUN_THE_LOOP = "keyturn openevolve run FOLDER"


@dataclass(frozen=True, slots=True)
class Waiting:
    """The word on top, one sentence, and commands, each with what it does."""

    word: str
    sentence: str
    commands: tuple[tuple[str, str], ...] = ()


def banners(state: State) -> tuple[str, ...]:
    """The words that every screen must show."""
    policy = state.current.policy if state.current else None
    found = []
    if not state.is_witnessed:
        found.append("UNWITNESSED")
    if policy is not None and policy.single_person:
        found.append("SINGLE PERSON")
    if policy is not None and any(person.simulated for person in policy.people):
        found.append("SIMULATED PEOPLE")
    if state.project is not None and state.project.demo:
        found.append("DEMO")
    if any(incident.exercise for incident in state.incidents.values()):
        found.append("EXERCISE")
    return tuple(found)


def head(sheet: Sheet, state: State, word: str, sentence: str, *styles: str) -> None:
    """The head of a screen: the verdict in a word, one sentence, the banners, and a line across."""
    label = f" {word} " if sheet.paint.colour else word
    first, *rest = wrap(sentence, sheet.width - len(label) - 2)
    sheet.line(f"{sheet.paint(label, 'inverse', 'bold', *styles)}  {sheet.paint(first, 'bold')}")
    for each in rest:
        sheet.line(" " * (len(label) + 2) + sheet.paint(each, "bold"))
    found = banners(state)
    if found:
        sheet.line(sheet.paint(" · ".join(found), "yellow"))
    sheet.rule()


def behind(state: State, now: Instant) -> Step:
    """What the project waits for once its newest entries are published: that step hides a halt or a person's turn."""
    step = next_step(state, now)
    if not isinstance(step, agenda.Publish):
        return step
    then = next_step(replace(state, published=state.size), now)
    return then if isinstance(then, WAITS) else step


def waiting(state: State, step: Step, now: Instant) -> Waiting:
    """What `step`, the next on the agenda, waits for."""
    if isinstance(step, agenda.Halted):
        return _halted(state, step, now)
    if isinstance(step, agenda.Hold):
        return _held(state, step.dossier, step.decision, now)
    if isinstance(step, agenda.AwaitAudit):
        return _audit(state, step)
    if isinstance(step, agenda.AwaitBudget):
        how = (
            "keyturn policy adopt --as PERSON --reason TEXT",
            "`[sandbox] output_bytes_lineage_max` raised, by quorum",
        )
        return Waiting("HELD", safe(step.finding.message, 400), (how,))
    if isinstance(step, agenda.Witness):
        return _witness(step)
    if isinstance(step, agenda.AwaitWarrant):
        return _warrant(state, step.reason)
    if isinstance(step, agenda.Improve) and is_looped(state):
        return Waiting("RUNNING?", _doing(step), ((RUN_THE_LOOP, "or a loop of your own, if none runs yet"),))
    return Waiting("RUNNING?", _doing(step), (("keyturn run", "goes on from here, if no governor runs yet"),))


def is_looped(state: State) -> bool:
    """Whether a loop of others makes the candidates, which `keyturn run` cannot start."""
    return state.current is not None and state.current.policy.loop is not None


def _doing(step: Step) -> str:
    """What the governor does at this step, or would do if one ran."""
    if isinstance(step, agenda.Improve):
        verb = "finishes" if step.resumed else "starts"
        return f"generation {step.generation} {verb} making candidate {step.attempt}"
    if isinstance(step, agenda.Try):
        return f"candidate `{safe(step.candidate, 60)}` is tried on `{safe(step.threshold, 40)}`"
    names = {
        agenda.Seal: "a dossier is to be put together",
        agenda.Release: "every gate is clear: the candidate is to be released",
        agenda.Reject: "the candidate is to be rejected",
        agenda.Grant: "the warrant is to be issued",
        agenda.Resume: "the halt is to be lifted",
        agenda.Found: "the lineage is to be founded",
        agenda.Publish: "the newest entries are to be published",
    }
    return names.get(type(step), "the governor has work to do")


def _halted(state: State, step: agenda.Halted, now: Instant) -> Waiting:
    halt = step.halt
    proof = "proven STOPPED" if halt.proven else "UNPROVEN: something may still be alive"
    sentence = f"by {actor(halt.by)} at {utc(halt.requested_at)}: {safe(halt.reason)} ({proof})"
    if not halt.proven:
        again = ("keyturn halt --reason TEXT", "halts again and looks; only a proven halt can be lifted")
        return Waiting("HALTED", sentence, (again,))
    roles = missing_roles(state, step.dossier, now) if step.dossier else _seats(state, Gate.RESUME)
    who, note = who_may(state, roles, step.dossier)
    needs = f"needs {_lack(roles)}" + (f": {note}" if note else "")
    return Waiting("HALTED", sentence, ((f"keyturn resume --as {who} --reason TEXT", needs),))


def _held(state: State, dossier: Dossier, decision: Decision, now: Instant) -> Waiting:
    about, name = subject_of(dossier), short(dossier.digest)
    roles = missing_roles(state, dossier, now)
    refused = refused_by(state, dossier, now)
    if refused:
        by = safe(refused[0].event.person, 60)
        return Waiting("HELD", f"{about}: refused by {by}", ((f"keyturn dossier show {name}", "says why"),))
    lack = f" waits for {_lack(roles)}" if roles else f": {safe(decision.findings[0].message)}"
    sentence = f"{about}{lack}; closes {utc(moment(dossier, 'not_after'))}"
    who, note = who_may(state, roles, dossier)
    return Waiting(
        "HELD",
        sentence,
        (
            (f"keyturn dossier show {name}", "read it first"),
            (f"keyturn approval refuse {name} --as {who} --reason TEXT", ""),
            (f"keyturn approval give {name} --as {who} --reason TEXT", note),
        ),
    )


def _audit(state: State, step: agenda.AwaitAudit) -> Waiting:
    names = [person.id for person in state.current.policy.people] if state.current else []
    who, note = _choice(names)
    generations = count(step.unaudited, "generation")
    sentence = f"{generations} released since people last looked; {step.bound} is the bound. A person must audit"
    return Waiting("HELD", sentence, ((f"keyturn audit --as {who} --reason TEXT", note or "the newest generation"),))


def _witness(step: agenda.Witness) -> Waiting:
    sentence = f"enough people signed; the permit waits for witnesses of the log: {safe('; '.join(step.lacking), 400)}"
    return Waiting("HELD", sentence, (("keyturn run", "asks the witnesses again"),))


def _warrant(state: State, reason: str) -> Waiting:
    level = state.lineage.level if state.lineage else 0
    who, _ = who_may(state, _seats(state, Gate.TRAIN), None)
    ceiling = f" --level-ceiling {level}" if level else ""
    bounds = " --programs N --wall-minutes M" if is_looped(state) else ""
    command = f"keyturn warrant give --as {who} --candidates 1{ceiling}{bounds} --reason TEXT"
    return Waiting("HELD", f"no leave to train: {safe(reason)}", ((command, "for one candidate"),))


def subject_of(dossier: Dossier) -> str:
    """What a dossier asks for, in a few words."""
    candidate, document = safe(named(dossier), 60), dossier.document
    bounds = document.get("bounds")
    words = {
        "ReleaseCandidate": f"release of `{candidate}` as generation {safe(document.get('generation'), 12)}",
        "FoundLineage": f"founding of the lineage with `{candidate}`",
        "IssueWarrant": f"a warrant{_bounds(bounds) if isinstance(bounds, dict) else ''}",
        "ResumeLoop": f"lifting the halt `{safe(document.get('halt'), 40)}`",
        "AdoptPolicy": "a changed policy",
        "EraseBlob": f"erasing the blob {short(document.get('erases'))}",
    }
    request = str(document.get("request"))
    return words.get(request, f"`{safe(request, 40)}` at the gate `{dossier.gate}`")


def _bounds(bounds: Document) -> str:
    candidates, ceiling = safe(bounds.get("candidates_max"), 12), safe(bounds.get("level_ceiling"), 12)
    loop = bounds.get("loop")
    programs = f", {safe(loop.get('programs_max'), 12)} programs" if isinstance(loop, dict) else ""
    return f" for {candidates} candidate(s) up to level {ceiling}{programs}"


def missing_roles(state: State, dossier: Dossier, now: Instant) -> tuple[tuple[str, int], ...]:
    """The seats of a dossier's quorum that are still empty, as role and number."""
    row = row_of(state, as_request(dossier))
    return quorum(state, dossier, row, now).missing if row else ()


def _seats(state: State, gate: Gate) -> tuple[tuple[str, int], ...]:
    level = state.lineage.level if state.lineage else 0
    row = state.current.policy.row(gate, level) if state.current else None
    return tuple((seat.role, seat.persons) for seat in row.quorum) if row else ()


def _lack(roles: tuple[tuple[str, int], ...]) -> str:
    parts = [f"{count(number, 'approval')} in the role {role}" for role, number in roles]
    return " and ".join(parts) or "a row in the policy that says who may"


def eligible(policy: Policy, roles: tuple[tuple[str, int], ...], dossier: Dossier | None) -> list[str]:
    """Enrolled people who could fill one of these seats and have not decided on the dossier."""
    decided = {approval.event.person for approval in dossier.approvals} if dossier else set()
    wanted = {role for role, _ in roles}
    return [person.id for person in policy.people if wanted & set(person.roles) and person.id not in decided]


def who_may(state: State, roles: tuple[tuple[str, int], ...], dossier: Dossier | None) -> tuple[str, str]:
    """What to write after `--as`, and where that is `PERSON`, who it may be."""
    return _choice(eligible(state.current.policy, roles, dossier) if state.current else [])


def _choice(names: list[str]) -> tuple[str, str]:
    if len(names) == 1:
        return safe(names[0], 40), ""
    return "PERSON", f"PERSON: {safe(' or '.join(names[:4]), 60)}" if names else ""


def age(state: State, now: Instant) -> str:
    """How long ago the log last moved."""
    return f"{span(max(0, now - state.last_at))} ago" if state.size else "never"
