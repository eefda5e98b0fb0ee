"""Serve a loop that others wrote: be its governor, wait for it, let the flow run, and tell it what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from keyturn.app.loop import words
from keyturn.app.loop.door import Connection, Door
from keyturn.app.loop.improver import LoopImprover, bytes_max_of, loop_of
from keyturn.app.loop.inbox import Message
from keyturn.app.loop.step import BEAT_SECONDS
from keyturn.app.project import Project
from keyturn.app.sealed import Sealed
from keyturn.core import agenda
from keyturn.core.agenda import Step
from keyturn.core.errors import InvariantBroken, KeyturnError, MalformedInput
from keyturn.core.events import Document
from keyturn.core.finding import Finding, Refused
from keyturn.core.state import Attempt, Candidate, State
from keyturn.core.terms import Json
from keyturn.flow.governor import Governor
from keyturn.flow.ports import Leave
from keyturn.flow.run import run as run_flow
from keyturn.flow.shadow import run_shadow

Tell = Callable[[str], None]

SOCKET = "loop.sock"
WARM = 2
"""How many sandboxes wait for programs unless somebody says otherwise: as many as a small machine can fill again."""

WARM_MAX = 64


@dataclass(frozen=True, slots=True)
class Served:
    """What came of serving a loop: where the flow stopped, and the loop's improve step and candidate if there were any.

    Without an `attempt` the loop was given no leave.
    """

    state: State
    step: Step
    attempt: Attempt | None
    candidate: Candidate | None
    shadow: bool

    @property
    def released(self) -> bool:
        """Whether what the loop made is a generation already."""
        return self.candidate is not None and self.candidate.status == "released"


@dataclass(slots=True, eq=False)
class Lobby:
    """The holder of the door until the loop has come: everybody else comes too early."""

    door: Door
    run: Connection | None = None
    name: str = ""

    def take(self, connection: Connection, message: Message) -> None:
        """Let the loop in, and only it."""
        if message.type == "run" and self.run is None:
            self.run, self.name = connection, words.text_of(message.header, "name")[:100]
        elif message.type in {"run", "program", "request"}:
            self.door.send(connection, words.stop("no loop runs here yet"))
            self.door.finish(connection)
        else:
            raise MalformedInput(f"`{message.type[:40]}` cannot be asked for here", help="see `keyturn.sdk`")

    def gone(self, connection: Connection) -> None:
        """Whoever goes away again was never here."""
        if connection is self.run:
            self.run = None


def serve(project: Project, *, shadow: bool, warm: int, tell: Tell) -> Served:
    """Be the governor of one loop's run and of what follows from it, until people are needed.

    Raises as `Project.run` does, and `Unavailable` when the loop goes away: its step stays open then.
    """
    if not 1 <= warm <= WARM_MAX:
        raise MalformedInput(f"`--warm {warm}` is out of reach; 1 to {WARM_MAX} are expected", help=f"`--warm {WARM}`")
    ears = [tell]

    def tell_all(text: str) -> None:
        for ear in ears:
            ear(text)

    with project.governing(tell_all) as governor:
        loop_of(governor.policy)
        place = project.home / SOCKET
        with Door.opened(place, keep_bytes_max=bytes_max_of(governor.policy)) as door:
            sealed = _sealed(governor)
            run = _awaited(door, sealed, tell)
            if run is None:
                return _served(governor, run_flow(governor, stop=_makes), None, shadow=shadow)
            ears.append(lambda text: door.send(run, {"type": "progress", "text": text[:400]}))
            improver = LoopImprover(sealed, door, run, warm, governor.tell)
            try:
                step = _flow(replace(governor, improver=improver), improver, shadow=shadow)
            except KeyturnError as fault:
                door.send(run, words.no(type(fault).__name__, _reasons(fault)))
                door.settle()
                raise
            served = _served(governor, step, improver.leave, shadow=shadow)
            door.send(run, answer(served))
            door.settle()
            return served


def _makes(step: Step) -> bool:
    """Whether this step is for a loop, which has had its one."""
    return isinstance(step, agenda.Improve)


def _flow(governor: Governor, improver: LoopImprover, *, shadow: bool) -> Step:
    if shadow:
        return run_shadow(governor)
    return run_flow(governor, stop=lambda step: improver.leave is not None and _makes(step))


def _sealed(governor: Governor) -> Sealed:
    sealed = governor.improver
    if not isinstance(sealed, Sealed):
        raise InvariantBroken("a project's governor makes its own sandboxes", help="please report this")
    return sealed


def _awaited(door: Door, sealed: Sealed, tell: Tell) -> Connection | None:
    """The loop, once it has come; None when a halt comes first."""
    lobby = Lobby(door)
    door.holder = lobby
    tell(f"waits for the loop at `.keyturn/{SOCKET}`")
    while lobby.run is None and not sealed.halted.is_set():
        door.turn(BEAT_SECONDS)
    if lobby.run is not None:
        tell(f"the loop has come: {lobby.name or 'it gives no name'}")
    return lobby.run


def _served(governor: Governor, step: Step, leave: Leave | None, *, shadow: bool) -> Served:
    state = governor.state
    attempt = state.attempts.get(leave.attempt) if leave is not None else None
    candidate = state.candidates.get(attempt.candidate) if attempt is not None else None
    return Served(state, step, attempt, candidate, shadow)


def answer(served: Served) -> dict[str, Json]:
    """What the loop is told at the end: `no` where it was given no leave, else the outcome of its step."""
    step, candidate = type(served.step).__name__, served.candidate
    if served.attempt is None:
        return words.no(step, why(served.step))
    return {
        "type": "outcome",
        "step": step,
        "candidate": candidate.name if candidate else "",
        "dossier": candidate.dossier if candidate else "",
        "findings": words.findings(_found(served)),
        "released": served.released,
        "shadow": served.shadow,
    }


def _found(served: Served) -> tuple[Finding, ...]:
    """What stands between what the loop made and its release."""
    attempt = served.attempt
    if served.candidate is None:
        if attempt is None or attempt.outcome != "refused":
            return ()
        return (Finding("lineage_must_be_complete", attempt.detail, "serve the loop again"),)
    if served.candidate.findings:
        return tuple(_finding(row) for row in served.candidate.findings)
    return () if served.released else why(served.step)


def _finding(row: Document) -> Finding:
    return Finding(*(str(row.get(key, "")) for key in ("rule", "message", "help")))


def why(step: Step) -> tuple[Finding, ...]:
    """Why the flow cannot go on by itself, in plain words."""
    match step:
        case agenda.AwaitWarrant():
            help = "`keyturn warrant give --programs N --wall-minutes M`, by who may"
            return (Finding("warrant_must_cover", f"there is no leave to train: {step.reason}", help),)
        case agenda.AwaitBudget():
            return (step.finding,)
        case agenda.AwaitAudit():
            said = f"{step.unaudited} generation(s) were released since people last looked; {step.bound} is the bound"
            return (Finding("pace_must_hold", said, "`keyturn audit`, by a person"),)
        case agenda.Halted():
            said = f"a halt stands, asked for by {step.halt.by}: {step.halt.reason}"
            return (Finding("halt_must_be_lifted", said, "`keyturn resume`, by quorum"),)
        case agenda.Witness():
            help = "`keyturn run` asks the policy's witnesses again"
            return tuple(Finding("checkpoint_must_be_witnessed", lack, help) for lack in step.lacking)
        case agenda.Hold():
            return step.decision.findings
        case _:
            return ()


def _reasons(fault: KeyturnError) -> tuple[Finding, ...]:
    if isinstance(fault, Refused):
        return fault.decision.findings
    return (Finding("", fault.message, fault.help),)
