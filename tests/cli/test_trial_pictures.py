"""A trial drawn: as a picture, as it grows, and what is to be expected of one under way."""

from __future__ import annotations

import io
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from keyturn.cli.screen import Paint, columns
from keyturn.cli.screens.trial import sides
from keyturn.cli.trials.expecting import expected
from keyturn.cli.trials.growing import Growing, line, measured, progress
from keyturn.cli.trials.watching import runs, standing
from keyturn.core import betting
from keyturn.core import events as ev
from keyturn.core.betting import Process
from keyturn.core.terms import Digest, Verdict
from keyturn.core.trial import TrialPlan, begin
from tests.cli.conftest import Terminal
from tests.core.examples import loop

D = Digest("sha256:" + "0" * 64)


def plan(**changes: Any) -> TrialPlan:
    asked: dict[str, Any] = {
        "suite": "s", "metric": "m", "threshold": "t", "kind": "limit", "line": 0.2, "margin": 0.0, "error": 0.001,
        "bank": D, "bank_items": 2000, "clusters": 2000, "estimand": "population", "seed": D, "order": D,
        "items": 2000, "block_items": 100,
    }  # fmt: skip
    return TrialPlan(**{**asked, **changes})


def after(planned: TrialPlan, mean: float, items: int, seed: int = 1) -> Process:
    dice, process = random.Random(seed), begin(planned)
    for _ in range(items):
        if process.verdict is Verdict.UNDECIDED:
            process = betting.advance(process, float(dice.random() < mean))
    return process


@pytest.mark.parametrize(("mean", "verdict"), [(0.08, Verdict.CLEAR), (0.4, Verdict.TRIP)])
def test_a_forecast_names_the_right_line_and_about_the_right_length(mean: float, verdict: Verdict) -> None:
    planned = plan()
    found = expected(planned, after(planned, mean, 60))
    assert found.verdict is verdict
    whole = after(planned, mean, 2000)
    assert whole.verdict is verdict
    assert whole.decided_at is not None
    assert 0.3 <= (60 + found.items) / whole.decided_at <= 3.0


def test_a_mean_on_the_line_has_no_verdict_in_sight_before_the_budget_ends() -> None:
    planned = plan(items=300)
    found = expected(planned, after(planned, 0.2, 60))
    assert (found.verdict, found.items) == (Verdict.UNDECIDED, 240)


def test_a_decided_trial_expects_nothing_more() -> None:
    planned = plan()
    whole = after(planned, 0.0, 2000)
    assert expected(planned, whole).items == 0
    assert progress(whole)[0] == 1.0


@pytest.mark.parametrize("items", [0, 1, 30, 2000])
def test_the_passing_line_fits_a_terminal(items: int) -> None:
    planned = plan(reference="founder", line=0.55)
    assert columns(line("c1-0741/" + "x" * 60, planned, after(planned, 0.5, items), Paint())) <= 79


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_run_draws_over_its_line_and_leaves_it_when_the_trial_ends() -> None:
    told: list[str] = []
    stream = Tty()
    growing = Growing(told.append, stream)
    planned = plan()
    growing.block("c1/t", planned, after(planned, 0.05, 20))
    growing.tell("something else")
    growing.block("c1/t", planned, after(planned, 0.05, 2000))
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert told == ["something else"]


def test_without_a_terminal_a_trial_is_one_line() -> None:
    told: list[str] = []
    growing = Growing(told.append, io.StringIO())
    planned = plan()
    growing.block("c1/t", planned, after(planned, 0.05, 20))
    growing.block("c1/t", planned, after(planned, 0.05, 2000))
    assert len(told) == 1
    assert "CLEAR at item" in told[0]


def test_the_picture_of_a_trial_is_sound_xml_and_says_itself_in_words(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "trial.svg"
    code, out, _ = terminal("trial", "show", "c2/kind", "--svg", str(file))
    assert code == 0
    assert out.endswith(f"the picture is in {file}\n")
    root = ET.fromstring(file.read_text())
    said = "".join(root.itertext())
    assert "bet on CLEAR" in said
    assert "bet on TRIP" in said
    assert "items; mean" in said
    assert "line 0.100" in said
    assert not [each for each in root.iter() if each.tag.endswith(("script", "image", "foreignObject"))]


def test_watching_an_ended_trial_draws_it_once(terminal: Terminal) -> None:
    code, out, err = terminal("trial", "watch", "c2/kind")
    assert (code, err) == (0, "")
    assert "to 1 decides; expected:" in out
    code, body = terminal.json("trial", "watch", "c2/kind")
    assert (code, body["trial"]) == (0, "c2/kind")
    assert body["word"] in {"CLEAR", "TRIP", "UNDECIDED"}


def test_a_claim_that_is_shown_to_be_false_is_never_drawn_as_good_news() -> None:
    planned = plan(kind="claim", items=60)
    shown = after(planned, 0.0, 2000)
    assert shown.verdict is Verdict.CLEAR
    assert measured(planned, shown).tone == "red"
    assert sides(planned) == ("red", "green")
    assert "\x1b[31m█" in line("c1/claim", planned, shown, Paint(colour=True))


def test_a_line_of_a_trial_that_broke_off_is_taken_away() -> None:
    stream = Tty()
    growing = Growing(lambda _: None, stream)
    growing.block("c1/t", plan(), after(plan(), 0.2, 20))
    growing.close()
    growing.close()
    assert stream.getvalue().endswith("\r\x1b[K")
    assert stream.getvalue().count("\r\x1b[K") == 2


def test_a_trial_whose_candidate_was_refused_in_its_middle_is_not_waited_for() -> None:
    story = loop().candidate("c1")
    story.planned("c1", "kind")
    assert runs(story.state, story.state.trials["c1/kind"])
    story.add(ev.CandidateRejected, candidate="c1", findings=())
    assert not runs(story.state, story.state.trials["c1/kind"])


def test_watching_where_nothing_runs_ends_and_says_what_starts_it(terminal: Terminal) -> None:
    code, _, err = terminal("trial", "watch", "--seconds", "0")
    assert code == 5
    assert err.startswith("error: no trial ran within 0 seconds\nhelp: `keyturn run` starts them")


def test_where_the_bets_stand_is_what_the_log_says(terminal: Terminal) -> None:
    known = terminal.project.state().trials["c2/kind"]
    planned, process = standing(known)
    assert planned.threshold == "kind"
    assert process.n == known.read
