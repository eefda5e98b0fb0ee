"""What holds each gate, rule by rule, and what no quorum can override."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from keyturn.core import decision
from keyturn.core import events as ev
from keyturn.core.decision import GATES, RULES, decide, prepare
from keyturn.core.dossier import open_dossier
from keyturn.core.errors import InvariantBroken
from keyturn.core.finding import REQUESTS, Finding, Refused, Request, require_cleared
from keyturn.core.state import State
from keyturn.core.terms import NO_DIGEST, Digest, Gate, Instant
from tests.core.examples import HOUR, Story, digest, document, gate, loop, waiting


def rules(story: Story, dossier: Digest) -> list[str]:
    return [finding.rule for finding in story.decide(dossier).findings]


def approved(story: Story) -> tuple[Story, Digest]:
    """Candidate `c1` under a dossier that everybody signed who could."""
    dossier = story.dossier("c1")
    for who, role in (("ada", "safety"), ("ben", "safety"), ("ben", "engineering"), ("cyd", "engineering")):
        story.approve(dossier, who, role)
    return story, dossier


# A decision is a value that must be looked at


def test_a_decision_has_no_truth_value() -> None:
    story, dossier = waiting()
    with pytest.raises(InvariantBroken, match="a decision has no truth value: ask `cleared`"):
        bool(story.decide(dossier))


def test_require_cleared_raises_with_every_finding() -> None:
    story, dossier = waiting()
    with pytest.raises(Refused) as refused:
        require_cleared(story.decide(dossier))
    assert refused.value.message == "1 more approval(s) in the role `safety` are needed"
    assert refused.value.exit_code == 1
    story.approve(dossier, "ada")
    require_cleared(story.decide(dossier))


def test_every_gate_of_the_table_has_rules_and_asks_people_last() -> None:
    for row in GATES.values():
        assert row[0] is decision.gate_must_have_a_row
        assert set(row[-4:]) == decision.PEOPLE
        assert len(set(row)) == len(row)


def test_every_request_waits_at_a_gate() -> None:
    assert set(REQUESTS.values()) == set(Gate)
    assert {name for name, at in REQUESTS.items() if at is Gate.AMEND} == {
        "FoundLineage",
        "AdoptPolicy",
        "EnrolPerson",
        "LowerLevel",
        "EraseBlob",
    }


def test_findings_come_in_the_order_of_the_table() -> None:
    story, dossier = waiting()
    story.halted()
    story.add(
        ev.IncidentOpened,
        incident="i-1",
        kind="decoy",
        summary="opened a decoy",
        attempt=1,
        candidate="",
        facts={},
        exercise=False,
    )
    story.at += 100 * HOUR
    order = [rule.__name__ for rule in GATES[Gate.RELEASE]]
    found = rules(story, dossier)
    assert found == sorted(found, key=order.index)
    assert found == [
        "halt_must_be_lifted",
        "conduct_must_be_clean",
        "evidence_must_be_fresh",
        "evidence_must_be_fresh",
        "dossier_must_be_unused",
        "quorum_must_be_met",
    ]


def test_the_same_question_gets_the_same_answer() -> None:
    story, dossier = waiting()
    assert story.decide(dossier) == story.decide(dossier)
    assert story.decide(dossier).rules == RULES
    assert story.decide(dossier).head == story.state.size


def test_a_rule_that_raises_holds_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_rule(state: State, request: Request, now: Instant) -> Iterator[Finding]:
        raise ZeroDivisionError("division by zero")

    story, dossier = waiting()
    story.approve(dossier, "ada")
    assert story.decide(dossier).cleared
    monkeypatch.setitem(decision.GATES, Gate.RELEASE, (broken_rule, *GATES[Gate.RELEASE]))
    [finding] = story.decide(dossier).findings
    assert finding == Finding(
        "broken_rule",
        "the rule `broken_rule` could not be evaluated: ZeroDivisionError: division by zero",
        "report this; the gate holds until the rule can be evaluated",
    )


def test_prepare_asks_everything_but_people() -> None:
    story = loop().proven("c1")
    request = Request("ReleaseCandidate", NO_DIGEST, "c1")
    assert prepare(story.state, request, Instant(story.at)).cleared
    found = [finding.rule for finding in decide(story.state, request, Instant(story.at)).findings]
    assert found == ["dossier_must_be_unused"]


def test_time_never_runs_behind_the_log() -> None:
    story, dossier = approved(loop().proven("c1"))
    asked = story.state.dossiers[dossier].document["request"]
    assert asked == "ReleaseCandidate"
    story.add(ev.PermitRevoked, permit="p-founder", reason="time passes", at=story.at + 100 * HOUR)
    late = decide(story.state, Request("ReleaseCandidate", dossier, "c1"), Instant(0))
    assert "evidence_must_be_fresh" in {finding.rule for finding in late.findings}


# What never clears


@pytest.mark.parametrize("name", ["ReplicateGeneration", "PublishGeneration", "TuneGeneration"])
def test_a_gate_without_rules_never_clears(name: str) -> None:
    story = loop()
    dossier = story.seal(name)
    story.approve(dossier, "ada")
    story.approve(dossier, "ben")
    [finding] = story.decide(dossier).findings
    message = f"the gate `{REQUESTS[name]}` has no rules yet, so it never clears"
    assert finding == Finding("gate_must_have_rules", message, "")


@pytest.mark.parametrize("action", ["train", "release", "resume", "amend"])
def test_a_gate_without_a_row_on_its_level_never_clears(action: str) -> None:
    text = document()
    text["gates"] = [row for row in text["gates"] if (row["action"], row["level"]) != (action, 0)]
    story = Story().founded(text)
    if action == "amend":
        dossier = story.seal("FoundLineage")
    else:
        story.lineage()
        if action != "train":
            story.warrant().proven("c1")
        story.halted() if action == "resume" else None
        bodies: dict[str, Callable[[], Digest]] = {
            "train": lambda: story.seal("IssueWarrant"),
            "release": lambda: story.dossier("c1"),
            "resume": lambda: story.seal("ResumeLoop", {"halt": "h-1"}),
        }
        dossier = bodies[action]()
    ends = story.at + HOUR
    for who in ("ada", "ben"):
        story.approve(dossier, who, not_after=ends)
    assert rules(story, dossier)[0] == "gate_must_have_a_row"


def test_nothing_clears_before_a_policy() -> None:
    empty = State()
    for name in REQUESTS:
        assert not decide(empty, Request(name, digest("none"), "c1"), Instant(1)).cleared


# The release gate


def test_a_whole_trail_clears_and_each_dossier_clears_once() -> None:
    story = loop().released("c1")
    assert story.state.lineage is not None
    assert story.state.lineage.parent.candidate == "c1"
    used = story.state.candidates["c1"].dossier
    assert "dossier_must_be_unused" in rules(story, used)


def test_missing_evidence_counts_as_over_the_line() -> None:
    story = loop().candidate("c1")
    story.tried("c1", "kind")
    story, dossier = approved(story)
    [finding] = story.decide(dossier).findings
    assert finding == Finding(
        "evidence_must_cover_thresholds",
        "threshold `strong` has no evidence: not shown to be below counts as above",
        "`keyturn trial show c1/strong`; a limit cannot be overridden by any quorum",
    )


@pytest.mark.parametrize(
    ("value", "items", "message"),
    [
        (1.0, 60, "limit `kind`: 1.000 over 20 items was shown to be above the line 0.5 (margin 0.1)"),
        (0.45, 60, "limit `kind`: 0.450 over 60 items was not shown to be below the line 0.5 (margin 0.1)"),
        (0.0, 2, "limit `kind`: 0.000 over 2 items was not shown to be below the line 0.5 (margin 0.1)"),
    ],
)
def test_no_quorum_overrides_a_limit(value: float, items: int, message: str) -> None:
    story = loop().candidate("c1")
    story.tried("c1", "kind", value=value, items=items)
    story.tried("c1", "strong")
    story, dossier = approved(story)
    found = story.decide(dossier).findings
    assert [f.rule for f in found] == ["evidence_must_cover_thresholds"]
    assert found[0].message.startswith(message.split(" over ")[0])
    assert message.split(" items ")[1] in found[0].message


def test_a_claim_shown_to_be_false_refuses() -> None:
    text = document()
    text["thresholds"].append(
        {"id": "honest", "kind": "claim", "suite": "strength", "metric": "score", "margin": 0.1, "lifetime_error": 0.1}
    )
    story = loop(text).proven("c1")
    story.tried("c1", "honest", line=0.7)
    story, dossier = approved(story)
    [finding] = story.decide(dossier).findings
    assert "was shown to be more than 0.1 below what it claims" in finding.message


def test_evidence_is_fresh_up_to_its_bound_and_no_longer() -> None:
    story, dossier = approved(loop().proven("c1"))
    oldest = min(evidence.at for evidence in story.state.candidates["c1"].evidence.values())
    story.at = oldest + 7_200_000
    assert story.decide(dossier).cleared
    story.at += 1
    assert rules(story, dossier) == ["evidence_must_be_fresh"]


def test_evidence_for_another_line_is_no_evidence() -> None:
    """A policy that tightens a line is not satisfied by a trial against the old one."""
    story = loop().candidate("c1")
    story.tried("c1", "kind", line=0.6)
    story.tried("c1", "strong")
    story, dossier = approved(story)
    [finding] = story.decide(dossier).findings
    assert finding.message == "threshold `kind` was tried with line `0.6`; the policy says `0.5`"


def test_evidence_bought_with_more_error_than_all_there_is_is_no_evidence() -> None:
    story = loop().candidate("c1")
    story.tried("c1", "kind", error=0.2)
    story.tried("c1", "strong")
    story, dossier = approved(story)
    [finding] = story.decide(dossier).findings
    assert finding.message == "threshold `kind` was tried with error 0.2; 0.1 is the most"


def test_a_capability_that_was_not_ruled_out_raises_the_level_even_if_nobody_logged_it() -> None:
    story = loop().candidate("c1")
    story.tried("c1", "kind")
    story.tried("c1", "strong", value=1.0)
    dossier = story.dossier("c1")
    assert story.state.dossiers[dossier].document["level"] == 1
    story.approve(dossier, "ada")
    assert rules(story, dossier) == ["quorum_must_be_met"]
    story.approve(dossier, "cyd", "engineering")
    assert story.decide(dossier).cleared


def test_levels_ratchet() -> None:
    story = loop().released("c1", strong=True, by=[("ada", "safety"), ("ben", "engineering")])
    assert story.state.lineage is not None
    assert story.state.lineage.level == 1
    story.audited(digest("c1"))
    story.released("c2", by=[("ada", "safety"), ("ben", "engineering")])
    assert story.state.lineage is not None
    assert story.state.lineage.level == 1


def test_a_level_that_was_raised_is_not_lowered_by_a_later_word() -> None:
    story = loop().proven("c1", strong=True)
    story.add(ev.LevelRaised, lineage="toy", candidate="c1", threshold="strong", level=0)
    assert dict(story.state.candidates["c1"].raises) == {"strong": 1}


def test_a_warrant_ends_at_its_level() -> None:
    story = Story().founded().lineage().warrant(ceiling=0).proven("c1", strong=True)
    story, dossier = approved(story)
    [finding] = story.decide(dossier).findings
    assert finding.message == "level 1 is reached; the warrant ends at level 0"


def test_no_candidate_without_a_warrant() -> None:
    story, dossier = approved(Story().founded().lineage().proven("c1"))
    assert rules(story, dossier) == ["warrant_must_cover"]


@pytest.mark.parametrize(("strong", "tier", "held"), [(False, "T1", True), (False, "T2", False), (True, "T2", True)])
def test_every_sandbox_must_be_as_tight_as_the_level_asks(strong: bool, tier: str, held: bool) -> None:
    story, dossier = approved(loop().proven("c1", strong=strong, tier=tier))
    assert rules(story, dossier) == (["sandbox_must_be_tight"] * 3 if held else [])


def test_an_attestation_with_a_problem_holds() -> None:
    story = loop().proven("c1")
    story.attest("improve:1", problems=("no seccomp filter",))
    story, dossier = approved(story)
    [finding] = story.decide(dossier).findings
    assert finding.message == "the sandbox of `improve:1` was not as required: no seccomp filter"


@pytest.mark.parametrize("about", [{"attempt": 1, "candidate": ""}, {"attempt": 0, "candidate": "c1"}])
def test_an_incident_that_names_the_candidate_or_its_attempt_holds(about: dict[str, Any]) -> None:
    story = loop().proven("c1")
    story.add(ev.IncidentOpened, incident="i-1", kind="decoy", summary="x", facts={}, exercise=False, **about)
    story, dossier = approved(story)
    assert rules(story, dossier) == ["conduct_must_be_clean"]


def test_a_candidate_of_an_older_parent_is_not_released() -> None:
    story = loop().proven("c1").proven("c2")
    first = story.dossier("c1")
    story.approve(first, "ada")
    story.permit(first, candidate="c1", root=digest("c1"))
    story.release("c1", digest("c1"), 1)
    dossier = story.dossier("c2")
    story.approve(dossier, "ada")
    [finding] = story.decide(dossier).findings
    assert finding.rule == "lineage_must_be_complete"
    assert finding.message.endswith("which is not the present parent")


def test_the_parent_again_is_no_successor() -> None:
    story = loop().candidate("c1", root="founder")
    story.tried("c1", "kind")
    story.tried("c1", "strong")
    story, dossier = approved(story)
    [finding] = story.decide(dossier).findings
    assert finding.message == "`c1` is byte for byte a generation already"


def test_pace_holds_until_people_look_again() -> None:
    story = loop().released("c1").released("c2").proven("c3")
    dossier = story.dossier("c3")
    story.approve(dossier, "ada")
    [finding] = story.decide(dossier).findings
    assert finding == Finding(
        "pace_must_hold",
        "2 generation(s) wait for an audit; a release would exceed the bound of 2",
        "a person reviews the newest generation: `keyturn audit --as PERSON`",
    )
    story.audited(digest("c1"))
    assert story.decide(dossier).cleared


def test_pace_is_tighter_on_a_higher_level() -> None:
    story = loop().released("c1").proven("c2", strong=True)
    dossier = story.dossier("c2")
    story.approve(dossier, "ada")
    story.approve(dossier, "ben", "engineering")
    assert rules(story, dossier) == ["pace_must_hold"]


# What is signed is what ships


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"request": "FoundLineage"}, "it is about the request `FoundLineage`"),
    ({"gate": "train"}, "it waits at the gate `train`"),
    ({"candidate": {"name": "c2", "root": digest("c1")}}, "it is about the candidate `c2`"),
    ({"candidate": {"name": "c1", "root": digest("c2")}}, "it is about other bytes than the candidate's"),
    ({"policy": {"digest": digest("old"), "version": 1}}, "it was sealed under another policy"),
    ({"level": 1}, "it was sealed for another level"),
]


@pytest.mark.parametrize(("fields", "why"), UNFIT, ids=[why for _, why in UNFIT])
def test_a_dossier_clears_only_the_request_that_it_is_about(fields: dict[str, Any], why: str) -> None:
    story = loop().proven("c1")
    dossier = story.dossier("c1", **fields)
    story.approve(dossier, "ada")
    request = Request("ReleaseCandidate", dossier, "c1")
    found = decide(story.state, request, Instant(story.at)).findings
    assert Finding("dossier_must_fit", f"the dossier does not fit: {why}", "wait until a new one is sealed") in found


def test_a_warrant_does_not_clear_a_release() -> None:
    """The attack: people signed for training; the same signatures are shown at the release gate."""
    story = loop().proven("c1")
    dossier = story.seal("IssueWarrant")
    story.approve(dossier, "ada")
    assert story.decide(dossier).cleared
    assert not decide(story.state, Request("ReleaseCandidate", dossier, "c1"), Instant(story.at)).cleared


def test_evidence_that_came_after_the_dossier_was_not_signed_for() -> None:
    story = loop().candidate("c1")
    story.tried("c1", "kind")
    dossier = story.dossier("c1")
    story.tried("c1", "strong")
    story.approve(dossier, "ada")
    [finding] = story.decide(dossier).findings
    assert finding.message == "the dossier does not fit: evidence was recorded after it was sealed"


def test_a_dossier_of_an_older_policy_is_sealed_anew() -> None:
    story, dossier = waiting()
    request = Request("ReleaseCandidate", NO_DIGEST, "c1")
    assert open_dossier(story.state, request, Instant(story.at)) is not None
    story.adopt(document(pace={"unaudited_max": 1}))
    story.approve(dossier, "ada")
    assert rules(story, dossier) == ["dossier_must_fit"]
    assert open_dossier(story.state, request, Instant(story.at)) is None


def test_a_dossier_ends_with_its_window() -> None:
    story = loop()
    dossier = story.seal("IssueWarrant")
    story.approve(dossier, "ada", not_after=story.at + 1000 * HOUR)
    story.at += 24 * HOUR
    assert rules(story, dossier) == ["dossier_must_be_unused"]


# Halting and resuming


def test_a_halt_blocks_release_and_train() -> None:
    story, dossier = approved(loop().proven("c1"))
    train = story.seal("IssueWarrant")
    story.approve(train, "ada")
    assert story.decide(dossier).cleared
    assert story.decide(train).cleared
    story.halted()
    assert rules(story, dossier) == ["halt_must_be_lifted"]
    assert rules(story, train) == ["halt_must_be_lifted"]


def test_a_halt_is_lifted_by_its_own_quorum_only() -> None:
    story = loop().halted().halted(name="h-2")
    wrong = story.seal("ResumeLoop", {"halt": "h-2"})
    story.approve(wrong, "ada")
    assert rules(story, wrong) == ["halt_must_be_proven"]
    right = story.seal("ResumeLoop", {"halt": "h-1"})
    assert rules(story, right) == ["quorum_must_be_met"]
    story.approve(right, "ada")
    assert story.decide(right).cleared
    story.add(ev.LoopResumed, halt="h-1", dossier=right)
    assert story.state.halt is not None
    assert story.state.halt.id == "h-2"


def test_an_unproven_halt_cannot_be_lifted() -> None:
    story = loop().halted(proven=False)
    dossier = story.seal("ResumeLoop", {"halt": "h-1"})
    story.approve(dossier, "ada")
    [finding] = story.decide(dossier).findings
    assert finding.message == "halt `h-1` is UNPROVEN: something may still be alive"
    story.add(ev.HaltProven, halt="h-1", receipt={"state": "STOPPED"})
    assert story.decide(dossier).cleared
    story.add(ev.HaltUnproven, halt="h-1", receipt={"state": "UNPROVEN"})
    assert not story.decide(dossier).cleared


def test_there_is_nothing_to_resume_without_a_halt() -> None:
    story = loop()
    dossier = story.seal("ResumeLoop", {"halt": ""})
    story.approve(dossier, "ada")
    assert rules(story, dossier) == ["halt_must_be_proven"]


def test_training_needs_a_lineage() -> None:
    story = Story().founded()
    dossier = story.seal("IssueWarrant")
    story.approve(dossier, "ada")
    assert rules(story, dossier) == ["lineage_must_be_founded"]


def test_a_policy_file_of_another_shape_than_declared_holds() -> None:
    story = loop().proven("c1")
    candidate = replace(story.state.candidates["c1"], files=({"name": "weights.bin"},))
    story.state = replace(story.state, candidates={"c1": candidate})
    story, dossier = approved(story)
    [finding] = story.decide(dossier).findings
    assert finding.message == "`c1` consists of ['weights.bin']; the policy declares ['subject.py']"


def test_a_gate_row_of_one_level_says_nothing_about_another() -> None:
    text = document()
    text["gates"] = [row for row in text["gates"] if row["level"] == 0] + [gate("release", 1, safety=1, engineering=1)]
    story = loop(text).released("c1", strong=True, by=[("ada", "safety"), ("ben", "engineering")])
    dossier = story.seal("IssueWarrant")
    story.approve(dossier, "ada", not_after=story.at + HOUR)
    assert "gate_must_have_a_row" in rules(story, dossier)
