"""A loop of somebody else's: its run is one step, its programs are charged to the warrant, and one may leave."""

from __future__ import annotations

from collections import Counter

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.bounds import NO_BOUNDS, Bounds, Used
from keyturn.core.errors import Conflict, InvariantBroken, MalformedInput, Unavailable
from keyturn.core.programs import ADMITTED, Judged
from keyturn.core.state import Attempt, Warrant
from keyturn.flow.improve import claim_of, record_programs
from keyturn.flow.ports import Alarm, Batch, Interrupted
from keyturn.flow.shadow import run_shadow
from keyturn.flow.warrant import waiting
from keyturn.wire.digest import sha256
from keyturn.wire.leaf import LEAF_BYTES_MAX
from tests.fakes.loop import LOOP, MISBEHAVING, PROGRAMS, programs
from tests.fakes.runner import FILE, founder
from tests.fakes.world import World
from tests.flow.conftest import Found
from tests.world.story import lawful


def batches(world: World) -> list[ev.ProgramsJudged]:
    return [event for event in world.events() if isinstance(event, ev.ProgramsJudged)]


def warrant(world: World) -> Warrant:
    found = world.state.warrant
    assert found is not None
    return found


def attempt(world: World, number: int = 1) -> Attempt:
    return world.state.attempts[number]


def warranted(world: World, **loop: float) -> None:
    """A founded lineage, and leave for a loop within these bounds."""
    world.approve(world.hold().dossier)
    world.run()
    bounds = {"programs_max": 100, "wall_seconds_max": 1000, **loop}
    world.warrant(candidates=4, loop=Bounds(**bounds))  # type: ignore[arg-type]  # figures by name
    world.approve(world.hold().dossier)


def test_a_run_is_one_step_and_its_best_program_becomes_the_next_generation(found: Found) -> None:
    world = found(loop=LOOP)
    held = world.released()
    texts = programs(founder(), 1001)
    [candidate] = world.state.candidates.values()
    assert candidate.files[0]["digest"] == sha256(texts[-1])
    assert [(len(each.programs), each.closing) for each in batches(world)] == [(3, False), (3, False), (1, True)]
    world.approve(held.dossier)
    world.run()
    assert world.lineage.parent.number == 1
    assert world.lineage.parent.root == candidate.root
    assert lawful(world) == []


def test_every_program_stands_in_the_log_by_digest_with_its_verdict(found: Found) -> None:
    world = found(loop=LOOP)
    world.released()
    rows = [row for each in batches(world) for row in each.programs]
    texts = programs(founder(), 1001)
    assert [row["program"] for row in rows] == [sha256(text) for text in texts]
    assert [row["verdict"] for row in rows].count(ADMITTED) == 5
    assert attempt(world).admitted == {sha256(text) for number, text in enumerate(texts) if number % 3 != 2}
    assert attempt(world).refused == {"score_must_be_a_number": 2}


def test_what_a_run_uses_is_charged_to_its_warrant_over_all_its_steps(found: Found) -> None:
    world = found({2: "idle"}, loop=LOOP)
    world.play()
    steps = len(world.state.attempts)
    assert steps > 1
    spent = warrant(world).spent
    assert (spent.programs, spent.requests, spent.wall_seconds) == (7 * steps, 7 * steps, 7.0 * steps)
    assert spent.usd == pytest.approx(0.07 * steps)
    assert sum((each.spent for each in world.state.attempts.values()), Used()) == spent


def test_nothing_starts_without_bounds_on_programs_and_time(found: Found) -> None:
    world = found(loop=LOOP)
    world.approve(world.hold().dossier)
    world.run()
    for bounds in (Bounds(), Bounds(programs_max=5), Bounds(wall_seconds_max=5)):
        with pytest.raises(MalformedInput, match="must say how many programs may run and for how long"):
            world.warrant(loop=bounds if bounds != Bounds() else Bounds(requests_max=1))


def test_bounds_are_refused_where_they_would_bound_nothing(found: Found) -> None:
    world = found()
    world.approve(world.hold().dossier)
    world.run()
    with pytest.raises(MalformedInput, match=r"the policy has no `\[loop\]`"):
        world.warrant(loop=Bounds(programs_max=5, wall_seconds_max=5))
    assert "WarrantIssued" not in world.kinds()


def test_bounds_that_are_no_numbers_are_refused(found: Found) -> None:
    world = found(loop=LOOP)
    world.approve(world.hold().dossier)
    world.run()
    for bounds in (Bounds(-1, 5), Bounds(5, 5, usd_max=float("nan")), Bounds(5, 5, usd_max=float("inf"))):
        with pytest.raises(MalformedInput, match="a number from 0 to"):
            world.warrant(loop=bounds)


def test_whoever_names_other_bounds_is_not_made_to_sign_those_that_wait(found: Found) -> None:
    world = found(loop=LOOP)
    world.approve(world.hold().dossier)
    world.run()
    world.warrant(loop=Bounds(5, 60))
    step = world.hold()
    assert waiting(step, Bounds(5, 60)) == waiting(step, NO_BOUNDS) == step.dossier.digest
    with pytest.raises(Conflict, match="a warrant with other bounds on its loop waits already"):
        waiting(step, Bounds(500, 60))
    assert waiting(agenda.AwaitWarrant(""), Bounds(500, 60)) is None


def test_the_warrants_dossier_holds_exactly_the_bounds_that_are_signed_for(found: Found) -> None:
    world = found(loop=LOOP)
    warranted(world, programs_max=12, tokens_max=5000, usd_max=2.5)
    world.run()
    [issued] = [event for event in world.events() if isinstance(event, ev.WarrantIssued)]
    sealed = world.state.dossiers[issued.dossier].document["bounds"]
    assert isinstance(sealed, dict)
    assert sealed["loop"] == issued.bounds == Bounds(12, 1000, 0, 5000, 2.5).to_json()
    assert warrant(world).bounds == Bounds(12, 1000, 0, 5000, 2.5)


@pytest.mark.parametrize(
    ("bounds", "ran", "why"),
    [
        ({"programs_max": 4}, 4, "4 programs are used; the warrant ends at 4"),
        ({"wall_seconds_max": 5}, 5, "5 seconds are used; the warrant ends at 5"),
        ({"requests_max": 3}, 3, "3 requests are used; the warrant ends at 3"),
        ({"tokens_max": 250}, 3, "300 tokens are used; the warrant ends at 250"),
        ({"usd_max": 0.02}, 2, "0.02 US dollars are used; the warrant ends at 0.02"),
    ],
)
def test_a_bound_that_is_used_up_ends_the_run_and_the_best_may_still_be_proposed(
    found: Found, bounds: dict[str, float], ran: int, why: str
) -> None:
    world = found(loop=LOOP)
    warranted(world, **bounds)
    held = world.hold()
    assert held.dossier.gate == "release"
    assert sum(len(each.programs) for each in batches(world)) == ran
    assert batches(world)[-1].closing
    world.approve(held.dossier)
    assert world.run() == agenda.AwaitWarrant(why)
    assert lawful(world) == []


def test_a_bound_on_money_holds_where_the_endpoint_reports_no_price(found: Found) -> None:
    world = found({1: "free"}, loop=LOOP)
    warranted(world, usd_max=100.0)
    world.hold()
    assert sum(len(each.programs) for each in batches(world)) == 1
    assert warrant(world).spent.usd is None


def test_an_endpoint_without_a_price_is_no_matter_where_money_is_not_bounded(found: Found) -> None:
    world = found({1: "free"}, loop=LOOP)
    warranted(world)
    world.hold()
    assert sum(len(each.programs) for each in batches(world)) == PROGRAMS


@pytest.mark.parametrize("trait", ["stray", "foreign"])
def test_a_program_that_was_not_admitted_cannot_leave_the_step(found: Found, trait: str) -> None:
    world = found({1: trait}, loop=LOOP)
    warranted(world)
    world.run()
    assert attempt(world).outcome == "refused"
    assert attempt(world).detail == f"its `{FILE}` is no program that its improve step admitted"
    assert attempt(world).candidate == ""
    assert lawful(world) == []


def test_a_loop_that_never_closes_its_last_batch_has_it_closed_with_the_step(found: Found) -> None:
    world = found({1: "silent"}, loop=LOOP)
    warranted(world)
    world.hold()
    assert batches(world)[-1].closing
    assert not attempt(world).batch_open
    assert lawful(world) == []


def test_a_run_may_end_without_a_candidate(found: Found) -> None:
    world = found({1: "idle"}, loop=LOOP)
    warranted(world)
    world.hold()  # the next attempt's
    assert attempt(world).outcome == "ended"
    assert lawful(world) == []


def test_a_loop_that_goes_away_leaves_its_step_open_and_goes_on_under_the_same_warrant(found: Found) -> None:
    world = found({1: "gone"}, loop=LOOP)
    warranted(world)
    with pytest.raises(Unavailable, match="the loop went away"):
        world.run()
    assert attempt(world).outcome == ""
    assert not attempt(world).batch_open
    spent = warrant(world).spent.programs
    assert isinstance(world.run(), agenda.Hold)
    assert attempt(world).outcome == "produced"
    assert attempt(world).lost == 0  # it had said that all was logged
    assert warrant(world).spent.programs == spent + 2  # the two that had been refused ran once more
    assert lawful(world) == []


def test_a_refused_sibling_does_not_taint_the_candidate_and_opens_an_incident_that_names_it(found: Found) -> None:
    world = found({1: "leaves"}, loop=LOOP)
    warranted(world)
    held = world.hold()
    caught = sha256(programs(founder({1: "leaves"}), 1001)[MISBEHAVING])
    [incident] = world.state.incidents.values()
    assert (incident.kind, incident.attempt, incident.candidate) == ("undeclared-copy", 0, "")
    assert incident.facts == {"alarm": "processes_left", "improve": 1, "programs": [caught]}
    assert caught in attempt(world).barred
    world.approve(held.dossier)
    world.run()
    assert next(each.status for each in world.state.candidates.values()) == "released"
    assert lawful(world) == []


def test_a_decoy_that_a_program_touches_halts_everything_and_stands_in_the_same_append(found: Found) -> None:
    world = found({1: "thief"}, loop=LOOP)
    warranted(world)
    step = world.run()
    assert isinstance(step, agenda.Halted)
    kinds = world.kinds()
    place = kinds.index("IncidentOpened")
    assert kinds[place - 1 : place + 2] == ["ProgramsJudged", "IncidentOpened", "HaltRequested"]
    assert attempt(world).outcome == ""
    assert lawful(world) == []


def test_after_a_halt_people_resume_and_the_step_goes_on_within_what_is_left(found: Found) -> None:
    world = found({1: "thief"}, loop=LOOP)
    warranted(world, programs_max=10)
    world.run()
    world.approve(world.ask_to_resume())
    step = world.run()
    while isinstance(step, agenda.Halted):  # the same thief is made again: so it is caught again
        world.approve(world.ask_to_resume())
        step = world.run()
    assert warrant(world).spent.programs <= 10
    assert lawful(world) == []


def test_what_raised_an_alarm_is_refused_whatever_the_loop_hands_in(found: Found) -> None:
    world = found({1: "charmer"}, loop=LOOP)
    warranted(world)
    assert isinstance(world.run(), agenda.Halted)
    charmer = sha256(programs(founder({1: "charmer"}), 1001)[MISBEHAVING])
    [row] = [row for each in batches(world) for row in each.programs if row["program"] == charmer]
    assert (row["verdict"], row["rules"]) == ("refused", ["conduct_must_be_clean"])
    assert charmer not in attempt(world).admitted


def test_many_alarms_of_one_kind_in_a_batch_open_one_incident(found: Found) -> None:
    world = found({1: "gone"}, loop=LOOP)
    warranted(world)
    with pytest.raises(Unavailable):
        world.run()
    names = [sha256(str(number).encode()) for number in range(40)]
    alarms = tuple(Alarm("processes_left", "left one", name) for name in names)
    batch = Batch((), Used(programs=40), closing=True, alarms=(*alarms, Alarm("limit_reached", "too long", names[0])))
    with world.governor() as governor:
        step = agenda.next_step(governor.state, governor.log.now())
        assert isinstance(step, agenda.Improve)
        record_programs(governor, step, batch)
    kinds = [(each.kind, each.summary) for each in world.state.incidents.values()]
    assert kinds == [("undeclared-copy", "left one (and 39 more like it)"), ("overrun", "too long")]
    assert next(iter(world.state.incidents.values())).facts["programs"] == names


def test_the_largest_batch_with_the_most_findings_fits_into_one_entry(found: Found) -> None:
    world = found({1: "gone"}, loop={**LOOP, "batch": 100})
    warranted(world, programs_max=1000)
    with pytest.raises(Unavailable):
        world.run()
    rules = (
        "size_must_fit",
        "text_must_be_plain",
        "protected_text_must_stand",
        "program_must_run",
        "conduct_must_be_clean",
        "score_must_be_a_number",
        "checks_must_pass",
    )
    rows = tuple(Judged(sha256(b"p%d" % number), "refused", rules, sha256(b"e%d" % number)) for number in range(100))
    with world.governor() as governor:
        step = agenda.next_step(governor.state, governor.log.now())
        assert isinstance(step, agenda.Improve)
        record_programs(governor, step, Batch(rows, Used(100, 1e6 / 3, 10**9, 10**12, 1 / 3)))
        largest = max(len(leaf) for leaf in governor.log.store.leaves(0, governor.log.head.size))
    assert 40_000 < largest < LEAF_BYTES_MAX
    assert attempt(world).refused["size_must_fit"] == 100


def test_of_two_verdicts_in_a_batch_the_later_counts_but_misconduct_is_not_forgotten(found: Found) -> None:
    world = found({1: "gone"}, loop=LOOP)
    warranted(world)
    with pytest.raises(Unavailable):
        world.run()
    late, bad = sha256(b"late"), sha256(b"bad")
    rows = (
        Judged(late, "refused", ("program_must_run",), ""),
        Judged(bad, "refused", ("conduct_must_be_clean",), ""),
        Judged(late, ADMITTED, (), ""),
        Judged(bad, ADMITTED, (), ""),
    )
    with world.governor() as governor:
        step = agenda.next_step(governor.state, governor.log.now())
        assert isinstance(step, agenda.Improve)
        record_programs(governor, step, Batch(rows, Used(4)))
        record_programs(governor, step, Batch((Judged(bad, ADMITTED, (), ""),), Used(1), closing=True))
    assert late in attempt(world).admitted
    assert bad not in attempt(world).admitted
    assert lawful(world) == []


def test_a_loop_that_would_go_on_beyond_its_warrant_is_closed_in_the_log(found: Found) -> None:
    world = found({1: "gone"}, loop=LOOP)
    warranted(world, tokens_max=10_000)
    with pytest.raises(Unavailable):
        world.run()
    with world.governor() as governor:
        step = agenda.next_step(governor.state, governor.log.now())
        assert isinstance(step, agenda.Improve)
        record_programs(governor, step, Batch((), Used(tokens=20_000)))
        with pytest.raises(InvariantBroken):
            record_programs(governor, step, Batch((), Used(programs=1000)))
    assert batches(world)[-1].closing
    assert lawful(world) == []


def test_a_run_that_outlives_its_warrants_window_is_closed_in_the_log(found: Found) -> None:
    world = found({1: "gone"}, loop=LOOP)
    warranted(world)
    with pytest.raises(Unavailable):
        world.run()
    world.clock.at = warrant(world).expires_at
    with world.governor() as governor:
        step = agenda.next_step(governor.state, governor.log.now())
        assert isinstance(step, agenda.Improve)
        record_programs(governor, step, Batch((), Used()))
    assert batches(world)[-1].closing
    assert lawful(world) == []


def test_a_tripwire_of_a_batch_interrupts_the_loop(found: Found) -> None:
    world = found({1: "gone"}, loop=LOOP)
    warranted(world)
    with pytest.raises(Unavailable):
        world.run()
    with world.governor() as governor:
        step = agenda.next_step(governor.state, governor.log.now())
        assert isinstance(step, agenda.Improve)
        with pytest.raises(Interrupted):
            record_programs(governor, step, Batch((), Used(), alarms=(Alarm("decoy_opened", "took it"),)))
        record_programs(governor, step, Batch((), Used(wall_seconds=1.0)))  # what ran meanwhile is still told
    assert batches(world)[-1].closing
    assert lawful(world) == []


def test_the_dossier_tells_approvers_of_the_run_that_the_candidate_comes_from(found: Found) -> None:
    world = found(loop=LOOP)
    document = world.released().dossier.document
    assert document["programs"] == {
        "batches": 3,
        "judged": 7,
        "admitted": 5,
        "refused": {"score_must_be_a_number": 2},
        "lost": 0,
        "used": Used(7, 7.0, 7, 700, 0.07).to_json(),
        "spent": Used(7, 7.0, 7, 700, 0.07).to_json(),
        "bounds": warrant(world).bounds.to_json(),
    }
    unchecked = document["unchecked"]
    assert isinstance(unchecked, list)
    assert any("loop's own word" in str(each) for each in unchecked)


def test_a_candidate_that_no_loop_made_has_a_dossier_as_before(found: Found) -> None:
    assert "programs" not in found().released().dossier.document


def test_the_loops_claim_reaches_the_candidate_as_figures_only(found: Found) -> None:
    world = found(loop=LOOP)
    world.released()
    [candidate] = world.state.candidates.values()
    assert candidate.claim == {"win": 0.5} == claim_of(b'{"win": 0.5, "boast": "best"}')


# Shadow mode


def shadowed(world: World) -> None:
    with world.governor() as governor:
        run_shadow(governor)


def founded(world: World) -> World:
    world.approve(world.hold().dossier)
    world.run()
    return world


def test_in_shadow_mode_nothing_is_bounded_and_what_would_be_refused_is_told(found: Found) -> None:
    world = founded(found({1: "stray"}, loop=LOOP))
    shadowed(world)
    [candidate] = world.state.candidates.values()
    assert candidate.status == "shadowed"
    messages = [str(finding["message"]) for finding in candidate.findings]
    assert f"`{candidate.name}`: its `{FILE}` is no program that its improve step admitted" in messages
    assert attempt(world).spent.programs == PROGRAMS
    assert attempt(world).warrant == "shadow"
    assert lawful(world) == []


def test_in_shadow_mode_an_honest_run_would_have_waited_for_people_only(found: Found) -> None:
    world = founded(found(loop=LOOP))
    shadowed(world)
    shadowed(world)  # the second from the first, which was never released
    for candidate in world.state.candidates.values():
        assert {str(finding["rule"]) for finding in candidate.findings} == {"quorum_must_be_met"}
    assert lawful(world) == []


def test_a_step_that_shadow_mode_left_open_ends_when_shadow_mode_does(found: Found) -> None:
    world = founded(found({1: "gone"}, loop=LOOP))
    with pytest.raises(Unavailable):
        shadowed(world)
    assert attempt(world).outcome == ""
    assert isinstance(world.run(), agenda.AwaitWarrant)
    assert (attempt(world).outcome, attempt(world).candidate) == ("ended", "")
    assert lawful(world) == []


def test_shadow_mode_does_not_run_beside_a_step_that_a_warrant_covers(found: Found) -> None:
    world = found({1: "gone"}, loop=LOOP)
    warranted(world)
    with pytest.raises(Unavailable):
        world.run()
    with pytest.raises(MalformedInput, match="shadow mode cannot run beside it"):
        shadowed(world)
    assert Counter(world.kinds())["ImprovementStarted"] == 1
