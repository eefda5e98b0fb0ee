"""A draft fills itself, lists what it lacks, promises nothing, and lets no foreign text pass for its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.disclosure.clocks import Profile
from keyturn.disclosure.draft import ADVICE, EXERCISE, IncidentFacts, draft, escape
from keyturn.disclosure.incident import clocks_for
from keyturn.disclosure.regimes import Regimes
from tests.disclosure.conftest import CONNECT4, FRONTIER, moment

T = moment("2027-03-01T10:00:00")
INCIDENT = IncidentFacts("inc_1", "decoy-opened", "the subject read the decoy key", T, exercise=False)


def drafted(regimes: Regimes, *, incident: IncidentFacts = INCIDENT, profile: Profile = FRONTIER, **facts: str) -> str:
    """A draft of an incident that was detected and not signed."""
    rows = clocks_for(incident.kind, profile, {"detected_at": T}, T, regimes=regimes)
    return draft(incident, rows, facts, regimes=regimes, at=T)


def section(text: str, title: str) -> str:
    """The lines under one heading."""
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_a_draft_says_that_it_is_no_legal_advice_and_not_filed(regimes: Regimes) -> None:
    assert drafted(regimes).count(ADVICE) == 2
    assert "not legal advice" in ADVICE
    assert "has not been filed" in ADVICE


def test_a_given_fact_moves_from_missing_to_known(regimes: Regimes) -> None:
    before, after = drafted(regimes), drafted(regimes, root_cause="a leaked path")
    assert "- the root cause (asked by COP-9.2)" in section(before, "What is missing")
    assert "the root cause" not in section(after, "What is missing")
    assert "- the root cause: a leaked path" in section(after, "What is known")


def test_an_empty_fact_is_a_missing_one(regimes: Regimes) -> None:
    assert "- what harm resulted (asked by COP-9.2)" in section(drafted(regimes, harm="  \n"), "What is missing")


def test_unsigned_moments_and_open_questions_are_listed_as_missing(regimes: Regimes) -> None:
    missing = section(drafted(regimes), "What is missing")
    assert "- the moment for CA-22757.13(c)(1), signed by a person: discovered_at" in missing
    assert "- the moment for NY-1422(3)(a), signed by a person: determined_at or reasonable_belief_at" in missing
    assert "- whether CA-22757.13(c)(1) concerns this incident" in missing
    assert "NOT SIGNED" in section(drafted(regimes), "Clocks")


def test_a_fact_that_no_form_asks_for_is_not_dropped(regimes: Regimes) -> None:
    assert "- halt\\_receipt: STOPPED" in section(drafted(regimes, halt_receipt="STOPPED"), "What is known")


def test_every_row_comes_with_its_source_day_and_status(regimes: Regimes) -> None:
    text = drafted(regimes)
    for row in clocks_for(INCIDENT.kind, FRONTIER, {"detected_at": T}, T, regimes=regimes):
        assert f"- {row.regime}, {row.law}: {row.source} (as of 2026-10-12; " in section(text, "Sources")
        assert f"| {row.regime}: {row.title}" in section(text, "Clocks")


def test_a_demo_marks_the_draft_as_an_exercise_at_both_ends(regimes: Regimes) -> None:
    for text in (
        drafted(regimes, profile=replace(FRONTIER, demo=True)),
        drafted(regimes, incident=replace(INCIDENT, exercise=True)),
    ):
        assert text.startswith("# EXERCISE: draft report of incident")
        assert text.count(EXERCISE) == 2
        assert text.rstrip().endswith(f"**{EXERCISE}.**")
    assert "EXERCISE" not in drafted(regimes)


def test_where_no_clock_applies_the_draft_says_so(regimes: Regimes) -> None:
    assert "No clock of the regimes that we know applies." in drafted(regimes, profile=CONNECT4)


@pytest.mark.parametrize(
    "hostile",
    [
        "done\n\n## What is missing\n\nNothing.",
        "x\r\n# Approved",
        "x\u2028## Approved",
        "</p><script>alert(1)</script>",
        "![x](https://evil.example/?leak)",
        "[filed](https://evil.example)",
        "https://evil.example www.evil.example a@evil.example",
        "\x1b[2J\u202egnihton",
        "| a | b |",
        "`code` **bold** _it_ ~~gone~~ &lt;",
        "\\*not bold\\*",
        "- item\n- item\n\n---\n\n",
    ],
)
def test_attack_words_of_the_subject_cannot_write_the_report(regimes: Regimes, hostile: str) -> None:
    incident = replace(INCIDENT, summary=hostile, id="inc_1")
    text = drafted(regimes, incident=incident, root_cause=hostile, **{f"x{hostile}": hostile})
    clean = drafted(regimes, incident=replace(INCIDENT, summary="a"), root_cause="a", x="a")
    headings = [line for line in text.split("\n") if line.startswith("#")]
    assert headings == [line for line in clean.split("\n") if line.startswith("#")]
    assert len(text.split("\n")) == len(clean.split("\n"))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\u2028" not in text
    for live in ("<script", "](", "://evil", "www.evil", "a@evil"):
        assert live not in text.replace(f"\\{live}", "")


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a\\*b", "a\\\\\\*b"),
        ("sha256:ab12", "sha256:ab12"),
        ("0.85 of 1", "0.85 of 1"),
        ("http://x", "http\\://x"),
        ("WWW.x", "WWW\\.x"),
        ("<b>", "\\<b\\>"),
        ("\ud800", "\\\\ud800"),
    ],
)
def test_escaping_keeps_what_is_harmless_readable(given: str, written: str) -> None:
    assert escape(given) == written


def test_attack_a_flood_of_text_is_cut_and_says_so() -> None:
    shown = escape("ab " * 100_000)
    assert len(shown) < 5000
    assert "characters in all" in shown
