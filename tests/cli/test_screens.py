"""Whole screens, compared character by character with those on file; each fits 80 columns and holds nothing unseen."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from keyturn.cli.screen import columns
from keyturn.core import events as ev
from tests.cli.conftest import Terminal
from tests.cli.fake import STOPPED, UNPROVEN, clock
from tests.cli.stories import UNGOVERNED, long_story, policy, simulated

Compare = Callable[[str, str], None]

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07\u202egnp.exe\u2066\nAPPROVED by ada\r\x9b31m\U000e0041\u200b" + "a\u0301" * 4 + "z" * 900
)

SCREENS = {
    "status": ("status",),
    "dossier": ("dossier", "show"),
    "dossier_used": ("dossier", "show", "c5"),
    "candidate_rejected": ("candidate", "show", "c2"),
    "lineage": ("lineage", "show"),
    "trial": ("trial", "show", "c2/kind"),
    "permit": ("permit", "show", "p-c5"),
    "person": ("person", "list"),
    "replay": ("trial", "replay", "c1/strong"),
    "log_replay": ("log", "replay"),
}


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_is_the_one_on_file(terminal: Terminal, golden: Compare, name: str) -> None:
    code, out, err = terminal(*SCREENS[name])
    assert (code, err) == (0, "")
    fits(out)
    golden(name, out)


def fits(text: str, width: int = 80) -> None:
    """Every line fits, and nothing is in it that could act on a terminal."""
    assert [line for line in text.split("\n") if columns(line) > width] == []
    seen = {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}}
    assert seen <= {"\n"}


def test_a_halt_and_its_lifting_stand_on_the_status_screen(terminal: Terminal, golden: Compare) -> None:
    terminal.project.story.halted(name="h-2")
    terminal.project.story.status()
    code, out, _ = terminal("status")
    assert code == 6
    golden("status_halted", out)


def test_a_refused_dossier_says_so_first(terminal: Terminal) -> None:
    story = terminal.project.story
    story.approve(story.state.candidates["c6"].dossier, "ada", refuse=True)
    _, out, _ = terminal("dossier", "show", "c6")
    assert out.startswith("REFUSED  release of `c6` as generation 4: refused by ada; one refusal ends it")
    assert "keyturn approval give" not in out


def test_an_outdated_dossier_takes_no_signature_that_would_count_for_nothing(terminal: Terminal) -> None:
    story = terminal.project.story
    dossier = story.state.candidates["c6"].dossier
    story.adopt({**simulated(), "pace": {"unaudited_max": 8}})
    _, out, _ = terminal("dossier", "show", "c6")
    assert out.startswith("OUTDATED")
    assert "it was sealed under another policy" in " ".join(out.split())
    assert "keyturn approval give" not in out
    code, _, err = terminal("approval", "give", dossier.removeprefix("sha256:"), "--as", "ada", "--reason", "late")
    assert code == 5
    assert "OUTDATED" in err


def test_an_expired_dossier_offers_no_decision(terminal: Terminal) -> None:
    terminal.project.story.at += 90_000_000
    _, out, _ = terminal("dossier", "show", "c6")
    assert out.startswith("EXPIRED")
    assert "keyturn approval" not in out


def test_refusing_stands_as_near_as_approving(terminal: Terminal) -> None:
    _, out, _ = terminal("dossier", "show", "c6")
    lines = out.split("\n")
    refuse = next(n for n, line in enumerate(lines) if line.startswith("  refuse "))
    assert lines[refuse + 1].startswith("  approve")


def test_an_incident_shows_its_clocks_and_that_it_is_an_exercise(terminal: Terminal, golden: Compare) -> None:
    terminal.project.story.add(
        ev.IncidentOpened,
        incident="i-7f",
        kind="decoy",
        summary="a decoy was opened",
        attempt=6,
        candidate="c6",
        facts={"alarm": "decoy_opened"},
        exercise=True,
    )
    terminal.project.rows = (
        clock("EU AI Act: serious incident"),
        clock("California: critical safety incident", state="not started", due_at=None, exercise=False),
        clock("Korea: report", state="does not apply", due_at=None, why="it is law of KR and the project states EU"),
    )
    code, out, _ = terminal("incident", "show", "i-7")
    assert code == 0
    fits(out)
    golden("incident", out)


def test_a_halt_says_stopped_with_its_times_or_unproven_with_what_is_unknown(
    terminal: Terminal, golden: Compare
) -> None:
    code, out, _ = terminal("halt", "--as", "ada", "--reason", "looks odd")
    assert (code, terminal.project.said) == (0, [("halt", ("person:ada", "looks odd"))])
    golden("halt_stopped", out)
    terminal.project.receipt = dict(UNPROVEN)
    code, out, _ = terminal("halt")
    assert code == 7
    golden("halt_unproven", out)


def reached(what: str, name: str, why: str = "") -> dict[str, str]:
    return {"what": what, "name": name, "state": "UNPROVEN" if why else "STOPPED", "why": why}


COPIES: dict[str, Any] = {
    **STOPPED,
    "scope": "2 sandboxes of this governor (1 answer, 1 improve), and 2 known copies",
    "reached": [
        reached("sandboxes", "2 sandboxes of this governor (1 answer, 1 improve)"),
        reached("copy", "process 4711 under permit p-12ab"),
    ],
}
LOST = reached("copy", "process 4712 under permit p-12ab", "its end was not seen")
ELSEWHERE = reached("runner", "process 9 on node-b", "what it runs cannot be seen from here")
DRILL: dict[str, Any] = {
    **STOPPED,
    "processes_before": 23,
    "scope": "sandbox drill-1",
    "daemons": 20,
    "checks": dict.fromkeys(("daemons", "attest", "kill", "latch", "log", "door"), "ok"),
}


def test_a_receipt_lists_what_it_reached_line_by_line_and_the_worst_first(terminal: Terminal, golden: Compare) -> None:
    terminal.project.receipt = dict(COPIES)
    code, out, _ = terminal("halt")
    assert code == 0
    fits(out)
    golden("halt_copies", out)
    unknown = ["process 4712 under permit p-12ab: its end was not seen"]
    rows = [*COPIES["reached"], LOST, ELSEWHERE]
    terminal.project.receipt = {**COPIES, "state": "UNPROVEN", "survivors": 1, "unknown": unknown, "reached": rows}
    code, out, _ = terminal("halt")
    assert code == 7
    fits(out)
    golden("halt_copies_unproven", out)


def test_a_drill_says_first_that_it_was_one(terminal: Terminal, golden: Compare) -> None:
    terminal.project.receipt = dict(DRILL)
    code, out, _ = terminal("halt", "--drill", "--as", "ada")
    assert (code, terminal.project.said) == (0, [("drill", "person:ada")])
    fits(out)
    golden("drill", out)
    checks = {**DRILL["checks"], "latch": "a latch could not be set: No space left on device"}
    unknown = ["latch: a latch could not be set: No space left on device"]
    terminal.project.receipt = {**DRILL, "state": "UNPROVEN", "checks": checks, "unknown": unknown}
    code, out, _ = terminal("halt", "--drill")
    assert code == 7
    fits(out)
    golden("drill_unproven", out)


def test_a_drill_without_a_governor_does_not_say_that_one_answered(terminal: Terminal) -> None:
    terminal.project.receipt = {**DRILL, "governed": False}
    _, out, _ = terminal("halt", "--drill")
    assert "the governor's door answered" not in out
    assert "no governor runs here; the door of one for the drill alone answered" in out


def test_the_status_says_when_a_halt_was_last_measured_and_how_many_copies_are_known(terminal: Terminal) -> None:
    story = terminal.project.story
    assert "never; `keyturn halt --drill`" in " ".join(terminal("status")[1].split())
    receipt = {key: DRILL[key] for key in STOPPED}
    story.add(ev.HaltDrilled, by="ada", receipt=receipt, daemons=20, checks={"kill": "ok"})
    terminal.project.known_copies = 2
    _, out, _ = terminal("status")
    fits(out)
    assert "s ago: STOPPED in 3.5 ms" in out
    assert "2 loaded copies known here; a halt ends them" in out
    story.add(ev.HaltDrilled, by="ada", receipt={**receipt, "state": "UNPROVEN"}, daemons=20, checks={"kill": "no"})
    assert "s ago: UNPROVEN" in terminal("status")[1]


def test_the_log_is_listed_one_line_an_event(terminal: Terminal) -> None:
    code, out, _ = terminal("log", "list", "--limit", "7", "--after", "3")
    assert code == 0
    assert out.split("\n")[0].startswith("    4 ○ 2027-01-15 08:00:04Z ben      ApprovalGiven ben as safety for ")
    assert out.split("\n")[-3] == "○ published"
    assert len(out.strip().split("\n")) == 9
    assert out.endswith("`keyturn log list --after 10`\n")


def test_every_event_has_words(terminal: Terminal) -> None:
    from keyturn.cli.screens.events import WORDS

    assert set(WORDS) == set(ev.EVENTS.values())
    _, out, _ = terminal("log", "list", "--limit", "1000")
    assert len(out.strip().split("\n")) == terminal.project.story.state.size + 1


def test_words_of_others_cannot_act_on_the_terminal(terminal: Terminal) -> None:
    story = terminal.project.story
    story.approve(story.state.candidates["c6"].dossier, "ben", "engineering", reason=HOSTILE)
    facts = {HOSTILE: HOSTILE}
    story.add(
        ev.IncidentOpened,
        incident="i-1",
        kind=HOSTILE,
        summary=HOSTILE,
        attempt=6,
        candidate="c6",
        facts=facts,
        exercise=True,
    )
    story.add(ev.HaltRequested, halt="h-9", by=HOSTILE, reason=HOSTILE)
    story.add(ev.HaltUnproven, halt="h-9", receipt={"state": HOSTILE})
    terminal.project.rows = (clock(HOSTILE, why=HOSTILE, source=HOSTILE, recipient=HOSTILE),)
    terminal.project.receipt = {"state": HOSTILE, "scope": HOSTILE, "unknown": [HOSTILE]}
    for words in (
        ("status",),
        ("dossier", "show", "c6"),
        ("candidate", "show", "c6"),
        ("lineage", "show"),
        ("incident", "list"),
        ("incident", "show", "i-1"),
        ("halt",),
    ):
        _, out, err = terminal(*words)
        fits(out)
        assert err == ""
    _, out, _ = terminal("log", "list")
    fits(out, 240)


def test_a_name_made_of_control_characters_is_shown_by_number_in_an_error(terminal: Terminal) -> None:
    code, _, err = terminal("candidate", "show", "\x1b[31m\u202e")
    assert code == 2
    fits(err, 10_000)
    assert r"\x1b[31m\u202e" in err


def test_the_ungoverned_twin_stands_beside_the_lineage(golden: Compare) -> None:
    from keyturn.cli.lineage_text import lineage_text

    text = lineage_text(long_story(simulated()).state, ungoverned=UNGOVERNED, colour=False)
    fits(text)
    golden("lineage_ungoverned", text)


def test_colour_only_adds_to_what_is_said() -> None:
    import re

    from keyturn.cli.lineage_text import lineage_text

    state = long_story(policy()).state
    coloured = lineage_text(state, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == lineage_text(state, colour=False)
