"""What answers may say in all: counted with each block, never lost in a crash, and never more than the policy lets."""

from __future__ import annotations

from typing import Any

import pytest

from keyturn.core import agenda
from keyturn.core import events as ev
from keyturn.core.bounds import OUTPUT_BYTES_RESERVED as RESERVED
from keyturn.flow.run import run
from tests.fakes.runner import BYTES_SAID
from tests.fakes.world import Crash, Tape, World, document
from tests.flow.conftest import Found
from tests.flow.test_halting import warranted
from tests.world.story import lawful


def bounded(most: int) -> dict[str, Any]:
    return {"sandbox": {**document()["sandbox"], "output_bytes_lineage_max": most}}


def said(world: World) -> int:
    return sum(event.output_bytes for event in world.events() if isinstance(event, ev.TrialAdvanced))


def test_every_block_says_what_it_let_out(found: Found) -> None:
    world = warranted(found({}, **bounded(1 << 30)), candidates=1)
    with world.governor(Tape()) as governor:
        run(governor)
    blocks = [event for event in world.events() if isinstance(event, ev.TrialAdvanced)]
    assert blocks
    assert said(world) == sum(BYTES_SAID * len(event.values) for event in blocks) or said(world) >= BYTES_SAID
    assert world.state.output.used == world.state.output.said == said(world), "nothing is set aside any more"
    assert lawful(world) == []


def test_without_a_bound_nothing_is_set_aside(found: Found) -> None:
    world = warranted(found({}), candidates=1)
    with world.governor(Tape()) as governor:
        run(governor)
    assert "AnswersReserved" not in world.kinds()
    assert lawful(world) == []


def test_a_budget_that_is_used_up_holds_the_loop_within_it(found: Found) -> None:
    most = RESERVED + 10 * BYTES_SAID
    world = warranted(found({}, **bounded(most)), candidates=1)
    with world.governor(Tape()) as governor:
        step = run(governor)
        again = run(governor)
    assert isinstance(step, agenda.AwaitBudget)
    assert isinstance(again, agenda.AwaitBudget)
    assert 0 < said(world) <= most
    assert lawful(world) == []


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_start_that_broke_off_costs_all_that_it_could_have_said(found: Found, crashes: int) -> None:
    world = warranted(found({}, **bounded(1 << 30)), candidates=1)
    for _ in range(crashes):
        tape = Tape()

        def die(_: int, what: str) -> None:
            if what == "trial":
                raise Crash

        tape.act = die
        with pytest.raises(Crash), world.governor(tape) as governor:
            run(governor)
        world = world.crashed()
    with world.governor(Tape()) as governor:
        run(governor)
    kinds = world.kinds()
    assert kinds.count("AnswersReserved") > crashes
    assert world.state.output.said == said(world) + crashes * RESERVED
    assert lawful(world) == []
