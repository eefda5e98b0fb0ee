"""The attack: let a policy say that fewer people are enough. The governor's word alone loosens nothing, offline too."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import TamperDetected
from keyturn.core.policy_change import change
from keyturn.core.terms import Instant
from keyturn.flow import policy as policies
from keyturn.flow.permit import pack
from keyturn.verify import bundle as bundles
from keyturn.verify.check import check
from keyturn.wire import canonical, leaf
from keyturn.wire.digest import sha256
from tests.core.examples import gate
from tests.verify.scene import (
    ACTION,
    KEYS,
    SCOPE,
    SERVICE,
    Hand,
    Key,
    Scene,
    document,
    doubts,
    keyring,
    policy_of,
    signed,
    stated,
)

ALONE = "policy 2 loosens policy 1 and no dossier shows that people were asked for it"

GOVERNOR = [{"kind": "ed25519", "public": SERVICE.public, "custody": "separate"}]
MALLORY = [{"kind": "ed25519", "public": KEYS["mallory"].public, "custody": "separate"}]


@pytest.mark.parametrize("swap", [{"roles": ["engineering", "safety"]}, {"keys": MALLORY}])
def test_the_service_key_alone_changes_no_people_and_no_keys(scene, swap):
    hand = Hand.of(scene)
    text = document(people=[*document()["people"][:2], {**document()["people"][2], **swap}])
    adopted = hand.add(stated(adoption(scene, text)))
    stand(hand, text)
    assert doubts(hand.show(policies=[adopted]), scene) == [(5, ALONE)]


def looser():
    """One engineer alone may release on level 1."""
    rows = [gate("release", 1, engineering=1) if (r["action"], r["level"]) == ("release", 1) else r for r in gates()]
    return document(gates=rows)


def gates():
    return copy.deepcopy(document()["gates"])


def tighter():
    """The log's head may be half an hour old at most."""
    return document(freshness={"evidence_seconds": 7200, "permit_seconds": 1800})


def adoption(scene, text, version=2, **changes):
    digest = sha256(canonical.encode(text))
    said = {
        "id": f"adopts {version}",
        "at": scene.permit.at,
        "actor": "governor",
        "policy": scene.permit.policy,
        "version": version,
        "digest": digest,
        "document": text,
        "signatures": (),
        "dossier": "",
    }
    return ev.PolicyAdopted(**{**said, **changes})


def stand(hand, text, version=2, **changes):
    """A status that says the thief's policy is in force."""
    hand.status(policy_version=version, policy_digest=sha256(canonical.encode(text)), **changes)


# --- the governor's key alone


def test_the_service_key_alone_loosens_nothing(scene):
    """Policy 2 lets one engineer release; the thief has cyd's old signature and drops ada's."""
    hand, text = Hand.of(scene), looser()
    adopted = hand.add(stated(adoption(scene, text)))
    permit = hand.permit(policy=sha256(canonical.encode(text)))
    stand(hand, text)
    bundle = hand.show(permit, scene.approval_indexes[1:], [adopted])
    assert doubts(bundle, scene) == [(5, ALONE)]


def test_the_service_key_alone_may_tighten(scene):
    hand, text = Hand.of(scene), tighter()
    adopted = hand.add(stated(adoption(scene, text)))
    stand(hand, text)
    assert doubts(hand.show(policies=[adopted]), scene) == []
    late = Instant(scene.status.at + 1_801_000)
    found = doubts(hand.show(policies=[adopted]), scene, now=late)
    assert found == [(9, "the status is 1801 seconds old; the limit is 1800 seconds")]


def test_a_project_that_amends_its_policy_often_can_still_show_a_permit(scene):
    hand, texts = (
        Hand.of(scene),
        [document(sandbox={**document()["sandbox"], "wall_seconds": 119 - n}) for n in range(30)],
    )
    places = [hand.add(stated(adoption(scene, text, version))) for version, text in enumerate(texts, 2)]
    stand(hand, texts[-1], 31)
    read = bundles.decode(pack(hand.show(policies=places)))
    assert doubts(read, scene) == []


def test_two_steps_that_each_tighten_cannot_hide_one_that_loosens(scene):
    hand, first, second = Hand.of(scene), tighter(), document()
    one = hand.add(stated(adoption(scene, first)))
    two = hand.add(stated(adoption(scene, second, 3)))
    stand(hand, second, 3)
    message = "policy 3 loosens policy 2 and no dossier shows that people were asked for it"
    assert doubts(hand.show(policies=[one, two]), scene) == [(5, message)]


@pytest.mark.parametrize(
    "swap",
    [
        {"people": [*document()["people"][:2], {**document()["people"][2], "keys": GOVERNOR}]},
        {"project": {**document()["project"], "demo": True}},
        {"project": {**document()["project"], "origin": "other.example/log"}},
    ],
)
def test_no_later_policy_changes_the_project_or_enrols_the_governor(scene, swap):
    hand, text = Hand.of(scene), document(**swap)
    adopted = hand.add(stated(adoption(scene, text)))
    stand(hand, text)
    message = "policy 2 is of another project than policy 1, or enrols the governor"
    assert doubts(hand.show(policies=[adopted]), scene) == [(5, message)]


# --- the chain


def test_a_gap_in_the_chain_is_refused(scene):
    hand, text = Hand.of(scene), tighter()
    adopted = hand.add(stated(adoption(scene, text, 3)))
    stand(hand, text, 3)
    message = "policy 3 is shown after policy 1: a step between them is missing"
    assert doubts(hand.show(policies=[adopted]), scene) == [(5, message)]


def test_a_policy_that_is_held_back_is_noticed(scene):
    hand, text = Hand.of(scene), tighter()
    hand.add(stated(adoption(scene, text)))
    stand(hand, text)
    second, first = sha256(canonical.encode(text)), scene.permit.policy
    message = f"policy 2 ({second[:15]}…) is in force; the bundle leads to policy 1 ({first[:15]}…)"
    assert doubts(hand.show(), scene) == [(5, message)]


def test_another_policy_under_the_same_number_is_noticed(scene):
    hand, text = Hand.of(scene), tighter()
    adopted = hand.add(stated(adoption(scene, text)))
    hand.status(policy_version=2)
    second, first = sha256(canonical.encode(text)), scene.permit.policy
    message = f"policy 2 ({first[:15]}…) is in force; the bundle leads to policy 2 ({second[:15]}…)"
    assert doubts(hand.show(policies=[adopted]), scene) == [(5, message)]


def test_the_chain_in_another_order_is_refused(scene):
    hand, text = Hand.of(scene), tighter()
    one = hand.add(stated(adoption(scene, text)))
    last = {**text, "pace": {"unaudited_max": 1}}
    two = hand.add(stated(adoption(scene, last, 3)))
    stand(hand, last, 3)
    assert doubts(hand.show(policies=[one, two]), scene) == []
    message = "policy 3 is shown after policy 1: a step between them is missing"
    assert doubts(hand.show(policies=[two, one]), scene) == [(5, message)]
    message = "the bundle's policies do not follow one another"
    assert doubts(hand.show(policies=[one, one]), scene) == [(5, message)]


@pytest.mark.parametrize("change", [{"digest": "sha256:" + "1" * 64}, {"document": {"schema": 1}}])
def test_a_policy_that_is_none_or_is_misnamed_is_refused(scene, change):
    hand = Hand.of(scene)
    adopted = hand.add(stated(adoption(scene, tighter(), **change)))
    stand(hand, tighter())
    message = "policy 2 is none, or is not what its digest says"
    assert doubts(hand.show(policies=[adopted]), scene) == [(5, message)]


def test_a_policy_that_the_service_key_did_not_state_is_refused(scene):
    hand = Hand.of(scene)
    adopted = hand.add(stated(adoption(scene, tighter()), Key("mallory")))
    stand(hand, tighter())
    found = doubts(hand.show(policies=[adopted]), scene)
    assert found == [(4, "the service key did not sign this `PolicyAdopted`")]


def test_nothing_else_may_stand_among_the_policies(scene):
    hand = Hand.of(scene)
    hand.status()
    found = doubts(hand.show(policies=[scene.permit_index]), scene)
    assert found == [(5, "`PermitIssued` stands among the bundle's policies, where it does not belong")]


def test_a_permit_under_a_policy_that_was_replaced_before_it_is_refused(scene):
    """Whoever holds what an old policy accepted cannot go back to it once a tighter one is in the log."""
    hand, text = Hand.of(scene, upto=scene.permit_index), tighter()
    adopted = hand.add(stated(adoption(scene, text)))
    permit = hand.permit()
    stand(hand, text)
    found = doubts(hand.show(permit, policies=[adopted]), scene)
    assert found[0] == (5, "the permit was given under another policy than 2, which held at its place")
    assert [number for number, _ in found] == [5, 8, 8]
    assert "`ada` does not count: it was given under another policy" in found[1][1]


def test_a_permit_outlives_a_policy_that_came_after_it(scene):
    hand, text = Hand([*scene.leaves], scene), tighter()
    adopted = hand.add(stated(adoption(scene, text)))
    stand(hand, text)
    assert doubts(hand.show(policies=[adopted]), scene) == []


# --- with people


@pytest.fixture
def amended(tmp_path):
    """A project whose `amend` quorum (ada and ben) cleared the looser policy, and then released under it."""
    made = Scene.begin(tmp_path / "log.db")
    made.found()
    new = policy_of(looser())
    digest = policies.ask(made.log, new, change(made.trust.policy, new))
    made.sign(digest, "ada", "safety")
    assert not policies.adopt_cleared(made.log, new, digest)
    made.sign(digest, "ben", "safety")
    assert policies.adopt_cleared(made.log, new, digest)
    dossier = made.propose()
    made.sign(dossier, "cyd", "engineering")
    made.permit = made.release(dossier)
    yield made
    made.log.store.close()


def shown(made, bundle):
    found = check(bundle, made.trust, action=ACTION, scope=SCOPE, now=made.clock.now())
    return [(doubt.check, doubt.message) for doubt in found.doubts]


def test_what_the_quorum_loosened_is_loose_and_the_bundle_shows_it(amended):
    bundle = amended.bundle(amended.permit)
    assert shown(amended, bundle) == []
    events = [type(_event(amended, each)).__name__ for each in bundle.policies]
    assert events == ["DossierSealed", "ApprovalGiven", "ApprovalGiven", "PolicyAdopted"]
    assert len(pack(bundle)) < 32_000


def _event(made, proven):
    return leaf.decode(proven.leaf, keyring(made.trust))


def without(bundle, *numbers):
    return replace(bundle, policies=tuple(each for n, each in enumerate(bundle.policies) if n not in numbers))


def test_without_the_dossier_or_an_approval_it_is_refused(amended):
    bundle = amended.bundle(amended.permit)
    assert shown(amended, without(bundle, 0)) == [(5, ALONE)]
    for dropped in (1, 2):
        message = "policy 2 loosens policy 1 and 1 of 2 person(s) in the role `safety` approved exactly this"
        assert shown(amended, without(bundle, dropped)) == [(5, message)]


def amendment(scene, hand, text, *, adopts=None, request="AdoptPolicy", level=0, signers=("ada", "ben"), **changes):
    """The thief's dossier for a looser policy, with signatures that people gave for something like it."""
    sealed = scene.event(next(n for n in range(len(scene.leaves)) if isinstance(scene.event(n), ev.DossierSealed)))
    said = {
        **sealed.document,
        "request": request,
        "adopts": adopts or sha256(canonical.encode(text)),
        "gate": "amend",
        "level": level,
    }
    dossier = sha256(canonical.encode(said))
    places = [hand.add(stated(replace(sealed, dossier=dossier, document=said)))]
    for who in signers:
        terms = replace(
            scene.terms["ada"],
            dossier=dossier,
            gate="amend",
            level=level,
            artifact="",
            person=who,
            role="safety",
            nonce=f"amend {who}",
            evidence_index=places[0] + 1,
        )
        places.append(hand.add(signed(replace(terms, **changes), KEYS[who])))
    places.append(hand.add(stated(adoption(scene, text, dossier=dossier))))
    stand(hand, text)
    return places


def test_the_true_amendment_is_accepted(scene):
    hand = Hand.of(scene)
    places = amendment(scene, hand, looser())
    assert doubts(hand.show(policies=places), scene) == []


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ({"signers": ("ada",)}, "1 of 2 person(s)"),
        ({"signers": ("ada", "ada")}, "1 of 2 person(s)"),
        ({"gate": "release"}, "it is for `release` on level 0"),
        ({"level": 1, "policy_version": 2}, "it was given under another policy"),
        ({"policy": "sha256:" + "3" * 64}, "it was given under another policy"),
        ({"artifact": "sha256:" + "3" * 64}, "it is for another artifact"),
        ({"dossier": "sha256:" + "3" * 64}, "it is for another dossier"),
        ({"lineage": "other"}, "it is for another lineage or scope"),
        ({"scope": "other"}, "it is for another lineage or scope"),
        ({"genesis": "sha256:" + "3" * 64}, "it was given in another project"),
        ({"evidence_index": 3}, "what was signed is older than what it is about"),
        ({"role": "engineering"}, "`ada` does not count: the role `engineering` is not theirs"),
        ({"not_after": 1_800_000_000_001, "not_before": 1_800_000_000_000}, "it was outside its window"),
        ({"level": 7}, "policy 2 loosens policy 1 and the policy has no row for `amend` on level 7"),
    ],
)
def test_an_amendment_with_too_few_or_other_signatures_is_refused(scene, case, why):
    hand = Hand.of(scene)
    places = amendment(scene, hand, looser(), **case)
    ((number, message),) = doubts(hand.show(policies=places), scene)
    assert number == 5
    assert message.startswith("policy 2 loosens policy 1 and ")
    assert why in message


@pytest.mark.parametrize(
    "case", [{"adopts": "sha256:" + "4" * 64}, {"request": "FoundLineage"}, {"request": "LowerLevel"}]
)
def test_signatures_for_another_request_or_policy_adopt_nothing(scene, case):
    hand = Hand.of(scene)
    places = amendment(scene, hand, looser(), **case)
    assert doubts(hand.show(policies=places), scene) == [(5, ALONE)]


def test_the_dossier_of_one_adoption_does_not_serve_the_next(scene):
    hand, first = Hand.of(scene), looser()
    places = amendment(scene, hand, first)
    hand.leaves.pop()
    digest = sha256(canonical.encode(first))
    again = hand.add(stated(adoption(scene, document(), 3)))
    twice = hand.add(stated(adoption(scene, first, 4)))
    hand.status(policy_version=4, policy_digest=digest)
    message = "policy 4 loosens policy 3 and no dossier shows that people were asked for it"
    assert doubts(hand.show(policies=[*places, again, twice]), scene) == [(5, message)]


# --- the governor's own reading of the log


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            looser(),
            "that could not be adopted: it loosens `gates.release.1.quorum.safety` without the quorum of `amend`",
        ),
        (
            document(people=document()["people"][:2]),
            "that could not be adopted: it loosens `people.cyd` without the quorum of `amend`",
        ),
    ],
)
def test_no_governor_acts_on_a_policy_that_a_thief_wrote_into_its_log(tmp_path, text, what):
    made = Scene.begin(tmp_path / "log.db")
    made.found()
    digest = sha256(canonical.encode(text))
    with pytest.raises(TamperDetected) as caught:
        made.log.append(
            lambda stamp: ev.PolicyAdopted(**stamp, version=2, digest=digest, document=text, signatures=(), dossier="")
        )
    assert caught.value.message == f"the log holds a policy 2 {what}"
    made.log.store.close()
