"""The attack: go on deciding after people took somebody, or a stolen key of theirs, out of the policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.decision import decide
from keyturn.core.errors import UntrustedInput
from keyturn.core.finding import Request
from keyturn.core.replay import recheck
from keyturn.ledger.history import History
from keyturn.wire import leaf
from tests.attacks.rotated import (
    KEYS,
    NEW,
    Thief,
    adopted,
    begin,
    checked,
    doubts,
    events_of,
    leaves_of,
    people,
    released,
    row,
)
from tests.verify.scene import document, signed, stated

WITHOUT_BEN = {"people": people(ben=None, dot=row("dot", "safety", "engineering"))}
NEW_ADA = {"people": people(ada=row("ada", "safety", "board"))}


@pytest.fixture
def made(tmp_path):
    scene = begin(tmp_path)
    yield scene
    scene.log.store.close()


def test_who_was_removed_clears_nothing_that_was_pending(made):
    dossier = made.propose(level=0)
    made.sign(dossier, "ben", "safety")
    adopted(made, document(**WITHOUT_BEN), ("dot", NEW["dot"]))
    found = decide(made.log.state, Request("ReleaseCandidate", dossier, "c1"), made.log.now())
    assert {"quorum_must_be_met", "dossier_must_fit"} <= {finding.rule for finding in found.findings}


def test_who_was_removed_writes_nothing_into_the_log_any_more(made):
    adopted(made, document(**WITHOUT_BEN), ("dot", NEW["dot"]))
    dossier = made.propose(level=0)
    terms = replace(made.terms(dossier, "ada", "safety"), person="ben")
    size = made.log.head.size
    with pytest.raises(UntrustedInput, match="no key of `ben` signed this statement"):
        made.log.append_signed(signed(terms, KEYS["ben"]))
    assert made.log.store.head().size == size


def test_a_stolen_key_signs_nothing_after_its_holder_has_another(made):
    adopted(made, document(**NEW_ADA), ("ada", NEW["ada"]))
    dossier = made.propose(level=0)
    terms = made.terms(dossier, "ada", "safety")
    with pytest.raises(UntrustedInput, match="no key of `ada` signed this statement"):
        made.log.append_signed(signed(terms, KEYS["ada"]))
    made.log.append_signed(signed(terms, NEW["ada"]))
    decision = decide(made.log.state, Request("ReleaseCandidate", dossier, "c1"), made.log.now())
    assert "quorum_must_be_met" not in {finding.rule for finding in decision.findings}


def test_what_they_signed_before_stays_readable_lawful_and_loadable(made):
    permit = released(made)
    adopted(made, document(**NEW_ADA), ("ada", NEW["ada"]))
    history = History()
    history.read_all(leaves_of(made))
    assert history.state == made.log.state
    assert doubts(made, made.bundle(permit)) == []


def test_their_part_in_the_adoption_replays(made):
    adopted(made, document(**WITHOUT_BEN), ("dot", NEW["dot"]))
    history, found = History(), []
    for data in leaves_of(made):
        before = history.state
        event = history.read(data)
        found += [finding.message for finding in recheck(before, event) if isinstance(event, ev.PolicyAdopted)]
    assert found == []


def test_a_node_loads_nothing_that_a_removed_person_approved_afterwards(made):
    """The thief holds the governor's keys and ben's; he states a permit that ben approves after his removal."""
    permit = released(made)
    adopted(made, document(**WITHOUT_BEN), ("dot", NEW["dot"]))
    dossier = made.propose("c2", level=0)
    terms = replace(made.terms(dossier, "ada", "safety"), person="ben")
    thief = Thief(made, leaves_of(made))
    approval = thief.add(signed(terms, KEYS["ben"]))
    honest = next(e for e in events_of(made) if isinstance(e, ev.PermitIssued) and e.permit == permit)
    current = made.log.state.current
    candidate = made.log.state.candidates["c2"]
    forged = replace(
        honest, permit=f"p-{dossier[7:15]}", dossier=dossier, policy=current.digest, root=candidate.root,
        files=candidate.files, candidate="c2", not_before=terms.not_before, not_after=terms.not_before + 7_200_000,
    )  # fmt: skip  # one event on few lines
    index = thief.add(stated(forged))
    status = next(e for e in reversed(events_of(made)) if isinstance(e, ev.StatusPublished))
    thief.add(stated(replace(status, counter=99)))
    chain = [each.index for each in made.bundle(permit).policies]
    found = checked(made, thief.show(index, [approval], chain), made.trust)
    assert [(doubt.check, doubt.message) for doubt in found.doubts] == [(4, "no key of `ben` signed this statement")]
    earlier = replace(terms, person="ada")
    thief.leaves[approval] = signed(earlier, KEYS["ada"])
    assert checked(made, thief.show(index, [approval], chain), made.trust).doubts == (), "ada's would have been enough"


def test_old_statements_read_with_the_keys_of_their_day_only(made):
    dossier = made.propose(level=0)
    made.sign(dossier, "ben", "safety")
    index = made.log.state.dossiers[dossier].approvals[0].index
    adopted(made, document(**WITHOUT_BEN), ("dot", NEW["dot"]))
    data, policies = made.log.store.leaf(index), made.log.state.policies
    read = leaf.decode(data, leaf.keyring(made.trust.founded, policies, index))
    assert isinstance(read, ev.ApprovalGiven)
    with pytest.raises(UntrustedInput, match="no key of `ben` signed this statement"):
        leaf.decode(data, leaf.keyring(made.trust.founded, policies))
