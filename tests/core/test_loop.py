"""A policy with a loop of somebody else's, and what follows from it: when it may run, and what replay looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.bounds import Bounds
from keyturn.core.candidate import files_of
from keyturn.core.decision import prepare
from keyturn.core.finding import Request
from keyturn.core.policy import Loop, Policy
from keyturn.core.policy_change import change, explain
from keyturn.core.policy_reading import read_policy
from keyturn.core.replay import recheck
from keyturn.core.terms import NO_DIGEST, Instant
from tests.core.examples import FILES, FOUNDER, Story, digest, document, looped
from tests.core.test_replay import problems

LEAVE = Bounds(10, 100, 50, 0, 5.0)
Text = dict[str, Any]
TWO = [{"name": "subject.py", "bytes_max": 1000}, {"name": "notes.txt", "bytes_max": 1000}]


def policy(text: Text) -> Policy:
    read = read_policy(text)
    assert isinstance(read, Policy), read
    return read


def wrong(text: Text) -> list[tuple[str, str]]:
    read = read_policy(text)
    assert isinstance(read, tuple), "this policy was accepted"
    return [(problem.path, problem.message) for problem in read]


def file(program: str, name: str = "subject.py") -> ev.Document:
    return {"name": name, "digest": digest(program), "bytes": 1}


def ready() -> Story:
    """A founded lineage, and leave for a loop."""
    return Story().founded(looped()).lineage().warrant(loop=LEAVE)


def honest() -> Story:
    story = ready().begun()
    story.judged("a", refused={"b": "program_must_run"})
    story.judged("c", closing=True, usd=1.0)
    return story.produced("c1", files=[file("c")])


def step(story: Story) -> object:
    told = story.copy()
    told.status()
    return agenda.next_step(told.state, Instant(told.at))


# The policy


def test_a_policy_with_a_loop_has_no_improve_command() -> None:
    read = policy(looped())
    assert read.loop == Loop("subject.py", "nothing", 5, 10)
    assert read.subject.improve == ()
    assert policy(document()).loop is None


def test_fifty_programs_are_a_batch_unless_the_policy_says_otherwise() -> None:
    text = looped()
    del text["loop"]["batch"]
    assert policy(text).loop == Loop("subject.py", "nothing", 50, 10)


IMPROVE = {**looped()["subject"], "improve": ["python", "x.py"]}
LOOP = looped()["loop"]
MISTAKES: list[tuple[str, Text, str, str]] = [
    ("a loop and a command", looped(subject=IMPROVE), "subject.improve",
     "`improve` stands beside `[loop]`, which makes the candidates; one is expected"),
    ("neither", {**document(), "subject": looped()["subject"]}, "subject.improve",
     "`improve` is missing; a list of texts is expected"),
    ("a table that is none", looped(loop=3), "loop", "`loop` is `3`; a table is expected"),
    ("an unknown key", looped(loop={**LOOP, "islands": 3}), "loop.islands", "`islands` is not a key of this table"),
    ("no program", looped(loop={k: v for k, v in LOOP.items() if k != "program"}), "loop.program",
     "`program` is missing; a text is expected"),
    ("no time for a program", looped(loop={k: v for k, v in LOOP.items() if k != "program_seconds"}),
     "loop.program_seconds", "`program_seconds` is missing; a whole number from 1 to 86400 is expected"),
    ("an undeclared program", looped(loop={**LOOP, "program": "best.py"}), "loop.program",
     "`best.py` is not a declared file of this policy; known: subject.py"),
    ("an unknown protection", looped(loop={**LOOP, "protect": "most"}), "loop.protect",
     "`protect` is `most`; one of evolve-blocks, nothing is expected"),
    ("no batch", looped(loop={**LOOP, "batch": 0}), "loop.batch", "`batch` is 0; 1 to 100 is expected"),
    ("a batch that no entry holds", looped(loop={**LOOP, "batch": 101}), "loop.batch",
     "`batch` is 101; 1 to 100 is expected"),
    ("a program that outlasts its sandbox", looped(loop={**LOOP, "program_seconds": 121}), "loop.program_seconds",
     "a program may take 121 seconds; a sealed run at most 120"),
    ("a program that nobody can read",
     looped(subject={**looped()["subject"], "files": [{"name": "subject.py", "bytes_max": 1_000_001}]}),
     "loop.program", "a program of 1000001 bytes; at most 1000000 can be looked at before it runs"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "message"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_about_a_loop_is_named_by_its_place(text: Text, path: str, message: str) -> None:
    assert (path, message) in wrong(text)


CHANGES: list[tuple[str, Text, Text, str, str]] = [
    ("a loop instead of a command", document(), looped(), "loop", "loosens"),
    ("a command instead of a loop", looped(), document(), "loop", "loosens"),
    ("protected blocks", looped(), looped(loop={**LOOP, "protect": "evolve-blocks"}), "loop.protect", "tightens"),
    ("free blocks", looped(loop={**LOOP, "protect": "evolve-blocks"}), looped(), "loop.protect", "loosens"),
    ("a smaller batch", looped(), looped(loop={**LOOP, "batch": 4}), "loop.batch", "tightens"),
    ("a larger batch", looped(), looped(loop={**LOOP, "batch": 6}), "loop.batch", "loosens"),
    ("less time", looped(), looped(loop={**LOOP, "program_seconds": 9}), "loop.program_seconds", "tightens"),
    ("more time", looped(), looped(loop={**LOOP, "program_seconds": 11}), "loop.program_seconds", "loosens"),
    ("another file", looped(subject={**looped()["subject"], "files": TWO}),
     looped(subject={**looped()["subject"], "files": TWO}, loop={**LOOP, "program": "notes.txt"}), "loop.program",
     "loosens"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "path", "effect"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_what_watches_programs_less_closely_loosens(old: Text, new: Text, path: str, effect: str) -> None:
    assert (path, effect) in [(each.path, each.effect) for each in change(policy(old), policy(new))]


def test_the_same_loop_is_no_difference() -> None:
    assert change(policy(looped()), policy(looped())) == ()


def test_the_policy_says_in_words_what_a_loop_may_do() -> None:
    said = explain(policy(looped(loop={**LOOP, "protect": "evolve-blocks"})))
    assert (
        "A loop of somebody else's makes the candidates: `subject.py` is the best of the programs that it made within "
        "one warrant and that were admitted; no person is asked about a program."
    ) in said
    assert (
        "A program runs sealed for at most 10 seconds; a program that changes anything outside its parent's evolve "
        "blocks is refused unrun. The log tells of programs at most 5 at a time."
    ) in said
    assert any("anything in the text of a program may change" in each for each in explain(policy(looped())))
    assert not any("loop" in each for each in explain(policy(document())))


# What comes next


def test_a_loop_starts_under_a_warrant_that_bounds_it() -> None:
    assert isinstance(step(ready()), agenda.Improve)


@pytest.mark.parametrize("bounds", [None, Bounds(), Bounds(programs_max=5), Bounds(wall_seconds_max=5)])
def test_a_loop_waits_for_bounds_on_programs_and_time(bounds: Bounds | None) -> None:
    story = Story().founded(looped()).lineage().warrant(loop=bounds)
    reason = "the warrant gives a loop no leave: it names no programs, or no time"
    assert step(story) == agenda.AwaitWarrant(reason)


def test_a_policy_that_gains_a_loop_waits_for_a_warrant_that_bounds_it() -> None:
    """The old warrant says nothing of programs, so it covers none."""
    story = Story().founded().lineage().warrant()
    assert isinstance(step(story), agenda.Improve)
    story.adopt(looped())
    assert isinstance(step(story), agenda.AwaitWarrant)


def test_without_a_loop_no_bounds_are_asked_for() -> None:
    assert isinstance(step(Story().founded().lineage().warrant()), agenda.Improve)


def test_bounds_that_are_used_up_wait_for_another_warrant() -> None:
    story = ready().begun()
    story.judged(*(f"p{number}" for number in range(10)), closing=True)
    story.produced("c1", files=[file("p0")])
    story.add(ev.CandidateRejected, candidate="c1", findings=())
    assert step(story) == agenda.AwaitWarrant("10 programs are used; the warrant ends at 10")
    story.warrant(loop=LEAVE)
    assert isinstance(step(story), agenda.Improve)


def test_a_step_that_was_started_goes_on_though_its_bounds_are_used_up() -> None:
    """It may still propose what it has; that nothing more runs is the improver's part, and replay's."""
    story = ready().begun()
    story.judged(*(f"p{number}" for number in range(10)), closing=True)
    going = step(story)
    assert isinstance(going, agenda.Improve)
    assert going.resumed


# The gate


def rules(story: Story, name: str = "c1") -> list[str]:
    decision = prepare(story.state, Request("ReleaseCandidate", NO_DIGEST, name), Instant(story.at))
    early = ("lineage_must_be_complete", "conduct_must_be_clean")
    return [finding.message for finding in decision.findings if finding.rule in early]


def test_an_admitted_program_is_a_candidate() -> None:
    assert rules(honest()) == []


@pytest.mark.parametrize("program", ["b", "never seen"])
def test_a_program_that_was_not_admitted_is_none(program: str) -> None:
    story = ready().begun()
    story.judged("a", refused={"b": "program_must_run"}, closing=True)
    story.produced("c1", files=[file(program)])
    assert rules(story) == ["`c1`: its `subject.py` is no program that its improve step admitted"]


def test_a_loop_makes_its_program_and_no_other_file() -> None:
    files = (*FILES, file("notes", "notes.txt"))
    story = Story().founded(looped(subject={**looped()["subject"], "files": TWO}))
    founder: ev.Document = {"name": "founder", "root": FOUNDER, "files": list(files)}
    dossier = story.seal("FoundLineage", {"candidate": founder})
    story.approve(dossier, "ada")
    story.approve(dossier, "ben")
    story.decided(dossier)
    story.add(ev.LineageFounded, lineage="toy", root=FOUNDER, files=files, dossier=dossier)
    story.warrant(loop=LEAVE).begun()
    story.judged("a", closing=True)
    made = story.copy().produced("c1", files=[file("a"), file("notes", "notes.txt")])
    assert rules(made) == []
    changed = story.copy().produced("c1", files=[file("a"), file("other notes", "notes.txt")])
    assert rules(changed) == ["`c1`: `notes.txt` differs from the parent's; a loop makes `subject.py` only"]
    left_out = story.copy().produced("c1", files=[file("a")])
    assert "`c1`: `notes.txt` differs from the parent's; a loop makes `subject.py` only" in rules(left_out)


def test_the_files_of_a_parent_are_known_whether_it_was_released_or_shadowed() -> None:
    story = honest()
    assert files_of(story.state, FOUNDER) == FILES
    assert files_of(story.state, story.state.candidates["c1"].root) == (file("c"),)
    assert files_of(story.state, digest("unknown")) == ()


def incident(story: Story, *programs: str, kind: str = "decoy") -> Story:
    facts: ev.Document = {"programs": [digest(name) for name in programs]}
    said = {"incident": "i-1", "kind": kind, "summary": "touched", "attempt": 0, "candidate": "", "exercise": False}
    story.append(story.event(ev.IncidentOpened, **said, facts=facts))
    return story


def test_an_incident_taints_the_programs_that_it_names_and_no_others() -> None:
    assert rules(incident(honest(), "c", "x")) == ["incident `i-1` (decoy) names it: touched"]
    assert rules(incident(honest(), "a", "b")) == []


def test_an_incident_whose_facts_make_no_sense_holds_the_gate() -> None:
    story = honest()
    said = {"incident": "i-1", "kind": "decoy", "summary": "", "attempt": 0, "candidate": "", "exercise": False}
    story.append(story.event(ev.IncidentOpened, **said, facts={"programs": [{"a": 1}]}))
    [message] = rules(story)
    assert message.startswith("the rule `conduct_must_be_clean` could not be evaluated")


# The dossier


def test_the_dossier_tells_of_the_run() -> None:
    text = honest().release_text("c1")
    programs = text["programs"]
    assert isinstance(programs, dict)
    assert {name: programs[name] for name in ("batches", "judged", "admitted", "refused", "lost")} == {
        "batches": 2,
        "judged": 3,
        "admitted": 2,
        "refused": {"program_must_run": 1},
        "lost": 0,
    }
    assert programs["bounds"] == LEAVE.to_json()
    assert programs["used"] == programs["spent"]


def test_what_two_steps_spent_stands_beside_what_this_one_used() -> None:
    story = honest()
    story.add(ev.CandidateRejected, candidate="c1", findings=())
    story.begun()
    story.judged("d", closing=True)
    text = story.produced("c2", files=[file("d")]).release_text("c2")["programs"]
    assert isinstance(text, dict)
    used, spent = text["used"], text["spent"]
    assert isinstance(used, dict)
    assert isinstance(spent, dict)
    assert (used["programs"], spent["programs"]) == (1, 4)


# Replay


def test_an_honest_run_is_lawful() -> None:
    story = honest()
    story.tried("c1", "kind")
    story.tried("c1", "strong")
    dossier = story.dossier("c1")
    story.approve(dossier, "ada")
    story.decided(dossier)
    assert problems(story.events) == []


def test_a_dossier_that_tells_otherwise_of_the_run_is_not() -> None:
    story = honest()
    story.tried("c1", "kind")
    story.tried("c1", "strong")
    text = story.release_text("c1")
    programs = text["programs"]
    assert isinstance(programs, dict)
    story.sealed({**text, "programs": {**programs, "judged": 2}})
    assert [message for _, message in problems(story.events)] == ["`programs` differs from what the log shows"]


def tried_after(make: Callable[[], Story], kind: type[ev.Event], **changes: Any) -> list[str]:
    """What is wrong with this entry, changed, where it would stand."""
    story = make()
    index = max(n for n, event in enumerate(story.events) if isinstance(event, kind))
    before = Story()
    for event in story.events[:index]:
        before.append(event)
    return [finding.message for finding in recheck(before.state, replace(story.events[index], **changes))]


USED = {"programs": 1, "wall_seconds": 1.0, "requests": 0, "tokens": 0, "usd": 0.0}
UNLAWFUL: list[tuple[str, dict[str, Any], str]] = [
    ("more than the warrant", {"used": {**USED, "programs": 9}}, "11 programs ran under a warrant for 10"),
    ("fewer charged than judged", {"used": {**USED, "programs": 0}}, "it judges 3 programs, of which 2 are charged"),
    ("lost ones do not pay for judged ones", {"used": USED, "lost": 1}, "it judges 3 programs, of which 2 are charged"),
    ("going on without money", {"used": {**USED, "usd": 5.5}, "closing": False},
     "it goes on beyond its warrant: 5.5 US dollars are used; the warrant ends at 5"),
    ("going on without a price", {"used": {**USED, "usd": None}, "closing": False},
     "it goes on beyond its warrant: the warrant bounds US dollars at 5, but the endpoint reports no price"),
    ("going on after the window", {"at": Instant(4_000_000_000_000), "closing": False},
     "it went on after the warrant's window"),
    ("use that is none", {"used": {"programs": 1}}, "it cannot be decided again: MalformedInput: figures named"),
    ("a step that there is not", {"attempt": 7}, "it cannot be decided again: KeyError: 7"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), [row[1:] for row in UNLAWFUL], ids=[row[0] for row in UNLAWFUL])
def test_an_unlawful_batch_is_named(changes: dict[str, Any], message: str) -> None:
    found = tried_after(honest, ev.ProgramsJudged, **changes)
    assert [each for each in found if each.startswith(message)], found


@pytest.mark.parametrize(
    "changes", [{}, {"used": {**USED, "usd": 9.0}}, {"used": {**USED, "wall_seconds": 500.0}}, {"lost": 0}]
)
def test_a_lawful_batch_is_not(changes: dict[str, Any]) -> None:
    """What a last entry tells beyond the bounds was in flight when they were reached."""
    assert tried_after(honest, ev.ProgramsJudged, **changes) == []


def test_programs_without_a_loop_are_unlawful() -> None:
    story = Story().founded().lineage().warrant().begun()
    story.judged("a", closing=True)
    found = [message for _, message in problems(story.events)]
    assert "the policy knows no loop whose programs could be judged" in found
    assert "1 programs ran under a warrant for 0" in found


def test_a_run_goes_on_to_its_end_under_a_policy_that_drops_its_loop() -> None:
    story = ready().begun()
    story.judged("a")
    story.adopt(document())
    story.judged("b", closing=True)
    found = [message for rule, message in problems(story.events) if rule == "programs_judged_must_be_lawful"]
    assert found == []


def test_a_step_ends_with_its_last_batch_closed() -> None:
    story = ready().begun()
    story.judged("a")
    story.produced("c1", files=[file("a")])
    assert [message for _, message in problems(story.events)] == ["its last batch of programs was never closed"]


def test_in_shadow_mode_nothing_is_bounded_and_anything_may_leave() -> None:
    story = Story().founded(looped()).lineage().begun(warrant="shadow")
    for number in range(5):
        story.judged(*(f"p{number}{n}" for n in range(50)), usd=None, tokens=10**9)
    story.judged(closing=True)
    story.produced("c1", files=[file("never judged")])
    assert problems(story.events) == []
