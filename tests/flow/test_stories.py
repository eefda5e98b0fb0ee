"""Whole stories, from the founding on: what the loop does by itself, and where it waits for people."""

from __future__ import annotations

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.approval import row_of
from keyturn.core.dossier import as_request, named
from keyturn.core.errors import MalformedInput, Unavailable, UntrustedInput
from keyturn.core.finding import Refused
from keyturn.core.policy_change import change, needs_quorum
from keyturn.core.state import State
from keyturn.flow import policy as policies
from keyturn.flow.permit import SCOPE, bundle
from keyturn.flow.policy import adopt, adopt_cleared, ask
from keyturn.flow.run import run
from keyturn.flow.shadow import run_shadow
from keyturn.verify import trust as trusts
from keyturn.verify.load import load
from tests.fakes.runner import FILE, FakeRunner
from tests.fakes.world import HOUR, Tape, World, document, plain, policy_of
from tests.flow.conftest import Found
from tests.world.story import lawful


def incidents(state: State) -> list[tuple[str, int]]:
    return [(incident.kind, incident.attempt) for incident in state.incidents.values()]


def statuses(state: State) -> list[str]:
    return [candidate.status for candidate in state.candidates.values()]


def test_from_the_founding_to_a_warrant_used_up(found: Found) -> None:
    world = found()
    founding = world.run()
    assert isinstance(founding, agenda.Hold)
    assert founding.dossier.gate == "amend"
    world.approve(founding.dossier)

    step = world.run()
    assert step == agenda.AwaitWarrant("no warrant has been given")
    world.warrant(candidates=2)
    asked = world.run()
    assert isinstance(asked, agenda.Hold)
    assert asked.dossier.gate == "train"
    world.approve(asked.dossier)

    step = world.run()
    assert isinstance(step, agenda.Hold)
    assert step.dossier.gate == "release"
    assert statuses(world.state) == ["proposed"]
    world.approve(step.dossier)
    step = world.run()
    assert isinstance(step, agenda.Hold)
    assert statuses(world.state) == ["released", "proposed"]
    world.approve(step.dossier)

    step = world.run()
    assert step == agenda.AwaitAudit(2, 2)
    world.audit()
    step = world.run()
    assert step == agenda.AwaitWarrant("the warrant for 2 candidate(s) is used up")
    state = world.state
    assert state.lineage is not None
    assert [generation.number for generation in state.lineage.generations] == [0, 1, 2]
    assert state.lineage.parent.audited_by == "ada"
    assert state.published == state.size
    assert lawful(world) == []


def test_the_same_seed_makes_the_same_history(found: Found, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = found({2: "drift"})
    again = World.founded(tmp_path_factory.mktemp("again") / "home", {2: "drift"})
    for world in (first, again):
        world.play()
    assert plain(first.events()) == plain(again.events())


def test_a_released_generation_loads_for_a_stranger_and_a_proposed_one_does_not(found: Found) -> None:
    world = found()
    step = world.released()
    proposed = next(iter(world.state.candidates.values()))
    world.approve(step.dossier)
    world.run()
    with world.log() as log:
        lineage, trust = log.state.lineage, trusts.read(world.home / "trust.json")
        assert lineage is not None
        assert lineage.parent.candidate == proposed.name
        shown = bundle(log, lineage.parent.permit, old_size=trust.seen.size)
        folder = world.artifacts.path(lineage.parent.root)
        files = load(folder, shown, trust=trust, action="release", scope=SCOPE, now=log.now()).files
        assert files == {FILE: (folder / FILE).read_bytes()}
        newest = list(log.state.candidates.values())[-1]
        assert newest.status == "proposed"
        with pytest.raises(UntrustedInput):
            load(world.artifacts.path(newest.root), shown, trust=trust, action="release", scope=SCOPE, now=log.now())


def test_a_candidate_beyond_a_limit_is_refused_and_nobody_is_asked(found: Found) -> None:
    world = found({1: "drift"})
    step = world.released()
    first, second = world.state.candidates.values()
    assert (first.status, second.status) == ("rejected", "proposed")
    assert first.dossier == ""
    assert named(step.dossier) == second.name
    assert "was shown to be above the line" in str(first.findings[0]["message"])
    assert ("drift-beyond-limit", 1) in incidents(world.state)
    assert lawful(world) == []


def test_a_claim_shown_false_opens_an_incident_and_refuses(found: Found) -> None:
    world = found({1: "lies"})
    world.released()
    state = world.state
    assert statuses(state) == ["rejected", "proposed"]
    assert incidents(state) == [("forged-claim", 1)]
    (incident,) = state.incidents.values()
    world.aware(incident.id)
    assert set(world.state.incidents[incident.id].moments) == {"aware_at"}
    assert lawful(world) == []


def test_a_stronger_candidate_raises_the_level_and_needs_the_second_person(found: Found) -> None:
    world = found({1: "strong"})
    step = world.released()
    assert "LevelRaised" in world.kinds()
    world.sign(step.dossier.digest, "ada", "safety")
    step = world.hold()
    assert [finding.message for finding in step.decision.findings] == [
        "1 more approval(s) in the role `engineering` are needed"
    ]
    assert world.lineage.level == 0
    world.sign(step.dossier.digest, "cyd", "engineering")
    assert world.run() == agenda.AwaitAudit(1, 1), "the pace is tighter on the higher level"
    assert world.lineage.level == 1
    assert lawful(world) == []


def test_a_warrant_ends_where_its_level_ends(found: Found) -> None:
    world = found({1: "strong"})
    asked = world.until(agenda.AwaitWarrant, warrants=0)
    assert asked.reason == "no warrant has been given"
    world.warrant(level=0)
    step = world.until(agenda.AwaitWarrant, warrants=1)
    assert "used up" in step.reason
    assert statuses(world.state)[0] == "rejected"
    first = next(iter(world.state.candidates.values()))
    assert "level 1 is reached; the warrant ends at level 0" in [f["message"] for f in first.findings]


def test_a_persons_refusal_ends_the_candidate(found: Found) -> None:
    world = found()
    step = world.released()
    world.refuse(step.dossier)
    world.run()
    first = next(iter(world.state.candidates.values()))
    assert first.status == "rejected"
    assert "`ada` refused in the role `safety`: read it" in [f["message"] for f in first.findings]
    assert len(world.state.candidates) == 2
    with pytest.raises(UntrustedInput, match=r"holds engineering|does not hold"):
        world.sign(step.dossier.digest, "cyd", "safety")


def test_a_refusal_outweighs_an_approval(found: Found) -> None:
    world = found()
    step = world.released()
    world.refuse(step.dossier, "ben")
    world.sign(step.dossier.digest, "ada", "safety")
    world.run()
    assert statuses(world.state)[0] == "rejected"


@pytest.mark.parametrize("trait", ["decoy", "exam"])
def test_a_tripwire_halts_and_a_quorum_resumes(found: Found, trait: str) -> None:
    world = found({1: trait})
    step = world.until(agenda.Halted)
    assert step.halt.by == "tripwire:decoy_opened"
    assert step.halt.proven
    assert world.latch.reason() is not None
    assert incidents(world.state) == [("decoy", 1)]
    attempts = dict(world.state.attempts)

    dossier = world.ask_to_resume()
    world.sign(dossier.digest, "ada", "safety")
    step = world.run()
    assert isinstance(step, agenda.Halted), "one of two is no quorum"
    assert world.state.attempts == attempts
    world.sign(dossier.digest, "ben", "safety")
    step = world.run()
    assert isinstance(step, agenda.Hold)
    assert world.latch.reason() is None
    state = world.state
    assert statuses(state) == (["rejected", "proposed"] if trait == "exam" else ["proposed"])
    assert state.attempts[1].outcome == ("produced" if trait == "exam" else "tripped")
    assert lawful(world) == []


def test_a_decoy_during_a_trial_ends_the_trial_there_and_then(found: Found) -> None:
    world = found({1: "exam"})
    world.until(agenda.Halted)
    (trial,) = world.state.trials.values()
    assert trial.verdict is None
    assert trial.read <= 15
    assert world.kinds()[-5:-1] == ["TrialAdvanced", "IncidentOpened", "HaltRequested", "HaltProven"]


def test_an_alarm_on_which_the_policy_only_opens_an_incident_does_not_halt(found: Found) -> None:
    world = found({1: "leaves"})
    world.released()
    assert incidents(world.state) == [("undeclared-copy", 1)]
    assert statuses(world.state) == ["rejected", "proposed"]
    assert world.state.halts == ()
    assert not [trial for trial in world.state.trials.values() if trial.candidate == next(iter(world.state.candidates))]


def test_attempts_without_a_candidate_use_up_the_warrant(found: Found) -> None:
    world = found(dict.fromkeys(range(1, 5), "fails"))
    step = world.play()
    assert step == agenda.AwaitWarrant("the warrant for 4 candidate(s) is used up")
    assert [attempt.outcome for attempt in world.state.attempts.values()] == ["failed"] * 4
    assert world.state.candidates == {}


def test_a_candidate_that_is_its_parent_byte_for_byte_is_refused(found: Found) -> None:
    world = found({1: "same"})
    world.released()
    first = next(iter(world.state.candidates.values()))
    assert first.status == "rejected"
    assert "is byte for byte a generation already" in str(first.findings[0]["message"])


def test_a_weaker_sandbox_than_the_policy_demands_runs_nothing(found: Found) -> None:
    world = found()
    world.until(agenda.AwaitWarrant, warrants=0)
    world.warrant()
    world.approve(world.hold().dossier)
    with world.governor() as governor:
        runner = governor.halter
        assert isinstance(runner, FakeRunner)
        runner.tier = "T1"
        with pytest.raises(Unavailable, match="reached tier T1, at least T2 is required"):
            run(governor)
        assert runner.launches == 0
    world.released()
    assert [a.tier for a in world.events() if isinstance(a, ev.SandboxAttested)][:2] == ["T1", "T2"]


# --- policy


def test_tightening_is_adopted_at_once_and_counts_at_once(found: Found) -> None:
    world = found()
    step = world.released()
    world.sign(step.dossier.digest, "ada", "safety")
    text = document(pace={"unaudited_max": 1})
    text["gates"][2]["quorum"][0]["persons"] = 2
    with world.log() as log:
        assert log.state.current is not None
        new = policy_of(text)
        assert not needs_quorum(change(log.state.current.policy, new))
        adopt(log, new, None)
    step = world.hold()
    assert not step.decision.cleared, "the approval was given under the policy before"
    row = row_of(world.state, as_request(step.dossier))
    assert row is not None
    assert row.quorum[0].persons == 2
    world.approve(step.dossier)
    assert world.run() == agenda.AwaitAudit(1, 1)
    assert lawful(world) == []


def test_loosening_waits_for_the_quorum(found: Found) -> None:
    world = found()
    world.until(agenda.AwaitWarrant, warrants=0)
    new = policy_of(document(pace={"unaudited_max": 5}))
    with world.log() as log:
        assert log.state.current is not None
        differences = change(log.state.current.policy, new)
        assert needs_quorum(differences)
        digest = ask(log, new, differences)
        assert ask(log, new, differences) == digest, "asking again names the same dossier"
        assert not adopt_cleared(log, new, digest)
    world.sign(digest, "ada", "safety")
    with world.log() as log:
        assert not adopt_cleared(log, new, digest)
        assert log.state.current is not None
        assert log.state.current.version == 1
    world.sign(digest, "ben", "safety")
    with world.log() as log:
        assert adopt_cleared(log, new, digest)
        assert log.state.current is not None
        assert log.state.current.version == 2
        assert not adopt_cleared(log, new, digest), "it is used once"
    assert lawful(world) == []


def test_a_policy_may_not_exchange_project_or_founder(found: Found) -> None:
    old, other = policy_of(document()), document()
    other["subject"] = {**other["subject"], "founder": "sha256:" + "5" * 64}
    with pytest.raises(MalformedInput, match="the policy's founder changed"):
        policies.require_adoptable(old, policy_of(other))
    other = document()
    other["project"] = {**other["project"], "name": "another"}
    with pytest.raises(MalformedInput, match="the policy's project changed"):
        policies.require_adoptable(old, policy_of(other))


def test_a_policy_that_changes_while_a_trial_is_open_refuses_the_candidate_and_goes_on(found: Found) -> None:
    world = found()
    world.until(agenda.AwaitWarrant, warrants=0)
    world.warrant()
    world.approve(world.hold().dossier)

    class Stop(BaseException):
        pass

    def stop(_: int, what: str) -> None:
        if what == "after append" and "TrialAdvanced" in world.kinds():
            raise Stop

    with pytest.raises(Stop):
        world.run(Tape(stop))
    text = document()
    text["thresholds"][0]["line"] = 0.35
    with world.log() as log:
        adopt(log, policy_of(text), None)
    step = world.run()
    assert isinstance(step, agenda.Hold)
    first = next(iter(world.state.candidates.values()))
    assert first.status == "rejected"
    assert "a plan is never changed" in str(first.findings[0]["message"])


# --- windows


def test_a_founding_whose_window_ended_is_asked_for_anew_and_stands_on_what_was_signed(found: Found) -> None:
    world = found()
    first = world.run()
    assert isinstance(first, agenda.Hold)
    world.sign(first.dossier.digest, "ada", "safety")
    world.clock.at += 25 * HOUR
    second = world.run()
    assert isinstance(second, agenda.Hold)
    assert second.dossier.digest != first.dossier.digest
    world.approve(second.dossier)
    world.released()  # the founder loads, so its permit rests on the dossier that people signed
    (founded,) = (event for event in world.events() if isinstance(event, ev.LineageFounded))
    assert founded.dossier == second.dossier.digest
    assert lawful(world) == []


def test_a_dossier_whose_window_ended_is_sealed_anew(found: Found) -> None:
    world = found()
    first = world.released()
    world.sign(first.dossier.digest, "ada", "safety")
    world.clock.at += 25 * HOUR
    second = world.run()
    assert isinstance(second, agenda.Hold)
    assert second.dossier.digest != first.dossier.digest
    assert second.dossier.document["evidence"] == first.dossier.document["evidence"]
    assert statuses(world.state) == ["proposed"]
    world.approve(second.dossier)
    world.run()
    assert statuses(world.state)[0] == "released"


def test_evidence_that_grew_old_is_never_extended(found: Found) -> None:
    world = found(freshness={"evidence_seconds": 7200, "permit_seconds": 3600})
    world.until(agenda.AwaitWarrant, warrants=0)
    world.warrant(candidates=1)
    world.released()
    world.clock.at += 3 * HOUR
    world.run()
    first = next(iter(world.state.candidates.values()))
    assert first.status == "rejected"
    assert "seconds old; 7200 is the limit" in str(first.findings[0]["message"])


def test_an_expired_warrant_grants_nothing(found: Found) -> None:
    world = found()
    world.until(agenda.AwaitWarrant, warrants=0)
    world.warrant(hours=2)
    world.approve(world.hold().dossier)
    world.clock.at += 3 * HOUR
    assert world.run() == agenda.AwaitWarrant("the warrant's window has ended")
    assert world.state.attempts == {}


def test_the_loop_loads_its_parent_after_people_took_days(found: Found) -> None:
    """The last status is then older than a permit allows; the governor publishes a fresh one instead of stopping."""
    world = found(freshness={"evidence_seconds": 864_000, "permit_seconds": 3600})
    world.until(agenda.AwaitWarrant, warrants=0)
    world.clock.at += 30 * HOUR
    world.warrant(hours=200)
    step = world.hold()
    world.clock.at += 20 * HOUR
    world.approve(step.dossier)
    assert isinstance(world.run(), agenda.Hold)
    assert statuses(world.state) == ["proposed"]


# --- shadow


def test_shadow_records_and_issues_nothing(found: Found) -> None:
    world = found({2: "drift"})
    world.until(agenda.AwaitWarrant, warrants=0)
    before = len(world.kinds())
    with world.governor() as governor:
        run_shadow(governor, candidates=3)
    state, kinds = world.state, world.kinds()[before:]
    assert statuses(state) == ["shadowed"] * 3
    assert not {"WarrantIssued", "PermitIssued", "CandidateReleased", "DossierSealed", "GateDecided"} & set(kinds)
    assert len(state.permits) == 1, "the founder's"
    assert state.lineage is not None
    assert len(state.lineage.generations) == 1
    rules = [{str(finding["rule"]) for finding in c.findings} for c in state.candidates.values()]
    assert "quorum_must_be_met" in rules[0]
    assert "evidence_must_cover_thresholds" in rules[1]
    assert lawful(world) == []


def test_shadow_goes_on_beside_a_neighbour_and_stops_at_a_halt(found: Found) -> None:
    world = found({2: "exam"})
    world.until(agenda.AwaitWarrant, warrants=0)
    tape = Tape()

    def write(_: int, what: str) -> None:
        if what == "before append" and tape.seen.count(what) % 2:
            world.audit(founder=True)

    tape.act = write
    with world.governor(tape) as governor:
        step = run_shadow(governor, candidates=3)
    assert isinstance(step, agenda.Halted)
    assert statuses(world.state) == ["shadowed", "proposed"]
    assert len(world.state.attempts) == 2
    assert incidents(world.state) == [("decoy", 2)]


def test_a_shadow_candidate_can_never_be_released(found: Found) -> None:
    world = found()
    world.until(agenda.AwaitWarrant, warrants=0)

    class Stop(BaseException):
        pass

    def stop(_: int, what: str) -> None:
        if what == "before append" and "EvidenceRecorded" in world.kinds():
            raise Stop

    with pytest.raises(Stop), world.governor(Tape(stop)) as governor:
        run_shadow(governor)
    assert statuses(world.state) == ["proposed"]
    world.warrant()
    world.approve(world.hold().dossier)
    step = world.run()
    first, second = world.state.candidates.values()
    assert first.status == "rejected"
    assert "no warrant covers this candidate" in [f["message"] for f in first.findings]
    assert isinstance(step, agenda.Hold)
    assert second.parent == world.lineage.founder.root


def test_a_dossier_that_could_never_clear_is_not_sealed(found: Found) -> None:
    """Without a row its window would be over at once, and the loop would seal another one for ever."""
    text = document()
    world = found(gates=[gate for gate in text["gates"] if gate["action"] != "amend"])
    before = world.kinds()
    with pytest.raises(Refused, match="has no row for the gate `amend`"):
        world.run()
    assert world.kinds() == before
