"""Safe text, drawn scales and the picture: what they keep out, and what they always say."""

from __future__ import annotations

import unicodedata
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.cli.lineage_svg import describe, lineage_svg
from keyturn.cli.screen import columns, safe, span, utc, wrap
from keyturn.cli.screens.rail import rail
from keyturn.cli.screens.scale import Measure, gauge, scale, spark
from keyturn.core.state import State
from tests.cli.stories import UNGOVERNED, long_story, policy, simulated
from tests.core.examples import Story

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(), st.integers(1, 60))
def test_safe_text_holds_nothing_unseen_and_keeps_to_its_bound(text: str, most: int) -> None:
    shown = safe(text, most)
    assert not {char for char in shown if unicodedata.category(char) in UNSEEN}
    assert columns(shown) <= most


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 漢字", "plain äöü 漢字"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\tand\rmore", "two lines and more"),
        ("\u202eexe.txt", r"\u202eexe.txt"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("a" + "\u0301" * 9, "a\u0301\u0301"),
        (None, "None"),
    ],
)
def test_what_is_unseen_is_written_out(text: object, shown: str) -> None:
    assert safe(text) == shown


def test_long_text_is_cut_and_marked() -> None:
    assert safe("x" * 300, 10) == "x" * 9 + "…"
    assert safe("漢" * 20, 5) == "漢漢…"


@given(st.text(alphabet="ab 漢", max_size=60), st.integers(4, 20))
def test_wrapped_lines_fit_and_lose_no_word(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(columns(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_moments_and_lengths_read_as_people_write_them() -> None:
    assert utc(1_800_000_000_999) == "2027-01-15 08:00:00Z"
    assert utc(0) == "never"
    assert utc(10**18) == "beyond year 9999"
    assert [span(x) for x in (900, 61_000, 12_000_000, 100_000_000)] == ["0 s", "1 min 1 s", "3 h 20 min", "1 d 3 h"]


def measure(**changes: Any) -> Measure:
    fields: dict[str, Any] = {
        "threshold": "t",
        "kind": "limit",
        "reference": "",
        "line": 0.5,
        "margin": 0.2,
        "verdict": "CLEAR",
        "estimate": 0.1,
        "low": 0.0,
        "high": 0.2,
    }
    return Measure(**{**fields, **changes})


def test_a_scale_shows_estimate_interval_margin_and_line() -> None:
    assert scale(measure(), 11) == "━●━░░┃─────"
    assert scale(measure(verdict="missing"), 11) == "───░░┃─────"
    assert scale(measure(low=0.3, high=0.9, estimate=0.6), 11) == "───━━╋●━━━─"


@pytest.mark.parametrize(
    ("kind", "verdict", "tone", "holds"),
    [
        ("limit", "CLEAR", "green", False),
        ("limit", "TRIP", "red", True),
        ("limit", "UNDECIDED", "yellow", True),
        ("limit", "missing", "yellow", True),
        ("capability", "TRIP", "red", False),
        ("claim", "CLEAR", "red", True),
        ("claim", "TRIP", "green", False),
        ("claim", "UNDECIDED", "yellow", False),
    ],
)
def test_a_verdict_means_what_its_threshold_says(kind: str, verdict: str, tone: str, holds: bool) -> None:
    found = measure(kind=kind, verdict=verdict)
    assert (found.tone, found.holds) == (tone, holds)


def test_gauges_and_sparks_fill_as_their_bound_fills() -> None:
    assert [gauge(used, 3) for used in (0, 1, 3, 9)] == ["░░░", "█░░", "███", "███"]
    assert gauge(1, 100) == "█" + "░" * 9
    assert spark([0.0, 1.0, 2.0, 9.0], 4, top=8.0) == " ▂▃█"


# --- the picture


@pytest.mark.parametrize("wild", [None, UNGOVERNED])
def test_the_picture_is_sound_and_says_what_it_is(wild: tuple[dict[str, float], ...] | None) -> None:
    text = lineage_svg(long_story(simulated()).state, ungoverned=wild)
    root = ET.fromstring(text)
    words = [element.text for element in root.iter() if element.text]
    assert {"UNWITNESSED", "SIMULATED PEOPLE", "DEMO", "limit 0.1", "line 0.6", "▲ level 1"} <= set(words)
    assert any(word.startswith("✕ c2: over kind") for word in words)
    assert ("ungoverned" in words) == (wild is not None)
    assert root.get("role") == "img"
    assert next(root.iter("{http://www.w3.org/2000/svg}desc")).text


def test_halts_at_one_place_share_a_label_that_hides_no_doubt() -> None:
    story = long_story(policy())
    story.halted()
    assert ">halt, stopped<" in lineage_svg(story.state)
    story.halted(name="h-2", proven=False)
    assert ">2 halts, 1 UNPROVEN<" in lineage_svg(story.state)


def test_the_picture_in_words_names_every_member() -> None:
    state = long_story(policy()).state
    said = describe(state, rail(state))
    assert "c2: rejected, capability 0.361 (CLEAR), broken 0.181 (TRIP), over kind (0.181)." in said
    assert "c5: generation 3, capability 0.753 (TRIP)" in said


def test_a_hostile_name_cannot_leave_its_text_element() -> None:
    text = policy()
    text["project"]["name"] = "toy"
    story = long_story(text)
    name = "</text><script>alert(1)</script>\u202e\x00"
    story.warrant().candidate(name)
    picture = lineage_svg(story.state)
    ET.fromstring(picture)
    assert "<script" not in picture
    assert "\u202e" not in picture


def test_a_project_without_a_lineage_has_a_picture_too() -> None:
    ET.fromstring(lineage_svg(Story().founded(policy()).state))
    ET.fromstring(lineage_svg(State()))
