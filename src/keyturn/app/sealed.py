"""Improve steps and trials run sealed: the flow's ports, made of the sandbox and the trials room.

It carries out and reports; every verdict, refusal and incident is the flow's and the core's.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from keyturn.app import specs
from keyturn.app.copies.desk import Desk
from keyturn.app.copies.receipts import beside, receipt_document, whole
from keyturn.app.machine.containment import Containment
from keyturn.app.operating import operation
from keyturn.app.parking import Files, Parking, SpecOf
from keyturn.app.sealing.trial import SealedTrial, decoy_alarms
from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.events import Document
from keyturn.core.policy import Policy, Suite
from keyturn.core.terms import Json
from keyturn.flow import ports
from keyturn.flow.halt import unseen
from keyturn.flow.ports import (
    Alarm,
    HeldStill,
    Improved,
    Interrupted,
    Latch,
    OnAttested,
)
from keyturn.sandbox import open_backend
from keyturn.sandbox.port import Backend, Exit, Running, Runtime, Spec
from keyturn.trials.grader import GraderProcess

LOOK_SECONDS = 0.05


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
        own = open_backend(home / "run", runtime_cache=home / "runtime.json")
        try:
            chosen = _backend(home)
        except (KeyturnError, OSError) as fault:
            sweeper = _Sweeper(own, home, None, lambda _: None)
            sweeper.unread = f"engine: the one that the operator chose could not be opened: {fault}"
            return sweeper
        sweeper = _Sweeper(chosen, home, None, lambda _: None)
        if type(chosen) is not type(own):
            sweeper.beside = own  # the governor that hangs may be older than the choice
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
    beside: Backend | None = None

    def halt_all(self, why: str) -> Document:
        here = self.beside.sweep() if self.beside is not None else None  # first: an engine may take its time
        receipt = {**self.sweep(), "why": why}
        receipt = beside(receipt, here) if here is not None else receipt
        return unseen(receipt, self.unread) if self.unread else receipt


def _improved(policy: Policy, running: Running, ended: Exit) -> Improved:
    """How the step ended, in the flow's words; files only from a step that ended well and left what it declared."""
    if ended.reason in {"lost", "lease"} and not ended.decoys:  # a thief who also brings his sandbox down stays a thief
        raise Unavailable(
            f"the sandbox failed during an improve step ({ended.reason})", help="run again; the step is done afresh"
        )
    alarms = decoy_alarms(ended.decoys)
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
