"""`decide` and its slow twin say the same about generated histories, and what every history must obey."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from keyturn.core import events as ev
from keyturn.core.decision import GATES, decide
from keyturn.core.dossier import as_request
from keyturn.core.errors import TamperDetected
from keyturn.core.evolve import evolve
from keyturn.core.finding import REQUESTS, Decision, Request
from keyturn.core.keys.adoption import missing, named_anew, pairs
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.core.state import State
from keyturn.core.terms import Digest, Gate, Instant
from tests.core.examples import HOUR, Story, digest, document, fold, gate, key, loop, waiting
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


NAMES, ROLES = ("ada", "ben", "cyd", "dot"), ("safety", "engineering")


@st.composite
def rosters(draw: st.DrawFn) -> dict[str, Any]:
    """Who decides, with which keys and roles, and what `amend` asks of them; a row may be missing."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=4, unique=True))
    people = []
    for name in names:
        roles = draw(st.lists(st.sampled_from(ROLES), min_size=1, max_size=2, unique=True))
        keys = draw(st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True))
        rows = [{"kind": "ed25519", "public": key(f"{name}-{n}"), "custody": "separate"} for n in keys]
        people.append({"id": name, "roles": roles, "keys": rows})
    wanted = draw(st.dictionaries(st.sampled_from(ROLES), st.integers(1, 2), min_size=1))
    rest = [row for row in document()["gates"] if row["action"] == "train"]
    return document(people=people, gates=[*rest, gate("amend", draw(st.sampled_from((0, 0, 0, 1))), **wanted)])


AGREED: Counter[bool] = Counter()


def check_adoptions(old: dict[str, Any], new: dict[str, Any], data: st.DataObject) -> None:
    before, after = read_policy(old), read_policy(new)
    if not isinstance(before, Policy) or not isinstance(after, Policy):
        return
    every = sorted({*pairs(before), *pairs(after)})
    signed = set(data.draw(st.lists(st.sampled_from(every), unique=True)))
    if data.draw(st.booleans()):
        signed |= set(named_anew(before, after))
    approved = set(data.draw(st.lists(st.sampled_from(sorted(pairs(before))), unique=True)))
    lacks = missing(before, after, level=0, signed=sorted(signed), approved=sorted(approved))
    expected = twin.agreed(old, new, 0, signed, approved)
    assert (not lacks) is expected
    AGREED[expected] += 1


@bounded(400)
@given(rosters(), rosters(), st.data())
def test_who_must_sign_the_next_policy_agrees_with_the_slow_twin(
    old: dict[str, Any], new: dict[str, Any], data: st.DataObject
) -> None:
    check_adoptions(old, new, data)


@pytest.mark.slow
@bounded(3000)
@given(rosters(), rosters(), st.data())
def test_who_must_sign_the_next_policy_agrees_with_the_slow_twin_at_length(
    old: dict[str, Any], new: dict[str, Any], data: st.DataObject
) -> None:
    check_adoptions(old, new, data)


def test_the_rosters_above_were_not_empty_talk() -> None:
    if not AGREED:
        pytest.fail("run the comparison first: this test counts what it saw")
    assert AGREED[True] > 10
    assert AGREED[False] > 10


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
    current = story.state.current
    for public in [*(k.public for p in current.policy.people for k in p.keys)] if current else []:
        story.approve(dossier, who, key=public)
    assert rules(story.decide(dossier)) == {"quorum_must_be_met"}
    assert twin.held(plain(story), "ReleaseCandidate", dossier, "c1", story.at) == {"quorum_must_be_met"}


def test_the_twin_knows_a_plain_day() -> None:
    story = loop().released("c1")
    log = plain(story)
    assert [member["root"] for member in twin.generations(log)] == [digest("founder"), digest("c1")]
    assert twin.held(log, "IssueWarrant", Digest("none"), "", story.at) == {"dossier_must_be_unused"}
