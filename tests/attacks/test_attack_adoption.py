"""The attack: enrol who did not agree, or under a key that they do not hold, or against the new people."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError, TamperDetected, UntrustedInput
from keyturn.core.policy_change import change
from keyturn.core.replay import recheck
from keyturn.flow import policy as policies
from keyturn.flow.project import Signed
from keyturn.wire import canonical, leaf
from keyturn.wire.digest import sha256
from tests.attacks.rotated import (
    KEYS,
    NEW,
    NEXT_SERVICE,
    SERVICE,
    Thief,
    adopted,
    asked,
    begin,
    doubts,
    events_of,
    leaves_of,
    people,
    released,
    row,
    signature,
)
from tests.core.examples import gate
from tests.verify.scene import document, policy_of, stated

WITH_DOT = {"people": people(dot=row("dot", "safety"))}


@pytest.fixture
def made(tmp_path):
    scene = begin(tmp_path)
    yield scene
    scene.log.store.close()


def text(**changes):
    return document(**{**WITH_DOT, **changes})


def attempt(made, new, dossier, *signed):
    """The thief of the service key writes the adoption with these signatures; returns why it is refused, twice over."""
    state = made.log.state
    event = ev.PolicyAdopted(
        id="thief", at=made.log.now(), actor="governor", policy=state.current.digest, version=len(state.policies) + 1,
        digest=sha256(canonical.encode(new.document)), document=new.document, dossier=dossier,
        signatures=tuple({"person": s.person, "key": s.key, "sig": s.sig} for s in signed),
    )  # fmt: skip  # one event on few lines
    with pytest.raises(KeyturnError) as caught:
        made.log._write([stated(event)])
    return caught.value.message, event


def test_the_true_adoption_is_accepted_by_governor_replay_and_node(made):
    permit = released(made)
    adopted(made, text(), ("dot", NEW["dot"]))
    assert [person.id for person in made.log.state.current.policy.people] == ["ada", "ben", "cyd", "dot"]
    assert doubts(made, made.bundle(permit)) == []


def test_without_the_new_person_s_signature_nothing_is_adopted(made):
    new, dossier = asked(made, text())
    assert not policies.adopt_cleared(made.log, new, dossier)
    found, event = attempt(made, new, dossier)
    assert "`dot` did not sign the policy that names them" in found
    assert any("`dot` did not sign" in finding.message for finding in recheck(made.log.state, event))


def test_nobody_is_enrolled_under_a_key_that_somebody_else_holds(made):
    new, dossier = asked(made, text())
    forged = Signed("dot", NEW["dot"].public, signature(made.log, new, dossier, "dot", KEYS["mallory"]).sig)
    assert not policies.adopt_cleared(made.log, new, dossier, [forged])
    message = "policy 2 carries a signature that is not `dot`'s for this adoption"
    assert attempt(made, new, dossier, forged)[0] == message


def test_a_signature_from_another_adoption_is_worth_nothing(made):
    other, first = asked(made, text(pace={"unaudited_max": 5}))
    elsewhere = signature(made.log, other, first, "dot", NEW["dot"])
    new, dossier = asked(made, text())
    other_dossier = signature(made.log, new, first, "dot", NEW["dot"])
    for copied in (elsewhere, other_dossier):
        assert not policies.adopt_cleared(made.log, new, dossier, [copied])
        assert "is not `dot`'s for this adoption" in attempt(made, new, dossier, copied)[0]


def test_a_genesis_signature_or_another_person_s_name_is_worth_nothing(made):
    new, dossier = asked(made, text())
    genesis = NEW["dot"].sign(leaf.genesis_message(made.trust.genesis, "dot"))
    for forged in (
        Signed("dot", NEW["dot"].public, base64.b64encode(genesis).decode()),
        replace(signature(made.log, new, dossier, "ada", NEW["dot"]), person="dot"),
        Signed("dot", NEW["dot"].public, "not base64"),
    ):
        assert not policies.adopt_cleared(made.log, new, dossier, [forged])
        attempt(made, new, dossier, forged)


def test_rows_of_strangers_and_rows_twice_make_the_entry_worthless(made):
    new, dossier = asked(made, text())
    good = signature(made.log, new, dossier, "dot", NEW["dot"])
    for extra in (signature(made.log, new, dossier, "mallory", KEYS["mallory"]), good):
        assert "carries a signature that is not" in attempt(made, new, dossier, good, extra)[0]


def test_the_quorum_of_the_new_policy_is_needed_too(made):
    """ada and ben have the quorum of policy 1; policy 2 gives its `amend` to engineers, of whom only ben agreed."""
    gates = [row for row in document()["gates"] if row["action"] != "amend"]
    rows = text(gates=[*gates, gate("amend", 0, engineering=2), gate("amend", 1, engineering=2)])
    new, dossier = asked(made, rows)
    dot = signature(made.log, new, dossier, "dot", NEW["dot"])
    assert not policies.adopt_cleared(made.log, new, dossier, [dot])
    lack = "1 of 2 person(s) in the role `engineering` of the new policy agreed to it"
    assert lack in attempt(made, new, dossier, dot)[0]
    cyd = signature(made.log, new, dossier, "cyd", KEYS["cyd"])
    assert policies.adopt_cleared(made.log, new, dossier, [dot, cyd])


def test_an_approval_with_a_key_that_goes_does_not_stand_for_its_holder_under_the_new_policy(made):
    """ada's old key is stolen: with it the thief approves for her; her new key never agreed."""
    new, dossier = asked(made, document(people=people(ada=row("ada", "safety", "board"))))
    found = policies.lacks(made.log.state, new, dossier, (), made.log.now())
    assert found[1] == "1 of 2 person(s) in the role `safety` of the new policy agreed to it"
    assert policies.adopt_cleared(made.log, new, dossier, [signature(made.log, new, dossier, "ada", NEW["ada"])])


@pytest.mark.parametrize(
    "swap", [{"people": people(ben=None)}, {"people": people(cyd=row("cyd", "board", key=KEYS["cyd"]))}]
)
def test_even_fewer_people_or_roles_need_the_quorum(made, swap):
    rows = {
        **swap,
        "gates": [
            gate("amend", n, safety=1) if r["action"] == "amend" else r
            for r in document()["gates"]
            for n in [r["level"]]
        ],
    }
    rows["gates"] = [
        gate("release", 1, safety=1) if (r["action"], r["level"]) == ("release", 1) else r for r in rows["gates"]
    ]
    new = policy_of(document(**rows))
    with pytest.raises(TamperDetected, match="without the quorum of `amend`"):
        policies.adopt(made.log, new, None)


def test_the_governor_is_no_person_under_any_of_its_keys(made):
    adopted(made, document(governor={"service_key": NEXT_SERVICE.public}))
    for key in (SERVICE, NEXT_SERVICE):
        changes = {"people": people(dot=row("dot", "safety", key=key))}
        if key is SERVICE:
            changes["governor"] = {"service_key": NEXT_SERVICE.public}
        new, dossier = asked(made, document(**changes))
        dot = signature(made.log, new, dossier, "dot", key)
        with pytest.raises(TamperDetected, match="it gives `dot` a key of the governor's"):
            policies.adopt_cleared(made.log, new, dossier, [dot])


# --- a thief of all the governor's keys, offline


def test_a_thief_of_all_governor_keys_enrols_nobody_for_a_loading_node(made):
    """He states the adoption, signs the checkpoint, and has people's approvals of the dossier; dot never agreed."""
    released(made)
    new, dossier = asked(made, text())
    sealed = made.log.state.dossiers[dossier]
    thief = Thief(made, leaves_of(made))
    current = made.log.state.current
    event = ev.PolicyAdopted(
        id="thief", at=made.log.now(), actor="governor", policy=current.digest, version=2,
        digest=sha256(canonical.encode(new.document)), document=new.document, dossier=dossier, signatures=(),
    )  # fmt: skip  # one event on few lines
    place = thief.add(stated(event))
    status = next(e for e in reversed(events_of(made)) if isinstance(e, ev.StatusPublished))
    thief.add(stated(replace(status, counter=99, policy_version=2, policy_digest=event.digest)))
    chain = [sealed.index, *(each.index for each in sealed.approvals), place]
    permits = made.log.indexes().permits
    name, index = next(iter(permits.items()))
    granted = made.log.state.dossiers[made.log.state.permits[name].dossier]
    bundle = thief.show(index, [each.index for each in granted.approvals], chain)
    ((number, message),) = doubts(made, bundle)
    assert (number, message.split("the key")[0]) == (
        5,
        "policy 2 loosens policy 1 and `dot` did not sign the policy that names them with ",
    )
    forged = replace(
        event, signatures=({"person": "dot", "key": NEW["dot"].public, "sig": base64.b64encode(bytes(64)).decode()},)
    )
    thief.leaves[place] = stated(forged)
    ((number, message),) = doubts(made, thief.show(index, [each.index for each in granted.approvals], chain))
    assert (number, message) == (4, "policy 2 carries a signature that is not `dot`'s for this adoption")


def test_a_dossier_that_was_sealed_under_an_older_policy_is_not_used_for_the_next(made):
    new, dossier = asked(made, text())
    adopted(made, document(pace={"unaudited_max": 5}))
    assert policies.waiting(made.log.state, new, made.log.now()) is None
    assert policies.ask(made.log, new, change(made.log.state.current.policy, new)) != dossier
    dot = signature(made.log, new, dossier, "dot", NEW["dot"])
    assert not policies.adopt_cleared(made.log, new, dossier, [dot])


def test_the_adoption_is_read_only_as_the_service_key_of_its_day_stated_it(made):
    adopted(made, text(), ("dot", NEW["dot"]))
    index = made.log.indexes().policies[-1]
    data = made.log.store.leaf(index)
    assert isinstance(
        leaf.decode(data, leaf.keyring(made.trust.founded, made.log.state.policies, index)), ev.PolicyAdopted
    )
    with pytest.raises(UntrustedInput, match="the service key did not sign"):
        leaf.decode(data, leaf.Keyring(NEXT_SERVICE.public, {}))
