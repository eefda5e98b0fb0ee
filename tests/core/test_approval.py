"""Whose signature counts, for what, and when: one row for each way in which it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from keyturn.core.approval import quorum, row_of, why_not
from keyturn.core.dossier import as_request
from keyturn.core.policy import seated
from keyturn.core.state import Approval
from keyturn.core.terms import Instant
from tests.core.examples import HOUR, LOG_KEY, SERVICE_KEY, Story, digest, document, gate, key, loop, person, waiting

STRANGE: list[tuple[dict[str, Any], str]] = [
    ({"policy": digest("policy 2")}, "it was given under another policy"),
    ({"policy_version": 2}, "it names another policy number"),
    ({"artifact": digest("other bytes")}, "it names another artifact than the dossier"),
    ({"level": 1}, "it was given for another level"),
    ({"gate": "train"}, "it was given for the gate `train`"),
    ({"genesis": digest("elsewhere")}, "it was given in another project"),
    ({"origin": "else.example/log"}, "it was given in another project"),
    ({"lineage": "other"}, "it was given for the lineage `other`"),
    ({"evidence_index": 0}, "what was signed is older than the dossier"),
    ({"evidence_index": 10_000}, "it names evidence that was not in the log when it was given"),
    ({"not_before": 4_000_000_000_000}, "its window has not begun"),
    ({"not_after": 1_800_000_000_001}, "its window has ended"),
    ({"key": SERVICE_KEY}, "the governor's own keys never count"),
    ({"key": LOG_KEY}, "the governor's own keys never count"),
    ({"key": key("ben-0")}, "the key is not a key of this person"),
    ({"person": "eve"}, "this person is not enrolled"),
    ({"role": "engineering"}, "this person does not hold the role `engineering`"),
]


@pytest.mark.parametrize(("fields", "why"), STRANGE, ids=[f"{next(iter(f))}: {why}" for f, why in STRANGE])
def test_a_borrowed_or_altered_approval_never_counts(fields: dict[str, Any], why: str) -> None:
    story, dossier = waiting()
    story.approve(dossier, "ada", **fields)
    known = story.state.dossiers[dossier]
    assert why_not(story.state, known, known.approvals[0], Instant(story.at)) == why
    assert [f.rule for f in story.decide(dossier).findings] == ["quorum_must_be_met"]


def test_an_approval_ends_with_its_window() -> None:
    story, dossier = waiting()
    story.approve(dossier, "ada", not_after=story.at + HOUR)
    assert story.decide(dossier).cleared
    story.at += HOUR
    assert not story.decide(dossier).cleared


def test_an_approval_that_names_the_head_before_the_dossier_does_not_count() -> None:
    story, dossier = waiting()
    index = story.state.dossiers[dossier].index
    story.approve(dossier, "ada", evidence_index=index)
    assert not story.decide(dossier).cleared
    story.approve(dossier, "ada", evidence_index=index + 1)
    assert story.decide(dossier).cleared


def test_whoever_made_the_request_does_not_count() -> None:
    story = loop().proven("c1")
    dossier = story.sealed(story.release_text("c1"), actor="person:ada")
    story.approve(dossier, "ada")
    known = story.state.dossiers[dossier]
    assert why_not(story.state, known, known.approvals[0], Instant(story.at)) == "this person made the request"
    assert not story.decide(dossier).cleared
    story.approve(dossier, "ben")
    assert story.decide(dossier).cleared


def test_two_keys_of_one_person_are_one_person() -> None:
    story = Story().founded()
    dossier = story.seal("FoundLineage")
    story.approve(dossier, "ada", key=key("ada-0"))
    story.approve(dossier, "ada", key=key("ada-1"))
    [finding] = story.decide(dossier).findings
    assert finding.message == (
        "1 more approval(s) in the role `safety` are needed; `ada` does not count: this person has been counted already"
    )


def test_one_person_in_two_roles_is_one_person() -> None:
    story = Story().founded(document(gates=[gate("amend", 0, safety=1, engineering=1)]))
    dossier = story.seal("FoundLineage")
    story.approve(dossier, "ben", "safety")
    story.approve(dossier, "ben", "engineering")
    assert [f.rule for f in story.decide(dossier).findings] == ["quorum_must_be_met"]


def test_one_more_approval_never_empties_a_seat() -> None:
    """Ben signs for safety, then for engineering, Ada for safety: he must make room, not stand in the way."""
    story = Story().founded(document(gates=[gate("amend", 0, safety=1, engineering=1)]))
    dossier = story.seal("FoundLineage")
    story.approve(dossier, "ben", "safety")
    story.approve(dossier, "ada", "safety")
    assert not story.decide(dossier).cleared
    story.approve(dossier, "ben", "engineering")
    assert story.decide(dossier).cleared
    known, request = story.state.dossiers[dossier], as_request(story.state.dossiers[dossier])
    row = row_of(story.state, request)
    assert row is not None
    reached = quorum(story.state, known, row, Instant(story.at))
    assert dict(reached.counted) == {"ben": "engineering", "ada": "safety"}


def test_a_role_without_a_seat_is_named() -> None:
    story, dossier = waiting()
    story.approve(dossier, "ben", "engineering")
    [finding] = story.decide(dossier).findings
    assert finding.message == (
        "1 more approval(s) in the role `safety` are needed; "
        "`ben` does not count: the role `engineering` has no seat in this quorum"
    )
    assert finding.help == f"`keyturn approval give {dossier[7:15]} --as PERSON`"


@pytest.mark.parametrize(
    ("wanted", "able", "seats"),
    [
        ({"a": 1}, {}, 0),
        ({"a": 1}, {"p": ["a"], "q": ["a"]}, 1),
        ({"a": 2}, {"p": ["a"], "q": ["a"]}, 2),
        ({"a": 1, "b": 1}, {"p": ["a", "b"]}, 1),
        ({"a": 1, "b": 1}, {"p": ["a", "b"], "q": ["a"]}, 2),
        ({"a": 1, "b": 1, "c": 1}, {"p": ["a", "b"], "q": ["a", "c"], "r": ["a"]}, 3),
        ({"a": 1, "b": 1, "c": 1}, {"p": ["a", "b"], "q": ["c"], "r": ["c"]}, 2),
        ({"a": 1}, {"p": ["z"]}, 0),
    ],
)
def test_as_many_sit_as_can(wanted: dict[str, int], able: dict[str, list[str]], seats: int) -> None:
    taken = seated(wanted, able)
    assert len(taken) == seats
    assert all(role in able[who] for who, role in taken.items())
    assert all(list(taken.values()).count(role) <= number for role, number in wanted.items())


def test_one_refusal_ends_a_dossier_whatever_comes_after() -> None:
    story, dossier = waiting()
    story.approve(dossier, "ada")
    story.append(story.approval(dossier, "ben", refuse=True))
    story.approve(dossier, "ada", key=key("ada-1"))
    [finding] = story.decide(dossier).findings
    assert finding.rule == "nobody_must_have_refused"
    assert finding.message == "`ben` refused in the role `safety`: read it"


def test_a_refusal_that_does_not_count_ends_nothing() -> None:
    story, dossier = waiting()
    story.approve(dossier, "ada")
    story.append(story.approval(dossier, "ben", refuse=True, key=key("eve")))
    assert story.decide(dossier).cleared


def test_separate_warrant_keeps_its_signers_out_even_after_a_newer_warrant() -> None:
    """The warrant that counts is the one that the candidate was made under, not the newest."""
    text = document()
    text["project"]["separate_warrant"] = True
    story = loop(text).proven("c1").warrant(by="ben")
    dossier = story.dossier("c1")
    story.approve(dossier, "ada")
    known = story.state.dossiers[dossier]
    assert why_not(story.state, known, known.approvals[0], Instant(story.at)) == "this person signed the warrant"
    story.approve(dossier, "ben")
    assert story.decide(dossier).cleared


def test_a_later_policy_cannot_make_simulated_keys_count() -> None:
    """Only a project founded as a demo accepts them, for ever."""
    text = document(people=[person("ada", "safety", kind="simulated"), person("ben", "safety", kind="simulated")])
    text["project"]["demo"] = True
    text["gates"] = [gate("amend", 0, safety=2), gate("train", 0, safety=1)]
    text["thresholds"] = text["thresholds"][:1]
    story = Story().founded(text).lineage()
    assert story.state.lineage is not None
    assert story.state.project is not None
    state = replace(story.state, project=replace(story.state.project, demo=False))
    dossier = story.seal("IssueWarrant")
    story.approve(dossier, "ada")
    known = story.state.dossiers[dossier]
    assert why_not(story.state, known, known.approvals[0], Instant(story.at)) == ""
    doubt = why_not(state, known, known.approvals[0], Instant(story.at))
    assert doubt == "a simulated key counts in a demo only"


def test_an_approval_says_where_it_stands() -> None:
    story, dossier = waiting()
    story.approve(dossier, "ada")
    [approval] = story.state.dossiers[dossier].approvals
    assert isinstance(approval, Approval)
    assert approval.index == story.state.size - 1
