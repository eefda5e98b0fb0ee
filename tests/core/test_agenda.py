"""What comes next is read off the log alone, so that a restart after any crash simply goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.agenda import next_step
from keyturn.core.terms import Digest, Instant
from tests.core.examples import HOUR, Story, digest, loop, waiting


def step(story: Story, *, later: int = 0) -> object:
    """The next step once whatever happened stands under a published status."""
    told = story.copy()
    if told.state.published < told.state.noteworthy:
        told.status()
    return next_step(told.state, Instant(told.at + later))


def founding() -> Story:
    story = Story().founded()
    story.seal("FoundLineage")
    return story


def founding_signed() -> Story:
    story = founding()
    [dossier] = story.state.dossiers
    story.approve(story.state.dossiers[dossier].digest, "ada")
    story.approve(story.state.dossiers[dossier].digest, "ben")
    return story


def signed() -> Story:
    story, dossier = waiting()
    story.approve(dossier, "ada")
    return story


def refused() -> Story:
    story, dossier = waiting()
    story.append(story.approval(dossier, "ada", refuse=True))
    return story


def over_the_line() -> Story:
    story = loop().candidate("c1")
    story.tried("c1", "kind", value=1.0)
    story.tried("c1", "strong")
    return story


def halfway() -> Story:
    story = loop().candidate("c1")
    story.planned("c1", "kind")
    story.block("c1/kind", 0.5)
    return story


def running() -> Story:
    story = loop()
    assert story.state.warrant is not None
    warrant = story.state.warrant.id
    story.add(
        ev.ImprovementStarted, attempt=1, lineage="toy", warrant=warrant, parent=digest("founder"), generation=0, seed=7
    )
    return story


def above_its_ceiling() -> Story:
    story = loop().released("c1", strong=True, by=[("ada", "safety"), ("ben", "engineering")])
    story.audited(digest("c1"))
    return story.warrant(ceiling=0)


def resuming(*, sign: bool) -> Story:
    story = loop().halted()
    dossier = story.seal("ResumeLoop", {"halt": "h-1"})
    if sign:
        story.approve(dossier, "ada")
    return story


def asking(*, sign: bool) -> Story:
    story = Story().founded().lineage()
    dossier = story.seal("IssueWarrant", {"bounds": {}})
    if sign:
        story.approve(dossier, "ada")
    return story


def leave_refused() -> Story:
    story = asking(sign=False)
    dossier = next(reversed(story.state.dossiers))
    story.approve(Digest(dossier), "ada", refuse=True)
    return story


ROWS: list[tuple[str, Callable[[], Story], type, dict[str, Any]]] = [
    ("nothing is founded", lambda: Story().founded(), agenda.Found, {"decision": None}),
    ("the founding waits for people", founding, agenda.Hold, {}),
    ("the founding cleared", founding_signed, agenda.Found, {}),
    ("no leave", lambda: Story().founded().lineage(), agenda.AwaitWarrant, {"reason": "no warrant has been given"}),
    ("leave is asked for", lambda: asking(sign=False), agenda.Hold, {}),
    ("leave was refused", leave_refused, agenda.AwaitWarrant, {"reason": "no warrant has been given"}),
    ("leave is cleared", lambda: asking(sign=True), agenda.Grant, {}),
    ("leave", loop, agenda.Improve, {"attempt": 1, "parent": digest("founder"), "seed": 1001, "resumed": False}),
    ("a crash while improving", running, agenda.Improve, {"attempt": 1, "seed": 7, "resumed": True}),
    ("a fresh candidate", lambda: loop().candidate("c1"), agenda.Try, {"candidate": "c1", "threshold": "kind"}),
    ("a crash within a trial", halfway, agenda.Try, {"candidate": "c1", "threshold": "kind"}),
    ("all is tried", lambda: loop().proven("c1"), agenda.Seal, {"candidate": "c1"}),
    ("sealed", lambda: waiting()[0], agenda.Hold, {}),
    ("signed", signed, agenda.Release, {"candidate": "c1"}),
    ("refused by a person", refused, agenda.Reject, {"candidate": "c1"}),
    ("over the line", over_the_line, agenda.Reject, {"candidate": "c1"}),
    ("too far ahead", lambda: loop().released("c1").released("c2"), agenda.AwaitAudit, {"unaudited": 2, "bound": 2}),
    ("too far ahead on its level", lambda: loop().released("c1").proven("c2", strong=True), agenda.AwaitAudit,
     {"unaudited": 1, "bound": 1}),
    ("used up", lambda: Story().founded().lineage().warrant(candidates=1).released("c1"), agenda.AwaitWarrant,
     {"reason": "the warrant for 1 candidate(s) is used up"}),
    ("above its ceiling", above_its_ceiling, agenda.AwaitWarrant,
     {"reason": "the lineage reached level 1; the warrant ends at level 0"}),
    ("halted", lambda: loop().halted(), agenda.Halted, {"dossier": None}),
    ("resuming waits", lambda: resuming(sign=False), agenda.Halted, {}),
    ("resuming cleared", lambda: resuming(sign=True), agenda.Resume, {}),
    ("halted in the middle", lambda: signed().halted(), agenda.Halted, {}),
]  # fmt: skip


@pytest.mark.parametrize(("story", "kind", "fields"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_next_step(story: Callable[[], Story], kind: type, fields: dict[str, Any]) -> None:
    found = step(story())
    assert type(found) is kind, found
    assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize("story", [row[1] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_people_must_see_is_published_first(story: Callable[[], Story]) -> None:
    told = story()
    unpublished = told.state.published < told.state.noteworthy
    assert isinstance(next_step(told.state, Instant(told.at)), agenda.Publish) is unpublished


def test_a_warrant_ends() -> None:
    found = step(loop(), later=25 * HOUR)
    assert found == agenda.AwaitWarrant("the warrant's window has ended")


def test_an_audit_lets_the_loop_go_on() -> None:
    story = loop().released("c1").released("c2")
    story.audited(digest("c2"))
    assert isinstance(step(story), agenda.Improve)


def test_a_dossier_that_ran_out_is_sealed_anew() -> None:
    story, _ = waiting()
    story.at += 24 * HOUR
    assert isinstance(step(story), agenda.Reject), "evidence goes stale before the dossier does"


def test_a_dossier_of_the_policy_before_is_sealed_anew() -> None:
    story, _ = waiting()
    assert story.state.current is not None
    text = {**story.state.current.policy.document, "pace": {"unaudited_max": 1}}
    story.adopt(text)
    assert step(story) == agenda.Seal("c1")
