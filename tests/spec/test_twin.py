"""`decide` and its slow twin say the same about generated histories, and what every history must obey."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from keyturn.core import events as ev
from keyturn.core.decision import GATES, decide
from keyturn.core.dossier import as_request
from keyturn.core.errors import TamperDetected
from keyturn.core.evolve import evolve
from keyturn.core.finding import REQUESTS, Decision, Request
from keyturn.core.state import State
from keyturn.core.terms import Digest, Gate, Instant
from tests.core.examples import HOUR, Story, digest, fold, loop, waiting
from tests.spec import twin
from tests.spec.histories import RUNS, Teller, stories, without


def bounded(examples: int) -> settings:
    """The same histories on every run, so that a failure is a failure for everybody, and no longer than it needs."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )


def plain(story: Story) -> twin.Log:
    return [json.loads(json.dumps(ev.to_json(event))) for event in story.events]


def questions(state: State) -> list[Request]:
    """What may be asked of a history: about each recent dossier what it says, and what it does not say."""
    recent = list(state.dossiers.values())[-4:]
    asked = [as_request(dossier) for dossier in recent]
    asked += [Request("ReleaseCandidate", d.digest, name) for d in recent[-2:] for name in list(state.candidates)[-2:]]
    asked += [Request(name, d.digest, "") for d in recent[-1:] for name in ("FoundLineage", "IssueWarrant")]
    return [*asked, Request("ReleaseCandidate", digest("no dossier"), "nobody")]


def rules(decision: Decision) -> set[str]:
    return {finding.rule for finding in decision.findings}


SEEN: Counter[str] = Counter()
LOOPED: Counter[str] = Counter()


@bounded(800)
@given(stories(), st.sampled_from((0, 1, 601_000, 2 * HOUR, 25 * HOUR)))
def test_decide_agrees_with_its_slow_twin(story: Story, later: int) -> None:
    log, now = plain(story), Instant(story.at + later)
    for request in questions(story.state):
        decision = decide(story.state, request, now)
        expected = twin.held(log, request.name, request.dossier, request.candidate, now)
        assert rules(decision) == expected, request
        assert decision.cleared is (not expected)
        SEEN["cleared " + decision.gate if decision.cleared else "held"] += 1
        SEEN.update(expected)


def test_the_histories_above_were_not_empty_talk() -> None:
    """Every rule held something, and every gate that can open was opened."""
    if not SEEN:
        pytest.fail("run the comparison first: this test counts what it saw")
    every = {rule.__name__ for gate in GATES.values() for rule in gate} | {"gate_must_have_rules"}
    assert every - set(SEEN) == set()
    assert {f"cleared {gate}" for gate in (Gate.RELEASE, Gate.TRAIN, Gate.RESUME, Gate.AMEND)} - set(SEEN) == set()


EVIDENCE = (ev.EvidenceRecorded, ev.TrialEnded, ev.ApprovalGiven)


@bounded(600)
@given(stories(), st.data())
def test_removing_evidence_never_opens_a_gate(story: Story, data: st.DataObject) -> None:
    """The first property: taking out what was learnt, or an approval, clears nothing that was held.

    Approvals of the very dossier that is asked about; those of a warrant also keep their signers out.
    """
    places = [
        index
        for index, event in enumerate(story.events)
        if isinstance(event, EVIDENCE) and not isinstance(event, ev.ApprovalRefused)
    ]
    if not places:
        return
    index = data.draw(st.sampled_from(places))
    taken = story.events[index]
    try:
        poorer = fold(without(story, index))
    except TamperDetected:
        return  # what rested on it cannot stand either: the whole log is refused
    for request in questions(story.state):
        if isinstance(taken, ev.ApprovalGiven) and taken.dossier != request.dossier:
            continue
        if decide(poorer, request, Instant(story.at)).cleared:
            assert decide(story.state, request, Instant(story.at)).cleared, (type(taken).__name__, request)


@bounded(150)
@given(stories())
def test_replay_is_exact(story: Story) -> None:
    assert fold([ev.from_json(body) for body in plain(story)]) == story.state


@bounded(300)
@given(stories(8, founding="looped", step=RUNS))
def test_decide_agrees_with_its_slow_twin_about_a_loop(story: Story) -> None:
    log, now = plain(story), Instant(story.at)
    for request in questions(story.state):
        decision = decide(story.state, request, now)
        assert rules(decision) == twin.held(log, request.name, request.dossier, request.candidate, now), request
        LOOPED["cleared " + decision.gate if decision.cleared else "held"] += 1
        LOOPED.update(rules(decision))


def test_the_histories_of_loops_were_not_empty_talk() -> None:
    if not LOOPED:
        pytest.fail("run the comparison first: this test counts what it saw")
    wanted = {"cleared release", "lineage_must_be_complete", "conduct_must_be_clean"}
    assert {name for name in wanted if LOOPED[name] < 20} == set()


@bounded(300)
@given(stories(8, founding="looped", step=RUNS))
def test_what_a_loop_spent_and_admitted_agrees_with_the_slow_twin(story: Story) -> None:
    log = plain(story)
    for warrant in story.state.warrants:
        expected = twin.spent(log, warrant.id)
        assert warrant.spent.usd == pytest.approx(expected.pop("usd"))
        assert {name: getattr(warrant.spent, name) for name in expected} == pytest.approx(expected)
    for number, attempt in story.state.attempts.items():
        assert attempt.admitted == twin.admitted(log, number)
        assert attempt.judged == sum(len(e["programs"]) for e in twin.every(log, "ProgramsJudged", attempt=number))


@bounded(150)
@given(stories())
def test_findings_follow_the_table_and_never_change_their_order(story: Story) -> None:
    for request in questions(story.state):
        decision = decide(story.state, request, Instant(story.at))
        order = [rule.__name__ for rule in GATES.get(REQUESTS[request.name], ())]
        found = [finding.rule for finding in decision.findings]
        assert found == sorted(found, key=order.index) if order else found == ["gate_must_have_rules"]
        assert decision == decide(fold(story.events), request, Instant(story.at))


@bounded(150)
@given(stories(), st.sampled_from((60_000, HOUR)))
def test_waiting_alone_never_opens_a_gate(story: Story, later: int) -> None:
    """Time only ever closes gates, except that the window of a signature may begin."""
    if any(isinstance(e, ev.ApprovalGiven) and e.not_before > story.at for e in story.events):
        return
    for request in questions(story.state):
        if decide(story.state, request, Instant(story.at + later)).cleared:
            assert decide(story.state, request, Instant(story.at)).cleared


@bounded(150)
@given(stories(), st.tuples(st.integers(0, 8), st.integers(0, 13), st.integers(0, 29)))
def test_a_halt_blocks_release_and_train_whatever_went_before(story: Story, numbers: tuple[int, int, int]) -> None:
    teller = Teller(story.copy())
    teller.tell("halt", *numbers)
    for request in questions(teller.story.state):
        if REQUESTS[request.name] in (Gate.RELEASE, Gate.TRAIN):
            assert not decide(teller.story.state, request, Instant(teller.story.at)).cleared


@bounded(150)
@given(stories())
def test_levels_only_ever_rise(story: Story) -> None:
    state, level = State(), 0
    for event in story.events:
        state = evolve(state, event)
        if state.lineage is not None:
            assert state.lineage.level >= level
            level = state.lineage.level


def test_a_dossier_is_used_once() -> None:
    story, dossier = waiting()
    story.approve(dossier, "ada")
    assert twin.held(plain(story), "ReleaseCandidate", dossier, "c1", story.at) == set()
    story.permit(dossier, candidate="c1", root=digest("c1"))
    assert twin.held(plain(story), "ReleaseCandidate", dossier, "c1", story.at) == {"dossier_must_be_unused"}
    assert rules(story.decide(dossier)) == {"dossier_must_be_unused"}


@pytest.mark.parametrize("who", ["governor", "service", "subject", "eve"])
def test_nobody_who_is_not_enrolled_counts_with_any_key(who: str) -> None:
    story, dossier = waiting()
    for key in [*(k.public for p in story.state.current.policy.people for k in p.keys)] if story.state.current else []:
        story.approve(dossier, who, key=key)
    assert rules(story.decide(dossier)) == {"quorum_must_be_met"}
    assert twin.held(plain(story), "ReleaseCandidate", dossier, "c1", story.at) == {"quorum_must_be_met"}


def test_the_twin_knows_a_plain_day() -> None:
    story = loop().released("c1")
    log = plain(story)
    assert [member["root"] for member in twin.generations(log)] == [digest("founder"), digest("c1")]
    assert twin.held(log, "IssueWarrant", Digest("none"), "", story.at) == {"dossier_must_be_unused"}
