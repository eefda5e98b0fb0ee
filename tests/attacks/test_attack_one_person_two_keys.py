"""The attack: one person makes a quorum of two, with two keys, two roles, two names, or the governor's own key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.cli.main import main
from keyturn.core.decision import decide
from keyturn.core.finding import Request
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.flow import approval as approvals
from keyturn.flow.permit import pack
from keyturn.verify import trust as trusts
from keyturn.verify.check import check
from tests.core.examples import gate
from tests.verify.scene import ACTION, KEYS, SCOPE, SERVICE, Hand, Scene, document, doubts, people, signed


@pytest.fixture
def two_of_safety(tmp_path):
    """A project whose release asks for two people in one role; ada signed with both of her keys."""
    rows = [
        gate("release", 1, safety=2) if (row["action"], row["level"]) == ("release", 1) else row
        for row in document()["gates"]
    ]
    made = Scene.begin(tmp_path / "log.db", document(gates=rows))
    made.found()
    digest = made.propose()
    made.sign(digest, "ada", "safety")
    terms = made.terms(digest, "ada", "safety")
    approvals.give(made.log, terms, public=KEYS["ada-2"].public, sign=KEYS["ada-2"].sign)
    yield made, digest
    made.log.store.close()


def test_two_keys_of_one_person_are_one_person_in_the_bundle(two_of_safety, tmp_path, capsys):
    """A governor that issued the permit all the same convinces no node."""
    made, digest = two_of_safety
    bundle = made.bundle(made.release(digest))
    found = check(bundle, made.trust, action=ACTION, scope=SCOPE, now=made.clock.now())
    said = "1 of 2 person(s) in the role `safety` approved exactly this"
    assert [(doubt.check, doubt.message) for doubt in found.doubts] == [(8, said)]
    (tmp_path / "b").write_bytes(pack(bundle))
    trusts.write(made.trust, tmp_path / "t")
    assert main(["verify", "permit", str(tmp_path / "b"), "--trust", str(tmp_path / "t")]) == 3
    assert "1 of 2 person(s) in the role `safety`" in " ".join(capsys.readouterr().out.split())


def test_nor_do_they_clear_the_gate_at_the_governor(two_of_safety):
    made, digest = two_of_safety
    decision = decide(made.log.state, Request("ReleaseCandidate", digest, "c1"), made.log.now())
    assert any("this person has been counted already" in each.message for each in decision.findings), decision.findings
    made.sign(digest, "ben", "safety")
    decision = decide(made.log.state, Request("ReleaseCandidate", digest, "c1"), made.log.now())
    assert not any("`safety`" in each.message for each in decision.findings), decision.findings


def test_one_person_in_two_roles_takes_one_seat(scene):
    hand = Hand.of(scene)
    places = [
        hand.add(signed(replace(scene.terms["ada"], person="ben", role=role, nonce=role), KEYS["ben"]))
        for role in ("safety", "engineering")
    ]
    permit = hand.permit()
    hand.status()
    ((number, message),) = doubts(hand.show(permit, places), scene)
    assert number == 8
    assert message.startswith("0 of 1 person(s) in the role")


def test_one_key_under_two_names_is_no_policy():
    rows = people()
    rows[1]["keys"] = [*rows[0]["keys"]]
    assert not isinstance(read_policy(document(people=rows)), Policy)


def test_one_name_twice_is_no_policy():
    rows = people()
    rows[1]["id"] = rows[0]["id"]
    assert not isinstance(read_policy(document(people=rows)), Policy)


def test_the_service_key_fills_no_seat(scene):
    hand = Hand.of(scene)
    place = hand.add(signed(replace(scene.terms["ada"], nonce="governor"), SERVICE))
    permit = hand.permit()
    hand.status()
    found = doubts(hand.show(permit, (scene.approval_indexes[1], place)), scene)
    assert found == [(4, "no key of `ada` signed this statement")]
