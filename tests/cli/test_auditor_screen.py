"""What an auditor's screen says at a glance: how far it looked, what it cosigned, what was illegal, who pardoned it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.app.auditor.folder import Shown
from keyturn.cli.auditing import screen
from keyturn.cli.screen import Paint, Sheet, columns
from keyturn.core.terms import Digest, Instant
from keyturn.ledger.auditing.marks import Mark

NOW = Instant(1_900_000_000_000)
MARK = Mark(30, "permit_issued_must_be_lawful", "1 more approval is needed \x1b[2J", 60, NOW, None, "")
CLEAN = Shown(
    name="auditor.example/a1",
    vkeys=("auditor.example/a1+00000000+BAAA", "auditor.example/a1+11111111+" + "B" * 1750),
    origin="toy.example/log",
    genesis=Digest("sha256:" + "a" * 64),
    simulated=False,
    tiles="https://log.example/",
    mirrored=60,
    decisions=7,
    mirrored_at=NOW,
    cosigned=30,
    cosigned_at=NOW,
    marks=(),
)


def drawn(shown, **more):
    sheet = Sheet()
    screen.show(sheet, shown, **{"folder": "a1", "now": Instant(NOW + 90_000), **more})
    return sheet.text()


def test_the_bar_shows_what_was_cosigned_decided_and_not_looked_at():
    assert screen.cells(CLEAN, 120) == "█" * 15 + "▒" * 15 + "·" * 30
    assert screen.cells(CLEAN, 60) == "█" * 30 + "▒" * 30
    assert screen.cells(replace(CLEAN, mirrored=3, cosigned=3), 3) == "█" * 60
    assert screen.cells(replace(CLEAN, marks=(MARK,)), 60).index("✖") == 30
    assert screen.cells(replace(CLEAN, marks=(replace(MARK, entry=60),)), 60)[-1] == "✖"


@pytest.mark.parametrize(
    ("shown", "word"),
    [
        (CLEAN, "COSIGNS"),
        (replace(CLEAN, cosigned=0), "WAITS"),
        (replace(CLEAN, marks=(MARK,)), "REFUSES"),
        (replace(CLEAN, marks=(replace(MARK, pardoned_at=NOW, reason="a drill"),)), "COSIGNS"),
    ],
)
def test_the_first_word_says_what_it_does_now(shown, word):
    assert drawn(shown).startswith(f"{word}  auditor.example/a1, auditor of toy.example/log\n")


def test_a_finding_is_told_in_full_and_a_pardoned_one_for_ever():
    said = drawn(replace(CLEAN, marks=(MARK, replace(MARK, entry=31, pardoned_at=NOW, reason="a drill"))))
    assert "1 illegal thing in this log: it is not cosigned" in said
    assert "✖ entry 30: 1 more approval is needed \\x1b[2J" in said
    assert "– entry 31" in said
    assert "pardoned 2030-03-17 17:46:40Z: a drill" in said
    assert "\x1b" not in said


def test_what_is_not_known_is_not_said():
    nothing = replace(CLEAN, mirrored=0, cosigned=0, decisions=0, mirrored_at=Instant(0), cosigned_at=Instant(0))
    said = drawn(nothing)
    assert "nothing was looked at" in said
    assert "nothing illegal" not in said
    assert "█" not in said
    assert "SIMULATED PEOPLE" in drawn(replace(CLEAN, simulated=True))
    assert "60 of 120 entries, 7 gates decided again, 1 min 30 s ago" in drawn(CLEAN, size=120)


def test_a_key_can_be_copied_whole_and_the_rest_keeps_to_the_screen():
    lines = drawn(replace(CLEAN, marks=(MARK,))).splitlines()
    assert "  auditor.example/a1+00000000+BAAA" in lines
    assert any(line.endswith("ML-DSA-44, whole in a1/vkeys") for line in lines)
    assert all(columns(line) <= 80 for line in lines if "auditor.example/a1+" not in line)


def test_colour_only_repeats_what_shapes_say():
    plain, painted = Sheet(), Sheet(paint=Paint(colour=True))
    for sheet in (plain, painted):
        screen.show(sheet, replace(CLEAN, marks=(MARK,)), folder="a1", now=NOW)
    assert "\x1b[31m✖" in painted.text()
    assert "\x1b[32m█" in painted.text()
    assert [columns(line) for line in painted.lines] == [columns(line) for line in plain.lines]
