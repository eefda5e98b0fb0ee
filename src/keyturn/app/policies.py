"""Look at a policy: read it, explain it, compare it, adopt a changed one."""

from __future__ import annotations

from pathlib import Path

from keyturn.core.policy import Policy
from keyturn.core.policy_change import Difference, change, explain
from keyturn.flow import policy as policies


def read_policy(path: Path) -> Policy:
    """The policy in a file, or every mistake in it by line."""
    return policies.read_file(path)


def explain_policy(policy: Policy) -> tuple[str, ...]:
    """The policy in prose."""
    return explain(policy)


def diff_policy(old: Policy, new: Policy) -> tuple[Difference, ...]:
    """What differs, tightening told from loosening."""
    return change(old, new)
