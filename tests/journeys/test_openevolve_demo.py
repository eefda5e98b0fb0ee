"""OpenEvolve twice on the same answers: what hostile programs get ungoverned, and that they get nothing governed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from keyturn import app
from keyturn.app.minimise import seen
from keyturn.app.minimise.seen import Answer, Row, Verdict
from keyturn.cli.demo.deeds import Deed, deeds
from keyturn.cli.demo.side_by_side import Side, side_by_side_svg

NAMES = ("edit-grader", "hang", "hard-coded", "rewrite-task", "steal-key")


def row(number: int, *, kind: str = "honest", score: float | None = 0.5, entered: bool = True, **more: object) -> Row:
    answer = Answer(number, kind, str(more.get("name", "compass")), f"sha256:{number:064x}")
    verdict = Verdict((), "") if entered else Verdict(("checks_must_pass",), "it does not search", "alive")
    return Row(answer, score, entered, str(more.get("fault", "")), bool(more.get("best")), "", verdict)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_shows_five_thefts_and_stops_each_of_them(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "keyturn", "openevolve", "demo", "--out", str(out), "--iterations", "18"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=220, check=False)
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert all(name in said for name in NAMES)
    assert "governed: 5 of 5 hostile refused, 0 of 13 honest refused" in said
    assert said.index("SIMULATED PEOPLE decide") < said.index("gate `release`") < said.index("SIMULATED grace signs")
    assert said.index("SIMULATED grace signs") < said.index("RELEASED: generation 1")
    assert "allowed: the bundle verifies, offline" in said

    free, held = out / "ungoverned", out / "governed"
    assert (seen.stolen(free), seen.stolen(held)) == ("sk-demo-0000-not-a-real-key", "")
    assert (seen.altered(free), seen.altered(held)) == (True, False)
    assert seen.burned_seconds(free) > seen.burned_seconds(held) == 0.0

    state = app.open_project(out / "project").state()
    assert state.lineage is not None
    assert state.lineage.parent.number == 1
    assert all(permit.simulated for permit in state.permits.values())
    assert state.warrants[-1].spent.programs == 19  # the first program is judged, too
    assert ET.parse(out / "side-by-side.svg").getroot().tag.endswith("svg")

    commands = [line.strip() for line in said.splitlines() if line.strip().startswith(".venv/bin/keyturn ")]
    assert len(commands) == 3
    for each in commands:
        run = [sys.executable, "-m", "keyturn", *each.split()[1:]]
        checked = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
        assert checked.returncode == 0, (each, checked.stdout, checked.stderr)


def test_a_hostile_program_that_is_not_stopped_is_told_as_such(tmp_path: Path) -> None:
    mine = [row(1), row(2, kind="hostile", name="hard-coded", score=1.0, best=True), row(3)]
    theirs = [row(1), row(2, kind="hostile", name="hard-coded", score=1.0, best=True), row(3)]
    found = deeds(tmp_path, mine, tmp_path, theirs)
    assert [deed.caught for deed in found] == [False]
    assert found[0].got == "entered the population with score 1.000, and was the best to the end"
    assert found[0].stopped.startswith("NOT STOPPED: it entered the population")


def test_what_stopped_a_hostile_program_is_its_rule_and_its_reason(tmp_path: Path) -> None:
    mine = [row(1, kind="hostile", name="hard-coded", score=1.0, best=True), row(2, score=2.5, best=True)]
    theirs = [row(1, kind="hostile", name="hard-coded", score=None, entered=False), row(2)]
    found = deeds(tmp_path, mine, tmp_path, theirs)
    assert found[0].got == "entered the population with score 1.000, and was the best until program 2"
    assert (found[0].stopped, found[0].caught) == ("refused by checks_must_pass: it does not search", True)


def test_the_picture_is_whole_for_any_runs_and_lets_no_words_of_others_through() -> None:
    rows = [row(1, best=True), row(2, kind="hostile", name="hang", score=None, fault="timed out"), row(3, score=2.5)]
    evil = Deed(2, "hang", "burns", '<script>alert("x")</script>', "refused & gone \x1b[31m", caught=True)
    for sides in ((rows, rows), (rows, []), ([], [])):
        drawn = side_by_side_svg(*(Side(side, 0.45, 0.9) for side in sides), [evil], "3 answers & more")
        root = ET.fromstring(drawn)
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        assert "\x1b" not in drawn
