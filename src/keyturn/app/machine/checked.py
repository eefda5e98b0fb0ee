"""`keyturn sandbox check`, wired: run the suite on a spare backend, and say whether the tier is enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.machine.doctor import spare_backend
from keyturn.core.candidate import level_of
from keyturn.core.policy import CHECK_SECONDS
from keyturn.core.state import State
from keyturn.core.terms import Tier
from keyturn.sandbox.standing import checking, file
from keyturn.sandbox.standing.judging import Standing
from keyturn.sandbox.suite import Checked

DEFAULT = Tier.T2
"""What must be earned where no project asks for anything: the tier that a policy of ours asks for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The least tier that is asked for, by whom, and for how long a check stands there."""

    least: Tier
    by: str
    seconds_max: int


@dataclass(frozen=True, slots=True)
class CheckedHere:
    """A check that was run just now, what was asked for, the one before it, and where the result is kept."""

    checked: Checked
    asked: Asked
    before: Standing
    kept: Path

    @property
    def enough(self) -> bool:
        """Whether the tier that was earned is at least the one asked for."""
        return self.checked.tier.rank >= self.asked.least.rank


def asked_by(root: Path | None) -> Asked:
    """What the project's policy asks for on its level; T2 where there is no project, which none was named either."""
    from keyturn.app.project import open_project
    from keyturn.core.errors import MalformedInput

    try:
        project = open_project(root)
    except MalformedInput:
        if root is not None:
            raise
        return Asked(DEFAULT, "the default without a project", CHECK_SECONDS)
    return asked_in(project.state(), project.root.name)


def asked_in(state: State, name: str) -> Asked:
    """What the policy in force asks for on the level of its lineage; a level without a row asks for everything."""
    if state.current is None:
        return Asked(DEFAULT, f"the default: `{name}` has no policy yet", CHECK_SECONDS)
    policy, number = state.current.policy, level_of(state, "")
    level = policy.level(number)
    least = level.sandbox if level else Tier.T4
    return Asked(least, f"the policy of `{name}` on level {number}", policy.sandbox.check_seconds)


def check_sandbox(root: Path | None, tell: Callable[[int, int, str], None]) -> CheckedHere:
    """Run the whole suite now and keep its result; raises `Unavailable` where nothing can be launched."""
    asked = asked_by(root)
    with spare_backend(root) as backend:
        before = checking.look(backend, asked.seconds_max)
        checked = checking.run(backend, tell=tell, tick=lambda: None)
    return CheckedHere(checked, asked, before, file.place())
