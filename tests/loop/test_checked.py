"""A loop's sandboxes rest on the machine's containment check; a governor whose check failed launches nothing for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.app.machine.doctor import spare_backend
from keyturn.cli.main import main
from keyturn.core.terms import Tier
from keyturn.sandbox.standing import checking, file
from tests.journeys.playing import PROVEN
from tests.loop.scene import Scene
from tests.loop.test_serving import SQUARE, run_one

pytestmark = pytest.mark.skipif(not PROVEN, reason="not run: what an ordinary user's sandbox earns differs by machine")

Make = Callable[..., Scene]
ASKED = {"wall_seconds = 60": "wall_seconds = 60\ncheck_seconds_max = 86_400"}


def served(made: Scene) -> None:
    """One run of a loop that ends without a candidate."""
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            run_one(worker, SQUARE)
            run.ask({"type": "end", "why": "a test"})


@pytest.fixture
def kept(checked: None) -> Iterator[Path]:
    """The kept result, put back afterwards."""
    place = file.place()
    before = place.read_bytes()
    yield place
    place.write_bytes(before)


def test_what_is_attested_carries_the_check_and_a_replay_finds_it(scene: Make, kept: Path) -> None:
    made = scene(**ASKED)
    served(made)
    result, _ = file.read(kept)
    assert result is not None
    attested = made.state().attested["improve:1"]
    assert (attested.tier, attested.problems) == ("T2", ())
    assert attested.facts["check"] == result.facts()
    assert not [line for line in made.said if "checks the sandbox" in line]
    assert made.project.replay(lambda _: None).problems == ()


def test_on_a_check_that_failed_no_loop_is_served(scene: Make, kept: Path) -> None:
    result, _ = file.read(kept)
    assert result is not None
    file.write(kept, replace(result, tier=Tier.T0, held=result.scored - 1, failed=("host-secret (breach)",)))
    made = scene()
    with made.serving():
        run, answer = made.loop()
        run.close()
    assert answer["type"] == "no"
    assert "the last check failed" in answer["why"][0]["message"]
    assert "not host-secret (breach)" in str(made.fault)
    [seen] = made.state().attested.values()
    assert (seen.tier, len(seen.problems)) == ("T0", 1)


def test_without_a_check_the_governor_runs_it_first_and_says_so(scene: Make, kept: Path) -> None:
    kept.unlink()
    made = scene()
    with made.serving():
        run, answer = made.loop()
        run.ask({"type": "end", "why": "a test"})
        run.close()
    assert answer["type"] == "leave"
    said = [line for line in made.said if "sandbox" in line]
    assert said[0].endswith("kept for 7 days")
    assert "which earns T2" in said[1]
    assert file.read(kept)[0] is not None


def test_a_person_runs_the_check_and_a_governor_believes_it(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept.unlink()
    code = main(["sandbox", "check", "--json"])
    body: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (code, body["enough"], body["tier"]) == (0, True, "T2")
    assert (body["held"], body["scored"]) == (
        body["scored"],
        len([r for r in body["rows"] if r["kind"] != "information"]),
    )
    with spare_backend() as backend:
        assert checking.look(backend, 60).stands
        assert checking.ensure(backend, 60, tell=lambda *_: pytest.fail("it ran again"), tick=lambda: None) is None
