"""The flow's port `Improver` for a loop that others wrote: serves one step to whoever is at the run connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from keyturn.app import specs
from keyturn.app.loop import words
from keyturn.app.loop.books import Books
from keyturn.app.loop.desk import Desk
from keyturn.app.loop.door import Connection, Door
from keyturn.app.loop.judging import Judging
from keyturn.app.loop.reader import Reader
from keyturn.app.loop.step import BEAT_SECONDS, Step
from keyturn.app.loop.warm import PROGRAMS_MAX, Pool
from keyturn.app.parking import Files
from keyturn.app.sealed import Sealed
from keyturn.core.errors import MalformedInput, invariant
from keyturn.core.policy import Loop, Policy
from keyturn.flow.ports import Improved, Interrupted, Leave, OnAttested, OnPrograms
from keyturn.ledger.shelf import Shelf
from keyturn.wire.digest import sha256

PROGRAMS = "programs"
"""The folder in the governor's own, where programs and what was seen of them lie by digest."""


@dataclass(slots=True)
class LoopImprover:
    """Serves one improve step to the loop at the other end of `run`. `leave` is what it was given, once it was."""

    sealed: Sealed
    door: Door
    run: Connection
    warm: int
    tell: Callable[[str], None]
    leave: Leave | None = None

    def improve(
        self, policy: Policy, parent: Files, *, leave: Leave, on_attested: OnAttested, on_programs: OnPrograms
    ) -> Improved:
        """The whole run of a loop is one step; see the port `Improver`."""
        invariant(self.leave is None, "a loop is served one step, and then it has ended")
        loop = loop_of(policy)
        self.sealed.containment.ensure(policy.sandbox.check_seconds)
        self.leave = leave
        step = self._step(policy, loop, parent, leave=leave, on_attested=on_attested, on_programs=on_programs)
        bytes_max = bytes_max_of(policy)
        self.door.holder = Desk(step, parent, bytes_max, float(loop.program_seconds))
        text = parent[loop.program]
        said = words.leave(
            leave,
            parent=sha256(text),
            parent_bytes=len(text),
            bytes_max=bytes_max,
            seconds_max=loop.program_seconds,
        )
        try:
            return step.go(lambda: self.door.send(self.run, said, blob=text))
        except Interrupted:
            self.sealed.halted.clear()
            self._dismiss("a halt stopped everything", halted=True)
            raise
        finally:
            self.door.holder = None
            self.door.shut()
            self._dismiss("the loop's step is over")
            step.close()

    def _step(
        self,
        policy: Policy,
        loop: Loop,
        parent: Files,
        *,
        leave: Leave,
        on_attested: OnAttested,
        on_programs: OnPrograms,
    ) -> Step:
        sealed, bytes_max = self.sealed, bytes_max_of(policy)
        shelf = Shelf(sealed.home / PROGRAMS)
        runtime = sealed.runtime(policy.subject.runtime)
        spec = specs.waiting(
            policy, runtime, sealed.runner(), seconds=float(loop.program_seconds), programs_max=PROGRAMS_MAX
        )
        return Step(
            sealed,
            self.door,
            self.run,
            Books(loop, leave, shelf, on_programs, self.tell, lambda: time.time_ns() // 1_000_000),
            Judging(loop, bytes_max, leave.attempt),
            Pool(sealed.backend, spec, sealed.containment.attest, sealed.guard, self.warm),
            Reader(self.door, loop, parent=parent[loop.program], bytes_max=bytes_max),
            on_attested,
            min(BEAT_SECONDS, policy.lease_seconds / 3),
        )

    def _dismiss(self, why: str, *, halted: bool = False) -> None:
        """Let go of everyone but the loop itself, which still waits for its outcome unless all is halted."""
        for connection in self.door.everyone():
            if connection is not self.run or halted:
                self.door.send(connection, words.stop(why, halted=halted))
                self.door.finish(connection)


def loop_of(policy: Policy) -> Loop:
    """What the policy says of its loop; raises `MalformedInput` where it has none."""
    if policy.loop is None:
        raise MalformedInput(
            "the policy in force has no table `[loop]`: its subject makes its own candidates",
            help="`keyturn run` runs it; a policy for a loop has `[loop]` and no `subject.improve`",
        )
    return policy.loop


def bytes_max_of(policy: Policy) -> int:
    """How large a program may be: as large as the declared file that one of them becomes."""
    name = loop_of(policy).program
    return next(rule.bytes_max for rule in policy.subject.files if rule.name == name)
