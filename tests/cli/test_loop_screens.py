"""What people are shown of a loop: the leave that they would give, what is left of it, the run behind a candidate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn import app
from keyturn.cli import context
from keyturn.cli.screens import loop
from keyturn.core import events as ev
from keyturn.core.bounds import Bounds, Used
from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Instant
from tests.cli.conftest import Terminal
from tests.cli.fake import FakeProject
from tests.cli.test_screens import fits
from tests.core.examples import Story, digest, looped

Compare = Callable[[str, str], None]
LEAVE = Bounds(programs_max=200, wall_seconds_max=3600, tokens_max=500_000, usd_max=2.5)


def asked() -> Story:
    """A warrant for a loop, waiting for people."""
    story = Story().founded(looped()).lineage()
    expires_at = story.at + 86_400_000
    bounds: ev.Document = {"candidates_max": 1, "level_ceiling": 0, "expires_at": expires_at, "loop": LEAVE.to_json()}
    story.seal("IssueWarrant", {"bounds": bounds})
    return story


def run() -> Story:
    """A run of some programs, and its best one waiting for people."""
    story = Story().founded(looped()).lineage().warrant(candidates=1, loop=LEAVE).begun()
    refused = {"p4": "protected_text_must_stand", "p5": "score_must_be_a_number", "p6": "protected_text_must_stand"}
    story.judged("p1", "p2", "p3", refused=refused, requests=6, tokens=12_000, usd=0.42, wall_seconds=95.0)
    story.judged("p7", lost=2, closing=True, requests=1, tokens=2000, usd=0.08, wall_seconds=30.0)
    story.produced("c1", files=[{"name": "subject.py", "digest": digest("p3"), "bytes": 900}])
    story.tried("c1", "kind")
    story.tried("c1", "strong")
    story.dossier("c1")
    return story


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    """A terminal in front of a project with a loop."""
    project = FakeProject(run())
    monkeypatch.setattr(app, "open_project", lambda root: project, raising=False)
    monkeypatch.setattr(app, "default_keys", lambda: tmp_path, raising=False)
    monkeypatch.setattr(context, "now", lambda: Instant(project.story.at))
    monkeypatch.delenv("COLUMNS", raising=False)
    return Terminal(project, capsys)


SCREENS = {
    "loop_status": ("status",),
    "loop_dossier": ("dossier", "show"),
    "loop_candidate": ("candidate", "show", "c1"),
}


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_about_a_loop_is_the_one_on_file(terminal: Terminal, golden: Compare, name: str) -> None:
    code, out, err = terminal(*SCREENS[name])
    assert (code, err) == (0, "")
    fits(out)
    golden(name, out)


def test_the_leave_that_a_warrant_would_give_is_shown_bound_by_bound(terminal: Terminal, golden: Compare) -> None:
    terminal.project.story = asked()
    code, out, err = terminal("dossier", "show")
    assert (code, err) == (0, "")
    fits(out)
    golden("loop_warrant", out)


def test_the_leave_is_shown_once_more_before_a_key_is_used(terminal: Terminal) -> None:
    terminal.project.story = asked()
    _, out, _ = terminal("approval", "give", "--as", "ada", "--reason", "read it", short_of(terminal.project.story))
    assert out.index("programs    200 at most") < out.index("APPROVED by ada")


def short_of(story: Story) -> str:
    return next(each.digest for each in story.state.dossiers.values() if each.gate == "train")[7:15]


def test_what_a_warrant_does_not_bound_is_said_to_be_unbounded(terminal: Terminal) -> None:
    terminal.project.story = asked()
    _, out, _ = terminal("dossier", "show")
    assert "requests    not bounded" in out
    _, out, _ = terminal("status")
    assert "warrant for 1 candidate(s) up to level 0, 200 programs" in out


def test_the_log_tells_of_batches_and_of_bounds_in_one_line_each(terminal: Terminal) -> None:
    _, out, _ = terminal("log", "list", "--json")
    assert "ProgramsJudged" in out
    story = terminal.project.story
    batches = [loop.batch(event) for event in story.events if isinstance(event, ev.ProgramsJudged)]
    assert batches == [
        "attempt 1, batch 1: 3 of 6 programs admitted",
        "attempt 1, batch 2: 1 of 1 program admitted, 2 lost, closed",
    ]


NOBODY = "a price that nobody reported"
WORDS = [
    (LEAVE, None, ("200 at most", "1 h at most", "not bounded", "500,000 at most", "2.50 USD at most")),
    (
        LEAVE,
        Used(9, 125.0, 7, 14_000, 0.5),
        ("9 of 200", "2 min 5 s of 1 h", "7, not bounded", "14,000 of 500,000", "0.50 of 2.50 USD"),
    ),
    (LEAVE, Used(usd=None), ("0 of 200", "0 s of 1 h", "0, not bounded", "0 of 500,000", f"{NOBODY} of 2.50 USD")),
    (
        Bounds(5, 60),
        Used(usd=None),
        ("0 of 5", "0 s of 1 min", "0, not bounded", "0, not bounded", f"{NOBODY}, not bounded"),
    ),
]


@pytest.mark.parametrize(("bounds", "used", "said"), WORDS)
def test_every_bound_is_named_whether_it_is_given_or_not(
    bounds: Bounds, used: Used | None, said: tuple[str, ...]
) -> None:
    assert tuple(text for _, text in loop.rows(bounds, used)) == said
    names = ("programs", "time", "requests", "tokens", "money")
    assert loop.in_words(bounds, used) == "; ".join(map(": ".join, zip(names, said, strict=True)))


def test_bounds_that_cannot_be_read_are_shown_as_no_leave() -> None:
    assert loop.read({"programs_max": "many"}) == loop.read("none") == Bounds()
    assert loop.read(LEAVE.to_json()) == LEAVE


def test_a_warrant_for_a_loop_is_asked_for_by_its_bounds(terminal: Terminal) -> None:
    words = ("warrant", "give", "--as", "ada", "--programs", "200", "--wall-minutes", "60", "--tokens", "500000")
    code, out, _ = terminal(*words, "--usd", "2.5", "--reason", "one run")
    assert code == 0
    [(_, (who, bounds))] = terminal.project.said
    assert (who, bounds["loop"]) == ("ada", LEAVE)
    assert "programs: 200 at most" in out


def test_where_leave_is_lacking_the_command_names_the_bounds(terminal: Terminal) -> None:
    terminal.project.story = Story().founded(looped()).lineage()
    terminal.project.story.status()
    _, out, _ = terminal("status")
    assert "keyturn warrant give --as PERSON --candidates 1 --programs N --wall-minutes M --reason TEXT" in out
    assert "no leave to train" in out


def test_a_bound_that_is_used_up_is_said_first(terminal: Terminal) -> None:
    story = Story().founded(looped()).lineage().warrant(loop=Bounds(2, 60)).begun()
    story.judged("p1", "p2", closing=True)
    story.produced("c1", files=[{"name": "subject.py", "digest": digest("p1"), "bytes": 1}])
    story.add(ev.CandidateRejected, candidate="c1", findings=())
    story.status()
    terminal.project.story = story
    _, out, _ = terminal("status")
    assert "no leave to train: 2 programs are used; the warrant ends at 2" in out


def test_the_figures_of_a_broken_dossier_are_not_taken_for_more(terminal: Terminal) -> None:
    """A dossier that somebody forged cannot act on the terminal, nor pass for leave."""
    terminal.project.story = asked()
    story = terminal.project.story
    [name] = [each for each in story.state.dossiers if story.state.dossiers[each].gate == "train"]
    document = story.state.dossiers[name].document
    story.sealed({**document, "bounds": {"loop": {"programs_max": "\x1b[2J9999"}, "expires_at": "\x1b[31m"}})
    _, out, err = terminal("dossier", "show")
    assert err == ""
    fits(out)
    with pytest.raises(MalformedInput):
        Bounds.from_json({"programs_max": "\x1b[2J9999"})


@pytest.mark.parametrize(
    "words", [("status",), ("dossier", "show"), ("candidate", "show", "c1"), ("log", "list"), ("lineage", "show")]
)
def test_what_is_shown_of_a_loop_can_also_be_read_by_a_program(terminal: Terminal, words: tuple[str, ...]) -> None:
    code, body = terminal.json(*words)
    assert code == 0
    if words == ("status",):
        assert body["warrant"]["bounds"] == LEAVE.to_json()
        assert body["warrant"]["spent"] == Used(9, 125.0, 7, 14_000, 0.5).to_json()
