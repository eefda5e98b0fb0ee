"""The attack: use a person's approval again, or for something else. It is for one dossier, once, within its window."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core.decision import decide
from keyturn.core.errors import KeyturnError
from keyturn.core.finding import Request
from keyturn.core.terms import Digest, Instant
from keyturn.verify.check import check
from tests.attacks.forging import leaves_in, signed_log, verified
from tests.fakes.world import LogKey
from tests.verify.scene import ACTION, KEYS, SCOPE, Hand, Scene, doubts, signed
from tests.world import story


@pytest.fixture
def made(tmp_path):
    """A real log in which two candidates wait; people approved the first."""
    scene = Scene.begin(tmp_path / "log.db")
    scene.found()
    first = scene.propose("c1")
    scene.files["recipe.json"] = b'{"steps":8}'
    second = scene.propose("c2")
    scene.sign(first, "ada", "safety")
    scene.sign(first, "cyd", "engineering")
    yield scene, first, second
    scene.log.store.close()


def missing_for(scene, dossier, name):
    """The rules about people that still hold the gate, by what stands in the log."""
    request = Request("ReleaseCandidate", dossier, name)
    found = decide(scene.log.state, request, scene.log.now())
    return [each.rule for each in found.findings if "quorum" in each.rule]


def test_the_same_signed_bytes_are_not_taken_twice(made):
    scene, first, _ = made
    place = scene.dossier(first).approvals[0].index
    again = scene.log.store.leaf(place)
    size = scene.log.state.size
    with pytest.raises(KeyturnError):
        scene.log.append_signed(again)
    assert scene.log.state.size == size


def test_an_approval_of_one_candidate_opens_no_gate_for_another(made):
    scene, first, second = made
    assert missing_for(scene, second, "c2")
    found = [
        each.rule
        for each in decide(scene.log.state, Request("ReleaseCandidate", first, "c1"), scene.log.now()).findings
    ]
    assert not [rule for rule in found if "quorum" in rule]


def test_a_thief_who_writes_the_same_leaf_again_into_the_log_is_named(tmp_path, capsys):
    """He has every key of the governor: the entry stands twice under a good signature."""
    world = story.founded(tmp_path / "home")
    world.until(type(world.hold()))
    step = world.hold()
    world.approve(step.dossier)
    world.run()
    leaves = leaves_in(world.home / "log.db")
    place = max(n for n, kind in enumerate(world.kinds()) if kind == "ApprovalGiven")
    code, found = verified(capsys, signed_log(tmp_path / "forged.db", [*leaves, leaves[place]], LogKey()))
    assert code == 3
    assert found[0].startswith(f"{len(leaves)} ")


@pytest.mark.parametrize("case", ["dossier", "window"])
def test_offline_it_counts_for_nothing_else(scene, case):
    hand = Hand.of(scene)
    if case == "dossier":
        permit = hand.permit(dossier=Digest("sha256:" + "5" * 64), permit="p-55555555")
        why = "it is for another dossier"
        now = scene.now
    else:
        now = Instant(scene.terms["ada"].not_after)
        permit = hand.permit(not_before=now, not_after=Instant(now + 1000), at=now)
        why = "it was outside its window"
    hand.status(at=now)
    found = doubts(hand.show(permit), scene, now=now)
    assert [number for number, _ in found] == [8, 8]
    assert f"`ada` does not count: {why}" in found[0][1]


def test_the_same_approval_shown_twice_is_one(scene):
    first = scene.honest.approvals[0]
    found = doubts(replace(scene.honest, approvals=(first, first)), scene)
    assert found == [(8, "0 of 1 person(s) in the role `engineering` approved exactly this")]


def test_a_second_signature_by_the_same_person_is_one_person(scene):
    hand = Hand.of(scene)
    again = hand.add(signed(replace(scene.terms["cyd"], nonce="again"), KEYS["cyd"]))
    permit = hand.permit()
    hand.status()
    found = doubts(hand.show(permit, (scene.approval_indexes[1], again)), scene)
    assert [number for number, _ in found] == [8]


def test_after_its_release_it_releases_nothing_more(made):
    """The honest approval was used; a second permit for the same candidate would need another dossier."""
    scene, first, _ = made
    permit = scene.release(first)
    assert check(scene.bundle(permit), scene.trust, action=ACTION, scope=SCOPE, now=scene.clock.now()).doubts == ()
    found = decide(scene.log.state, Request("ReleaseCandidate", first, "c1"), scene.log.now())
    assert found.findings
