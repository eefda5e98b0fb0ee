"""What else the governor's door answers beside a halt: a copy that registers, and a drill.

Each runs in the thread of whoever knocked, with a log of its own, so that neither the loop nor a halt waits for it.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyturn.app.operating.drilling import drill
from keyturn.app.sealed import Sealed
from keyturn.app.wiring import FileLatch
from keyturn.core.errors import Conflict
from keyturn.core.events import Document
from keyturn.core.policy import Policy
from keyturn.core.state import State
from keyturn.core.terms import Instant
from keyturn.flow.control import COPY, DRILL, Ask
from keyturn.flow.ports import HeldStill, Interrupted

if TYPE_CHECKING:
    from keyturn.app.project import Project


@dataclass(frozen=True, slots=True)
class Asks:
    """The requests of one governor's door, by what they are called in `do`."""

    project: Project
    sealed: Sealed
    latch: FileLatch
    policy: Policy

    @property
    def lease_seconds(self) -> float:
        """How long a copy may hear nothing before it must end itself."""
        return float(self.policy.lease_seconds)

    def by_name(self) -> dict[str, Ask]:
        """Who answers what."""
        return {DRILL: self.drill, COPY: self.copy}

    def drill(self, request: Mapping[str, object], connection: socket.socket) -> Document:
        """Measure a halt beside what runs, and put it into the log."""
        drilled = drill(self.sealed, self.latch, self.policy)
        with self.project.opened() as log:
            return drilled.recorded(log, by=str(request.get("by", "somebody")))

    def copy(self, request: Mapping[str, object], connection: socket.socket) -> None:
        """Take a copy in hand, with its connection; raises `Conflict` while halted or without a permit in force."""
        permit = str(request.get("permit", ""))[:100]
        with self.project.opened() as log:
            why = refused(log.state, permit, log.now())
        if why:
            raise Conflict(why, help="`keyturn permit show`; `keyturn status`")
        try:
            with self.latch.guard():
                self.sealed.copies.admit(connection, permit, lease_seconds=self.lease_seconds)
        except Interrupted as halted:
            raise Conflict("a halt stands", help="`keyturn status`") from halted
        except HeldStill as still:
            raise Conflict("everything is held still", help="`keyturn thaw` first") from still

    def revoked(self) -> Collection[str]:
        """The permits that were ended, as the log says now."""
        with self.project.opened() as log:
            return log.state.revoked


def refused(state: State, permit: str, now: Instant) -> str:
    """Why nobody may hold a copy under this permit now; empty where one may."""
    issued = state.permits.get(permit)
    if state.halt is not None:
        return "a halt stands"
    if issued is None:
        return f"`{permit}` is not a permit of this project"
    if permit in state.revoked:
        return f"`{permit}` was revoked"
    if not issued.not_before <= now < issued.not_after:
        return f"`{permit}` is not in force now"
    return ""
