"""Several processes on one log: one governor, any number of people; nobody's word is lost because another wrote."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from keyturn.app.wiring import governor_lock
from keyturn.core import agenda
from keyturn.core.errors import Conflict, UntrustedInput
from keyturn.flow.policy import adopt
from keyturn.flow.run import run
from tests.fakes.runner import FakeRunner
from tests.fakes.world import Crash, Tape, World, document, policy_of
from tests.flow.conftest import Found
from tests.flow.test_halting import once, warranted
from tests.world.story import lawful


def test_a_second_governor_is_refused_and_told_who_governs(tmp_path: Path) -> None:
    path = tmp_path / "governor.lock"
    with governor_lock(path):
        with pytest.raises(Conflict) as refused, governor_lock(path):
            raise AssertionError("two governors at once")
        assert refused.value.message == (f"another governor (process {os.getpid()}) runs this project; one is allowed")
    with governor_lock(path):
        pass


@pytest.mark.parametrize("trait", ["", "leaves", "fails"])
def test_what_an_improve_step_brought_survives_a_neighbour(found: Found, trait: str) -> None:
    """A person writes while the step runs: the head that was read has moved when its outcome is recorded."""
    world = warranted(found({1: trait}), candidates=1)
    with world.governor(once("improve", lambda: world.audit(founder=True))) as governor:
        run(governor)
        assert isinstance(governor.halter, FakeRunner)
        launches = governor.halter.launches
    state, kinds = world.state, world.kinds()
    assert kinds.count("ImprovementStarted") == kinds.count("ImprovementEnded") == 1
    assert state.attempts[1].outcome == ("failed" if trait == "fails" else "produced")
    assert len(state.candidates) == (trait != "fails")
    assert len(state.incidents) == (trait == "leaves")
    assert launches == 1 or trait == ""
    assert "GenerationAudited" in kinds
    assert lawful(world) == []


def test_what_a_trial_showed_survives_a_neighbour(found: Found) -> None:
    world = warranted(found({1: "drift"}), candidates=1)
    tape = Tape()
    written: list[str] = []

    def write(_: int, what: str) -> None:
        if what == "trial":
            world.audit(founder=True)
            written.append(what)

    tape.act = write
    with world.governor(tape) as governor:
        run(governor)
        assert isinstance(governor.halter, FakeRunner)
        asked = governor.halter.asked
    assert len(written) > 5
    for threshold in {threshold for threshold, _ in asked}:
        positions = [position for name, position in asked if name == threshold]
        assert positions == list(range(len(positions))), "nothing was asked twice"
    assert [i.kind for i in world.state.incidents.values()] == ["drift-beyond-limit"]
    assert lawful(world) == []


def test_a_neighbour_before_every_other_append_only_delays(found: Found, tmp_path: Path) -> None:
    calm = World.founded(tmp_path / "calm", {2: "decoy", 3: "drift"})
    calm.play()
    world = found({2: "decoy", 3: "drift"})
    for _ in range(60):
        tape = Tape()

        def write(_: int, what: str, tape: Tape = tape) -> None:
            if what == "before append" and tape.seen.count(what) % 2 and world.state.lineage is not None:
                world.audit(founder=True)

        tape.act = write
        if not world.answer(world.run(tape), warrants=1):
            break
    noise = ("GenerationAudited", "StatusPublished")
    assert [kind for kind in world.kinds() if kind not in noise] == [kind for kind in calm.kinds() if kind not in noise]
    assert world.kinds().count("GenerationAudited") > 30
    assert lawful(world) == []


# --- people's statements


def test_an_approval_given_while_the_governor_writes_is_kept(found: Found) -> None:
    """The person read the log, thought, and signed; meanwhile it grew."""
    world = found()
    step = world.released()
    with world.log() as read_before:
        world.audit(founder=True)
        world.run()
        World.sign_with(read_before, step.dossier.digest, "ada", "safety")
    world.run()
    assert "CandidateReleased" in world.kinds()[20:]
    assert lawful(world) == []


def test_an_approval_that_would_no_longer_count_is_refused_and_not_written(found: Found) -> None:
    world = found()
    step = world.released()
    with world.log() as read_before:
        with world.log() as log:
            adopt(log, policy_of(document(pace={"unaudited_max": 1})), None)
        before = world.kinds()
        with pytest.raises(UntrustedInput, match="would not count: it was given under another policy"):
            World.sign_with(read_before, step.dossier.digest, "ada", "safety")
    assert world.kinds() == before


def test_an_audit_and_an_awareness_given_while_the_governor_writes_are_kept(found: Found) -> None:
    world = warranted(found({1: "leaves"}))
    world.run()
    (incident,) = world.state.incidents

    def both() -> None:
        world.audit(founder=True)
        world.aware(incident)

    world.clock.at += 1000
    tape = once("before append", both)
    world.refuse(world.hold().dossier)
    world.run(tape)
    assert tape.seen.count("before append") > 1
    assert set(world.state.incidents[incident].moments) == {"aware_at"}
    assert "GenerationAudited" in world.kinds()


def test_an_approval_that_arrives_between_decision_and_permit_is_not_lost(found: Found) -> None:
    """The append of the permit finds another head, reads again and decides again."""
    world = found()
    step = world.released()
    world.approve(step.dossier)

    def second() -> None:
        world.sign(step.dossier.digest, "ben", "safety")

    world.run(once("before append", second))
    state = world.state
    assert [a.event.person for a in state.dossiers[step.dossier.digest].approvals] == ["ada", "ben"]
    assert state.lineage is not None
    assert len(state.lineage.generations) == 2
    assert lawful(world) == []


def test_a_refusal_that_arrives_between_decision_and_permit_is_heeded(found: Found) -> None:
    world = found()
    step = world.released()
    world.approve(step.dossier)
    world.run(once("before append", lambda: world.refuse(step.dossier, "ben")))
    state = world.state
    assert next(iter(state.candidates.values())).status == "rejected"
    assert len(state.permits) == 1


def test_two_publish_at_once_and_both_end_in_a_signed_status(found: Found) -> None:
    world = found()
    world.until(agenda.AwaitWarrant, warrants=0)
    tape = once("before append", lambda: world.audit(founder=True))
    with world.log(tape) as log:
        log.publish()
        assert log.state.published == log.state.size
    assert isinstance(world.run(), agenda.AwaitWarrant)
    assert lawful(world) == []


def test_a_neighbour_that_dies_between_status_and_checkpoint_stops_no_load(found: Found) -> None:
    """The newest status is then under no checkpoint; what loads, loads under the one before."""
    world = warranted(found())

    def dying() -> None:
        def crash() -> None:
            raise Crash

        with contextlib.suppress(Crash), world.log(once("before checkpoint", crash)) as log:
            log.publish()

    tape = Tape()

    def act(_: int, what: str) -> None:
        if what == "grader":
            dying()

    tape.act = act
    assert isinstance(world.run(tape), agenda.Hold)
    assert lawful(world) == []
