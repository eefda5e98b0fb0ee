"""The attack: an approval that was signed before its evidence was there. It must stand after what it is about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError
from keyturn.flow import approval as approvals
from tests.attacks.forging import leaves_in, signed_log, verified
from tests.fakes.world import LogKey
from tests.verify.scene import KEYS, Hand, Scene, doubts, signed
from tests.world import story


def test_offline_an_approval_that_stands_before_its_evidence_does_not_count(scene):
    """ada signed for evidence up to an entry that came only after her signature."""
    hand = Hand.of(scene)
    later = replace(scene.terms["ada"], nonce="blank", evidence_index=len(hand.leaves) + 5)
    place = hand.add(signed(later, KEYS["ada"]))
    permit = hand.permit()
    hand.status()
    found = doubts(hand.show(permit, (scene.approval_indexes[1], place)), scene)
    assert [number for number, _ in found] == [8]
    assert "`ada` does not count: what was signed is older than what it is about" in found[0][1]


def test_the_governor_takes_no_signature_that_names_evidence_to_come(tmp_path):
    made = Scene.begin(tmp_path / "log.db")
    made.found()
    digest = made.propose()
    size = made.log.state.size
    terms = replace(made.terms(digest, "ada", "safety"), evidence_index=size + 3)
    with pytest.raises(KeyturnError):
        approvals.give(made.log, terms, public=KEYS["ada"].public, sign=KEYS["ada"].sign)
    assert made.log.state.size == size
    made.log.store.close()


def test_a_log_in_which_the_approval_was_moved_before_its_dossier_is_named(tmp_path, capsys):
    """A thief of the governor's keys moves the honest approval up, before the dossier with the evidence was sealed."""
    world = story.founded(tmp_path / "home")
    world.until(type(world.hold()))
    world.approve(world.hold().dossier)
    world.run()
    leaves, events = leaves_in(world.home / "log.db"), world.events()
    approval = next(n for n, event in enumerate(events) if isinstance(event, ev.ApprovalGiven))
    sealed = next(n for n, event in enumerate(events) if isinstance(event, ev.DossierSealed))
    assert sealed < approval
    moved = [*leaves[:sealed], leaves[approval], *leaves[sealed:approval], *leaves[approval + 1 :]]
    code, found = verified(capsys, signed_log(tmp_path / "forged.db", moved, LogKey()))
    assert code == 3
    assert found[0].startswith(f"{sealed} ")
