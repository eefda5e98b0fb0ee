"""How far one entry has come, and waiting until it has come further.

It publishes nothing and asks no witness: that is what a governor does, and `keyturn log tiles`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from keyturn.app.project import WAIT_SECONDS, Project
from keyturn.app.publishing.handing import index_of
from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.ledger.commit.states import EntryState


@dataclass(frozen=True, slots=True)
class Come:
    """How far an entry has come, in a log of so many entries, of which so many are published and witnessed."""

    index: int
    state: str
    size: int
    published: int
    witnessed: int


def entry_state(project: Project, name: str, *, wait: str | None = None, seconds: float = 0.0) -> Come:
    """Return the state of the entry with this index or id; with `wait`, once it is at least that, for so long at most.

    Raises Unavailable when it is not by then, MalformedInput for a state that it can never reach.
    """
    wanted = EntryState.DURABLE if wait is None else _state(wait)
    index, until = index_of(project, name, project.head().size), time.monotonic() + seconds
    if wanted is EntryState.WITNESSED and not _has_witnesses(project):
        raise MalformedInput(
            "the policy names no witnesses, so no entry is ever witnessed", help="wait for `published`"
        )
    while (state := project.head().state_of(index)) < wanted:
        left = until - time.monotonic()
        if left <= 0:
            message = f"entry {index} is {state.word}; it was to be {wanted.word} within {seconds:g} seconds"
            raise Unavailable(message, help="`keyturn status` says what is waited for; then ask again")
        time.sleep(min(left, WAIT_SECONDS))
    head = project.head()
    return Come(index, head.state_of(index).word, head.size, head.published, head.witnessed)


def _state(word: str) -> EntryState:
    known = {each.word: each for each in EntryState}
    if word not in known:
        raise MalformedInput(f"`{word[:40]}` is no state of an entry", help=f"one of {', '.join(known)}")
    return known[word]


def _has_witnesses(project: Project) -> bool:
    current = project.state().current
    return current is not None and bool(current.policy.witnesses.required)
