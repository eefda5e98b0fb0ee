"""The ratchet: a rule fails on what is new, and on what is listed as an exception but no longer needs to be.

The list is `exceptions.toml`; it may only shrink. Never add to it what can be mended.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

LIST = Path(__file__).resolve().parent / "exceptions.toml"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that breaks a rule: what is excused by `key`, how much of it there is, and what to do instead."""

    key: str
    message: str
    size: int = 1


@dataclass(frozen=True, slots=True)
class Excuse:
    """One listed exception: the most that is tolerated, and why."""

    most: int
    why: str


@functools.cache
def excuses() -> dict[str, dict[str, Excuse]]:
    """The listed exceptions by rule and key; each must give its reason."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return {
        rule: {key: Excuse(row.get("most", 1), row["why"]) for key, row in rows.items()}
        for rule, rows in listed.items()
    }


def complaints(rule: str, violations: list[Violation], listed: dict[str, Excuse]) -> list[str]:
    """What is wrong in view of the list: new violations, grown ones, and exceptions that nothing needs."""
    sizes: dict[str, int] = {}
    for violation in violations:
        sizes[violation.key] = sizes.get(violation.key, 0) + violation.size
    found = [v.message for v in violations if v.key not in listed]
    for key, excuse in listed.items():
        if key not in sizes:
            found.append(
                f"`{key}` no longer needs its exception: take it out of [{rule}] in tests/house/exceptions.toml"
            )
        elif sizes[key] > excuse.most:
            messages = "; ".join(v.message for v in violations if v.key == key)
            found.append(f"`{key}` has grown beyond its exception ({sizes[key]}, listed {excuse.most}): {messages}")
    return found


def hold(rule: str, violations: list[Violation]) -> None:
    """Fail unless every violation is listed under `rule`, has not grown, and every listed one still exists."""
    found = complaints(rule, violations, excuses().get(rule, {}))
    if found:
        pytest.fail("\n".join([f"{len(found)} against the house rule [{rule}]:", *sorted(found)]), pytrace=False)
