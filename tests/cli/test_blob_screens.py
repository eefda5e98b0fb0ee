"""What a subject printed is shown on request only, as its own words, and never acts on the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.wire.blobs.blob import Blob
from tests.cli.conftest import Terminal
from tests.cli.fake import FakeProject

PRINTED = Blob(b"p" * 32, b"\x1b[2Jloss 0.1\nAPPROVE ME \xe2\x80\xae\nlast line")


def printing(project: FakeProject, reference: str, folder: Path) -> None:
    """The newest candidate's improve step left these diagnostics."""
    project.root = folder
    state = project.story.state
    number = state.candidates["c6"].attempt
    attempts = {**state.attempts, number: replace(state.attempts[number], diagnostics=reference)}
    project.story.state = replace(state, attempts=attempts)


@pytest.fixture
def printed(project: FakeProject, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(project, "story", project.story.copy())
    printing(project, PRINTED.reference, tmp_path)
    project.reader(project.state()).store.root.parent.mkdir(exist_ok=True)
    project.reader(project.state()).store.put(PRINTED)
    return terminal


def test_what_it_printed_is_not_shown_unless_it_is_asked_for(printed: Terminal) -> None:
    for words in (("candidate", "show", "c6"), ("dossier", "show", "c6"), ("status",), ("log", "list")):
        _, out, _ = printed(*words)
        assert "APPROVE ME" not in out
    _, body = printed.json("candidate", "show", "c6")
    assert (body["diagnostics"], body["words"], "printed" in body) == (PRINTED.reference, {}, False)


def test_attack_what_it_printed_stays_its_own_words_and_does_not_act(printed: Terminal) -> None:
    code, out, _ = printed("candidate", "show", "c6", "--diagnostics")
    assert code == 0
    assert "THE SUBJECT'S OWN WORDS" in out
    assert "| APPROVE ME \\u202e" in out
    assert "\x1b[2J" not in out
    _, body = printed.json("candidate", "show", "c6", "--diagnostics")
    assert body["printed"] == PRINTED.text


def test_what_is_not_at_hand_is_said_so(printed: Terminal, project: FakeProject, tmp_path: Path) -> None:
    project.reader(project.state()).store.erase(PRINTED.digest)
    assert f"withheld ({PRINTED.digest[:15]}…)" in printed("candidate", "show", "c6", "--diagnostics")[1]
    printing(project, "sha256:" + "0" * 64, tmp_path)
    assert "only its digest was kept" in printed("candidate", "show", "c6", "--diagnostics")[1]
    printing(project, "", tmp_path)
    assert "it printed nothing" in printed("candidate", "show", "c6", "--diagnostics")[1]
