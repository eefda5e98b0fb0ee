"""The events page names every field of every event, no more and no less."""

from __future__ import annotations

import re
from dataclasses import fields

from keyturn.core.events import EVENTS, Event
from tests.house.ratchet import Violation, hold
from tests.house.reading import text_of

PAGE = "docs/events.md"
SHARED = {field.name for field in fields(Event)}


def described_fields(text: str) -> dict[str, set[str]]:
    """The fields in the last cell of each event's row; what stands in brackets explains and is not a field."""
    rows = re.findall(r"^\| `([A-Z][A-Za-z]+)` \|.*\| ([^|]+) \|$", text, re.MULTILINE)
    return {name: set(re.findall(r"`([a-z_]+)`", re.sub(r"\([^)]*\)", "", cell))) for name, cell in rows}


def differences(actual: dict[str, set[str]], described: dict[str, set[str]]) -> list[Violation]:
    """Events whose row lacks a field, or names one that they do not have."""
    return [
        Violation(name, f"{PAGE}: `{name}` has {sorted(names)}, its row says {sorted(described.get(name, set()))}")
        for name, names in actual.items()
        if described.get(name, set()) != names
    ]


def test_every_row_names_the_fields_of_its_event() -> None:
    actual = {name: {field.name for field in fields(kind)} - SHARED for name, kind in EVENTS.items()}
    hold("event_fields", differences(actual, described_fields(text_of(PAGE) or "")))


def test_a_missing_and_a_surplus_field_are_seen() -> None:
    described = described_fields("| `HaltProven` | dead | `halt`, `receipt` (with `state`) |\n")
    assert differences({"HaltProven": {"halt", "receipt"}}, described) == []
    assert differences({"HaltProven": {"halt"}}, described)
    assert differences({"HaltProven": {"halt", "receipt", "by"}}, described)
