"""The containment check as a governor needs it: run when something is about to be launched and none stands.

A governor that launches nothing never pays for it. Whatever is attested carries the check that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyturn.core.policy import CHECK_SECONDS
from keyturn.flow.ports import Attested
from keyturn.sandbox.port import Backend, Parked
from keyturn.sandbox.standing import checking
from keyturn.sandbox.standing.judging import with_check

DAY = 86400


@dataclass(slots=True)
class Containment:
    """The check of one governor's backend; `tick` is called often while it runs, and may raise to break it off."""

    backend: Backend
    tell: Callable[[str], None]
    tick: Callable[[], None]
    seconds_max: int = CHECK_SECONDS

    def ensure(self, seconds_max: int) -> None:
        """Run the check if none stands, or none will for long; one that failed stands in the way until people look.

        Raises `Unavailable` where nothing can be launched, and whatever `tick` raises.
        """
        self.seconds_max = seconds_max
        told = False

        def tell(done: int, total: int, what: str) -> None:
            nonlocal told
            self.tick()
            if not told:
                self.tell(f"checks the sandbox: {total} probes, some seconds; kept for {_span(seconds_max)}")
            told = True

        checked = checking.ensure(self.backend, seconds_max, tell=tell, tick=self.tick)
        if checked is not None:
            score = f"{checked.held} of {checked.scored} probes held"
            self.tell(f"the sandbox is checked: {score}, which earns {checked.tier}, in {checked.seconds:.0f} s")

    def attest(self, parked: Parked) -> Attested:
        """What the kernel enforces on a parked sandbox, at most as good as the check that stands now."""
        seen = with_check(parked.attest(), checking.look(self.backend, self.seconds_max))
        return Attested(seen.tier, {**seen.facts, "weaker": list(seen.weaker)}, seen.problems)


def _span(seconds: int) -> str:
    if seconds >= DAY:
        return f"{seconds // DAY} day{'s' if seconds >= 2 * DAY else ''}"
    return f"{seconds} seconds"
