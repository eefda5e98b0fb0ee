"""A stranger decides every entry again: a lawful log yields nothing, and each unlawful entry is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from keyturn.core import events as ev
from keyturn.core.evolve import evolve
from keyturn.core.finding import Finding
from keyturn.core.replay import recheck
from keyturn.core.state import State
from keyturn.core.terms import Digest, Instant
from tests.core.examples import (
    FILES,
    FOUNDER,
    HOUR,
    SERVICE_KEY,
    Story,
    digest,
    document,
    key,
    loop,
    person,
    policy_digest,
    waiting,
)

CLAIM = {"id": "honest", "kind": "claim", "suite": "strength", "metric": "score", "margin": 0.1, "lifetime_error": 0.1}


def problems(events: list[ev.Event]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    state = State()
    for event in events:
        found += [(finding.rule, finding.message) for finding in recheck(state, event)]
        state = evolve(state, event)
    return found


# A lawful log


def resumed() -> Story:
    story = loop().halted()
    dossier = story.seal("ResumeLoop", {"halt": "h-1"})
    story.approve(dossier, "ada")
    story.decided(dossier)
    story.add(ev.LoopResumed, halt="h-1", dossier=dossier)
    return story


def erased() -> Story:
    story = loop()
    dossier = story.seal("EraseBlob", {"erases": digest("blob"), "why": "asked for"})
    story.approve(dossier, "ada")
    story.approve(dossier, "ben")
    story.decided(dossier)
    story.add(ev.BlobErased, blob=digest("blob"), dossier=dossier, reason="asked for")
    return story


def tightened() -> Story:
    story = loop()
    story.adopt(document(pace={"unaudited_max": 1}))
    return story


def loosened() -> Story:
    story, text = loop(), document(pace={"unaudited_max": 5})
    dossier = story.seal("AdoptPolicy", {"adopts": policy_digest(text)})
    story.approve(dossier, "ada")
    story.approve(dossier, "ben")
    story.decided(dossier)
    story.adopt(text, dossier)
    return story


def refused() -> Story:
    story, dossier = waiting()
    story.append(story.approval(dossier, "ben", refuse=True))
    found = story.decide(dossier).findings
    story.add(ev.CandidateRejected, candidate="c1", findings=tuple(f.to_json() for f in found))
    return story


def climbing() -> Story:
    story = loop().released("c1", strong=True, by=[("ada", "safety"), ("ben", "engineering")])
    story.audited(digest("c1"))
    story.status()
    return story


def claiming() -> Story:
    text = document()
    text["thresholds"].append(CLAIM)
    story = loop(text).proven("c1")
    story.state = replace(story.state)
    return story


def resubmitted() -> Story:
    story = loop().candidate("c1", root="same")
    story.tried("c1", "kind", value=0.45)
    story.add(ev.CandidateRejected, candidate="c1", findings=())
    story.candidate("c2", root="same")
    story.planned("c2", "kind")
    story.add(ev.TrialEnded, trial="c2/kind", verdict="UNDECIDED", items=60)
    story.evidence("c2/kind")
    return story


def recalled() -> Story:
    story = loop().released("c1")
    story.add(ev.PermitRevoked, permit="p-c1", reason="recalled")
    story.status()
    return story


def shadowed() -> Story:
    story = Story().founded().lineage()
    for number, parent in ((1, FOUNDER), (2, digest("s1"))):
        started = {"attempt": number, "lineage": "toy", "warrant": "shadow", "generation": 0, "seed": number}
        story.add(ev.ImprovementStarted, parent=parent, **started)
        ended = {"outcome": "produced", "detail": "", "cpu_seconds": 1.0, "wall_seconds": 1.0, "processes_left": 0}
        story.add(ev.ImprovementEnded, attempt=number, diagnostics="", **ended)
        made = {"candidate": f"s{number}", "root": digest(f"s{number}"), "files": FILES, "claim": {}}
        story.add(ev.CandidateProposed, attempt=number, lineage="toy", parent=parent, **made)
        story.add(ev.CandidateShadowed, candidate=f"s{number}", root=digest(f"s{number}"), adopted=True, findings=())
    return story


LAWFUL = [loop, resumed, erased, tightened, loosened, refused, climbing, claiming, resubmitted, recalled, shadowed]


@pytest.mark.parametrize("story", LAWFUL, ids=lambda story: story.__name__)
def test_a_lawful_log_yields_nothing(story: Callable[[], Story]) -> None:
    assert problems(story().events) == []


def test_a_claim_is_tried_on_what_is_claimed() -> None:
    """A lower line would let a false claim pass: it could be shown to be below it far less often."""
    text = document()
    text["thresholds"].append(CLAIM)
    for line, found in ((0.7 - 0.1, []), (0.3, ["its `line` is 0.3; the policy says 0.6"])):
        story = loop(text).candidate("c1", score=0.7)
        story.planned("c1", "honest", line=line)
        assert [message for _, message in problems(story.events)] == found


@pytest.mark.parametrize(("line", "found"), [(0.5, False), (0.4, True)])
def test_attack_the_same_bytes_pass_a_tightened_line_by_their_old_bets(line: float, found: bool) -> None:
    """What was cleared under the old line went on decided, and so was never tried under the new one."""
    story = loop().candidate("c1", root="same")
    story.tried("c1", "kind", value=0.0)
    assert story.state.trials["c1/kind"].verdict == "CLEAR"
    story.add(ev.CandidateRejected, candidate="c1", findings=())
    text = document()
    text["thresholds"][0]["line"] = line
    text["pace"] = {"unaudited_max": 1}
    story.adopt(text)
    story.candidate("c2", root="same")
    story.planned("c2", "kind")
    said = ["the same bytes were tried as `c1` under another line"] if found else []
    assert [message for _, message in problems(story.events)] == said


# Unlawful entries, one row each

Unlawful = Callable[[], tuple[State, ev.Event]]


def after(story: Callable[[], Story], kind: type[ev.Event], **changes: Any) -> Unlawful:
    """The last event of this kind in a lawful story, saying something else."""

    def make() -> tuple[State, ev.Event]:
        events = story().events
        index = max(n for n, event in enumerate(events) if type(event) is kind)
        state = State()
        for event in events[:index]:
            state = evolve(state, event)
        return state, replace(events[index], **changes)

    return make


def first(story: Callable[[], Story], kind: type[ev.Event], **changes: Any) -> Unlawful:
    """The first event of this kind."""

    def make() -> tuple[State, ev.Event]:
        state = State()
        for event in story().events:
            if type(event) is kind:
                return state, replace(event, **changes)
            state = evolve(state, event)
        raise LookupError(kind)

    return make


def then(story: Callable[[], Story], tell: Callable[[Story], ev.Event]) -> Unlawful:
    """An event that is told after a lawful story."""

    def make() -> tuple[State, ev.Event]:
        told = story()
        return told.state, tell(told)

    return make


def next_event(story: Story, say: Callable[[Story], object]) -> ev.Event:
    """The first event that `say` would append."""
    told, size = story.copy(), len(story.events)
    say(told)
    return told.events[size]


def started(**changes: Any) -> Callable[[Story], ev.Event]:
    return lambda story: replace(next_event(story, lambda s: s.candidate("next")), **changes)


def released() -> Story:
    return loop().released("c1")


def two_waiting() -> Story:
    """The pace of two is used up."""
    return loop().released("c1").released("c2")


def signed() -> Story:
    story, dossier = waiting()
    story.approve(dossier, "ada")
    return story


def unsigned() -> Story:
    return waiting()[0]


def permit(**changes: Any) -> Callable[[Story], ev.Event]:
    """A permit for the candidate that waits, whatever people said."""

    def tell(story: Story) -> ev.Event:
        dossier = list(story.state.dossiers.values())[-1].digest
        artifact: Any = story.state.dossiers[dossier].document["candidate"]
        name, root = str(artifact["name"]), Digest(artifact["root"])
        made = next_event(story, lambda s: s.permit(dossier, candidate=name, root=root, permit="p-9"))
        return replace(made, **changes)

    return tell


def adopted(text: dict[str, Any], **changes: Any) -> Callable[[Story], ev.Event]:
    return lambda story: replace(next_event(story, lambda s: s.adopt(text)), **changes)


def warrant_of(bounds: ev.Document) -> Callable[[], Story]:
    def make() -> Story:
        story = Story().founded().lineage()
        story.approve(story.seal("IssueWarrant", {"bounds": bounds}), "ada")
        return story

    return make


def halted_after(story: Callable[[], Story]) -> Callable[[], Story]:
    return lambda: story().halted()


def half_tried() -> Story:
    story = loop().candidate("c1")
    story.planned("c1", "kind")
    story.block("c1/kind", 0.5)
    return story


def faulty(story: Story) -> ev.Event:
    """A block that failed, with values that a failure does not have."""
    block = next_event(story, lambda s: s.block("c1/kind", 0.5))
    assert isinstance(block, ev.TrialAdvanced)
    return replace(block, faults=("time-out",))


def broken_bets(story: Story) -> ev.Event:
    block = next_event(story, lambda s: s.block("c1/kind", 0.5))
    assert isinstance(block, ev.TrialAdvanced)
    return replace(block, values=(0.4, *block.values[1:]))


def policy_at(story: Story) -> Digest:
    assert story.state.current is not None
    return story.state.current.digest


def half_founded() -> Story:
    story = Story().founded()
    founder: ev.Document = {"name": "founder", "root": FOUNDER, "files": list(FILES)}
    story.approve(story.seal("FoundLineage", {"candidate": founder}), "ada")
    return story


def enrolled() -> Story:
    """A person more, cleared by the quorum of the policy before."""
    story, text = loop(), document(people=[*document()["people"], person("dot", "safety")])
    dossier = story.seal("AdoptPolicy", {"adopts": policy_digest(text)})
    story.approve(dossier, "ada")
    story.approve(dossier, "ben")
    story.adopt(text, dossier)
    return story


def decided() -> Story:
    story, dossier = waiting()
    story.decided(dossier)
    return story


def proven() -> Story:
    return loop().proven("c1")


def tried() -> Story:
    story = loop().candidate("c1")
    story.tried("c1", "kind")
    return story


def decided_trial() -> Story:
    """A trial that is decided and not yet ended."""
    story = loop().candidate("c1")
    story.planned("c1", "kind")
    story.block("c1/kind", 0.0)
    story.block("c1/kind", 0.0) if story.process("c1/kind").decided_at is None else None
    return story


def above() -> Story:
    return climbing().warrant(ceiling=0)


def running() -> Story:
    story = loop()
    story.append(next_event(story, lambda s: s.candidate("c1")))
    return story


def failed() -> Story:
    story = running()
    ended = {"outcome": "failed", "detail": "", "cpu_seconds": 1.0, "wall_seconds": 1.0, "processes_left": 0}
    story.add(ev.ImprovementEnded, attempt=1, diagnostics="", **ended)
    return story


def last_release(story: Story) -> ev.CandidateReleased:
    return next(event for event in reversed(story.events) if isinstance(event, ev.CandidateReleased))


def revoked() -> Story:
    story = signed()
    story.append(permit(permit="p-c1")(story))
    story.add(ev.PermitRevoked, permit="p-c1", reason="second thoughts")
    return story


def sealed(story: Story, **changes: Any) -> ev.Event:
    """A release dossier where a candidate waits, a warrant's where none does, saying something else."""
    told = story.copy()
    dossier = told.dossier("c1") if told.state.candidates else told.seal("IssueWarrant")
    text = told.state.dossiers[dossier].document
    last = told.events[-1]
    assert isinstance(last, ev.DossierSealed)
    return replace(last, document={**text, **changes})


def drilled(story: Story, *, before: int = 23, survivors: int = 0, checks: Mapping[str, str] | None = None) -> object:
    receipt = {"state": "STOPPED", "processes_before": before, "survivors": survivors}
    return story.add(ev.HaltDrilled, by="ada", receipt=receipt, daemons=20, checks=dict(checks or {"kill": "ok"}))


def status(story: Story, **changes: Any) -> ev.Event:
    return replace(next_event(story, lambda told: told.status()), **changes)


def incident(story: Story, *, exercise: bool) -> ev.Event:
    said: dict[str, Any] = {"incident": "i-1", "kind": "decoy", "summary": "", "facts": {}, "candidate": ""}
    return story.event(ev.IncidentOpened, attempt=0, exercise=exercise, **said)


def plan(**changes: Any) -> ev.Document:
    """The plan of `half_tried`, saying something else."""
    return {**half_tried().state.trials["c1/kind"].plan, **changes}


ROWS: list[tuple[str, Unlawful, str]] = [
    # stamps
    ("a moment that runs back", after(loop, ev.WarrantIssued, at=Instant(5)),
     "it is stamped before the entry that it follows"),
    ("another policy's stamp", after(loop, ev.DossierSealed, policy=digest("other")),
     "it is stamped with a policy that was not in force"),
    # policies
    ("a genesis that somebody did not sign", after(lambda: Story().founded(), ev.PolicyAdopted, signatures=()),
     "`ada` did not sign the policy that names them"),
    ("a genesis signed with another's key",
     after(lambda: Story().founded(), ev.PolicyAdopted,
           signatures=tuple({"person": who, "key": key("ada-0"), "sig": ""} for who in ("ada", "ben", "cyd"))),
     "`ben` did not sign the policy that names them"),
    ("a genesis of another project",
     after(lambda: Story().founded(), ev.PolicyAdopted,
           document=document(project={**document()["project"], "name": "other"})),
     "policy 1 names another project than the founding"),
    ("a loosened policy without people", then(loop, adopted(document(pace={"unaudited_max": 5}))),
     "it loosens `levels.0.unaudited_max` without the quorum of `amend`"),
    ("a loosened policy on a dossier of something else",
     then(loop, lambda s: adopted(document(pace={"unaudited_max": 5}), dossier=next(iter(s.state.dossiers)))(s)),
     "its dossier is about the request `FoundLineage`, not `AdoptPolicy`"),
    ("another policy than people cleared", after(loosened, ev.PolicyAdopted, digest=digest("other")),
     "people cleared another policy than this one"),
    ("a new person who did not sign",
     after(enrolled, ev.PolicyAdopted, signatures=()), "`dot` did not sign the policy that names them"),
    # what only a gate can give
    ("a founder without people", first(loop, ev.LineageFounded, dossier=digest("none")),
     "it rests on no sealed dossier"),
    ("a founder that half the quorum saw", then(half_founded, lambda s: s.event(
        ev.LineageFounded, lineage="toy", root=FOUNDER, files=FILES, dossier=next(iter(s.state.dossiers)))),
     "the gate `amend` did not clear: 1 more approval(s) in the role `safety` are needed"),
    ("another founder than people saw", first(loop, ev.LineageFounded, root=digest("other")),
     "people cleared another founder than this one"),
    ("other files than people saw", first(loop, ev.LineageFounded, files=()), "people cleared other files than these"),
    ("a lineage of another name", first(loop, ev.LineageFounded, lineage="other"),
     "the lineage has another name than the project"),
    ("a warrant on a used dossier", then(loop, lambda s: next(
        replace(e, warrant="w-2", at=Instant(s.at), not_before=Instant(s.at)) for e in s.events
        if isinstance(e, ev.WarrantIssued))),
     "the gate `train` did not clear: this dossier has been used; it clears once"),
    ("a warrant for more than people gave", after(loop, ev.WarrantIssued, candidates_max=99),
     "`candidates_max` is 99; people cleared 3"),
    ("a warrant that reaches higher", after(loop, ev.WarrantIssued, level_ceiling=9),
     "`level_ceiling` is 9; people cleared 1"),
    ("a warrant that lasts longer", after(loop, ev.WarrantIssued, expires_at=Instant(9)), "`expires_at` is 9; people"),
    ("a warrant that began before", after(loop, ev.WarrantIssued, not_before=Instant(0)),
     "it begins before it was issued"),
    ("a warrant by the shadow's name", after(loop, ev.WarrantIssued, warrant="shadow"), "its name was used before"),
    ("resuming without people", then(lambda: loop().halted(), lambda s: s.event(
        ev.LoopResumed, halt="h-1", dossier=digest("none"))), "it rests on no sealed dossier"),
    ("resuming another halt", after(resumed, ev.LoopResumed, halt="h-2"), "people cleared the end of another halt"),
    ("erasing without people", then(loop, lambda s: s.event(
        ev.BlobErased, blob=digest("blob"), dossier=digest("none"), reason="")), "it rests on no sealed dossier"),
    ("erasing another blob", after(erased, ev.BlobErased, blob=digest("other")),
     "people cleared the erasure of another blob"),
    ("erasing for another reason", after(erased, ev.BlobErased, reason="x"), "people cleared it for another reason"),
    # decisions
    ("a decision that says it cleared", after(decided, ev.GateDecided, cleared=True),
     "it says cleared: True; decided again: False"),
    ("a decision that lost a finding", after(decided, ev.GateDecided, findings=()),
     "its findings differ from those that the rules give"),
    ("a decision by other rules", after(loop, ev.GateDecided, rules=digest("rules")),
     "it was decided by rules that this Keyturn does not have"),
    ("a decision about another head", after(loop, ev.GateDecided, head=3),
     "it was decided about head 3, not about "),
    ("a decision at another gate", after(loop, ev.GateDecided, gate="release"),
     "it was decided at the gate `release`; its dossier waits at another"),
    # dossiers
    ("a dossier of an older policy", then(loop, lambda s: sealed(s, policy={"digest": digest("old"), "version": 1})),
     "`policy` differs from what the log shows"),
    ("a dossier of a lower level", then(lambda: loop().proven("c1", strong=True), lambda s: sealed(s, level=0)),
     "`level` differs from what the log shows"),
    ("a dossier about other bytes", then(proven, lambda s: sealed(s, candidate={"name": "c1", "root": digest("x")})),
     "`candidate` differs from what the log shows"),
    ("a dossier that hides a verdict", then(proven, lambda s: sealed(s, evidence=[])),
     "`evidence` differs from what the log shows"),
    ("a dossier that hides what is unchecked", then(proven, lambda s: sealed(s, unchecked=[])),
     "`unchecked` differs from what the log shows"),
    ("a dossier with another parent", then(proven, lambda s: sealed(s, parent_root=digest("x"))),
     "`parent_root` differs from what the log shows"),
    ("a dossier with a wider window", then(proven, lambda s: sealed(s, not_after=s.at * 2)),
     "`not_after` differs from what the log shows"),
    ("a dossier that asks fewer people", then(proven, lambda s: sealed(s, quorum=[])),
     "`quorum` differs from what the log shows"),
    ("a dossier that says more", then(proven, lambda s: sealed(s, note="approve quickly")),
     "it says more or less than a release dossier does"),
    ("a dossier of nobody", then(loop, lambda s: sealed(s, request="ReleaseCandidate", candidate={"name": "c9"})),
     "it cannot be decided again: KeyError: 'c9'"),
    ("a dossier for no request", then(loop, lambda s: sealed(s, request="BePatient")), "`BePatient` is not a request"),
    # the loop
    ("an attempt without leave", then(lambda: Story().founded().lineage(), started()), "it started without a warrant"),
    ("an attempt too many", then(lambda: Story().founded().lineage().warrant(candidates=1).released("c1"), started()),
     "the warrant for 1 candidate(s) was used up"),
    ("an attempt after the warrant", then(loop, lambda s: replace(started()(s), at=Instant(s.at + 25 * HOUR))),
     "it started outside the warrant's window"),
    ("an attempt above the ceiling", then(above, started()), "the lineage was above the warrant's ceiling"),
    ("an attempt during a halt", then(halted_after(loop), started()), "it started while a halt stood"),
    ("an attempt from somewhere else", then(released, started(parent=FOUNDER)),
     "it did not start from the present parent"),
    ("an attempt of another generation", then(released, started(generation=0)), "the parent is generation 1, not 0"),
    ("an attempt ahead of oversight", then(two_waiting, started()), "too many generations waited for an audit"),
    ("an attempt beside another", then(running, started(attempt=2)), "another attempt was still running"),
    ("a shadow that leaves its trail", after(shadowed, ev.ImprovementStarted, parent=FOUNDER),
     "it did not start from the shadow's parent"),
    ("a shadow's candidate with other bytes", after(shadowed, ev.CandidateShadowed, root=digest("x")),
     "its bytes are not the candidate's"),
    ("a candidate of a failed attempt", then(failed, lambda s: s.event(
        ev.CandidateProposed, candidate="c1", attempt=1, lineage="toy", parent=FOUNDER, root=digest("c1"), files=FILES,
        claim={})), "attempt 1 produced nothing"),
    ("a second candidate of one attempt", then(proven, lambda s: next(
        replace(e, candidate="c2") for e in s.events if isinstance(e, ev.CandidateProposed))),
     "attempt 1 has its candidate already"),
    ("a candidate with another parent", after(proven, ev.CandidateProposed, parent=digest("x")),
     "it names another parent than the attempt that made it"),
    ("a level for no cause", then(proven, lambda s: s.event(
        ev.LevelRaised, lineage="toy", candidate="c1", threshold="strong", level=1)),
     "the evidence gives no cause for it"),
    ("a level that is not the policy's", after(climbing, ev.LevelRaised, level=0), "the policy raises to 1, not 0"),
    ("a level by a limit", after(climbing, ev.LevelRaised, threshold="kind"), "`kind` is no capability threshold"),
    # trials
    ("a plan for a lower bar", after(half_tried, ev.TrialPlanned, plan=plan(line=0.9)),
     "its `line` is 0.9; the policy says 0.5"),
    ("a plan without margin", after(half_tried, ev.TrialPlanned, plan=plan(margin=0.0)),
     "its `margin` is 0.0; the policy says 0.1"),
    ("a plan that spends too much", after(half_tried, ev.TrialPlanned, plan=plan(error=0.1)),
     "it spends an error of 0.1"),
    ("a plan for another suite", after(half_tried, ev.TrialPlanned, plan=plan(suite="strength")),
     "its `suite` is strength; the policy says kindness"),
    ("a plan with a longer budget", after(half_tried, ev.TrialPlanned, plan=plan(items=90, bank_items=90, clusters=90)),
     "its budget is 90; the policy allows 60"),
    ("a plan of another estimand", after(half_tried, ev.TrialPlanned, plan=plan(estimand="bank")),
     "its `estimand` is bank; the policy says population"),
    ("a plan that is none", after(half_tried, ev.TrialPlanned, plan={}), "it cannot be decided again: MalformedInput"),
    ("a second try", then(proven, lambda s: next(
        replace(e, trial="again") for e in s.events if isinstance(e, ev.TrialPlanned))),
     "this candidate had its trial for this threshold"),
    ("a trial for no threshold", after(half_tried, ev.TrialPlanned, threshold="luck"),
     "it plans a trial for a threshold, a suite or a candidate that there is not"),
    ("bets that do not follow", then(half_tried, broken_bets), "its bets do not follow from its values"),
    ("a fault that costs nothing", then(half_tried, faulty), "a fault was not counted against the candidate"),
    ("a block of nothing", after(half_tried, ev.TrialAdvanced, values=()), "it reads nothing"),
    ("a score out of range", after(half_tried, ev.TrialAdvanced, values=(2.0,)),
     "it cannot be decided again: Malformed"),
    ("reading on after the decision", then(decided_trial, lambda s: s.event(
        ev.TrialAdvanced, trial="c1/kind", start=s.state.trials["c1/kind"].read, values=(0.0,), faults=(),
        process=s.state.trials["c1/kind"].process)),
     "it reads on after the trial was decided or its budget used up"),
    ("an end before the end", then(half_tried, lambda s: s.event(
        ev.TrialEnded, trial="c1/kind", verdict="UNDECIDED", items=20)),
     "it ended before it was decided or its budget was used up"),
    ("another verdict than the bets'", after(tried, ev.TrialEnded, verdict="TRIP"),
     "it says TRIP; the bets say CLEAR"),
    ("evidence of more items", after(tried, ev.EvidenceRecorded, items=60), "it speaks of 60 items;"),
    ("a better estimate", after(tried, ev.EvidenceRecorded, estimate=-0.1),
     "its `estimate` is -0.1; the values give 0"),
    ("a narrower interval", after(tried, ev.EvidenceRecorded, high=0.01), "its `high` is 0.01; the values give"),
    ("a cheaper submission", after(tried, ev.EvidenceRecorded, charge=9), "it says submission 9; it is number 1"),
    ("another bank", after(tried, ev.EvidenceRecorded, bank=digest("x")), "it names another bank than its plan"),
    # permits and releases
    ("a permit without people", then(unsigned, permit()),
     "the gate `release` did not clear: 1 more approval(s) in the role `safety` are needed"),
    ("a permit during a halt", then(halted_after(signed), permit()),
     "the gate `release` did not clear: the loop was halted by `person:ada`: looks odd"),
    ("a permit for other bytes", then(signed, permit(root=digest("x"))),
     "it is for other bytes than the candidate's"),
    ("a permit for other files", then(signed, permit(files=())), "it names other files than the candidate's"),
    ("a permit for another candidate", then(signed, permit(candidate="c2")), "people cleared another artifact"),
    ("a permit of a lower level", then(signed, permit(level=1)), "people cleared level 0, not 1"),
    ("a permit with a wider scope", then(signed, permit(scope="everywhere")), "people cleared another scope"),
    ("a permit for another action", then(signed, permit(action="publish")),
     "`publish` is not an action that can be permitted"),
    ("a permit for another lineage", then(signed, permit(lineage="other")), "it is for another lineage"),
    ("a permit on another root of trust", then(signed, permit(genesis=digest("x"))), "it rests on another trust root"),
    ("a permit that begins before", then(signed, permit(not_before=Instant(0))),
     "its window is empty or begins before it was issued"),
    ("a permit for ever", then(signed, permit(not_after=Instant(9_999_999_999_999))),
     "it lasts longer than 7200 seconds"),
    ("a permit that hides simulated people", then(signed, permit(simulated=True)),
     "it says simulated: True; of those who counted: False"),
    ("a permit under another gate", then(signed, permit(gate="train")),
     "no permit can be issued under the gate `train`"),
    ("a permit under no dossier", then(signed, permit(dossier=digest("none"))), "it rests on no sealed dossier"),
    ("a founder's permit later", then(signed, permit(gate="amend")),
     "a founder's permit comes directly after the founding, once"),
    ("a founder's permit for other bytes", first(loop, ev.PermitIssued, root=digest("x")),
     "it is for other bytes than the founder's"),
    ("a release without its permit", then(proven, lambda s: s.event(
        ev.CandidateReleased, candidate="c1", lineage="toy", root=digest("c1"), generation=1, permit="p-founder")),
     "its permit is for another artifact"),
    ("a release of other bytes", after(released, ev.CandidateReleased, root=digest("x")),
     "its permit is for another artifact"),
    ("a release out of turn", after(released, ev.CandidateReleased, generation=7), "the next generation is 1, not 7"),
    ("a release on a revoked permit", then(revoked, lambda s: s.event(
        ev.CandidateReleased, candidate="c1", lineage="toy", root=digest("c1"), generation=1, permit="p-c1")),
     "its permit was revoked"),
    ("a release too late", after(released, ev.CandidateReleased, at=Instant(9_999_999_999_999)),
     "its permit was not in force"),
    ("a permit used twice", then(released, lambda s: replace(last_release(s), generation=2)),
     "its permit was used before"),
    ("a founder released again", then(loop, lambda s: replace(last_release(s), at=Instant(s.at))),
     "it is not the founder"),
    # people, halts, status
    ("an audit by a stranger", after(climbing, ev.GenerationAudited, person="eve"), "`eve` is not enrolled"),
    ("an audit with another's key", after(climbing, ev.GenerationAudited, key=key("ben-0")),
     "the key is not one with which this person may sign"),
    ("an audit by the governor", after(climbing, ev.GenerationAudited, key=SERVICE_KEY),
     "the governor's own keys never count"),
    ("an audit in another role", after(climbing, ev.GenerationAudited, role="pope"),
     "`ada` does not hold the role `pope`"),
    ("an audit of another project", after(climbing, ev.GenerationAudited, genesis=digest("x")),
     "it was signed in another project"),
    ("an audit of what is to come", after(climbing, ev.GenerationAudited, evidence_index=999),
     "it names entries that were not in the log when it was given"),
    ("a halt said to be proven", after(resumed, ev.HaltProven, receipt={"state": "UNPROVEN"}),
     "its receipt says `UNPROVEN`"),
    ("a drill that hides a failed check", then(loop, lambda s: drilled(s, checks={"kill": "ok", "latch": "full"})),
     "it says STOPPED although these failed: latch"),
    ("a drill that hides survivors", then(loop, lambda s: drilled(s, survivors=1)),
     "it says STOPPED and counts survivors"),
    ("a drill of nothing", then(loop, lambda s: drilled(s, before=2)),
     "it killed fewer processes than it counts daemons"),
    ("a sweep without a verdict", then(loop, lambda s: s.add(ev.SandboxSwept, receipt={})),
     "its receipt says `None`"),
    ("an incident played down as an exercise", then(loop, lambda s: incident(s, exercise=True)),
     "it says exercise: True; a demo: False"),
    ("a status that hides a halt", then(halted_after(loop), lambda s: status(s, halted=False)),
     "it says halted: False; a halt stands: True"),
    ("a status that hides a revocation", after(recalled, ev.StatusPublished, revoked=()),
     "it hides or invents a revocation"),
    ("a status of an older policy", then(tightened, lambda s: status(s, policy_version=1)),
     "it names a policy that is not in force"),
    ("a status of another policy", then(loop, lambda s: status(s, policy_digest=digest("x"))),
     "it names a policy that is not in force"),
    ("a status that hides a demo", then(loop, lambda s: status(s, simulated=True)),
     "it says simulated: True; a demo: False"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_an_unlawful_entry_is_named(make: Unlawful, message: str) -> None:
    state, event = make()
    found = recheck(state, event)
    assert [finding.message for finding in found if finding.message.startswith(message)], found
    assert all(finding.help == "compare the log with a copy or a witnessed head; do not act on it" for finding in found)


def test_no_unlawful_row_stands_twice() -> None:
    assert len({row[0] for row in ROWS}) == len(ROWS)


def test_a_finding_names_the_kind_of_entry() -> None:
    state, event = then(loop, adopted(document(pace={"unaudited_max": 5})))()
    [finding] = recheck(state, event)
    assert finding == Finding(
        "policy_adopted_must_be_lawful",
        "it loosens `levels.0.unaudited_max` without the quorum of `amend`",
        "compare the log with a copy or a witnessed head; do not act on it",
    )


@pytest.mark.parametrize("name", sorted(ev.EVENTS))
def test_every_kind_of_event_can_be_asked_about_nothing(name: str) -> None:
    """On an empty state no entry but the founding is lawful, and none makes the check itself fall over."""
    from tests.core.test_events import full

    event = next(each for each in full().events if type(each).__name__ == name)
    assert isinstance(recheck(State(), event), tuple)


def test_what_people_sign_carries_their_own_moment() -> None:
    story, dossier = waiting()
    late = story.approval(dossier, "ada", at=Instant(story.at - 5000))
    assert recheck(story.state, late) == ()
