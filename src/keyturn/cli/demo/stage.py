"""What a demo carries along: where it plays, who decides, and what its people's keys are.

It tells nothing and decides nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from keyturn import app
from keyturn.cli.screen import Screen
from keyturn.core.policy import Policy
from keyturn.core.state import State

ME, SAFETY, SECURITY = "you", "ada", "grace"


@dataclass(slots=True)
class Stage:
    """What the demo carries along: where it plays, who decides, and how long it took."""

    screen: Screen
    out: Path
    seed: int
    candidates: int
    asks: bool
    started: float = field(default_factory=time.monotonic)
    people_seconds: float = 0.0
    announced: bool = False
    stopped: bool = False
    tier: str = "T2"

    @property
    def keys(self) -> Path:
        """The keys of the simulated people; yours lie where your keys lie."""
        return self.out / "keys"


class people_time:  # noqa: N801 - reads as a phrase
    """Counts the seconds that went by while people, or their keys, were at work."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        self._from = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._stage.people_seconds += time.monotonic() - self._from


def signing(stage: Stage, person: str) -> app.Signing:
    """Who signs, and where their key lies: yours with your other keys, simulated ones in the demo's folder."""
    return app.Signing(person, None, app.default_keys() if person == ME else stage.keys, None)


def policy_of(state: State) -> Policy:
    """The policy in force; an exercise always has one."""
    return state.policies[-1].policy
