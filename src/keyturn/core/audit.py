"""Pace: how many generations may be released before people must look again."""

from __future__ import annotations

from collections.abc import Iterator

from keyturn.core.candidate import level_of
from keyturn.core.finding import Finding, Request
from keyturn.core.state import State
from keyturn.core.terms import Instant


def pace_bound(state: State, candidate: str = "") -> int:
    """The most generations that may be unaudited at the level that applies; 0 when nothing says."""
    level = state.current.policy.level(level_of(state, candidate)) if state.current else None
    return level.unaudited_max if level else 0


def pace_must_hold(state: State, request: Request, now: Instant) -> Iterator[Finding]:
    """One more release stays within the bound on generations since the last audit."""
    if state.lineage is None:
        return
    bound = pace_bound(state, request.candidate)
    waiting = state.lineage.unaudited
    if waiting + 1 > bound:
        message = f"{waiting} generation(s) wait for an audit; a release would exceed the bound of {bound}"
        yield Finding("pace_must_hold", message, "a person reviews the newest generation: `keyturn audit --as PERSON`")
