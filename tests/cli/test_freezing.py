"""What the commands around a freeze promise: exit codes, the word on the status screen, and what to do next."""

from __future__ import annotations

import pytest

from keyturn.core import events as ev
from keyturn.core.terms import Instant
from tests.cli.conftest import Terminal


def frozen(terminal: Terminal, minutes: float = 5) -> None:
    story = terminal.project.story
    until_at = Instant(int(story.at + minutes * 60_000))
    held = {"state": "HELD"}
    story.add(ev.LoopFrozen, freeze="f-1", by="person:ada", reason="to look", until_at=until_at, held=held)


def test_a_freeze_says_that_it_is_held_and_shows_what(terminal: Terminal) -> None:
    code, out, _ = terminal("freeze", "--as", "ada", "--reason", "what is it doing", "--minutes", "2")
    assert (code, terminal.project.said) == (0, [("freeze", ("person:ada", "what is it doing", 2.0))])
    assert "HELD" in out
    assert "answer-1 (candidate): still" in out
    assert "3 processes, 1.25 s of processor, 48 MiB, made 1 min 15 s ago" in out
    assert "keyturn thaw --as PERSON" in out


@pytest.mark.parametrize("state", ["UNPROVEN", "NOT HELD"])
def test_what_was_not_seen_to_be_held_is_never_called_held(terminal: Terminal, state: str) -> None:
    terminal.project.held |= {"state": state, "unknown": ["the init of answer-1 did not answer"]}
    code, out, _ = terminal("freeze")
    assert code == 4
    assert "the init of answer-1 did not answer" in out
    assert "Nothing is claimed to be held still. A halt stops it with proof." in out
    assert terminal.json("freeze")[1]["word"] == state


def test_showing_freezes_nothing(terminal: Terminal) -> None:
    code, body = terminal.json("freeze", "show")
    assert (code, body["word"], terminal.project.said) == (0, "FROZEN", [])


def test_a_thaw_is_made_by_somebody(terminal: Terminal) -> None:
    assert terminal("thaw")[0] == 2
    code, out, _ = terminal("thaw", "--as", "grace")
    assert (code, terminal.project.said) == (0, [("thaw", "person:grace")])
    assert out.startswith("THAWED")


def test_the_status_shows_a_freeze_with_its_bound_and_what_to_do(terminal: Terminal) -> None:
    frozen(terminal)
    code, out, _ = terminal("status")
    assert code == 0
    assert out.splitlines()[1].startswith("FROZEN")
    assert "held still by ada" in out
    assert "left)" in " ".join(out.split())
    assert "keyturn thaw --as PERSON" in out
    code, body = terminal.json("status")
    assert (body["word"], body["freeze"]["id"]) == ("FROZEN", "f-1")


def test_past_its_bound_the_status_offers_no_thaw(terminal: Terminal) -> None:
    frozen(terminal)
    terminal.project.story.at += 6 * 60_000
    out = terminal("status")[1]
    assert "its bound has passed: it ends as a halt" in " ".join(out.split())
    assert "keyturn thaw" not in out


def test_a_halt_hides_a_freeze(terminal: Terminal) -> None:
    frozen(terminal)
    terminal.project.story.halted()
    code, out, _ = terminal("status")
    assert code == 6
    assert out.splitlines()[1].startswith("HALTED")
