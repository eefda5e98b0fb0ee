"""What a freeze is, how long it may last, and who may let it go on: it is bounded, and it is no stop.

Going on after a halt needs a quorum, because a halt is a stop. A freeze only holds what had leave already, so anyone
enrolled may let it go on before its bound; whoever wants it to stay stopped halts, and a halt needs no thaw.
"""

from __future__ import annotations

from keyturn.core.state import Freeze, State
from keyturn.core.terms import Instant

MINUTES, MINUTES_MAX = 5, 60
"""How long a freeze lasts where nobody says, and at the most: it is for looking, and what shall stay is halted."""

MINUTE = 60_000
PERSON = "person:"


def unlawful(state: State, by: str, until_at: Instant, at: Instant) -> str:
    """Why nothing may be frozen so; empty where it may. Anyone may, but once at a time and not for ever."""
    if state.halt is not None:
        return "a halt stands, so nothing runs that could be held still"
    if state.freeze is not None:
        return f"everything is held still already, by {state.freeze.by}"
    if not at < until_at <= at + MINUTES_MAX * MINUTE:
        return f"it does not end within {MINUTES_MAX} minutes"
    return "" if by else "nobody is said to have asked for it"


def must_stay(state: State, freeze: Freeze, by: str, at: Instant) -> str:
    """Why it may not go on; empty where it may: in time, and by the word of somebody who is enrolled."""
    if at > freeze.until_at:
        return "its bound has passed, and what is past its bound is halted"
    if state.halt is not None:
        return "a halt stands; only a quorum lifts it"
    people = state.current.policy.people if state.current else ()
    if by not in {f"{PERSON}{person.id}" for person in people}:
        return f"`{by[:60]}` is no enrolled person"
    return ""
