"""A sealed runner that runs nothing: tiny synthetic candidates, fast, and the same on every machine.

It implements the flow's ports `Improver`, `Trials` and `Halter`. What a candidate is lies in its one file: how often it
breaks its promise, how strong it is, what it claims. What an attempt does follows from the founder's file and the seed:

    honest   breaks little, weak, claims what is true
    drift    breaks often                                   strong  is not shown to be below the capability line
    lies     claims far more than it shows                  same    hands in its parent's bytes
    decoy    opens a decoy while improving                  exam    opens a decoy while it is tried
    leaves   leaves processes behind                        fails   ends without a candidate
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from keyturn.core import betting
from keyturn.core.betting import Process
from keyturn.core.errors import Unavailable
from keyturn.core.events import Document
from keyturn.core.policy import Policy, Suite
from keyturn.core.terms import Digest
from keyturn.core.trial import TrialPlan, finished, next_block, paired
from keyturn.flow.ports import (
    Alarm,
    Attested,
    Bank,
    BlockRead,
    Improved,
    Interrupted,
    Latch,
    Leave,
    OnAttested,
    OnPrograms,
    TrialSession,
)

ATTEMPTS_MAX = 1000
FILE = "subject.json"
BYTES_SAID = 1000
"""What an answer to one item is taken to say, where somebody counts."""

Files = Mapping[str, bytes]

TRAITS: Mapping[str, Mapping[str, float]] = {
    "": {"broken": 0.02, "score": 0.1, "win": 0.5, "claim": 0.5},
    "drift": {"broken": 0.7, "score": 0.1, "win": 0.5, "claim": 0.5},
    "strong": {"broken": 0.02, "score": 0.95, "win": 0.5, "claim": 0.5},
    "lies": {"broken": 0.02, "score": 0.1, "win": 0.02, "claim": 0.9},
}


def founder(traits: Mapping[int, str] | None = None) -> dict[str, bytes]:
    """The founder's files; `traits` says which attempt is what, and is handed down unchanged."""
    plan = {str(number): trait for number, trait in (traits or {}).items()}
    return _written({**TRAITS[""], "salt": "founder", "exam": 0, "traits": plan})


def _written(body: Mapping[str, object]) -> dict[str, bytes]:
    return {FILE: json.dumps(body, sort_keys=True).encode()}


def _read(files: Files) -> dict[str, object]:
    (data,) = files.values()
    body = json.loads(data)
    assert isinstance(body, dict)
    return body


def child(parent: Files, seed: int) -> Improved:
    """What an attempt with this seed makes of this parent; the whole of it follows from the two."""
    body = _read(parent)
    traits = body["traits"]
    trait = str(traits.get(str(seed % ATTEMPTS_MAX), "")) if isinstance(traits, dict) else ""
    made = {**body, **TRAITS.get(trait, TRAITS[""]), "salt": f"{seed}", "exam": int(trait == "exam")}
    files = parent if trait == "same" else _written(made)
    claim = json.dumps({"win": made["claim"], "boast": "I am the best"}).encode()
    if trait == "decoy":
        return _ended(
            "tripped", "the decoy `vault` was opened", (Alarm("decoy_opened", "the decoy `vault` was opened"),)
        )
    if trait == "fails":
        return _ended("failed", "the step ended with code 1")
    left = (Alarm("processes_left", "2 process(es) were left running; they are dead"),) if trait == "leaves" else ()
    return Improved("produced", "", 0.25, 0.5, 2 if left else 0, b"made it\n", dict(files), claim, left)


def _ended(outcome: str, detail: str, alarms: tuple[Alarm, ...] = ()) -> Improved:
    return Improved(outcome, detail, 0.25, 0.5, 0, b"went wrong\n", alarms=alarms)


def chance(*parts: object) -> float:
    """A number in [0, 1) that follows from the parts."""
    data = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(data[:6], "big") / 2**48


CHECK: Document = {"suite": "sha256:" + "c" * 64, "held": 27, "scored": 28, "controlled": 20, "tier": "T4", "at": 1}
"""The containment check that every fake sandbox rests on."""

Boundary = Callable[[str], None]
"""Called before and after everything that outlives the process, or that a crash could cut short."""


@dataclass(slots=True)
class FakeRunner:
    """The fake; `alive` counts what would be running, `asked` keeps every item ever asked, `tier` is attested."""

    latch: Latch
    boundary: Boundary = lambda _: None
    tier: str = "T2"
    problems: tuple[str, ...] = ()
    alive: int = 0
    halted: bool = False
    unproven: bool = False
    receipts: int = 0
    launches: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)
    broken: str = ""

    # --- Halter

    def halt_all(self, why: str) -> Document:
        """Kill at once; the receipt says how many there were."""
        before, self.alive, self.halted = self.alive, 0, True
        self.receipts += 1
        self.boundary("kill")
        state = "UNPROVEN" if self.unproven else "STOPPED"
        return {"scope": "every sandbox", "why": why, "processes_before": before, "survivors": 0, "state": state}

    # --- Improver

    def improve(
        self, policy: Policy, parent: Files, *, leave: Leave, on_attested: OnAttested, on_programs: OnPrograms
    ) -> Improved:
        """One improve step; see the port."""
        with self.launched("improve", on_attested):
            return child(parent, leave.seed)

    # --- Trials

    @contextmanager
    def open(self, policy: Policy, suite: Suite, *, seed: str) -> Iterator[TrialSession]:
        """The suite's bank, which follows from the seed."""
        self.boundary("grader")
        yield FakeTrial(self, suite, seed)

    # --- inside

    @contextmanager
    def launched(self, what: str, on_attested: Callable[[Attested], None]) -> Iterator[None]:
        """Something runs sealed, unless a halt stands; one that comes meanwhile ends it."""
        if self.broken == what:
            raise Unavailable("the sandbox failed", help="run again")
        self.halted = False
        on_attested(Attested(self.tier, {"seccomp": "on", "network": "none", "check": dict(CHECK)}, self.problems))
        with self.latch.guard():
            self.launches += 1
            self.alive += 1
        try:
            self.boundary(what)
            self.check()
            yield
            self.check()
        finally:
            self.alive = 0

    def check(self) -> None:
        """Notice a halt."""
        if self.halted:
            self.halted = False
            raise Interrupted


@dataclass(slots=True)
class FakeTrial:
    """One trial; item i of the bank is answered as the candidate's own figures say."""

    runner: FakeRunner
    suite: Suite
    seed: str

    @property
    def bank(self) -> Bank:
        """As many items as the suite may use, each standing alone."""
        digest = hashlib.sha256(f"{self.suite.exam}/{self.suite.items_max}/{self.seed}".encode()).hexdigest()
        return Bank(Digest("sha256:" + digest), self.suite.items_max, ())

    def value(self, files: Files, item: int) -> float:
        """Whether this member scores on this item."""
        body = _read(files)
        rate = body[self.suite.exam]
        assert isinstance(rate, int | float)
        return 1.0 if chance(body["salt"], self.suite.exam, item) < rate else 0.0

    def run(
        self,
        plan: TrialPlan,
        order: Sequence[int],
        process: Process,
        members: Mapping[str, Files],
        *,
        faults_before: int,
        on_attested: Callable[[str, Attested], None],
        on_block: Callable[[BlockRead], None],
        output_bytes_max: int | None = None,
    ) -> tuple[Alarm, ...]:
        """Ask block by block; see the port."""
        for member in sorted(members, reverse=True):
            with self.runner.launched("trial", partial(on_attested, member)):
                pass
        opened = bool(_read(members["candidate"])["exam"])
        while not finished(plan, process):
            with self.runner.launched("trial", lambda _: None):
                positions = next_block(plan, process).positions
                values = [self._one(plan, order[position], members) for position in positions]
                self.runner.asked += [(f"{plan.threshold}", position) for position in positions]
            start, after = process.n, process
            for value in values:
                if not finished(plan, after):
                    after = betting.advance(after, value)
            alarms = (Alarm("decoy_opened", "the decoy `exam` was opened"),) if opened else ()
            said = 0 if output_bytes_max is None else min(BYTES_SAID * len(values), output_bytes_max)
            on_block(BlockRead(start, tuple(values[: after.n - start]), (), after, alarms, said))
            process = after
        return ()

    def _one(self, plan: TrialPlan, item: int, members: Mapping[str, Files]) -> float:
        value = self.value(members["candidate"], item)
        if not plan.reference:
            return value
        return paired(candidate=value, reference=self.value(members[plan.reference], item))
