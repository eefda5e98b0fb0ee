"""Who may enter the population: the governor is asked first, and a strategy of the user's after it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from openevolve.population import PopulationStrategy, ProgramState

from keyturn.adapters.openevolve.admitting import Admitting, Stopping, score_of, strategy
from keyturn.core.finding import Finding
from keyturn.sdk import Admission, Refused, Run, Stopped
from keyturn.sdk.run import digest_of

GOOD = Admission(True, ())
BAD = Admission(False, (Finding("checks_must_pass", "by heart", ""),))
EMPTY, FULL = SimpleNamespace(programs={}), SimpleNamespace(programs={"a": 1})


def state(code: str, **more: Any) -> ProgramState:
    fields = {"id": code, "metrics": {"combined_score": 0.5}, "generation": 0, "parent_id": None, "metadata": {}}
    return ProgramState(**{**fields, "code": code, **more})


class Told(list[dict[str, Any]]):
    """What was reported."""

    def __call__(self, message: Any) -> None:
        self.append(dict(message))


def admitting(*, shadow: bool = False, **verdicts: Admission) -> tuple[Admitting, Told]:
    known = {digest_of(code): verdict for code, verdict in verdicts.items()}
    run = SimpleNamespace(shadow=shadow, used_now={"programs": 1}, verdict=known.get)
    told = Told()
    return Admitting(cast(Run, run), told, Stopping(told)), told


def test_only_what_was_admitted_enters_and_what_was_never_judged_does_not() -> None:
    ours, told = admitting(good=GOOD, bad=BAD)
    assert [ours(FULL, state(code), 0) for code in ("good", "bad", "unheard")] == [True, False, False]
    assert [row["rules"] for row in told] == [[], ["checks_must_pass"], ["program_must_run"]]
    assert [row["best"] for row in told] == [0.5, 0.5, 0.5]


def test_a_strategy_of_the_users_is_asked_only_about_what_was_admitted_and_keeps_its_other_hooks() -> None:
    asked: list[str] = []

    def theirs(_: object, candidate: ProgramState, __: int) -> bool:
        asked.append(candidate.code)
        return candidate.code != "dull"

    ours, _ = admitting(good=GOOD, bad=BAD, dull=GOOD)
    made = strategy(ours, PopulationStrategy(admit=theirs, evict=lambda *_: []))
    assert [made.admit(FULL, state(code), 0) for code in ("good", "bad", "dull")] == [True, False, False]
    assert asked == ["good", "dull"]
    assert made.evict is not None
    assert strategy(admitting()[0], None).evict is None


def test_a_refused_first_program_stops_the_run() -> None:
    ours, _ = admitting(bad=BAD)
    with pytest.raises(Refused, match="the program from which the run starts was refused: by heart"):
        ours(EMPTY, state("bad"), 0)


def test_after_a_halt_nobody_enters() -> None:
    ours, told = admitting(good=GOOD)
    ours.stopping.told(Stopped("bounds are used up"))
    assert ours(FULL, state("good"), 0)
    ours.stopping.told(Stopped("a halt", halted=True))
    with pytest.raises(Stopped, match="a halt"):
        ours(FULL, state("good"), 0)
    assert [row["halted"] for row in told if row["type"] == "stopping"] == [False, True]


def test_a_copy_that_migrates_is_asked_about_and_not_counted_again() -> None:
    ours, told = admitting(good=GOOD, bad=BAD)
    assert ours(FULL, state("good", metadata={"migrant": True}), 1)
    assert not ours(FULL, state("bad", metadata={"migrant": True}), 1)
    assert told == []


def test_in_shadow_everybody_enters() -> None:
    ours, told = admitting(shadow=True, bad=BAD)
    assert ours(EMPTY, state("bad"), 0)
    assert (told[0]["admitted"], told[0]["rules"]) == (True, ["checks_must_pass"])


@pytest.mark.parametrize(
    ("metrics", "score"),
    [({}, None), ({"combined_score": 2}, 2.0), ({"a": 1, "b": 2, "ok": True, "c": "x"}, 1.5), ({"ok": True}, None)],
)
def test_the_score_is_the_one_that_openevolve_goes_by(metrics: dict[str, Any], score: float | None) -> None:
    assert score_of(metrics) == score
