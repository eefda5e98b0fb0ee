"""Freeze, look and thaw: through the governor's door, or by one's own hand where nothing governs and so nothing runs.

What is not let go on within its bound is halted by whoever is there: the governor's own timer, or the next start.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyturn.app.wiring import FileBlobs, FileLatch, SystemClock, governor_lock
from keyturn.core import agenda
from keyturn.core.errors import Conflict, KeyturnError, MalformedInput, Unavailable
from keyturn.core.freeze import MINUTES, MINUTES_MAX
from keyturn.core.state import Freeze, State
from keyturn.flow import freeze as freezes
from keyturn.flow.control import Ask, knock

if TYPE_CHECKING:
    from keyturn.app.project import Project
    from keyturn.app.sealed import Sealed
    from keyturn.core.events import Document
    from keyturn.flow.control import HaltNow

FREEZE, THAW, LOOK = "freeze", "thaw", "look"
"""What `do` asks for at the door."""


@dataclass(slots=True)
class Freezing:
    """The governor's side: one freeze or thaw at a time, and a timer that halts what was forgotten."""

    project: Project
    sealed: Sealed
    latch: FileLatch
    halt: HaltNow
    turn: threading.Lock = field(default_factory=threading.Lock)
    timer: threading.Timer | None = None
    holds: bool = False

    def by_name(self) -> dict[str, Ask]:
        """What may be asked for at the door."""
        return {FREEZE: self._freeze, THAW: self._thaw, LOOK: self._look}

    def close(self) -> None:
        """Let the timer go: whoever governs next keeps the bound."""
        if self.timer is not None:
            self.timer.cancel()

    def _freeze(self, request: Mapping[str, object], _: socket.socket) -> Document:
        minutes = _minutes(request.get("minutes"))
        by, reason = str(request.get("by", "somebody")), str(request.get("reason", ""))
        with self.turn:
            keep = FileBlobs(self.project.blobs).keep
            now = SystemClock().now()
            asked, held = freezes.freeze(
                self.sealed, self.latch, by=by, reason=reason, minutes=minutes, now=now, keep=keep
            )
            if held.get("state") == freezes.NOT_HELD:
                return _said(asked, held)
            self.holds = True
            self.timer = threading.Timer(minutes * 60, self._forgotten, (asked,))
            self.timer.daemon = True
            self.timer.start()
            return _recorded(self.project, asked, held)

    def _thaw(self, request: Mapping[str, object], _: socket.socket) -> Document:
        with self.turn:
            if self.latch.frozen() is None:
                raise Conflict("nothing is held still", help="`keyturn status` says what is waited for")
            held: freezes.Freezer = self.sealed if self.holds else _Nothing()  # a start that found a mark held nothing
            try:
                with self.project.opened() as own:
                    asked = freezes.thaw(held, self.latch, own, by=str(request.get("by", "somebody")))
            except KeyturnError as fault:
                if self.latch.frozen() is None:  # recorded, and yet it does not go on: nothing may be left half open
                    self.halt(freezes.BY, f"what was held still did not go on: {fault.message}")
                raise
            self.holds = False
            self.close()
            return _said(asked, {"state": "THAWED"})

    def _forgotten(self, asked: Freeze) -> None:
        with self.turn:
            standing = freezes.standing(self.latch)
            marked = standing is not None and standing.id in {asked.id, freezes.UNREAD}
            if marked or any(isinstance(each, dict) and each.get("still") for each in self.sealed.look()):
                self.holds = False  # a mark that somebody took away or spoilt lets nothing stay held for ever
                self.halt(freezes.BY, freezes.FORGOTTEN)

    def _look(self, request: Mapping[str, object], _: socket.socket) -> Document:
        with self.project.opened() as own:
            doing = _doing(own.state, agenda.next_step(own.state, own.now()))
        asked = freezes.standing(self.latch)
        state = "FROZEN" if asked else "NOT FROZEN"
        said: Document = {"state": state, "doing": doing, "sandboxes": self.sealed.look()}
        return _said(asked, said) if asked else said


class _Nothing:
    """Where nobody governs nothing runs, so nothing has to be held; the mark alone keeps it so."""

    def freeze(self, seconds: float) -> Document:
        """Nothing runs."""
        scope = "nothing runs here: no governor does"
        return {"scope": scope, "state": freezes.HELD, "sandboxes": 0, "processes": 0, "unknown": []}

    def thaw(self) -> None:
        """Nothing was held."""


def freeze(project: Project, *, by: str, reason: str, minutes: float) -> Document:
    """Hold everything still for so many minutes at the most; without a governor, let nothing begin for as long."""
    _minutes(minutes)
    said = _asked(project, FREEZE, by, reason=reason, minutes=minutes)
    if said is not None:
        return said
    with _ungoverned(project):
        latch, keep = FileLatch(project.home / "halt.latch"), FileBlobs(project.blobs).keep
        now = SystemClock().now()
        asked, held = freezes.freeze(_Nothing(), latch, by=by, reason=reason, minutes=minutes, now=now, keep=keep)
        return _recorded(project, asked, held)


def thaw(project: Project, *, by: str) -> Document:
    """Let everything go on before the bound of the freeze."""
    said = _asked(project, THAW, by)
    if said is not None:
        return said
    with _ungoverned(project), project.opened() as log:
        asked = freezes.thaw(_Nothing(), FileLatch(project.home / "halt.latch"), log, by=by)
        return _said(asked, {"state": "THAWED"})


def look(project: Project) -> Document:
    """What is held still, or runs, as the governor's kernel tells of it; without a governor nothing runs."""
    said = _asked(project, LOOK, "somebody")
    if said is not None:
        return said
    asked = standing(project)
    found: Document = {"state": "FROZEN" if asked else "NOT FROZEN", "doing": "no governor runs here", "sandboxes": []}
    return _said(asked, found) if asked else found


def standing(project: Project) -> Freeze | None:
    """The freeze whose mark stands on this machine."""
    return freezes.standing(FileLatch(project.home / "halt.latch"))


def _asked(project: Project, do: str, by: str, **more: object) -> Document | None:
    """The governor's answer; None where there is none; raises what it refused with."""
    said = knock(project.home / "control.sock", by=by, reason=str(more.pop("reason", "")), do=do, more=more)
    if said is not None and said.get("state") == "refused":
        kind = next((each for each in (Conflict, MalformedInput) if each.exit_code == said.get("code")), Unavailable)
        raise kind(str(said.get("why")), help=str(said.get("help")))
    return said


@contextmanager
def _ungoverned(project: Project) -> Iterator[None]:
    """Be sure that no governor runs that could not be asked: what it runs would go on, whatever is marked here."""
    from keyturn.app.operating.governing import elsewhere

    help = "`keyturn halt --reason TEXT` stops it"
    with ExitStack() as stack:
        try:
            stack.enter_context(governor_lock(project.home / "governor.lock"))
        except Conflict as fault:
            raise Unavailable("the governor does not answer, so nothing changes", help=help) from fault
        with project.store() as store:
            other = elsewhere(project, store)
        if other:
            raise Unavailable(f"{other} governs; a freeze is asked for on that machine", help=f"here, {help}")
        yield


def _minutes(given: object) -> float:
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given <= MINUTES_MAX:
        return float(given)
    message = f"a freeze of `{given!s:.40}` minutes was asked for; more than 0 and at most {MINUTES_MAX} are expected"
    raise MalformedInput(message, help=f"`--minutes {MINUTES}`; what shall stay still for longer is halted")


def _recorded(project: Project, asked: Freeze, held: Document) -> Document:
    """Write it down; what holds everything still holds it without the record too."""
    try:
        with project.opened() as log:
            freezes.record(log, asked, held)
    except (KeyturnError, OSError) as fault:
        said = held.get("unknown")
        more = [*(said if isinstance(said, list) else []), f"log: the freeze is not recorded yet: {fault}"]
        return _said(asked, {**held, "unknown": [*more]})
    return _said(asked, held)


def _said(asked: Freeze, held: Document) -> Document:
    return {
        **held,
        "freeze": asked.id,
        "by": asked.by,
        "reason": asked.reason,
        "at": asked.at,
        "until_at": asked.until_at,
    }


def _doing(state: State, step: agenda.Step) -> str:
    """What the sandboxes belong to, in words."""
    match step:
        case agenda.Improve():
            return f"generation {step.generation} makes candidate {step.attempt}"
        case agenda.Try():
            return f"trial `{step.candidate}/{step.threshold}`"
        case _:
            return "nothing that runs sealed"
