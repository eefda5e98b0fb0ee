"""Whether what the log says of a stop agrees with the receipt that it shows for it."""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.core import events as ev
from keyturn.core.lawful.gates import Check
from keyturn.core.state import State

OK = "ok"
"""What a drill says of a part that would have worked."""

STATES = ("STOPPED", "UNPROVEN")


def halt_settled(state: State, event: ev.HaltProven | ev.HaltUnproven) -> Iterator[Check]:
    """A halt is said to be proven when its receipt says STOPPED, and only then."""
    stopped = event.receipt.get("state") == "STOPPED"
    proven = isinstance(event, ev.HaltProven)
    yield stopped is proven, f"its receipt says `{event.receipt.get('state')}`"


def halt_drilled(state: State, event: ev.HaltDrilled) -> Iterator[Check]:
    """A drill says STOPPED only when every daemon was there and is gone, and every part beside it would have worked."""
    yield event.receipt.get("state") in STATES, f"its receipt says `{event.receipt.get('state')}`"
    if event.receipt.get("state") == "STOPPED":
        bad = sorted(name for name, said in event.checks.items() if said != OK)
        yield not bad, f"it says STOPPED although these failed: {', '.join(bad)}"
        yield event.receipt.get("survivors") == 0, "it says STOPPED and counts survivors"
        before = event.receipt.get("processes_before")
        yield isinstance(before, int) and before > event.daemons > 0, "it killed fewer processes than it counts daemons"


def sandbox_swept(state: State, event: ev.SandboxSwept) -> Iterator[Check]:
    """What a start killed is told with its receipt."""
    yield event.receipt.get("state") in STATES, f"its receipt says `{event.receipt.get('state')}`"
