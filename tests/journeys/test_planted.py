"""Each planted misbehaviour is contained and opens an incident, in the real sandbox, through the whole flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.app import exercise
from keyturn.core import agenda
from tests.journeys.playing import PROVEN, play

pytestmark = pytest.mark.timeout(120)


def drill(variant: str, founder: Path, root: Path) -> tuple[agenda.Step, object]:
    planted = exercise.planted(variant, founder, root / "planted")
    made = play(root, planted, name=f"drill-{variant}", wall_seconds=5 if variant == "overrun" else 120)
    step = made.go(candidates=1)
    return step, made.project.state()


@pytest.mark.parametrize(
    ("variant", "incident", "said"),
    [
        ("relaunch", "undeclared-copy", "left running; they are dead"),
        ("fill-disk", "undeclared-output", ""),
        ("overrun", "overrun", "used up its time"),
        ("forge-claim", "forged-claim", "claims 0.99"),
    ],
)
def test_a_misbehaving_step_is_contained_and_opens_an_incident(
    variant: str, incident: str, said: str, founder: Path, tmp_path: Path
) -> None:
    step, state = drill(variant, founder, tmp_path)
    assert isinstance(step, agenda.AwaitWarrant)
    opened = [each for each in state.incidents.values() if each.kind == incident]
    assert len(opened) == 1
    assert said in opened[0].summary
    assert opened[0].exercise
    assert state.lineage.parent.number == 0, "nothing that misbehaved was released"


@pytest.mark.parametrize(("variant", "decoy"), [("steal", "vault"), ("truncate-log", "ledger")])
def test_touching_a_decoy_halts_the_loop_and_proves_it(variant: str, decoy: str, founder: Path, tmp_path: Path) -> None:
    step, state = drill(variant, founder, tmp_path)
    assert isinstance(step, agenda.Halted)
    (incident,) = state.incidents.values()
    assert incident.kind == "decoy"
    assert decoy in incident.summary
    assert step.halt.proven is PROVEN
    assert step.halt.by == "tripwire:decoy_opened"
    assert state.candidates == {}, "what a thief brings out is not even proposed"
