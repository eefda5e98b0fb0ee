"""The attack: sign the head of another history with a log key that a policy replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import TamperDetected, UntrustedInput
from keyturn.ledger import checkpoint, note
from keyturn.ledger.check import check_store, require_sound
from keyturn.ledger.history import log_keys
from tests.attacks.rotated import (
    LOG,
    NEXT_LOG,
    NEXT_SERVICE,
    LogKey,
    Thief,
    adopted,
    begin,
    checked,
    doubts,
    events_of,
    governor,
    leaves_of,
    released,
    seen_by,
    vkey,
)
from tests.verify.scene import document, stated

OLD = LogKey(LOG.name)


@pytest.fixture(params=["alone", "beside the old one"])
def made(tmp_path, request):
    """A release, then the next log key, alone or beside the old one; the thief has the old one and the service key."""
    scene = begin(tmp_path)
    scene.permit = released(scene)
    scene.keys = (NEXT_LOG,) if request.param == "alone" else (NEXT_LOG, LOG)
    adopted(scene, document(governor=governor(None, *scene.keys)))
    yield scene
    scene.log.store.close()


def forked(made, *keys, chain=True, seen=None):
    """The true entries and one status more, under a head by these keys."""
    thief = Thief(made, leaves_of(made), log=keys)
    status = next(e for e in reversed(events_of(made)) if isinstance(e, ev.StatusPublished))
    said = {} if chain else {"policy_version": 1, "policy_digest": made.log.state.policies[0].digest}
    thief.add(stated(replace(status, counter=99, **said)))
    honest = made.bundle(made.permit)
    policies = [each.index for each in honest.policies] if chain else []
    return thief.show(honest.permit.index, [each.index for each in honest.approvals], policies, seen=seen)


def test_the_listed_keys_sign_and_a_node_with_the_old_trust_file_follows(made):
    honest = made.bundle(made.permit)
    assert doubts(made, honest) == []
    assert doubts(made, forked(made, *made.keys)) == []
    opened = note.open_note(honest.checkpoint, [note.parse_vkey(vkey(key)) for key in made.keys])
    assert len(opened.signed) == len(made.keys)


def test_the_old_key_alone_signs_no_head_for_who_follows(made):
    ((number, message),) = doubts(made, forked(made, LOG))
    assert number == 1
    assert message.startswith("the checkpoint is not signed by the trusted log: ")


def test_every_listed_key_must_sign(made):
    if len(made.keys) == 1:
        assert doubts(made, forked(made, NEXT_LOG)) == []
        return
    ((number, message),) = doubts(made, forked(made, NEXT_LOG))
    assert number == 1
    assert message.endswith(f"with its key {note.parse_vkey(vkey(LOG)).hash.hex()}; each of its 2 keys must")


def test_whoever_saw_the_rotation_is_shown_no_older_chain(made):
    """By the old log key, with the true service key, over the true entries: everything but the adoption is there."""
    node = seen_by(made, made.permit)
    found = checked(made, forked(made, LOG, chain=False, seen=node.seen), node)
    said = [(doubt.check, doubt.message) for doubt in found.doubts]
    assert said == [(5, "the bundle leads to policy 1; this node has seen policy 2")]
    assert found.seen is None


def test_whoever_never_saw_it_can_still_be_shown_the_old_world(made):
    """The limit, so that nobody believes otherwise: to such a node the old key is the log's. Witnesses close this."""
    assert doubts(made, forked(made, LOG, chain=False)) == []


def test_a_checkpoint_by_the_old_key_is_found_in_the_store(made):
    keys = log_keys(made.trust.founded, made.log.state.policies)
    made.log.publish()
    assert check_store(made.log.store, keys) == ()
    head = made.log.store.head()
    known = checkpoint.sign(checkpoint.Checkpoint(LOG.name, head.size, head.root), OLD)
    (problem,) = check_store(made.log.store, keys, known=[known])
    assert problem.rule == "checkpoints_must_be_signed"
    with pytest.raises(TamperDetected, match="is not the log's"):
        require_sound(made.log.store, keys, known=[known])
    if len(made.keys) == 1:
        assert check_store(made.log.store, vkey(LOG)), "the founding's key alone does not cover the whole log any more"


def test_each_checkpoint_is_read_with_the_keys_of_its_size(made):
    keys = log_keys(made.trust.founded, made.log.state.policies)
    index = made.log.state.policies[1].index
    assert [each.vkey for each in keys.at(index)] == [vkey(LOG)]
    assert [each.vkey for each in keys.at(index + 1)] == [vkey(key) for key in made.keys]
    early = checkpoint.Checkpoint(LOG.name, index, made.log.store.root_at(index))
    assert checkpoint.open_checkpoint(checkpoint.sign(early, OLD), keys).checkpoint == early
    with pytest.raises(UntrustedInput):
        checkpoint.open_checkpoint(checkpoint.sign(early, NEXT_LOG), keys)


def test_the_new_key_signs_nothing_before_it_was_adopted(tmp_path):
    scene = begin(tmp_path)
    permit = released(scene)
    bundle = scene.bundle(permit)
    head = checkpoint.parse_body(bundle.checkpoint)
    forged = replace(bundle, checkpoint=checkpoint.sign(head, NEXT_LOG))
    ((number, _),) = doubts(scene, forged)
    assert number == 1
    scene.log.store.close()


def test_both_keys_of_the_governor_s_change_at_once(tmp_path):
    scene = begin(tmp_path)
    permit = released(scene)
    node = seen_by(scene, permit)
    adopted(scene, document(governor=governor(NEXT_SERVICE, NEXT_LOG)))
    assert doubts(scene, scene.bundle(permit, old_size=node.seen.size), node) == []
    assert doubts(scene, scene.bundle(released(scene, "c2"))) == []
    scene.log.store.close()
