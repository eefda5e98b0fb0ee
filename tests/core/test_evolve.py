"""The fold refuses what cannot follow, and repairs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from keyturn.core import events as ev
from keyturn.core.errors import TamperDetected
from keyturn.core.evolve import evolve
from keyturn.core.state import State
from keyturn.core.terms import Digest
from tests.core.examples import Story, digest, document, loop, waiting

Wrong = Callable[[Story], ev.Event]


def about(kind: type[ev.Event], **fields: Any) -> Wrong:
    return lambda story: story.event(kind, **fields)


def again(kind: type[ev.Event], **fields: Any) -> Wrong:
    """The last event of this kind once more, with another id."""

    def repeat(story: Story) -> ev.Event:
        last = next(event for event in reversed(story.events) if isinstance(event, kind))
        return replace(last, **{"id": "again", **fields})

    return repeat


def policy(**changes: Any) -> Wrong:
    return again(ev.PolicyAdopted, version=2, document=document(**changes))


DEMO = {**document()["project"], "demo": True}

ROWS: list[tuple[str, Wrong, str]] = [
    ("founding twice", again(ev.ProjectFounded), "`ProjectFounded` after its first entry"),
    ("a policy twice", again(ev.PolicyAdopted), "`PolicyAdopted` as policy 1, out of turn"),
    ("a policy left out", again(ev.PolicyAdopted, version=3), "`PolicyAdopted` as policy 3, out of turn"),
    ("a policy that is none", policy(people=[]), "a policy that is none: `people` is empty; at least one is expected"),
    ("a project that turns into a demo", policy(project=DEMO), "`PolicyAdopted` that changes whether this is a demo"),
    ("a second founder", again(ev.LineageFounded), "`LineageFounded` a second time"),
    ("an attempt twice", again(ev.ImprovementStarted), "`ImprovementStarted` as attempt 1, out of turn"),
    ("an attempt ended twice", again(ev.ImprovementEnded), "`ImprovementEnded` for attempt 1, which does not run"),
    ("an end without a start", again(ev.ImprovementEnded, attempt=9), "for attempt 9, which does not run"),
    ("a candidate twice", again(ev.CandidateProposed), "`CandidateProposed` for `c1` a second time"),
    ("a candidate of no attempt", again(ev.CandidateProposed, candidate="c9", attempt=9), "without an attempt"),
    ("a trial twice", again(ev.TrialPlanned), "`TrialPlanned` for `c1/strong` a second time"),
    ("a trial of nobody", again(ev.TrialPlanned, trial="t", candidate="c9"), "for the unknown candidate `c9`"),
    ("more of a finished trial", again(ev.TrialAdvanced), "`TrialAdvanced` for `c1/strong`, which is not open"),
    ("an end twice", again(ev.TrialEnded), "`TrialEnded` for `c1/strong`, which is not open"),
    ("evidence about other bytes", again(ev.EvidenceRecorded, root=digest("x")),
     "about other bytes than those of `c1`"),
    ("evidence of no trial", again(ev.EvidenceRecorded, trial="x"), "that differs from its trial"),
    ("evidence with another verdict", again(ev.EvidenceRecorded, verdict="TRIP"), "that differs from its trial"),
    ("evidence borrowed from another threshold", again(ev.EvidenceRecorded, threshold="kind"),
     "that differs from its trial"),
    ("evidence until it pleases", again(ev.EvidenceRecorded), "`EvidenceRecorded` for `strong` a second time"),
    ("a tier that is none", again(ev.SandboxAttested, tier="T9"), "at the unknown tier `T9`"),
    ("a dossier twice", again(ev.DossierSealed), "for the same dossier twice"),
    ("a dossier for no gate", again(ev.DossierSealed, dossier=digest("d"), document={}), "for the unknown gate `None`"),
    ("an approval of nothing", lambda s: replace(approval(s), dossier=digest("d")), "for an unknown dossier"),
    ("one nonce twice", again(ev.ApprovalGiven, id="nonce-5"), "a second time (its nonce was used)"),
    ("a decision about nothing", again(ev.GateDecided, dossier=digest("d")), "about an unknown dossier"),
    ("a permit twice", again(ev.PermitIssued), "`PermitIssued` for `p-founder` a second time"),
    ("a revocation of nothing", about(ev.PermitRevoked, permit="p-9", reason=""), "for an unknown permit"),
    ("a release without a permit", again(ev.CandidateReleased, generation=1, permit="p-9"), "without a permit"),
    ("a rejection of nobody", about(ev.CandidateRejected, candidate="c9", findings=()), "the unknown candidate `c9`"),
    ("a level of nobody", about(ev.LevelRaised, lineage="toy", candidate="c9", threshold="strong", level=1), "`c9`"),
    ("a halt settled that never was", about(ev.HaltProven, halt="h-9", receipt={}), "for an unknown halt"),
    ("resuming what runs", about(ev.LoopResumed, halt="h-1", dossier=digest("d")), "for no standing halt"),
    ("an erasure twice", lambda s: again(ev.BlobErased)(erased(s)), "`BlobErased` for the same blob twice"),
    ("a status out of turn", about(ev.StatusPublished, counter=2, halted=False, revoked=(), policy_version=1,
                                  policy_digest=digest("p"), simulated=False), "as number 2, out of turn"),
]  # fmt: skip


def erased(story: Story) -> Story:
    story.add(ev.BlobErased, blob=digest("b"), dossier=digest("d"), reason="")
    return story


def approval(story: Story) -> ev.ApprovalGiven:
    made: ev.ApprovalGiven = story.approval(Digest(next(iter(story.state.dossiers))), "ada")
    return made


@pytest.mark.parametrize(("wrong", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_cannot_follow_is_tampering(wrong: Wrong, message: str) -> None:
    story, _ = waiting()
    approvals = [event for event in story.events if isinstance(event, ev.ApprovalGiven)]
    event = wrong(story)
    if isinstance(event, ev.ApprovalGiven) and event.id == "nonce-5":
        event = replace(event, id=approvals[0].id)
    with pytest.raises(TamperDetected) as found:
        evolve(story.state, event)
    assert found.value.message.startswith("the log holds ")
    assert message in found.value.message


def test_a_log_begins_with_its_founding() -> None:
    with pytest.raises(TamperDetected, match="`HaltRequested` before the project is founded"):
        evolve(State(), Story().event(ev.HaltRequested, halt="h-1", by="x", reason=""))


def test_items_are_read_in_their_order_without_a_gap() -> None:
    story = loop().candidate("c1")
    story.planned("c1", "kind")
    story.block("c1/kind", 0.5)
    last = story.events[-1]
    with pytest.raises(TamperDetected, match="from item 0; item 20 is next"):
        evolve(story.state, last)
    with pytest.raises(TamperDetected, match="with 60 items; 20 were read"):
        evolve(story.state, story.event(ev.TrialEnded, trial="c1/kind", verdict="CLEAR", items=60))
    with pytest.raises(TamperDetected, match="with the unknown verdict `GOOD`"):
        evolve(story.state, story.event(ev.TrialEnded, trial="c1/kind", verdict="GOOD", items=20))


def test_the_same_bytes_submitted_again_go_on_and_cost_nothing() -> None:
    story = loop().candidate("c1", root="same")
    story.tried("c1", "kind", value=0.45)
    story.add(ev.CandidateRejected, candidate="c1", findings=())
    story.candidate("c2", root="same")
    story.planned("c2", "kind")
    first, second = story.state.trials["c1/kind"], story.state.trials["c2/kind"]
    assert (second.read, second.process, second.values) == (first.read, first.process, first.values)
    assert story.state.lineage is not None
    assert story.state.lineage.charges["kind"] == (digest("same"),)


def test_other_bytes_are_charged_anew() -> None:
    story = loop().candidate("c1").candidate("c2")
    story.planned("c1", "kind")
    story.planned("c2", "kind")
    assert story.state.lineage is not None
    assert story.state.lineage.charges["kind"] == (digest("c1"), digest("c2"))
    assert story.plan("c2/kind").error == pytest.approx(story.plan("c1/kind").error / 4)


def test_a_state_never_changes_under_those_who_hold_it() -> None:
    story, dossier = waiting()
    before = story.state
    kept = (dict(before.dossiers), before.dossiers[dossier].approvals, before.size)
    story.approve(dossier, "ada")
    assert (dict(before.dossiers), before.dossiers[dossier].approvals, before.size) == kept
    assert story.state.dossiers[dossier].approvals != ()


def test_a_released_generation_is_audited_by_the_person_who_looked() -> None:
    story = loop().released("c1").released("c2")
    assert story.state.lineage is not None
    assert (story.state.lineage.unaudited, story.state.lineage.audited.number) == (2, 0)
    story.audited(digest("c1"))
    assert story.state.lineage is not None
    assert (story.state.lineage.unaudited, story.state.lineage.audited.audited_by) == (1, "ada")
    with pytest.raises(TamperDetected, match="for what is no generation"):
        story.audited(digest("c9"))


def test_time_does_not_run_backwards_in_a_state() -> None:
    story = loop()
    last = story.state.last_at
    story.add(ev.HaltRequested, halt="h-1", by="x", reason="", at=1)
    assert story.state.last_at == last
