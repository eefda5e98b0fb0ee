"""Look at a policy: read it, explain it, compare it, adopt a changed one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core.errors import MalformedInput
from keyturn.core.policy import Person, Policy
from keyturn.core.policy_change import Difference, change, explain
from keyturn.core.state import State
from keyturn.flow import policy as policies

if TYPE_CHECKING:
    pass


def read_policy(path: Path) -> Policy:
    """The policy in a file, or every mistake in it by line."""
    return policies.read_file(path)


def explain_policy(policy: Policy) -> tuple[str, ...]:
    """The policy in prose."""
    return explain(policy)


def diff_policy(old: Policy, new: Policy) -> tuple[Difference, ...]:
    """What differs, tightening told from loosening."""
    return change(old, new)


def person_of(state: State, name: str) -> Person:
    """The enrolled person of this id; raises `MalformedInput` for anybody else."""
    person = policy_of(state).person(name)
    if person is None:
        known = ", ".join(each.id for each in policy_of(state).people)
        raise MalformedInput(f"`{name}` is not enrolled; enrolled are {known}", help="`keyturn person list`")
    return person


def policy_of(state: State) -> Policy:
    """The policy in force; raises `MalformedInput` where none is."""
    if state.current is None:
        raise MalformedInput("no policy is adopted; nothing starts without one", help="`keyturn init`")
    return state.current.policy
