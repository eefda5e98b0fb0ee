"""The attack: speak as the governor with a service key that a policy replaced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import UntrustedInput
from keyturn.flow.log import Log
from keyturn.ledger.history import History
from keyturn.wire import canonical
from keyturn.wire.digest import sha256
from tests.attacks.rotated import (
    LOG,
    NEXT_SERVICE,
    SERVICE,
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
)
from tests.verify.scene import Clock, Ids, document, stated


@pytest.fixture
def made(tmp_path):
    """A release, and then the next service key; the log key stays, and the thief has it too."""
    scene = begin(tmp_path)
    scene.permit = released(scene)
    adopted(scene, document(governor=governor(NEXT_SERVICE)))
    yield scene
    scene.log.store.close()


def last_status(made):
    return next(e for e in reversed(events_of(made)) if isinstance(e, ev.StatusPublished))


def shown(made, thief):
    honest = made.bundle(made.permit)
    return thief.show(
        honest.permit.index, [each.index for each in honest.approvals], [p.index for p in honest.policies]
    )


def test_the_governor_goes_on_with_the_new_key_and_everything_before_still_reads(made):
    history = History()
    history.read_all(leaves_of(made))
    assert history.state == made.log.state
    assert doubts(made, made.bundle(made.permit)) == []
    made.log.publish()
    assert doubts(made, made.bundle(released(made, "c2"))) == []


def test_the_old_key_states_no_fact_that_anybody_reads(made):
    history = History()
    history.read_all(leaves_of(made))
    status = last_status(made)
    with pytest.raises(UntrustedInput, match="the service key did not sign this `StatusPublished`"):
        history.read(stated(replace(status, counter=status.counter + 1)))
    revoked = ev.PermitRevoked(id="x", at=status.at, actor="governor", policy="", permit=made.permit, reason="because")
    with pytest.raises(UntrustedInput, match="the service key did not sign this `PermitRevoked`"):
        history.read(stated(revoked))


def test_a_governor_that_has_only_the_old_key_stops(made):
    log = Log.open(made.log.store, service=SERVICE, log_key=LOG, clock=Clock(), ids=Ids())
    with pytest.raises(UntrustedInput, match="is not here; nobody would accept another's signature"):
        log.record(lambda stamp: ev.PermitRevoked(**stamp, permit=made.permit, reason="because"))


def test_a_status_by_the_old_key_is_refused_offline(made):
    thief, status = Thief(made, leaves_of(made)), last_status(made)
    thief.add(stated(replace(status, counter=99)))
    assert doubts(made, shown(made, thief)) == [(4, "the service key did not sign this `StatusPublished`")]
    thief.leaves[-1] = stated(replace(status, counter=99), NEXT_SERVICE)
    assert doubts(made, shown(made, thief)) == []


def test_the_old_key_adopts_no_further_policy_not_even_a_tighter_one(made):
    text = document(governor=governor(NEXT_SERVICE), pace={"unaudited_max": 1})
    event = ev.PolicyAdopted(
        id="x", at=made.log.now(), actor="governor", policy=made.log.state.current.digest, version=3,
        digest=sha256(canonical.encode(text)), document=text, dossier="", signatures=(),
    )  # fmt: skip  # one event on few lines
    history = History()
    history.read_all(leaves_of(made))
    with pytest.raises(UntrustedInput, match="the service key did not sign this `PolicyAdopted`"):
        history.read(stated(event))
    thief = Thief(made, leaves_of(made))
    place = thief.add(stated(event))
    thief.add(
        stated(replace(last_status(made), counter=99, policy_version=3, policy_digest=event.digest), NEXT_SERVICE)
    )
    honest = made.bundle(made.permit)
    chain = [*(each.index for each in honest.policies), place]
    found = doubts(made, thief.show(honest.permit.index, [each.index for each in honest.approvals], chain))
    assert found == [(4, "the service key did not sign this `PolicyAdopted`")]


def test_without_the_quorum_no_key_of_the_governor_s_is_exchanged(made):
    """The thief of the present service key names one of his own."""
    text = document(governor=governor(SERVICE))
    event = ev.PolicyAdopted(
        id="x", at=made.log.now(), actor="governor", policy=made.log.state.current.digest, version=3,
        digest=sha256(canonical.encode(text)), document=text, dossier="", signatures=(),
    )  # fmt: skip  # one event on few lines
    thief = Thief(made, leaves_of(made))
    place = thief.add(stated(event, NEXT_SERVICE))
    thief.add(stated(replace(last_status(made), counter=99, policy_version=3, policy_digest=event.digest)))
    honest = made.bundle(made.permit)
    chain = [*(each.index for each in honest.policies), place]
    bundle = thief.show(honest.permit.index, [each.index for each in honest.approvals], chain)
    found = checked(made, bundle, made.trust)
    assert found.doubts[0].check in (4, 5)
    assert not found.approvals


def test_a_chain_that_ends_before_the_rotation_is_refused_by_who_saw_it(made):
    """The thief goes on from the true entries with his old keys, and leaves the adoption out of the bundle."""
    node = seen_by(made, made.permit)
    thief, status = Thief(made, leaves_of(made)), last_status(made)
    first = made.log.state.policies[0]
    thief.add(stated(replace(status, counter=99, policy_version=1, policy_digest=first.digest)))
    honest = made.bundle(made.permit)
    bundle = thief.show(honest.permit.index, [each.index for each in honest.approvals], seen=node.seen)
    found = checked(made, bundle, node)
    said = [(doubt.check, doubt.message) for doubt in found.doubts]
    assert said == [(5, "the bundle leads to policy 1; this node has seen policy 2")]
    assert found.seen is None, "nothing of the thief's is remembered"
