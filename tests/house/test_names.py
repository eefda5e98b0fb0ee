"""Names that say what kind of thing they name: facts, rules, lengths, moments, limits."""

from __future__ import annotations

import ast
import re

import pytest

from keyturn.core.decision import GATES
from keyturn.core.events import EVENTS
from tests.house.ratchet import Violation, hold
from tests.house.reading import Module, dotted_name, module_of, modules

PAST = re.compile(r"(ed|Frozen|Given|Proven|Unproven|Begun|Found|Held|Lost|Sent|Shown|Swept|Taken|Withdrawn)$")
"""How the past tense ends."""

MOMENTS_OF_THE_LAW = {"at", "now", "not_before", "not_after"}
"""Moments whose names come from the design or from a format."""

LIMITS_OF_A_FORMAT = {"max_age_seconds"}


def odd_units(module: Module) -> list[Violation]:
    """Fields and arguments whose name hides that they are a moment, or says a limit the other way round."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            line, name, kind = node.lineno, node.target.id, node.annotation
        elif isinstance(node, ast.arg) and node.annotation is not None:
            line, name, kind = node.lineno, node.arg, node.annotation
        else:
            continue
        if dotted_name(kind) == "Instant" and not name.endswith("_at") and name not in MOMENTS_OF_THE_LAW:
            message = (
                f"{module.path}:{line}: `{name}` is a moment: let it end in `_at`, so that no one takes it for a length"
            )
            found.append(Violation(module.path, message))
        if re.match(r"(max|min)_", name) and name not in LIMITS_OF_A_FORMAT:
            limit = name.split("_", 1)[1]
            message = f"{module.path}:{line}: `{name}` is a limit: call it `{limit}_max`, what it limits first"
            found.append(Violation(module.path, message))
    return found


def test_every_event_is_in_the_past_tense() -> None:
    assert [name for name in EVENTS if not PAST.search(name)] == []


def test_every_rule_says_must() -> None:
    rules = {rule.__name__ for row in GATES.values() for rule in row}
    assert sorted(name for name in rules if "_must_" not in name) == []


def test_every_gate_that_has_a_row_has_rules_in_it() -> None:
    assert [gate for gate, rules in GATES.items() if not rules] == []


def test_moments_end_in_at_and_limits_in_max() -> None:
    hold("units", [found for module in modules() if module.room != "subjects" for found in odd_units(module)])


@pytest.mark.parametrize("text", ["class A:\n    expiry: Instant", "def f(start: Instant): pass", "max_bytes: int = 3"])
def test_a_name_that_hides_its_unit_is_seen(text: str) -> None:
    assert odd_units(module_of("src/keyturn/core/x.py", text))
