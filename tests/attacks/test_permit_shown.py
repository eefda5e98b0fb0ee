"""The attack: a permit that is not one, or not for this, not here or not now. Each is refused by its numbered check."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core.terms import Digest, Instant
from tests.verify.scene import FOUNDER, KEYS, LOG, SERVICE, Hand, Key, doubts, root_of, rows_of, signed, stated

DAY = 86_400_000
OTHER = Digest("sha256:" + "5" * 64)


def test_the_honest_bundle_is_accepted(scene):
    assert doubts(scene.honest, scene) == []


def test_a_later_honest_status_changes_nothing(scene):
    hand = Hand.of(scene)
    hand.status()
    assert doubts(hand.show(), scene) == []


# --- time


def test_an_expired_permit_is_refused(scene):
    late = Instant(scene.permit.not_after + 7000)
    assert doubts(scene.honest, scene, now=late) == [
        (7, "the permit expired 7 seconds ago"),
        (9, f"the status is {(late - scene.status.at) // 1000} seconds old; the limit is 3600 seconds"),
    ]


def test_a_permit_that_is_not_valid_yet_is_refused(scene):
    early = Instant(scene.permit.not_before - 301_000)
    found = doubts(scene.honest, scene, now=early)
    assert (7, "the permit is not valid yet") in found
    assert [number for number, _ in found] == [7, 9]


def test_a_frozen_log_is_refused_when_its_status_grows_old(scene):
    late = Instant(scene.status.at + 3_601_000)
    assert doubts(scene.honest, scene, now=late) == [(9, "the status is 3601 seconds old; the limit is 3600 seconds")]


def test_a_status_from_the_future_is_refused(scene):
    hand = Hand.of(scene)
    hand.status(at=Instant(scene.now + 400_000))
    assert doubts(hand.show(), scene) == [(9, "the status lies 400 seconds ahead of this machine's clock")]


def test_a_thief_cannot_make_a_permit_last(scene):
    hand = Hand.of(scene)
    index = hand.permit(not_after=Instant(scene.permit.not_before + 3650 * DAY))
    hand.status()
    assert doubts(hand.show(index), scene) == [
        (7, "the permit is for longer than the 7200 seconds that the policy allows")
    ]


# --- place and purpose


def test_another_action_is_refused(scene):
    found = doubts(scene.honest, scene, action="publish")
    assert found == [(7, "the permit allows `release` by the gate `release`; `publish` is asked for")]


def test_another_scope_is_refused(scene):
    found = doubts(scene.honest, scene, scope="the world")
    assert found == [(7, "the permit's scope is `this lineage, on governed machines`; `the world` is asked for")]


@pytest.mark.parametrize("change", [{"genesis": OTHER}, {"origin": "other.example/log"}, {"lineage": "other"}])
def test_a_permit_of_another_project_is_refused(scene, change):
    hand = Hand.of(scene)
    index = hand.permit(**change)
    hand.status()
    said = {"genesis": scene.trust.genesis, "origin": "toy.example/log", "lineage": "toy", **change}
    message = f"the permit is for `{said['lineage']}` of `{said['origin']}` under the genesis {said['genesis'][:15]}…"
    assert doubts(hand.show(index), scene) == [(7, f"{message}, not the trusted one")]


def test_a_scope_that_people_did_not_sign_is_refused(scene):
    hand = Hand.of(scene)
    index = hand.permit(scope="the world")
    hand.status()
    found = doubts(hand.show(index), scene, scope="the world")
    assert [number for number, _ in found] == [8, 8]
    assert "`ada` does not count: it is for another lineage or scope" in found[0][1]


# --- other weights under old signatures


def test_old_approvals_permit_no_other_weights(scene):
    hand, files = Hand.of(scene), {**FOUNDER, "weights.npz": b"evil"}
    index = hand.permit(root=root_of(files), files=rows_of(files))
    hand.status()
    why = "`ada` does not count: it is for another artifact; `cyd` does not count: it is for another artifact"
    assert doubts(hand.show(index), scene) == [
        (8, f"0 of 1 person(s) in the role `safety` approved exactly this; {why}"),
        (8, f"0 of 1 person(s) in the role `engineering` approved exactly this; {why}"),
    ]


def test_a_permit_at_a_lower_level_does_not_take_one_signature_where_two_were_asked(scene):
    hand = Hand.of(scene)
    index = hand.permit(level=0)
    hand.status()
    found = doubts(hand.show(index), scene)
    assert [number for number, _ in found] == [8]
    assert found[0][1].startswith("0 of 1 person(s) in the role `safety`")
    assert "`ada` does not count: it is for `release` on level 1" in found[0][1]


@pytest.mark.parametrize("level", [2, 9, 10**9])
def test_a_level_without_a_row_never_clears(scene, level):
    hand = Hand.of(scene)
    index = hand.permit(level=level)
    hand.status()
    assert doubts(hand.show(index), scene) == [(8, f"the policy has no row for `release` on level {level}")]


def test_the_founders_permit_loads_no_other_candidate(scene):
    hand = Hand.of(scene)
    founding = scene.event(scene.founder_permit_index)
    index = hand.add(stated(replace(founding, root=scene.permit.root, files=scene.permit.files)))
    hand.status()
    found = doubts(hand.show(index, scene.founder_approval_indexes), scene)
    assert (7, "the gate `amend` permits the founder only; these are other weights") in found
    assert 8 in {number for number, _ in found}


def test_people_who_signed_for_a_founder_later_do_not_open_the_door_of_release(scene):
    """A thief has two people found a second lineage with new weights: `amend` asks others than `release` may."""
    hand = Hand.of(scene)
    said = replace(scene.terms["ada"], gate="amend", level=0, dossier=OTHER)
    places = [
        hand.add(signed(replace(said, person=who, nonce=who, role="safety", evidence_index=5), KEYS[who]))
        for who in ("ada", "ben")
    ]
    index = hand.permit(gate="amend", level=0, dossier=OTHER, permit="p-55555555")
    hand.status()
    found = doubts(hand.show(index, places), scene)
    assert found == [(7, "the gate `amend` permits the founder only; these are other weights")]


def test_the_founder_itself_is_permitted_by_those_who_founded_it(scene):
    bundle = Hand.of(scene)
    bundle.status()
    assert doubts(bundle.show(scene.founder_permit_index, scene.founder_approval_indexes), scene) == []


@pytest.mark.parametrize("gate", ["train", "publish", "tune", "no-such-gate", ""])
def test_no_other_gate_permits_a_release(scene, gate):
    hand = Hand.of(scene)
    index = hand.permit(gate=gate)
    hand.status()
    found = doubts(hand.show(index), scene)
    assert (7, f"the permit allows `release` by the gate `{gate}`; `release` is asked for") in found
    assert {number for number, _ in found} == {7, 8}


def test_files_cannot_change_names_under_one_root(scene):
    """The root binds the order of the names, not the names: `recipe.json` must not come back as a program."""
    hand = Hand.of(scene)
    names = iter(["subject.py", "t.py", "weights.npz"])
    rows = tuple({**row, "name": next(names)} for row in scene.permit.files)
    index = hand.permit(files=rows)
    hand.status()
    declared = "['recipe.json', 'subject.py', 'weights.npz']"
    found = doubts(hand.show(index), scene)
    assert found == [
        (7, f"the permit names the files ['subject.py', 't.py', 'weights.npz']; the policy declares {declared}")
    ]


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "nonsense", None, 7])
def test_a_permit_whose_files_are_not_its_root_is_refused(scene, digest):
    hand = Hand.of(scene)
    rows = ({**scene.permit.files[0], "digest": digest}, *scene.permit.files[1:])
    index = hand.permit(files=rows)
    hand.status()
    assert doubts(hand.show(index), scene) == [(7, "the permit's files do not have the root that the permit names")]


# --- halts and revocations


def test_nothing_loads_while_the_loop_is_halted(scene):
    hand = Hand.of(scene)
    hand.status(halted=True)
    assert doubts(hand.show(), scene) == [(6, "the loop is halted; nothing may load")]


def test_a_revoked_permit_is_refused(scene):
    hand = Hand.of(scene)
    hand.status(revoked=(scene.permit.permit,))
    assert doubts(hand.show(), scene) == [(6, f"permit `{scene.permit.permit}` is revoked")]


def test_a_revoked_permit_does_not_come_back_under_another_name(scene):
    hand, name = Hand.of(scene), scene.permit.permit
    index = hand.permit(permit="p-another")
    hand.status(revoked=(name,))
    assert doubts(hand.show(index), scene) == [
        (6, f"the permit is called `p-another`; its dossier gives it the name `{name}`"),
        (6, f"permit `{name}` is revoked"),
    ]


def test_a_halt_cannot_hide_behind_the_status(scene):
    hand = Hand.of(scene)
    status = hand.status()
    hand.add(b"a halt")
    size = len(hand.leaves)
    message = f"the status is entry {status}, not the last, {size - 1}: a halt could hide behind it"
    assert doubts(hand.show(status=status), scene) == [(3, message)]


# --- who signed what is shown


def test_a_head_signed_by_another_key_is_refused(scene):
    found = doubts(Hand([*scene.leaves], scene).show(log=Key("mallory")), scene)
    assert [number for number, _ in found] == [1]
    assert found[0][1].startswith("the checkpoint is not signed by the trusted log: no known key signed this note")


def test_a_head_of_another_log_is_refused(scene):
    hand = Hand([*scene.leaves], scene)
    found = doubts(hand.show(origin="other.example/log"), scene)
    message = "this checkpoint is of the log `other.example/log`; `toy.example/log` is expected"
    assert found == [(1, f"the checkpoint is not signed by the trusted log: {message}")]


def test_a_log_key_under_another_name_than_the_trusted_origin_is_refused(scene):
    trust = replace(scene.trust, founded=replace(scene.trust.founded, origin="other.example/log"))
    message = "the checkpoint is of `toy.example/log`; `other.example/log` is trusted"
    assert doubts(scene.honest, scene, trust=trust) == [(1, message)]


@pytest.mark.parametrize("place", ["permit", "status"])
def test_what_the_service_key_did_not_sign_is_refused(scene, place):
    hand, thief = Hand.of(scene), Key("mallory")
    if place == "permit":
        index = hand.add(stated(scene.permit, thief))
        hand.status()
    else:
        index = scene.permit_index
        hand.add(stated(replace(scene.status, counter=99), thief))
    name = "PermitIssued" if place == "permit" else "StatusPublished"
    assert doubts(hand.show(index), scene) == [(4, f"the service key did not sign this `{name}`")]


def test_something_else_in_the_place_of_permit_or_status_is_refused(scene):
    hand = Hand.of(scene)
    last = hand.status()
    assert doubts(hand.show(last), scene) == [(4, "a `StatusPublished` stands where the permit is expected")]
    hand = Hand.of(scene)
    hand.permit()
    assert doubts(hand.show(), scene) == [(4, "a `PermitIssued` stands where the status is expected")]


def test_a_leaf_that_is_not_under_the_head_is_refused(scene):
    other = Hand.of(scene)
    other.permit(permit="p-x")
    other.status()
    bundle = replace(scene.honest, permit=other.show().permit)
    assert doubts(bundle, scene) == [(3, f"entry {scene.permit_index} does not stand under the checkpoint")]


def test_every_changed_byte_of_a_proof_is_refused(scene):
    for index in range(len(scene.honest.permit.proof)):
        proof = list(scene.honest.permit.proof)
        proof[index] = bytes(32)
        bundle = replace(scene.honest, permit=replace(scene.honest.permit, proof=tuple(proof)))
        assert [number for number, _ in doubts(bundle, scene)] == [3]


def test_the_permit_must_be_under_the_policy_of_its_place(scene):
    hand = Hand.of(scene)
    index = hand.permit(policy=OTHER)
    hand.status()
    message = "the permit was given under another policy than 1, which held at its place"
    assert doubts(hand.show(index), scene) == [(5, message)]


def test_the_log_key_states_no_facts_and_the_service_key_signs_no_heads(scene):
    hand = Hand.of(scene)
    index = hand.add(stated(scene.permit, LOG))
    hand.status()
    assert [number for number, _ in doubts(hand.show(index), scene)] == [4]
    impostor = Key("service")
    impostor.name = LOG.name
    assert impostor.public == SERVICE.public
    assert [number for number, _ in doubts(Hand([*scene.leaves], scene).show(log=impostor), scene)] == [1]
