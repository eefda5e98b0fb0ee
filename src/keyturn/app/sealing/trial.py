"""One trial under way: every member answers from a sandbox of its own, and the grader asks from outside.

Whoever touched a decoy is stopped at once, references too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.app import specs
from keyturn.app.parking import Files, SpecOf
from keyturn.core.betting import Process
from keyturn.core.errors import Unavailable
from keyturn.core.policy import Policy
from keyturn.core.trial import TrialPlan
from keyturn.flow.ports import (
    Alarm,
    Alarmed,
    Attested,
    Bank,
    BlockRead,
)
from keyturn.sandbox.freezing.clock import subject_time
from keyturn.sandbox.port import DecoyOpened, Running, Spec
from keyturn.trials.channel import FdChannel
from keyturn.trials.grader import GraderProcess, Planned
from keyturn.trials.link import Allowance, LinkLimits
from keyturn.trials.run import RESTARTS_MAX, BlockResult, Parties, run_trial

if TYPE_CHECKING:
    from keyturn.app.sealed import Sealed

ANSWER_LINK = LinkLimits(bytes_max=16 << 20, frames_max=100_000)


@dataclass(slots=True)
class SealedTrial:
    """One trial under way; see the port `TrialSession`."""

    sealed: Sealed
    policy: Policy
    grader: GraderProcess
    planned: Planned
    alarms: list[Alarm] = field(default_factory=list)
    told: int = 0
    seats: dict[str, tuple[Running, Path]] = field(default_factory=dict)
    allowances: dict[str, Allowance] = field(default_factory=dict)

    @property
    def bank(self) -> Bank:
        """The hidden items, by digest and number."""
        return Bank(self.planned.bank, self.planned.items, self.planned.clusters)

    def run(
        self,
        plan: TrialPlan,
        order: Sequence[int],
        process: Process,
        members: Mapping[str, Mapping[str, bytes]],
        *,
        faults_before: int,
        on_attested: Callable[[str, Attested], None],
        on_block: Callable[[BlockRead], None],
        output_bytes_max: int | None = None,
    ) -> tuple[Alarm, ...]:
        """Ask block by block; every member answers from a sandbox of its own."""
        share = None if output_bytes_max is None else output_bytes_max // len(members)  # one cannot talk away another's
        self.allowances = {member: Allowance(share) for member in members}
        for member, files in members.items():  # all begin to be built; then each is attested and let go in turn
            self._park_ahead(member, files)

        def seat(member: str) -> FdChannel:
            return self._seat(member, members[member], on_attested)

        def block_read(block: BlockResult) -> None:
            self._look_at_decoys()
            said = sum(allowance.taken() for allowance in self.allowances.values())
            read = (block.start, block.values, block.faults, block.process)
            on_block(BlockRead(*read, self._untold(), said))

        try:
            channels = {name: seat(name) for name in members}
            self._park_ahead("candidate", members["candidate"])  # for its next trial
            run_trial(
                plan,
                order,
                process,
                planned=self.planned,
                parties=Parties(self.grader, channels, lambda: seat("candidate")),
                on_block=block_read,
                faults_before=faults_before,
            )
        except Unavailable as fault:
            self._stand_up(*self.seats)
            alarms = self._untold()
            if alarms:
                raise Alarmed(fault, alarms) from fault
            raise
        finally:
            self._stand_up(*self.seats)
        return self._untold()

    def _untold(self) -> tuple[Alarm, ...]:
        """The alarms that have not been handed over yet."""
        fresh = tuple(self.alarms[self.told :])
        self.told = len(self.alarms)
        return fresh

    def _park_ahead(self, member: str, files: Files) -> None:
        self.sealed.parking.ahead(member, files, self._spec_of(member))

    def _spec_of(self, member: str) -> SpecOf:
        """A reference may stay for as long as every candidate that it waits for, and a little more."""
        sealed, policy, wall = self.sealed, self.policy, float(self.policy.sandbox.wall_seconds)
        runner = sealed.runner() if policy.loop else None
        runtime, wall_seconds = policy.subject.runtime, wall if member == "candidate" else wall * (RESTARTS_MAX + 2)

        def spec(folder: Path) -> Spec:
            return specs.answer(policy, sealed.runtime(runtime), folder, runner=runner, wall_seconds=wall_seconds)

        return spec

    def _seat(self, member: str, files: Files, on_attested: Callable[[str, Attested], None]) -> FdChannel:
        """Seat a member in a fresh sandbox; an older one in the same seat is killed before the new one starts."""
        self._stand_up(member)
        running, folder = self.sealed.launch(
            member, files, self._spec_of(member), lambda seen: on_attested(member, seen)
        )
        self.seats[member] = running, folder
        return FdChannel(
            read_fd=running.stdout_fd,
            write_fd=running.stdin_fd,
            on_tick=self._tick,
            limits=ANSWER_LINK,
            clock=subject_time,
            sandbox_fault=lambda: self._fault(running),
            allowance=self.allowances[member],
        )

    def _fault(self, running: Running) -> str | None:
        """Why the sandbox itself failed; what a halt killed is nobody's fault, so it raises `Interrupted` instead."""
        self.sealed.check_halted()
        return _lost(running)

    def _stand_up(self, *members: str) -> None:
        """Kill, and look at the decoys once more: nobody can touch one any more, and what was touched is told."""
        for member in [each for each in members if each in self.seats]:
            running, folder = self.seats[member]
            running.halt("its part in the trial is over")
            self._look_at_decoys()
            del self.seats[member]
            self.sealed.parking.clear(running, folder)

    def _tick(self) -> None:
        """Renew every lease, notice decoys, and stop at once on a halt."""
        self.sealed.check_halted()
        self.sealed.parking.tick()
        for running, _ in self.seats.values():
            running.tick()
        self._look_at_decoys()

    def _look_at_decoys(self) -> None:
        """Stop whoever touched a decoy, references too; the first who did raises the alarm."""
        for member, (running, _) in self.seats.items():
            opened = running.decoys()
            if opened and not self.alarms:
                self.alarms += decoy_alarms(opened, "" if member == "candidate" else f" by the reference `{member}`")
                running.halt("a decoy was opened")


def _lost(running: Running) -> str | None:
    """Why the sandbox itself failed, or None when it was the subject that ended or fell silent."""
    if running.tick():
        return None
    ended = running.wait(timeout=1.0)
    return "the sandbox went away without a word" if ended.reason in ("lost", "lease") else None


def decoy_alarms(decoys: Sequence[DecoyOpened], whose: str = "") -> list[Alarm]:
    """The alarm for what was touched, if anything was: the first touch says enough."""
    return [Alarm("decoy_opened", f"the decoy `{decoy.name}` was {decoy.how}{whose}") for decoy in decoys[:1]]
