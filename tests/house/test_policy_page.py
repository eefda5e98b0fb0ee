"""The policy page says what the reader reads: every key under its table, no more and no less."""

from __future__ import annotations

import re
import tomllib

import pytest

from keyturn.core import policy_reading
from keyturn.core.policy import Policy
from tests.house.ratchet import Violation, hold
from tests.house.reading import text_of

PAGE = "docs/policy.md"
EXAMPLE = "src/keyturn/subjects/connect4/keyturn.toml"
PERSON = """
[[people]]
id = "ada"
roles = ["safety", "security"]
keys = [{ kind = "ed25519", public = "Hh0Q4Qf2vXnB0qk8v1rMiE9m1sYk0m5yq0d3cWb7aZg=" }]
[[people]]
id = "grace"
roles = ["security"]
keys = [{ kind = "ed25519", public = "Ih0Q4Qf2vXnB0qk8v1rMiE9m1sYk0m5yq0d3cWb7aZg=" }]
"""


def taken_keys(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every key that the reader asks for in connect4's policy, which has every kind of threshold, and with a loop."""
    found: set[str] = set()
    take = policy_reading._Table.take

    def noted(table: policy_reading._Table, key: str, *rest: object, **named: object) -> object:
        found.add(re.sub(r"\[\d+\]", "", f"{table.path}.{key}").strip("."))
        return take(table, key, *rest, **named)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(policy_reading._Table, "take", noted)
    text = (text_of(EXAMPLE) or "").replace("sha256:FOUNDER", "sha256:" + "0" * 64).replace("# PEOPLE", PERSON)
    document = tomllib.loads(text)
    looped = {**document, "loop": {"program": "weights.npz", "protect": "nothing", "program_seconds": 60}}
    looped["subject"] = {key: value for key, value in document["subject"].items() if key != "improve"}
    looped["subject"]["files"] = [{**file, "bytes_max": 1000} for file in document["subject"]["files"]]
    key = "w.example+31be6e58+BFDnIeScAT8Axiz1nyFjVCqdjfAkZO/rYV0xBRsP3cMm"
    party = {"id": "w", "keys": [key], "url": "https://w.example"}
    witnessed = {**document, "witnesses": {"required": 0, "allow_unwitnessed": True, "parties": [party]}}
    for each in (document, looped, witnessed):
        read = policy_reading.read_policy(each)
        assert isinstance(read, Policy), read
    return found


def described_keys(text: str) -> set[str]:
    """Every table that has a heading, and every key that has a row under it."""
    found: set[str] = set()
    table = ""
    for line in text.splitlines():
        heading = re.match(r"#+ `\[+([a-z_.]+)\]+`$", line)
        row = re.match(r"\| `([a-z_]+)` \|", line)
        if heading:
            table = heading.group(1)
            found.add(table)
        elif row:
            found.add(f"{table}.{row.group(1)}".strip("."))
    return found


def differences(taken: set[str], described: set[str]) -> list[Violation]:
    """Keys without a row of their own, and rows for what is no key."""
    return [
        Violation(key, f"`{key}` is not in {PAGE}: give it a heading or a row under its table")
        for key in sorted(taken - described)
    ] + [
        Violation(key, f"{PAGE} describes `{key}`, which the reader does not take: take it out")
        for key in sorted(described - taken)
    ]


def test_the_policy_page_names_every_key_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    hold("policy_page", differences(taken_keys(monkeypatch), described_keys(text_of(PAGE) or "")))


def test_every_choice_that_the_reader_offers_is_on_the_page() -> None:
    text = text_of(PAGE) or ""
    choices = (*policy_reading.KINDS, *policy_reading.REFERENCES, *policy_reading.TRIPWIRES, *policy_reading.PROTECT)
    assert [choice for choice in choices if f"`{choice}`" not in text] == []


def test_a_key_that_nobody_described_and_one_that_nobody_reads_are_seen() -> None:
    described = described_keys("## The file\n| `schema` | 1 |\n## `[pace]`\n| `unaudited_max` | 3 |\n")
    assert described == {"schema", "pace", "pace.unaudited_max"}
    assert [found.key for found in differences({"schema", "pace", "pace.hurry"}, described)] == [
        "pace.hurry",
        "pace.unaudited_max",
    ]
