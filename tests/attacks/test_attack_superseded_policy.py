"""The attack: let an approval that was given under one policy clear something under the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.core.decision import decide
from keyturn.core.errors import UntrustedInput
from keyturn.core.finding import Request
from keyturn.flow import approval as approvals
from tests.attacks.rotated import NEW, Thief, adopted, begin, doubts, events_of, leaves_of, people, released, row
from tests.verify.scene import KEYS, document, stated

DOT = {"people": people(dot=row("dot", "safety"))}


@pytest.fixture
def made(tmp_path):
    scene = begin(tmp_path)
    yield scene
    scene.log.store.close()


@pytest.mark.parametrize(("changes", "signers"), [({"pace": {"unaudited_max": 5}}, ()), (DOT, (("dot", NEW["dot"]),))])
def test_an_approval_under_one_policy_does_not_clear_the_gate_under_the_next(made, changes, signers):
    dossier = made.propose(level=0)
    made.sign(dossier, "ada", "safety")
    request = Request("ReleaseCandidate", dossier, "c1")
    before = {finding.rule for finding in decide(made.log.state, request, made.log.now()).findings}
    assert not before & {"quorum_must_be_met", "dossier_must_fit"}
    adopted(made, document(**changes), *signers)
    found = {f.rule: f.message for f in decide(made.log.state, request, made.log.now()).findings}
    assert "`ada` does not count: it was given under another policy" in found["quorum_must_be_met"]
    assert found["dossier_must_fit"] == "the dossier does not fit: it was sealed under another policy"


def test_it_does_not_count_when_the_same_text_is_in_force_again(made):
    """Policy 3 says what policy 1 said, to the byte; an approval under policy 1 is not one under policy 3."""
    dossier = made.propose(level=0)
    made.sign(dossier, "ada", "safety")
    adopted(made, document(pace={"unaudited_max": 5}))
    adopted(made, document())
    assert made.log.state.policies[2].digest == made.log.state.policies[0].digest
    found = {
        f.rule: f.message
        for f in decide(made.log.state, Request("ReleaseCandidate", dossier, "c1"), made.log.now()).findings
    }
    assert "`ada` does not count: it names another policy number" in found["quorum_must_be_met"]


def test_a_statement_that_was_signed_before_and_handed_in_after_is_refused(made):
    dossier = made.propose(level=0)
    terms = made.terms(dossier, "ada", "safety")
    adopted(made, document(pace={"unaudited_max": 5}))
    with pytest.raises(UntrustedInput, match="would not count: it was given under another policy"):
        approvals.give(made.log, terms, public=KEYS["ada"].public, sign=KEYS["ada"].sign)


def test_a_node_loads_nothing_on_approvals_of_the_policy_before(made):
    """The thief of the service and log keys issues the permit that ada's old approval would have given."""
    permit = released(made)
    dossier = made.propose("c2", level=0)
    made.sign(dossier, "ada", "safety")
    adopted(made, document(pace={"unaudited_max": 5}))
    current = made.log.state.current
    honest = next(e for e in events_of(made) if isinstance(e, ev.PermitIssued) and e.permit == permit)
    status = next(e for e in reversed(events_of(made)) if isinstance(e, ev.StatusPublished))
    candidate, thief = made.log.state.candidates["c2"], Thief(made, leaves_of(made))
    forged = replace(
        honest, permit=f"p-{dossier[7:15]}", dossier=dossier, policy=current.digest, root=candidate.root,
        files=candidate.files, candidate="c2",
    )  # fmt: skip  # one event on few lines
    index = thief.add(stated(forged))
    thief.add(stated(replace(status, counter=99)))
    approval = made.log.state.dossiers[dossier].approvals[0].index
    chain = [each.index for each in made.bundle(permit).policies]
    ((number, message),) = doubts(made, thief.show(index, [approval], chain))
    assert number == 8
    assert "`ada` does not count: it was given under another policy" in message
