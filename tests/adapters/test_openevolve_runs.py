"""Whole runs of OpenEvolve under the real governor: what enters, what leaves, and how a run is stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.adapters.conftest import Scene, evolved, times
from tests.adapters.endpoint import answering, raw, slow


def test_the_best_of_what_was_admitted_is_held_for_people(scene: Scene) -> None:
    scene.warrant(20, requests_max=10, tokens_max=5000, usd_max=1.0)
    flat = evolved("def solve(n):\n    return 99\n")
    with answering(times(3), flat, times(5)) as endpoint:
        ended = scene.run(endpoint.url)
    assert scene.code == 0, scene.said
    assert scene.verdicts() == [
        ("admitted", ()), ("admitted", ()), ("refused", ("checks_must_pass",)), ("admitted", ()),
    ]  # fmt: skip  # a list in one row
    assert (ended["type"], ended["step"], ended["released"]) == ("outcome", "Hold", False), ended
    assert "stopping" not in {message["type"] for message in scene.said}
    state = scene.project.state()
    candidate = state.candidates[ended["candidate"]]
    assert candidate.claim["score"] == candidate.claim["combined_score"] == pytest.approx(0.35)
    files = scene.project.home / "artifacts" / candidate.root.removeprefix("sha256:")
    assert times(5) == next(files.rglob("program.py")).read_text()
    spent = state.warrant.spent
    assert (spent.programs, spent.requests, spent.tokens, spent.usd) == (4, 3, 360, pytest.approx(0.03))


@pytest.mark.slow
def test_what_is_no_program_and_what_gives_no_score_is_refused_and_the_run_goes_on(scene: Scene) -> None:
    scene.warrant()
    unfit = [
        evolved("def solve(n:\n    return n\n"),
        times(2).replace("return 10", "return 11"),
        evolved("def solve(n):\n    return 5\n" + "# a long comment\n" * 650_000),
        evolved("def solve(n):\n    return 'many'\n"),
        evolved("def solve(n):\n    return float('nan')\n"),
        evolved("def solve(n):\n    raise ValueError(n)\n"),
        evolved("import time\n\n\ndef solve(n):\n    time.sleep(60)\n"),
        evolved("import sys\n\n\ndef solve(n):\n    sys.exit(0)\n"),
    ]
    broken = [raw(b"{not json"), raw(b"{}"), raw(b"down", 503), lambda request: request.say("", choices=[]), slow(2)]
    with answering(*unfit, *broken, times(3)) as endpoint:
        ended = scene.run(endpoint.url, iterations=14, config={"timeout: 10": "timeout: 1", "timeout: 6": "timeout: 2"})
    assert (ended["type"], ended["step"]) == ("outcome", "Hold"), ended
    rules = [rules[0] for verdict, rules in scene.verdicts() if verdict == "refused"]
    assert rules == [
        "protected_text_must_stand", "protected_text_must_stand", "size_must_fit", "program_must_run",
        "score_must_be_a_number", "program_must_run", "program_must_run", "program_must_run",
    ]  # fmt: skip  # a list in two rows
    assert scene.verdicts()[-1] == ("admitted", ())
    spent = scene.project.state().warrant.spent
    assert spent.requests == 14
    assert spent.usd is None, "nobody knows what the request cost that was given up"


@pytest.mark.slow
def test_a_program_that_was_refused_is_not_run_again(scene: Scene) -> None:
    scene.warrant()
    failing = evolved("def solve(n):\n    raise ValueError(n)\n")
    with answering(failing, failing, failing, times(2)) as endpoint:
        scene.run(endpoint.url, iterations=4)
    assert [verdict for verdict, _ in scene.verdicts()] == ["admitted", *["refused"] * 3, "admitted"]
    assert len(scene.judged()) == 3


@pytest.mark.slow
def test_an_endpoint_that_is_down_is_named_and_the_step_goes_on_later(scene: Scene) -> None:
    scene.warrant()
    ended = scene.run(iterations=2)
    assert (ended["type"], scene.code) == ("error", 4)
    assert ended["message"].startswith("nothing came of the run: Evolution failed: 0/2 iterations produced a candidate")
    assert "the step stays open" in ended["help"]
    with answering(times(2)) as endpoint:
        ended = scene.run(endpoint.url, iterations=1)
    assert ended["type"] == "outcome"
    assert next(message for message in scene.said if message["type"] == "started")["resumed"] is True


@pytest.mark.slow
def test_a_run_whose_warrant_is_used_up_stops_and_proposes_what_it_has(scene: Scene) -> None:
    scene.warrant(3)
    with answering(times(2), times(3), times(4), times(5)) as endpoint:
        ended = scene.run(endpoint.url, iterations=50)
        asked = endpoint.count
    stopping = [message for message in scene.said if message["type"] == "stopping"]
    assert len(stopping) == 1
    assert stopping[0]["why"] == "3 programs are used; the warrant ends at 3"
    assert ended["type"] == "outcome"
    assert scene.project.state().candidates[ended["candidate"]].claim["score"] == pytest.approx(0.21)
    assert asked < 8
    assert scene.project.state().warrant.spent.programs == 3


@pytest.mark.slow
def test_after_the_last_request_nothing_runs_any_more(scene: Scene) -> None:
    scene.warrant(requests_max=3)
    with answering(*[times(factor) for factor in range(2, 60)]) as endpoint:
        ended = scene.run(endpoint.url, iterations=50)
        assert endpoint.count == 3
    assert ended["type"] == "outcome"
    assert scene.project.state().candidates[ended["candidate"]].claim["score"] == pytest.approx(0.21)


@pytest.mark.slow
def test_money_that_is_bounded_and_not_reported_counts_as_spent(scene: Scene) -> None:
    scene.warrant(usd_max=5.0)
    with answering(times(2), cost=None) as endpoint:
        ended = scene.run(endpoint.url, iterations=50)
        assert endpoint.count == 1
    why = next(message["why"] for message in scene.said if message["type"] == "stopping")
    assert why == "the warrant bounds US dollars at 5, but the endpoint reports no price"
    assert ended["type"] == "outcome"


def test_without_leave_nothing_starts(scene: Scene) -> None:
    with answering(times(2)) as endpoint:
        ended = scene.run(endpoint.url)
        assert endpoint.count == 0
    assert (ended["type"], ended["step"], scene.code) == ("no", "AwaitWarrant", 1)
    assert "no warrant has been given" in ended["why"]


def test_a_first_program_that_is_refused_stops_the_run_with_its_reasons(scene: Scene) -> None:
    scene.warrant()
    scene.write("held_out.py", "def check(program):\n    return 'it is not to my liking'\n")
    with answering(times(2)) as endpoint:
        ended = scene.run(endpoint.url)
        assert endpoint.count == 0
    assert scene.code == 1
    assert ended["why"] == (
        "the program from which the run starts was refused: a check refused it: it is not to my liking"
    )


@pytest.mark.slow
def test_in_shadow_everything_enters_and_what_would_be_refused_is_on_record(scene: Scene) -> None:
    with answering(evolved("def solve(n):\n    return 99\n")) as endpoint:
        ended = scene.run(endpoint.url, iterations=2, shadow=True)
    assert scene.verdicts() == [("admitted", ())] + [("admitted", ("checks_must_pass",))] * 2
    assert ended["shadow"] is True
    assert scene.project.state().lineage.parent.number == 0


@pytest.mark.slow
def test_a_worker_that_is_killed_takes_its_program_with_it_and_the_run_ends_with_what_it_has(scene: Scene) -> None:
    scene.warrant()
    evaluator = (scene.root / "example" / "evaluator.py").read_text()
    scene.write("evaluator.py", evaluator.replace("/ 100}", "/ 100 if program.solve(7) != 666 else die()}") + DIE)
    with answering(times(2), evolved("def solve(n):\n    return 666\n"), times(3)) as endpoint:
        ended = scene.run(endpoint.url, iterations=6)
    assert ended["type"] == "outcome", ended
    assert scene.project.state().candidates[ended["candidate"]].claim["score"] == pytest.approx(0.14)
    assert scene.project.state().attempts[1].refused == {"program_must_run": 1}


DIE = """

def die():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
"""

STAGES = """
def evaluate_stage1(program_path):
    return evaluate(program_path)


def evaluate_stage2(program_path):
    return {**evaluate(program_path), "second": 1.0}
"""


@pytest.mark.slow
def test_the_stages_of_a_cascade_share_one_sandbox_and_the_last_one_is_judged(scene: Scene) -> None:
    scene.warrant()
    scene.write("evaluator.py", (scene.root / "example" / "evaluator.py").read_text() + STAGES)
    with answering(times(2), times(0.1), times(3)) as endpoint:
        ended = scene.run(endpoint.url, iterations=3, config={"[0.01, 2.0]": "[0.05, 2.0]"})
    assert [verdict for verdict, _ in scene.verdicts()] == ["admitted"] * 4
    assert len(scene.judged()) == scene.project.state().warrant.spent.programs == 4
    assert scene.project.state().candidates[ended["candidate"]].claim == {
        "combined_score": pytest.approx(0.21), "score": pytest.approx(0.21), "second": 1.0,
    }  # fmt: skip  # a claim in one row


@pytest.mark.slow
def test_the_same_answers_on_one_worker_judge_the_same_programs_in_the_same_order(scene: Scene, tmp_path: Path) -> None:
    scene.warrant()
    twin = Scene(tmp_path / "twin", tmp_path / "twin" / "keys")
    shutil.copytree(scene.root, twin.root, symlinks=True)
    answers = [times(2), evolved("def solve(n):\n    return 99\n"), times(0.5), times(4), times(3)]
    seen = []
    for each in (scene, twin):
        with answering(*answers) as endpoint:
            each.run(endpoint.url, iterations=5)
        seen.append((each.judged(), each.verdicts()))
    assert seen[0] == seen[1]
    assert len(seen[0][0]) == 6
