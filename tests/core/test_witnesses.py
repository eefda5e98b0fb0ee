"""Whose cosignature counts, when it is enough, and what waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from keyturn.cli.screens import policy as screen
from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.agenda import next_step
from keyturn.core.errors import TamperDetected
from keyturn.core.policy import Policy
from keyturn.core.policy_change import change
from keyturn.core.policy_prose import explain
from keyturn.core.policy_reading import read_policy
from keyturn.core.replay import recheck
from keyturn.core.terms import Instant
from tests.core.examples import Story, document
from tests.fakes.witnesses import WitnessKey, party, table


def policy(**witnesses: Any) -> Policy:
    read = read_policy(document(witnesses=witnesses))
    assert isinstance(read, Policy), read
    return read


def problems(**witnesses: Any) -> list[tuple[str, str]]:
    read = read_policy(document(witnesses=witnesses))
    assert not isinstance(read, Policy)
    return [(each.path, each.message) for each in read]


NOTE_KEY = "log.example+cf0733b0+AVDnIeScAT8Axiz1nyFjVCqdjfAkZO/rYV0xBRsP3cMm"
ROWS = [
    ("more than are named", table(2, "w1"), "witnesses.parties",
     "if all cosigned, 1 of 2 independent witnesses cosigned: nobody could meet this"),
    ("the operator's own never counts", table(1, parties=[party("own", independent=False)]), "witnesses.parties",
     "if all cosigned, 0 of 1 independent witnesses cosigned: nobody could meet this"),
    ("no auditor among them", table(1, "w1", auditors=1), "witnesses.parties",
     "if all cosigned, 0 of 1 independent auditors cosigned: nobody could meet this"),
    ("more auditors than witnesses", table(1, parties=[party("a", auditor=True), party("b", auditor=True)], auditors=2),
     "witnesses.auditors", "2 auditors are asked for among 1 witnesses"),
    ("required and forgone at once", table(1, "w1", allow_unwitnessed=True), "witnesses.allow_unwitnessed",
     "1 witness(es) are required, and `allow_unwitnessed` takes that back"),
    ("one party twice", table(0, parties=[party("w1"), party("w1", keys=[WitnessKey("x").vkey])],
     allow_unwitnessed=True), "witnesses.parties", "`w1` stands more than once"),
    ("a key of another kind", table(0, parties=[party("w1", keys=[NOTE_KEY])], allow_unwitnessed=True),
     "witnesses.parties[0].keys", f"`{NOTE_KEY}` signs notes, not other people's logs"),
    ("a key that is none", table(0, parties=[party("w1", keys=["w1"])], allow_unwitnessed=True),
     "witnesses.parties[0].keys", "found `w1`; a verifier key is expected"),
    ("a key with another hash", table(0, parties=[party("w1", keys=["w+00000000+" + WitnessKey("w").vkey[11:]])],
     allow_unwitnessed=True), "witnesses.parties[0].keys",
     f"found the key hash `00000000`; `{WitnessKey('w').vkey[2:10]}` is expected"),
    ("an address that is none", table(0, parties=[party("w1", url="ftp://w1")], allow_unwitnessed=True),
     "witnesses.parties[0].url", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_mistake_is_named(text: dict[str, Any], path: str, message: str | None) -> None:
    [(where, said)] = problems(**text)
    assert where == path
    assert message is None or said == message


def test_attack_one_key_under_two_names_is_not_two_witnesses() -> None:
    same = WitnessKey("w1.example").vkey
    found = problems(**table(2, parties=[party("w1"), party("w2", keys=[same])]))
    assert ("witnesses.parties.keys", found[0][1]) == found[0]
    assert found[0][1].endswith("stands more than once")


def test_only_independent_parties_of_the_policy_count_and_auditors_are_asked_for_apart() -> None:
    rows = [party("w1"), party("w2"), party("aud", auditor=True), party("own", independent=False, auditor=True)]
    witnesses = policy(required=2, auditors=1, parties=rows).witnesses
    assert witnesses.counted(["own", "w2", "stranger", "aud"]) == ("w2", "aud")
    assert witnesses.lacking(["w1", "aud"]) == ()
    assert witnesses.lacking(["w1", "w2"]) == ("0 of 1 independent auditors cosigned",)
    assert witnesses.lacking(["own", "stranger"]) == (
        "0 of 2 independent witnesses cosigned",
        "0 of 1 independent auditors cosigned",
    )


def test_asking_for_more_is_free_and_another_party_is_not() -> None:
    one, two = policy(**table(1, "w1", "w2")), policy(**table(2, "w1", "w2"))
    assert [(each.path, each.effect) for each in change(one, two)] == [("witnesses.required", "tightens")]
    assert [each.effect for each in change(two, one)] == ["loosens"]
    more = policy(**table(2, "w1", "w2", "w3"))
    assert [(each.path, each.effect) for each in change(two, more)] == [("witnesses.parties.w3", "loosens")]
    moved = policy(**table(2, parties=[party("w1", url="https://else.example"), party("w2")]))
    assert [(each.path, each.effect) for each in change(two, moved)] == [("witnesses.parties.w1.url", "loosens")]


def test_the_policy_says_in_prose_who_cosigns() -> None:
    said = explain(policy(required=1, parties=[party("w1"), party("own", independent=False)]))
    assert not any(line.startswith("UNWITNESSED") for line in said)
    assert "No permit is issued or used until 1 independent parties have cosigned the log's head." in said
    assert "`own` cosigns the log (the operator's own, which never counts), at https://own.example." in said


@pytest.mark.parametrize(
    ("witnesses", "splits"),
    [
        (table(1, "w1", "w2", "w3"), "1 of 3 independent parties are required"),
        (table(2, "w1", "w2", "w3", "w4", "w5"), "2 of 5 independent parties are required"),
        (table(2, "w1", "w2", "w3", "w4"), "2 of 4 independent parties are required"),
        (table(2, "w1", "w2", "w3"), ""),
        (table(1, parties=[party("w1"), party("own", independent=False)]), ""),
        (table(1, parties=[party("w1"), party("w2"), party("a", auditor=True)], auditors=1), ""),
        (table(0, allow_unwitnessed=True), ""),
    ],
)
def test_a_policy_under_which_two_histories_could_both_be_witnessed_says_so(
    witnesses: dict[str, Any], splits: str
) -> None:
    read = policy(**witnesses)
    said = [line for line in explain(read) if line.startswith("TWO HISTORIES: ")]
    assert said == ([f"TWO HISTORIES: {read.witnesses.splits}."] if splits else [])
    assert read.witnesses.splits.startswith(splits)
    assert bool(splits) == any(each.startswith("TWO HISTORIES: ") for each in screen.warnings(read))


# --- what waits


def founding(required: int = 1) -> Story:
    """A founding that enough people have signed for, published."""
    story = Story().founded(document(witnesses=table(required, "w1", "w2")))
    dossier = story.seal("FoundLineage", {"candidate": {"name": "founder", "root": "sha256:" + "0" * 64, "files": []}})
    story.status()
    story.approve(dossier, "ada")
    story.approve(dossier, "ben")
    return story


def witnessed(story: Story, *parties: str) -> None:
    size = story.state.published
    story.add(ev.CheckpointWitnessed, size=size, root="00" * 32, parties=parties, note="")


def step(story: Story) -> object:
    return next_step(story.state, Instant(story.at))


def test_signatures_are_published_and_witnessed_before_a_permit_rests_on_them() -> None:
    story = founding()
    witnessed(story, "w1")  # of the head below the signatures
    assert step(story) == agenda.Publish()
    story.status()
    assert isinstance(step(story), agenda.Witness)
    witnessed(story, "w2")
    assert isinstance(step(story), agenda.Found)


def test_a_witness_less_than_the_policy_asks_for_is_not_enough() -> None:
    story = founding(required=2)
    story.status()
    witnessed(story, "w1")
    assert step(story) == agenda.Witness(("1 of 2 independent witnesses cosigned",))


def test_without_witnesses_nothing_waits_for_them() -> None:
    story = Story().founded(document())
    dossier = story.seal("FoundLineage", {"candidate": {"name": "founder", "root": "sha256:" + "0" * 64, "files": []}})
    story.status()
    story.approve(dossier, "ada")
    story.approve(dossier, "ben")
    assert isinstance(step(story), agenda.Found)


def test_the_newest_head_counts_and_no_other_can_be_recorded() -> None:
    story = founding()
    story.status()
    event = story.event(
        ev.CheckpointWitnessed, size=story.state.published - 1, root="00" * 32, parties=("w1",), note=""
    )
    with pytest.raises(TamperDetected, match="is the newest"):
        story.append(event)


@pytest.mark.parametrize(
    ("parties", "what"),
    [
        ((), "no independent party that the policy names cosigned it"),
        (("w1",), "1 of 2 independent witnesses cosigned"),
        (("w2", "w1"), "it names parties that do not count, or in another order"),
        (("w1", "w2", "w9"), "it names parties that do not count, or in another order"),
        (("w1", "w1"), "it names parties that do not count, or in another order"),
    ],
)
def test_attack_a_replay_finds_a_head_that_too_few_witnessed(parties: tuple[str, ...], what: str) -> None:
    story = founding(required=2)
    story.status()
    event = story.event(ev.CheckpointWitnessed, size=story.state.published, root="00" * 32, parties=parties, note="")
    assert what in [finding.message for finding in recheck(story.state, event)]


def test_a_head_that_enough_witnessed_is_lawful_and_settles_the_log() -> None:
    story = founding(required=2)
    story.status()
    assert story.state.settled
    assert not story.state.is_witnessed
    event = story.event(
        ev.CheckpointWitnessed, size=story.state.published, root="00" * 32, parties=("w1", "w2"), note=""
    )
    assert recheck(story.state, event) == ()
    story.append(event)
    assert story.state.settled
    assert story.state.is_witnessed
    story.seal("FoundLineage")
    assert not story.state.settled
