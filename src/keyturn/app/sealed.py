"""Improve steps and trials run sealed: the flow's ports, made of the sandbox and the trials room.

It carries out and reports; every verdict, refusal and incident is the flow's and the core's.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from keyturn.app import specs
from keyturn.app.copies.desk import Desk
from keyturn.app.copies.receipts import receipt_document, whole
from keyturn.app.machine.containment import Containment
from keyturn.app.operating import operation
from keyturn.app.parking import Files, Parking, SpecOf
from keyturn.core.betting import Process
from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.events import Document
from keyturn.core.policy import Policy, Suite
from keyturn.core.terms import Json
from keyturn.core.trial import TrialPlan
from keyturn.flow import ports
from keyturn.flow.halt import unseen
from keyturn.flow.ports import (
    Alarm,
    Alarmed,
    Attested,
    Bank,
    BlockRead,
    HeldStill,
    Improved,
    Interrupted,
    Latch,
    OnAttested,
)
from keyturn.sandbox import open_backend
from keyturn.sandbox.freezing.clock import subject_time
from keyturn.sandbox.port import Backend, DecoyOpened, Exit, Running, Runtime, Spec
from keyturn.trials.channel import FdChannel
from keyturn.trials.grader import GraderProcess, Planned
from keyturn.trials.link import Allowance, LinkLimits
from keyturn.trials.run import RESTARTS_MAX, BlockResult, Parties, run_trial

LOOK_SECONDS = 0.05
ANSWER_LINK = LinkLimits(bytes_max=16 << 20, frames_max=100_000)


@dataclass(slots=True)
class Sealed:
    """The sandbox of one project, as the flow's `Improver`, `Trials` and `Halter`."""

    backend: Backend
    home: Path
    latch: Latch | None
    tell: Callable[[str], None]
    halted: threading.Event = field(default_factory=threading.Event)
    parking: Parking = field(init=False)
    copies: Desk = field(init=False)
    containment: Containment = field(init=False)
    left: Document = field(default_factory=dict)
    staged_runner: Path | None = None
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    spare: dict[tuple[str, ...], GraderProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parking = Parking(self.backend, self.home / "run")
        self.copies = Desk(self.home / "copies", self.tell)
        self.containment = Containment(self.backend, self.tell, self._undisturbed)

    @classmethod
    @contextmanager
    def start(cls, home: Path, latch: Latch, tell: Callable[[str], None]) -> Iterator[Sealed]:
        """The sandbox; whatever an earlier governor left alive is killed first, and only in our own cgroup.

        `left` is the receipt of that, with the copies that the earlier one knew: without it they have no lease.
        """
        backend = _backend(home)
        sealed = cls(backend, home, latch, tell)
        sealed.left = sealed.sweep()
        alive = sealed.left["processes_before"]
        if alive:
            tell(f"{alive} process(es) of an earlier governor were alive: {sealed.left['state']}")
        try:
            yield sealed
        finally:
            if latch.frozen() is not None:  # whoever waits to be let go on would wait for somebody who has left
                sealed.halt_all("the governor ends while everything is held still")
            sealed.parking.close()
            sealed.copies.close()
            backend.close()
            for grader in sealed.spare.values():
                grader.__exit__(None, None, None)

    @classmethod
    def halter(cls, home: Path) -> Sealed:
        """Only the means to kill, for a second process that finds no governor to ask.

        An engine that cannot be reached, or not even be read of, keeps nobody from killing what runs on this machine.
        """
        try:
            return _Sweeper(_backend(home), home, None, lambda _: None)
        except KeyturnError as fault:
            own = open_backend(home / "run", runtime_cache=home / "runtime.json")
            sweeper = _Sweeper(own, home, None, lambda _: None)
            sweeper.unread = f"engine: the one that the operator chose could not be opened: {fault.message}"
            return sweeper

    def halt_all(self, why: str) -> Document:
        """Kill everything that runs sealed; see the port `Halter`."""
        self.halted.set()
        receipt = self.backend.halt_all(why, self.copies.strike)
        return whole(receipt_document(receipt), self.copies.prove())

    def sweep(self) -> Document:
        """Kill and receipt what is left of an earlier governor, the copies that it knew included."""

        def also() -> None:
            self.copies.load()
            self.copies.strike()

        receipt = self.backend.sweep(also)
        return whole(receipt_document(receipt), self.copies.prove())

    def freeze(self, seconds: float) -> Document:
        """Hold everything that runs sealed still; see the flow's `Freezer`."""
        held = self.backend.freeze(seconds)
        return {**asdict(held), "unknown": list(held.unknown)}

    def thaw(self) -> None:
        """Let it go on."""
        self.backend.thaw()

    def look(self) -> list[Json]:
        """What runs sealed now, as the kernel tells of it, each with the part that it takes."""
        return [{**asdict(each), "part": self.parts.get(each.id, "")} for each in self.backend.look()]

    # --- improve

    def improve(
        self, policy: Policy, parent: Files, *, leave: ports.Leave, on_attested: OnAttested, on_programs: object
    ) -> Improved:
        """One improve step; see the port `Improver`."""
        self.containment.ensure(policy.sandbox.check_seconds)
        environment = {"KEYTURN_SEED": str(leave.seed), "KEYTURN_GENERATION": str(leave.generation)}

        def spec(folder: Path) -> Spec:
            return specs.improve(policy, self.runtime(policy.subject.runtime), folder, environment)

        running, folder = self.launch("parent", parent, spec, on_attested)
        try:
            ended = running.wait(on_tick=lambda: not self.halted.is_set() and not running.decoys())
            self.check_halted()
            return _improved(policy, running, ended)
        finally:
            self.parking.clear(running, folder)

    def launch(self, name: str, files: Files, spec: SpecOf, on_attested: OnAttested) -> tuple[Running, Path]:
        """Park, attest, have it recorded, and go; the latch is looked at under its lock right before."""
        self.check_halted()
        parked, folder = self.parking.take(name, files, spec)
        self.parts = {**self.parts, parked.id: name}
        try:
            on_attested(self.containment.attest(parked))
            with self.guard():
                return parked.go(), folder
        except BaseException as fault:
            if isinstance(fault, Interrupted):
                self.halted.clear()
            self.parking.clear(parked, folder)
            raise

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Hold the latch's lock while something is launched, from any thread; waits while everything is held still.

        Raises `Interrupted` on a halt.
        """
        with ExitStack() as stack:
            while True:
                if self.latch is None or self.halted.is_set():
                    raise Interrupted
                try:
                    stack.enter_context(self.latch.guard())
                except HeldStill:
                    time.sleep(LOOK_SECONDS)
                else:
                    break
            if self.halted.is_set():
                raise Interrupted
            yield

    def check_halted(self) -> None:
        """Raise `Interrupted` once for a halt that arrived."""
        if self.halted.is_set():
            self.halted.clear()
            raise Interrupted

    def _undisturbed(self) -> None:
        """Raise `Interrupted` for a halt by whatever door: a check that one fell into shows nothing."""
        self.check_halted()
        with self.guard():
            pass

    # --- trials

    @contextmanager
    def open(self, policy: Policy, suite: Suite, *, seed: str) -> Iterator[SealedTrial]:
        """Start the grader, outside the candidate's reach, on the bank that `seed` names."""
        self.containment.ensure(policy.sandbox.check_seconds)
        grader = self._grader(suite.grader)
        try:
            planned = grader.plan(suite=suite.exam, seed=seed, items=suite.items_max)
            yield SealedTrial(self, policy, grader, planned)
        finally:
            grader.__exit__(None, None, None)

    def _grader(self, command: tuple[str, ...]) -> GraderProcess:
        """A fresh grader for every trial; the next one starts up meanwhile, so that nobody waits for its imports."""
        grader = self.spare.pop(command, None) or self._started(command)
        self.spare[command] = self._started(command)
        return grader

    def _started(self, command: tuple[str, ...]) -> GraderProcess:
        argv = [sys.executable if command[0] == "python" else command[0], *command[1:]]
        return GraderProcess(argv, on_tick=self.check_halted, cwd="/").__enter__()

    def runner(self) -> Path:
        """Our runner of a loop's programs, staged when it is first needed."""
        if self.staged_runner is None:
            self.staged_runner = specs.stage_runner(self.home / "runner")
        return self.staged_runner

    def runtime(self, name: str) -> Runtime:
        """The runtime, with a digest over its files as they were when this governor started."""
        if name not in self.runtimes:
            self.runtimes[name] = self.backend.runtime(name)
        return self.runtimes[name]


def _backend(home: Path) -> Backend:
    """The sandbox that the operator of this project chose."""
    return open_backend(home / "run", runtime_cache=home / "runtime.json", choice=operation.read(home.parent).sandbox)


@dataclass(slots=True)
class _Sweeper(Sealed):
    """A halter without a governor: what it can kill is what lives in the project's own cgroup, or with its engine."""

    unread: str = ""

    def halt_all(self, why: str) -> Document:
        receipt = {**self.sweep(), "why": why}
        return unseen(receipt, self.unread) if self.unread else receipt


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
                self.alarms += _decoy_alarms(opened, "" if member == "candidate" else f" by the reference `{member}`")
                running.halt("a decoy was opened")


def _lost(running: Running) -> str | None:
    """Why the sandbox itself failed, or None when it was the subject that ended or fell silent."""
    if running.tick():
        return None
    ended = running.wait(timeout=1.0)
    return "the sandbox went away without a word" if ended.reason in ("lost", "lease") else None


def _decoy_alarms(decoys: Sequence[DecoyOpened], whose: str = "") -> list[Alarm]:
    return [Alarm("decoy_opened", f"the decoy `{decoy.name}` was {decoy.how}{whose}") for decoy in decoys[:1]]


def _improved(policy: Policy, running: Running, ended: Exit) -> Improved:
    """How the step ended, in the flow's words; files only from a step that ended well and left what it declared."""
    if ended.reason in {"lost", "lease"} and not ended.decoys:  # a thief who also brings his sandbox down stays a thief
        raise Unavailable(
            f"the sandbox failed during an improve step ({ended.reason})", help="run again; the step is done afresh"
        )
    alarms = _decoy_alarms(ended.decoys)
    if ended.left_running:
        alarms.append(Alarm("processes_left", f"{ended.left_running} process(es) were left running; they are dead"))
    outcome, detail = _outcome(ended)
    if outcome == "overran":
        alarms.append(Alarm("limit_reached", detail))
    files: Mapping[str, bytes] = {}
    claim = b""
    if outcome == "produced":
        taken = running.collect(tuple((rule.name, rule.bytes_max) for rule in policy.subject.files))
        files = {name: data for name, data in taken.files.items() if name != "claim.json"}
        claim = taken.files.get("claim.json", b"")
        if taken.findings:
            outcome, files = "refused", {}
            detail = "; ".join(finding.message for finding in taken.findings)
            alarms.append(Alarm("undeclared_output", detail))
    return Improved(
        outcome=outcome,
        detail=detail,
        cpu_seconds=ended.cpu_seconds,
        wall_seconds=ended.wall_seconds,
        processes_left=ended.left_running,
        diagnostics=ended.diagnostics,
        files=files,
        claim=claim,
        alarms=tuple(alarms),
    )


def _outcome(ended: Exit) -> tuple[str, str]:
    if ended.decoys:
        return "tripped", f"the decoy `{ended.decoys[0].name}` was {ended.decoys[0].how}"
    what = {"wall": "its time", "memory": "its memory", "cpu": "its processor time"}.get(ended.reason)
    if what is not None:
        return "overran", f"the step used up {what} and was stopped"
    if ended.code != 0:
        how = f"code {ended.code}" if ended.code is not None else f"signal {ended.signal}"
        return "failed", f"the step ended with {how}"
    return "produced", ""
