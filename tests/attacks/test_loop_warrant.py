"""A run never goes beyond what people signed for; nothing leaves it that was not admitted, whoever writes the log."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyturn.cli.main import main
from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.bounds import Bounds, Used
from keyturn.core.errors import MalformedInput, TamperDetected, Unavailable
from keyturn.core.programs import ADMITTED, REFUSED, Judged
from keyturn.flow import halt
from keyturn.flow.decided import decided
from keyturn.flow.log import Stamp
from keyturn.flow.shadow import run_shadow
from keyturn.wire import artifact
from keyturn.wire.digest import sha256
from tests.fakes.loop import LOOP, programs
from tests.fakes.runner import FILE, founder
from tests.fakes.world import Crash, Tape, World
from tests.world.story import lawful

GONE = {1: "gone"}
STRANGER = b'{"salt": "a stranger"}'


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halt, "TRACE_SECONDS", 0.2)


def warranted(place: Path, traits: dict[int, str] | None = None, **loop: Any) -> World:
    """A founded lineage, and leave for a loop within these bounds."""
    world = World.founded(place / "home", traits, loop=LOOP)
    world.approve(world.hold().dossier)
    world.run()
    world.warrant(candidates=4, loop=Bounds(**{"programs_max": 20, "wall_seconds_max": 1000, **loop}))
    world.approve(world.hold().dossier)
    return world


@pytest.fixture
def open_step(tmp_path: Path) -> World:
    """A step whose loop has gone away after seven of its twenty programs."""
    world = warranted(tmp_path, GONE, tokens_max=100_000)
    with pytest.raises(Unavailable):
        world.run()
    return world


def write(world: World, *facts: Any) -> None:
    """Somebody with the governor's own keys writes what the governor would not."""
    with world.log() as log:
        log.append(*facts)


def forge(world: World, *facts: Any) -> None:
    """The same past all checks: straight into the store."""
    with world.log() as log:
        log.store.append([log._leaf(fact, "governor") for fact in facts], expected=log.head)


def judged(world: World, *rows: Judged, closing: bool = False, lost: int = 0, **used: Any) -> Any:
    """An entry about programs, as it would come next."""
    attempt = world.state.attempts[len(world.state.attempts)]
    use = Used(**{"programs": len(rows), **used}).to_json()
    said = {"attempt": attempt.number, "batch": attempt.batches + 1, "used": use, "lost": lost, "closing": closing}
    return lambda stamp: ev.ProgramsJudged(**stamp, **said, programs=tuple(row.to_json() for row in rows))


def admitted(name: bytes) -> Judged:
    return Judged(sha256(name), ADMITTED, (), sha256(b"evidence"))


def ended(world: World) -> Any:
    number = len(world.state.attempts)
    figures = {"cpu_seconds": 0.0, "wall_seconds": 0.0, "processes_left": 0, "diagnostics": ""}
    return lambda stamp: ev.ImprovementEnded(**stamp, attempt=number, outcome="produced", detail="", **figures)


def proposed(world: World, files: dict[str, bytes]) -> Any:
    attempt = world.state.attempts[len(world.state.attempts)]
    named = artifact.manifest(files)
    world.artifacts.put(artifact.root(named), files)
    rows = tuple({"name": each.name, "digest": each.digest, "bytes": each.bytes} for each in named)
    said = {"candidate": "c1-x", "attempt": attempt.number, "lineage": world.lineage.id, "parent": attempt.parent}
    return lambda stamp: ev.CandidateProposed(**stamp, **said, root=artifact.root(named), files=rows, claim={})


def wrong(world: World) -> list[str]:
    """What replay says is wrong, without the places."""
    return [each.split(": ", 1)[1] for each in lawful(world)]


# Nothing leaves that was not admitted


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ((), STRANGER),
        ((Judged(sha256(STRANGER), REFUSED, ("program_must_run",), ""),), STRANGER),
        ((Judged(sha256(STRANGER), REFUSED, ("conduct_must_be_clean",), ""), admitted(b"another")), STRANGER),
    ],
)
def test_a_program_that_was_never_admitted_is_no_candidate(
    open_step: World, rows: tuple[Judged, ...], text: bytes
) -> None:
    write(open_step, judged(open_step, *rows, closing=True))
    write(open_step, ended(open_step), proposed(open_step, {FILE: text}))
    assert wrong(open_step) == [f"its `{FILE}` is no program that its improve step admitted"]
    open_step.run()
    candidate = open_step.state.candidates["c1-x"]
    assert candidate.status == "rejected"
    assert [finding["rule"] for finding in candidate.findings] == ["lineage_must_be_complete"]
    assert "TrialPlanned" not in open_step.kinds()[: open_step.kinds().index("CandidateRejected")]


def test_what_another_step_admitted_does_not_leave_this_one(tmp_path: Path) -> None:
    world = warranted(tmp_path, {1: "idle", 2: "gone"})
    with pytest.raises(Unavailable):
        world.run()
    first = programs(founder({1: "idle", 2: "gone"}), 1001)[0]
    assert sha256(first) in world.state.attempts[1].admitted
    write(world, ended(world), proposed(world, {FILE: first}))
    assert wrong(world) == [f"its `{FILE}` is no program that its improve step admitted"]


def test_a_program_that_was_caught_later_is_no_candidate_though_it_was_admitted_before(open_step: World) -> None:
    text = programs(founder(GONE), 1001)[0]
    assert sha256(text) in open_step.state.attempts[1].admitted
    write(open_step, judged(open_step, Judged(sha256(text), REFUSED, ("conduct_must_be_clean",), "")))
    write(open_step, judged(open_step, admitted(text), closing=True))
    write(open_step, ended(open_step), proposed(open_step, {FILE: text}))
    open_step.run()
    assert open_step.state.candidates["c1-x"].status == "rejected"


def test_an_admitted_program_that_an_incident_names_is_refused_at_the_gate(open_step: World) -> None:
    """However it came to be admitted: one that touched a decoy does not exist in the lineage."""
    text = programs(founder(GONE), 1001)[0]
    said = {"incident": "i-1", "kind": "decoy", "summary": "touched", "attempt": 0, "candidate": "", "exercise": False}
    facts: ev.Document = {"alarm": "decoy_opened", "improve": 1, "programs": [sha256(text)]}
    write(open_step, lambda stamp: ev.IncidentOpened(**stamp, **said, facts=facts))
    write(open_step, ended(open_step), proposed(open_step, {FILE: text}))
    open_step.run()
    candidate = open_step.state.candidates["c1-x"]
    assert [finding["rule"] for finding in candidate.findings] == ["conduct_must_be_clean"]


def test_a_refused_sibling_does_not_taint_an_honest_program(open_step: World) -> None:
    text = programs(founder(GONE), 1001)[0]
    said = {"incident": "i-1", "kind": "decoy", "summary": "touched", "attempt": 0, "candidate": "", "exercise": False}
    facts: ev.Document = {"alarm": "decoy_opened", "improve": 1, "programs": [sha256(b"a sibling")]}
    write(open_step, lambda stamp: ev.IncidentOpened(**stamp, **said, facts=facts))
    write(open_step, ended(open_step), proposed(open_step, {FILE: text}))
    assert isinstance(open_step.run(), agenda.Hold)


# Nothing runs beyond the warrant


@pytest.mark.parametrize(
    ("rows", "changes", "why"),
    [
        (14, {}, "21 programs ran under a warrant for 20"),
        (14, {"closing": True}, "21 programs ran under a warrant for 20"),
        (0, {"programs": 14, "lost": 14, "closing": True}, "21 programs ran under a warrant for 20"),
        (0, {"tokens": 100_000}, "it goes on beyond its warrant: 100700 tokens are used; the warrant ends at 100000"),
        (0, {"wall_seconds": 994.0}, "it goes on beyond its warrant: 1001 seconds are used; the warrant ends at 1000"),
        (3, {"programs": 2}, "it judges 10 programs, of which 9 are charged"),
    ],
)
def test_a_log_that_goes_beyond_its_warrant_is_seen(
    open_step: World, rows: int, changes: dict[str, Any], why: str
) -> None:
    write(open_step, judged(open_step, *(admitted(b"%d" % number) for number in range(rows)), **changes))
    assert why in wrong(open_step)


def test_an_entry_that_only_closes_may_tell_of_what_went_beyond(open_step: World) -> None:
    """What was in flight when a bound was reached is told, not hidden."""
    write(open_step, judged(open_step, closing=True, tokens=10**9, wall_seconds=5000.0))
    assert wrong(open_step) == []
    assert isinstance(open_step.run(), agenda.Hold)  # the step proposes what it has
    assert open_step.state.attempts[1].spent.programs == 7  # and runs nothing more


def test_going_on_after_the_window_of_the_warrant_is_seen(open_step: World) -> None:
    warrant = open_step.state.warrant
    assert warrant is not None
    open_step.clock.at = warrant.expires_at
    write(open_step, judged(open_step, admitted(b"late")))
    assert wrong(open_step) == ["it went on after the warrant's window"]


def test_going_on_while_a_halt_stands_is_seen(open_step: World) -> None:
    open_step.halt()
    write(open_step, judged(open_step, admitted(b"defiant")))
    assert wrong(open_step) == ["it went on while a halt stood"]


def test_a_step_that_ends_with_programs_unlogged_is_seen(open_step: World) -> None:
    write(open_step, judged(open_step, admitted(b"one more")))
    write(open_step, ended(open_step))
    assert "its last batch of programs was never closed" in wrong(open_step)


def test_starting_anew_under_a_warrant_that_is_used_up_is_seen(tmp_path: Path) -> None:
    world = warranted(tmp_path, {1: "idle"}, programs_max=7)
    assert isinstance(world.run(), agenda.AwaitWarrant)
    first = world.state.attempts[1]
    said = {"attempt": 2, "lineage": world.lineage.id, "warrant": first.warrant, "parent": first.parent}
    write(world, lambda stamp: ev.ImprovementStarted(**stamp, **said, generation=0, seed=1002))
    assert wrong(world) == ["7 programs are used; the warrant ends at 7"]


def test_an_unreported_price_cannot_be_made_known_afterwards(tmp_path: Path) -> None:
    world = warranted(tmp_path, {1: "gone"}, usd_max=5.0)
    with pytest.raises(Unavailable):
        world.run()
    write(world, judged(world, closing=True, usd=None))
    write(world, judged(world, closing=True, usd=0.0))
    warrant = world.state.warrant
    assert warrant is not None
    assert warrant.spent.usd is None
    world.run()
    assert world.state.attempts[1].spent.programs == 7  # nothing more ran
    assert wrong(world) == []


# What was signed is what holds


def issuing(place: Path) -> tuple[World, agenda.Grant]:
    """A warrant's dossier that enough people have signed."""
    world = World.founded(place / "home", loop=LOOP)
    world.approve(world.hold().dossier)
    world.run()
    world.warrant(loop=Bounds(programs_max=5, wall_seconds_max=60))
    world.approve(world.hold().dossier)
    with world.log() as log:
        step = agenda.next_step(log.state, log.now())
    assert isinstance(step, agenda.Grant)
    return world, step


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(programs_max=500, wall_seconds_max=60).to_json(),
        Bounds(programs_max=5, wall_seconds_max=61).to_json(),
        Bounds(programs_max=5, wall_seconds_max=60, requests_max=1).to_json(),
        {},
    ],
)
def test_bounds_that_were_altered_after_signing_are_seen(tmp_path: Path, bounds: ev.Document) -> None:
    world, step = issuing(tmp_path)
    sealed = step.dossier.document["bounds"]
    assert isinstance(sealed, dict)
    named = {name: sealed[name] for name in ("candidates_max", "level_ceiling", "expires_at")}
    write(
        world,
        decided(step.decision, step.dossier.digest),
        lambda stamp: ev.WarrantIssued(
            **stamp,
            **named,
            warrant="w-1",
            lineage=world.lineage.id,
            dossier=step.dossier.digest,
            not_before=stamp["at"],
            bounds=bounds,
        ),
    )
    assert wrong(world) == ["its bounds on a loop are not those that people cleared"]


def test_a_signature_for_other_bounds_does_not_count(tmp_path: Path) -> None:
    """Bounds stand in the dossier, whose digest is what a person signs."""
    world = World.founded(tmp_path / "home", loop=LOOP)
    world.approve(world.hold().dossier)
    world.run()
    world.warrant(loop=Bounds(programs_max=5, wall_seconds_max=60))
    small = world.hold().dossier
    world.approve(small)
    world.warrant(loop=Bounds(programs_max=500, wall_seconds_max=60))
    with world.log() as log:
        larger = list(log.state.dossiers.values())[-1]
        assert larger.digest != small.digest
        step = agenda.next_step(log.state, log.now())
    assert isinstance(step, agenda.Hold)
    assert step.dossier.digest == larger.digest
    assert [finding.rule for finding in step.decision.findings] == ["quorum_must_be_met"]


# A log that cannot be read is not acted on


ROW = admitted(b"p").to_json()


@pytest.mark.parametrize(
    "rows",
    [
        (ROW, ROW),
        (ROW, {**ROW, "verdict": "refused", "rules": ["program_must_run"]}),
        ({**ROW, "verdict": "tolerated"},),
        ({**ROW, "verdict": "refused"},),
        ({**ROW, "rules": ["program_must_run"]},),
        ({**ROW, "program": "sha256:short"},),
        ({**ROW, "note": "trust me"},),
        tuple({**ROW, "program": sha256(b"%d" % number)} for number in range(101)),
    ],
)
def test_rows_that_are_doubled_or_unknown_are_tampering(open_step: World, rows: tuple[ev.Document, ...]) -> None:
    attempt = open_step.state.attempts[1]
    said = {"attempt": 1, "batch": attempt.batches + 1, "lost": 0, "closing": False}

    def fact(stamp: Stamp) -> ev.Event:
        return ev.ProgramsJudged(**stamp, **said, programs=rows, used=Used(programs=len(rows)).to_json())

    with pytest.raises(TamperDetected, match="the log holds `ProgramsJudged`"):
        write(open_step, fact)
    forge(open_step, fact)
    with pytest.raises(TamperDetected, match="the log holds `ProgramsJudged`"):
        open_step.crashed().run()


@pytest.mark.parametrize("batch", [0, 1, 3, 5, -1])
def test_a_batch_out_of_turn_is_tampering(open_step: World, batch: int) -> None:
    """One that was dropped, or told twice, cannot be hidden among the others."""
    said = {"attempt": 1, "batch": batch, "programs": (), "used": Used().to_json(), "lost": 0, "closing": False}
    assert open_step.state.attempts[1].batches == 3
    forge(open_step, lambda stamp: ev.ProgramsJudged(**stamp, **said))
    with pytest.raises(TamperDetected, match=f"it is batch {batch}; 4 is next"):
        open_step.crashed().run()


# Crashing does not help


def crashes(world: World, at: str, times: int) -> Iterator[int]:
    """Kill the governor at this border, the n-th time in each run, again and again; yields how many programs ran."""
    for _ in range(times):
        ran = 0
        seen = 0

        def act(_: int, what: str) -> None:
            nonlocal ran, seen
            ran += what == "improve"
            seen += what == at
            if seen == 3:
                raise Crash

        try:
            world.run(Tape(act))
        except Crash:
            world = world.crashed()
            yield ran
        else:
            yield ran
            return


def test_a_crash_between_two_batches_charges_the_batch_that_was_lost(tmp_path: Path) -> None:
    world = warranted(tmp_path)
    next(crashes(world, "improve", 1))
    attempt = world.crashed().state.attempts[1]
    assert (attempt.batches, attempt.batch_open, attempt.spent.programs) == (0, True, 0)
    world = world.crashed()
    world.run()
    first = next(event for event in world.events() if isinstance(event, ev.ProgramsJudged))
    assert (first.lost, first.used["programs"], first.programs) == (LOOP["batch"], LOOP["batch"], ())
    assert world.state.attempts[1].lost == LOOP["batch"]
    assert wrong(world) == []


@pytest.mark.parametrize("border", ["improve", "before append", "after append"])
def test_crashing_again_and_again_never_runs_more_programs_than_the_warrant_says(tmp_path: Path, border: str) -> None:
    world = warranted(tmp_path, programs_max=20)
    ran = sum(crashes(world, border, 30))
    world = world.crashed()
    warrant = world.state.warrant
    assert warrant is not None
    assert ran <= warrant.spent.programs + LOOP["batch"] * world.state.attempts[1].batch_open
    assert warrant.spent.programs <= 20
    assert ran <= 20
    assert wrong(world) == []


def test_shadow_mode_never_gives_a_step_that_a_warrant_did_not(tmp_path: Path) -> None:
    """What ran unbounded in shadow mode can never be released: no warrant covers it."""
    world = World.founded(tmp_path / "home", loop=LOOP)
    world.approve(world.hold().dossier)
    world.run()
    with world.governor() as governor:
        run_shadow(governor)
    assert {candidate.status for candidate in world.state.candidates.values()} == {"shadowed"}
    assert isinstance(world.run(), agenda.AwaitWarrant)
    assert "PermitIssued" not in world.kinds()[world.kinds().index("ImprovementStarted") :]


@pytest.mark.parametrize("hours", [math.nan, math.inf, 1e300, 10_000, 0, -1])
def test_leave_without_an_end_is_not_even_asked_for(tmp_path: Path, hours: float) -> None:
    world = World.founded(tmp_path / "home", loop=LOOP)
    world.approve(world.hold().dossier)
    world.run()
    with pytest.raises(MalformedInput, match="some time of at most 8784 hours"):
        world.warrant(hours=hours, loop=Bounds(20, 1000))


@pytest.mark.parametrize("flag", ["--hours", "--wall-minutes", "--usd"])
@pytest.mark.parametrize("said", ["nan", "inf", "-inf", "1e999"])
def test_a_bound_that_compares_with_nothing_is_no_number(
    flag: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["warrant", "give", "--as", "ada", "--reason", "in a hurry", "--programs", "5", f"{flag}={said}"])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
