"""A loop of somebody else's that runs nothing: a step makes a handful of tiny programs, and proposes the last good one.

What a step does follows from the founder's file and the seed, as with `FakeRunner`, and from the warrant's bounds. Of
its programs every third is refused for its score. The traits of a step may also be:

    stray    proposes a program that was refused        foreign  proposes a program that nobody judged
    thief    a program touches a decoy and is refused   leaves   a program leaves a process behind
    charmer  a program that touched a decoy is handed in as admitted
    free     its endpoint reports no price              silent   never says that its last batch is closed
    idle     ends without a candidate                   gone     the loop goes away, and the step stays open
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from keyturn.core.bounds import Used, findings
from keyturn.core.errors import Unavailable
from keyturn.core.policy import Policy
from keyturn.core.programs import ADMITTED, REFUSED, Judged
from keyturn.core.terms import Digest
from keyturn.flow.ports import Alarm, Batch, Improved, Leave, OnAttested, OnPrograms
from keyturn.wire.digest import sha256
from tests.fakes.runner import ATTEMPTS_MAX, FILE, FakeRunner, Files, child

LOOP = {"program": FILE, "protect": "nothing", "batch": 3, "program_seconds": 10}
PROGRAMS = 7
MISBEHAVING = 4
"""Which program of a step does what its trait says."""


def programs(parent: Files, seed: int) -> list[bytes]:
    """The texts that a step makes, in order."""
    return [child(parent, seed + ATTEMPTS_MAX * number).files[FILE] for number in range(1, PROGRAMS + 1)]


def trait_of(parent: Files, seed: int) -> str:
    """What this step does."""
    traits = json.loads(parent[FILE])["traits"]
    return str(traits.get(str(seed % ATTEMPTS_MAX), ""))


@dataclass(slots=True)
class _Step:
    """One run of the loop under way."""

    leave: Leave
    on_programs: OnPrograms
    trait: str
    batch_max: int
    rows: list[Judged]
    alarms: list[Alarm]
    used: Used
    logged: Used

    def flush(self, *, closing: bool = False, lost: int = 0) -> None:
        """Log what there is; what an earlier run lost is charged in an entry of its own."""
        batch = Batch(tuple(self.rows), self.used, lost, closing, tuple(self.alarms))
        self.logged, self.rows, self.alarms, self.used = self.logged + self.used, [], [], Used()
        self.on_programs(batch)

    def open(self) -> None:
        """Charge what an earlier run may have run unlogged."""
        bounds, lost = self.leave.bounds, self.batch_max
        if bounds is not None:
            lost = max(0, min(lost, bounds.programs_max - self.leave.used.programs))
        if self.leave.open_batch:
            self.used = Used(programs=lost)
            self.flush(lost=lost)

    def over(self) -> bool:
        """Whether the bounds leave room for no further program."""
        spent = self.leave.used + self.logged + self.used
        return self.leave.bounds is not None and bool(findings(self.leave.bounds, spent))

    def judge(self, number: int, text: bytes) -> None:
        """One program runs and is judged."""
        name = sha256(text)
        rule = "score_must_be_a_number" if number % 3 == 2 else ""
        if number == MISBEHAVING and self.trait in {"thief", "leaves", "charmer"}:
            kind = "processes_left" if self.trait == "leaves" else "decoy_opened"
            self.alarms.append(Alarm(kind, "a program was caught", name))
            rule = "" if self.trait == "charmer" else "conduct_must_be_clean"
        rules = (rule,) if rule else ()
        self.rows.append(Judged(name, REFUSED if rules else ADMITTED, rules, sha256(b"evidence of " + text)))
        usd = None if self.trait == "free" else 0.01
        self.used += Used(programs=1, wall_seconds=1.0, requests=1, tokens=100, usd=usd)
        if len(self.rows) >= self.batch_max:
            self.flush()


class FakeLoop(FakeRunner):
    """The fake; its trials and its halter are those of `FakeRunner`."""

    def improve(
        self, policy: Policy, parent: Files, *, leave: Leave, on_attested: OnAttested, on_programs: OnPrograms
    ) -> Improved:
        """One run of the loop; see the port."""
        assert policy.loop is not None
        step = _Step(leave, on_programs, trait_of(parent, leave.seed), policy.loop.batch, [], [], Used(), Used())
        step.open()
        texts = {sha256(text): text for text in programs(parent, leave.seed)}
        kept: set[Digest] = set(leave.admitted)
        for number, (name, text) in enumerate(texts.items()):
            if name in leave.admitted or step.over():
                continue
            with self.launched("improve", on_attested):
                step.judge(number, text)
            kept |= {name} if number % 3 != 2 else set()
        if step.trait == "gone" and not leave.admitted:
            step.flush(closing=True)
            raise Unavailable("the loop went away", help="start it again")
        if step.trait != "silent" or step.rows:
            step.flush(closing=step.trait != "silent")
        return self._proposed(parent, step, texts, kept)

    def _proposed(self, parent: Files, step: _Step, texts: dict[Digest, bytes], kept: set[Digest]) -> Improved:
        good = [text for name, text in texts.items() if name in kept]
        if step.trait == "idle" or not good:
            return Improved("ended", "the loop ended without a candidate", 0.0, 7.0, 0, b"")
        chosen = {
            "stray": list(texts.values())[2],
            "foreign": json.dumps({**json.loads(parent[FILE]), "salt": "from elsewhere"}).encode(),
            "charmer": list(texts.values())[MISBEHAVING],
        }.get(step.trait, good[-1])
        claim = json.dumps({"win": json.loads(chosen)["claim"]}).encode()
        return Improved("produced", "", 0.0, 7.0, 0, b"", {**parent, FILE: chosen}, claim)


__all__ = ["LOOP", "MISBEHAVING", "FakeLoop", "programs"]
