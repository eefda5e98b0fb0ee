"""The attack: make too few, other or older signatures count towards a permit. Offline, from the bundle alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core.errors import TamperDetected
from keyturn.core.terms import Digest
from keyturn.verify.bundle import Proven
from keyturn.verify.check import check
from keyturn.wire import canonical
from keyturn.wire.digest import sha256
from tests.verify.scene import (
    ACTION,
    KEYS,
    LOG,
    SCOPE,
    SERVICE,
    Hand,
    Scene,
    document,
    doubts,
    people,
    policy_of,
    released,
    signed,
    stated,
)

OTHER = Digest("sha256:" + "5" * 64)
SAFETY = "person(s) in the role `safety` approved exactly this"


def with_safety_by(scene, terms, key=None):
    """The thief's log: cyd's honest approval, another in place of ada's, the same permit after both."""
    hand = Hand.of(scene)
    place = hand.add(signed(terms, key or KEYS[terms.person]))
    permit = hand.permit()
    hand.status()
    return hand.show(permit, (scene.approval_indexes[1], place))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dossier": OTHER}, "it is for another dossier"),
        ({"artifact": OTHER}, "it is for another artifact"),
        ({"artifact": ""}, "it is for another artifact"),
        ({"gate": "amend"}, "it is for `amend` on level 1"),
        ({"gate": "train"}, "it is for `train` on level 1"),
        ({"level": 0}, "it is for `release` on level 0"),
        ({"genesis": OTHER}, "it was given in another project"),
        ({"origin": "other.example/log"}, "it was given in another project"),
        ({"lineage": "other"}, "it is for another lineage or scope"),
        ({"scope": "a test bench"}, "it is for another lineage or scope"),
        ({"policy": OTHER}, "it was given under another policy"),
        ({"policy_version": 2}, "it was given under another policy"),
        ({"evidence_index": 10**6}, "what was signed is older than what it is about"),
        ({"not_after": 1_800_000_000_001, "not_before": 1_800_000_000_000}, "it was outside its window"),
        ({"not_before": 1_900_000_000_000, "not_after": 1_900_000_000_001}, "it was outside its window"),
        ({"role": "engineering"}, "the role `engineering` is not theirs"),
        ({"role": "board"}, ""),
    ],
)
def test_an_approval_of_something_else_does_not_count(scene, change, why):
    terms = replace(scene.terms["ada"], nonce="again", **change)
    found = doubts(with_safety_by(scene, terms), scene)
    because = f"; `ada` does not count: {why}" if why else ""
    assert found == [(8, f"0 of 1 {SAFETY}{because}")]


def test_the_true_approval_counts(scene):
    assert doubts(with_safety_by(scene, replace(scene.terms["ada"], nonce="again")), scene) == []


def test_one_signature_is_missing(scene):
    found = doubts(replace(scene.honest, approvals=scene.honest.approvals[:1]), scene)
    assert found == [(8, "0 of 1 person(s) in the role `engineering` approved exactly this")]


def test_no_signature_at_all(scene):
    assert [number for number, _ in doubts(replace(scene.honest, approvals=()), scene)] == [8, 8]


def test_people_are_seated_so_that_every_seat_that_can_be_filled_is(scene):
    """ben signed as safety and as engineering, ada as safety: two people fill two seats, in whatever order shown."""
    hand = Hand.of(scene)
    places = [
        hand.add(signed(replace(scene.terms["ada"], person="ben", role=role, nonce=role), KEYS["ben"]))
        for role in ("safety", "engineering")
    ]
    permit = hand.permit()
    hand.status()
    ada = scene.approval_indexes[0]
    for order in ((*places, ada), (ada, *places), (places[1], places[0], ada)):
        assert doubts(hand.show(permit, order), scene) == []


def test_an_approval_after_the_permit_does_not_count(scene):
    hand = Hand.of(scene)
    late = hand.add(signed(replace(scene.terms["ada"], nonce="late"), KEYS["ada"]))
    hand.status()
    found = doubts(hand.show(approvals=(scene.approval_indexes[1], late)), scene)
    assert found == [(8, f"0 of 1 {SAFETY}; `ada` does not count: it came afterwards")]


# --- keys


def test_the_service_key_signs_for_nobody(scene):
    found = doubts(with_safety_by(scene, scene.terms["ada"], SERVICE), scene)
    assert found == [(4, "no key of `ada` signed this statement")]


@pytest.mark.parametrize("key", ["ben", "cyd", "mallory"])
def test_no_other_key_signs_for_ada(scene, key):
    found = doubts(with_safety_by(scene, scene.terms["ada"], KEYS[key]), scene)
    assert found == [(4, "no key of `ada` signed this statement")]


@pytest.mark.parametrize("person", ["mallory", "governor", "service", "ADA", "ada "])
def test_who_is_not_enrolled_does_not_sign(scene, person):
    terms = replace(scene.terms["ada"], person=person)
    found = doubts(with_safety_by(scene, terms, KEYS["mallory"]), scene)
    assert found == [(4, f"no key of `{person}` signed this statement")]


@pytest.mark.parametrize("key", [SERVICE, LOG])
def test_the_governors_own_keys_never_count_even_as_a_persons(tmp_path, key):
    """A founder of the project writes the service key down as a person's; the log does not begin like that."""
    rows = people()
    rows[0]["keys"][0]["public"] = key.public
    with pytest.raises(TamperDetected, match="a founding that gives a person the governor's own key"):
        Scene.begin(tmp_path / "log.db", document(people=rows), keys=[key])


@pytest.mark.parametrize("key", [SERVICE, LOG])
def test_a_pinned_policy_that_names_the_governors_key_counts_it_for_nothing(scene, key):
    rows = document()["people"]
    rows[0]["keys"].append({"kind": "ed25519", "public": key.public, "custody": "separate"})
    trust = replace(scene.trust, policy=policy_of(document(people=rows)))
    policy = _digest_of(trust)
    hand = Hand.of(scene)
    place = hand.add(signed(replace(scene.terms["ada"], policy=policy, nonce="n"), key))
    cyd = hand.add(signed(replace(scene.terms["cyd"], policy=policy, nonce="m"), KEYS["cyd"]))
    permit = hand.permit(policy=policy)
    hand.status(policy_digest=policy)
    found = doubts(hand.show(permit, (place, cyd)), scene, trust=trust)
    assert found == [(8, f"0 of 1 {SAFETY}; `ada` does not count: the governor's own keys never count")]


def _digest_of(trust):
    return sha256(canonical.encode(trust.policy.document))


# --- statements of people


def test_the_governor_cannot_state_an_approval_itself(scene):
    hand = Hand.of(scene)
    event = scene.event(scene.approval_indexes[0])
    place = hand.add(stated(event))
    permit = hand.permit()
    hand.status()
    found = doubts(hand.show(permit, (place, scene.approval_indexes[1])), scene)
    message = "`ApprovalGiven` stands in the log as a plain fact; only its signed statement counts"
    assert found == [(4, message)]


def test_a_refusal_among_the_approvals_is_refused(scene):
    hand = Hand.of(scene)
    place = hand.add(signed(replace(scene.terms["ada"], decision="refuse", nonce="no"), KEYS["ada"]))
    hand.status()
    found = doubts(hand.show(approvals=(*scene.approval_indexes, place)), scene)
    assert found == [(4, "a `ApprovalRefused` stands among the approvals")]


def test_anything_else_among_the_approvals_is_refused(scene):
    found = doubts(replace(scene.honest, approvals=(*scene.honest.approvals, scene.honest.permit)), scene)
    assert found == [(4, "a `PermitIssued` stands among the approvals")]


def test_the_approvals_of_another_candidate_do_not_serve(tmp_path):
    """Two candidates, both with a permit; each one's approvals under the other one's permit."""
    made = Scene.begin(tmp_path / "log.db")
    made.found()
    first = made.propose("c1")
    made.files["recipe.json"] = b'{"steps":8}'
    second = made.propose("c2")
    for digest in (first, second):
        made.sign(digest, "ada", "safety")
        made.sign(digest, "cyd", "engineering")
    one = made.bundle(made.release(first, "c1"))
    two = made.bundle(made.release(second, "c2"))
    assert shown(made, two) == []
    swapped = tuple(_again(made, each.index) for each in one.approvals)
    found = shown(made, replace(two, approvals=swapped))
    assert [number for number, _ in found] == [8, 8]
    assert "`ada` does not count: it is for another dossier" in found[0][1]


def _again(made, index):
    store, size = made.log.store, made.log.state.size
    return Proven(index, store.leaf(index), tuple(store.prove_inclusion(index, size)))


# --- simulated people


def demo(**changes):
    project = {**document()["project"], "demo": True}
    return document(project=project, people=people("simulated"), **changes)


@pytest.fixture
def exercise(tmp_path):
    made = Scene.begin(tmp_path / "log.db", demo())
    made.found()
    digest = made.propose()
    made.sign(digest, "ada", "safety")
    made.sign(digest, "cyd", "engineering")
    made.permit = made.release(digest)
    yield made
    made.log.store.close()


def shown(made, bundle, trust=None):
    found = check(bundle, trust or made.trust, action=ACTION, scope=SCOPE, now=made.clock.now())
    return [(doubt.check, doubt.message) for doubt in found.doubts]


def test_in_a_demo_simulated_people_count_and_the_permit_says_so(exercise):
    bundle = exercise.bundle(exercise.permit)
    assert shown(exercise, bundle) == []
    assert exercise.log.state.permits[exercise.permit].simulated is True


def test_a_permit_cannot_hide_that_its_people_were_simulated(tmp_path):
    """The thief's permit says that real people signed."""
    exercised = released(tmp_path / "log.db", demo())
    hand = Hand.of(exercised)
    permit = hand.permit(simulated=False)
    hand.status()
    assert doubts(hand.show(permit), exercised) == [(8, "the permit hides that `ada` is a simulated person")]


def test_simulated_keys_count_nowhere_but_in_a_project_founded_as_a_demo(exercise):
    """Even if a trust file were made up that calls the demo real, its people would not count."""
    trust = replace(exercise.trust, founded=replace(exercise.trust.founded, demo=False))
    found = shown(exercise, exercise.bundle(exercise.permit), trust)
    assert [number for number, _ in found] == [8, 8]
    assert "`ada` does not count: a simulated key counts in a demo only" in found[0][1]


def gates():
    return document()["gates"]
