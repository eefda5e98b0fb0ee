"""People for a journey: simulated ones who sign whatever waits, so that the whole flow can be walked in a test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keyturn import app
from keyturn.app import exercise
from keyturn.app.exercise import Cast
from keyturn.core import agenda
from keyturn.core.agenda import Step

STEPS_MAX = 40
TIER = exercise.reachable_tier()[0]
"""What this account reaches: T2 as root; an ordinary user T1, and there no receipt can say STOPPED."""

PROVEN = TIER == "T2"


@dataclass(frozen=True)
class Play:
    """A founded exercise project and the folder of its people's keys."""

    project: app.Project
    keys: Path

    def who(self, person: str) -> app.Signing:
        return app.Signing(person, None, self.keys, None)

    def go(self, *, candidates: int) -> Step:
        """Found, warrant, and run until nothing but a halt or a used-up warrant stands in the way."""
        warranted = False
        step = self.project.run()
        for _ in range(STEPS_MAX):
            if isinstance(step, agenda.Hold):
                self.sign(step)
            elif isinstance(step, agenda.AwaitAudit):
                self.project.audit(self.who("ada"), root=None, reason="looked")
            elif isinstance(step, agenda.AwaitWarrant) and not warranted:
                warranted = True
                self.project.give_warrant(
                    self.who("ada"), candidates=candidates, level_ceiling=1, hours=1, reason="journey"
                )
            else:
                return step
            step = self.project.run()
        raise AssertionError("the journey did not end")

    def sign(self, step: agenda.Hold) -> None:
        missing = {finding.message.split("`")[1] for finding in step.decision.findings}
        for role, person in (("safety", "ada"), ("security", "grace")):
            if role in missing:
                self.project.decide(step.dossier.digest, self.who(person), decision="approve", reason="journey")


def play(root: Path, founder: Path, *, name: str = "connect4", wall_seconds: int = 120) -> Play:
    """Found an exercise project in `root` with ada for safety and grace for security."""
    keys = root / "keys"
    cast = [Cast("ada", ("safety",), True, keys), Cast("grace", ("security",), True, keys)]
    project = exercise.exercise(
        root / "project", name=name, cast=cast, seed=6, founder=founder, wall_seconds=wall_seconds, tier=TIER
    )
    return Play(project, keys)
