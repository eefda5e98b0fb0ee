"""A loop's whole run: its programs run sealed, are judged, and one of them leaves the step as its candidate."""

from __future__ import annotations

import contextlib
import json
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyturn.core import agenda
from keyturn.wire import canonical
from tests.journeys.playing import PROVEN
from tests.loop.scene import PARENT, TIER, Client, Scene, digest_of, evolved, make

Make = Callable[..., Scene]
SQUARE = evolved("def solve(n):\n    return n * n\n")


def run_one(client: Client, text: str, score: float = 1.0) -> dict[str, Any]:
    """Hand a program in, call it once, and have it judged."""
    assert client.program(text)["type"] == "running"
    calls = client.calls()
    calls.call("solve", 7)
    answer = client.judge(score)
    calls.close()
    return answer


def test_the_best_program_of_a_run_becomes_the_candidate_and_waits_for_people(scene: Make) -> None:
    made = scene()
    with made.serving():
        run, leave = made.loop()
        assert (leave["type"], leave["text"], leave["shadow"], leave["resumed"]) == ("leave", PARENT, False, False)
        with run, made.client() as worker:
            said = worker.program(SQUARE)
            assert said == {"type": "running", "program": digest_of(SQUARE)}
            calls = worker.calls()
            assert calls.call("solve", 7) == 49
            judged = worker.judge(49.0)
            calls.close()
            assert (judged["admitted"], judged["findings"], judged["ended"]) == (True, [], "alive")
            known = run.ask({"type": "verdict", "program": digest_of(SQUARE)})
            assert (known["admitted"], known["known"]) == (True, True)
            outcome = run.ask({"type": "propose", "program": digest_of(SQUARE), "claim": {"score": 49.0}})
        assert (outcome["type"], outcome["step"], outcome["released"]) == ("outcome", "Hold", False)
    state = made.state()
    candidate = state.candidates[outcome["candidate"]]
    assert [(f["name"], f["digest"]) for f in candidate.files] == [("program.py", digest_of(SQUARE))]
    assert candidate.claim == {"score": 49}
    assert candidate.dossier == outcome["dossier"]
    assert made.served is not None
    assert isinstance(made.served.step, agenda.Hold)
    assert made.project.replay(lambda _: None).problems == ()
    assert not (made.project.home / "loop.sock").exists()


def test_what_was_seen_of_a_program_lies_under_its_digest(scene: Make) -> None:
    made = scene()
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            judged = run_one(worker, SQUARE, 49.5)
            run.ask({"type": "end", "why": "a test"})
    folder = made.project.home / "programs"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    kept = (folder / str(judged["evidence"]).removeprefix("sha256:")).read_bytes()
    assert digest_of(kept) == judged["evidence"]
    document = json.loads(kept)
    assert canonical.encode(document) == kept
    assert (document["program"], document["verdict"], document["findings"]) == (digest_of(SQUARE), "admitted", [])
    assert document["evaluator"]["metrics"] == {"score": 49.5}
    assert (document["processes"], document["decoys"], document["sandbox"]["tier"]) == (0, [], TIER)
    seen = made.state().attested["improve:1"]
    facts = {"tier": seen.tier, "facts": seen.facts}
    assert document["sandbox"]["attestation"] == digest_of(canonical.encode(facts))
    assert (folder / digest_of(SQUARE).removeprefix("sha256:")).read_text() == SQUARE


def test_without_leave_a_loop_is_told_every_reason(scene: Make, tmp_path: Path) -> None:
    made = make(tmp_path)
    made.found()
    with made.serving():
        run, answer = made.loop()
        run.close()
    assert (answer["type"], answer["step"]) == ("no", "AwaitWarrant")
    (why,) = answer["why"]
    assert (why["rule"], why["message"]) == (
        "warrant_must_cover",
        "there is no leave to train: no warrant has been given",
    )
    assert made.served is not None
    assert made.served.attempt is None


def test_a_text_that_touches_what_must_stand_is_refused_before_it_runs(scene: Make) -> None:
    made = scene(5)
    texts: list[tuple[str | bytes, str]] = [
        (PARENT.replace("return 10", "return 11"), "protected_text_must_stand"),
        (SQUARE.encode() + b"\xff", "text_must_be_plain"),
        (SQUARE + "#" * 100_000, "size_must_fit"),
    ]
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            for text, rule in texts:
                answer = worker.program(text)
                assert (answer["type"], answer["program"]) == ("refused", digest_of(text))
                assert [finding["rule"] for finding in answer["findings"]] == [rule]
            named = {"type": "program", "bytes": 0, "too_long": 10_000_000, "digest": digest_of("long"), "seconds": 1}
            assert worker.ask(named)["findings"][0]["rule"] == "size_must_fit"
            no = run.ask({"type": "propose", "program": digest_of(texts[0][0]), "claim": {}})
            assert (no["type"], no["why"][0]["rule"]) == ("no", "program_must_be_admitted")
            assert run.ask({"type": "end", "why": "a test"})["candidate"] == ""
    (attempt,) = made.state().attempts.values()
    assert (attempt.judged, attempt.outcome) == (4, "ended")
    assert attempt.refused == {"protected_text_must_stand": 1, "text_must_be_plain": 1, "size_must_fit": 2}


def test_a_program_that_never_ends_is_killed_and_refused(scene: Make) -> None:
    made = scene()
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            text = evolved("def solve(n):\n    while True:\n        pass\n")
            assert worker.program(text, seconds=0.3)["type"] == "running"
            calls = worker.calls()
            with pytest.raises(AssertionError, match="the program has ended"):
                calls.call("solve", 7)
            calls.close()
            judged = worker.judge(fault="it did not answer")
            assert (judged["admitted"], judged["ended"]) == (False, "wall")
            assert {finding["rule"] for finding in judged["findings"]} == {"program_must_run"}
            run.ask({"type": "end", "why": "a test"})
    assert made.state().incidents == {}


@pytest.mark.parametrize(
    ("body", "ended"),
    [
        ("import os\ndef solve(n):\n    os._exit(0)\n", "exited"),
        pytest.param(
            "def solve(n):\n    return len(bytearray(400 << 20))\n",
            "memory",
            marks=pytest.mark.skipif(not PROVEN, reason="not run: only a cgroup holds memory"),
        ),
    ],
)
def test_a_program_that_brings_its_sandbox_down_is_refused_for_it(scene: Make, body: str, ended: str) -> None:
    made = scene()
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            worker.program(evolved(body))
            calls = worker.calls()
            with pytest.raises(AssertionError, match="the program has ended"):
                calls.call("solve", 7)
            calls.close()
            judged = worker.judge(1.0)
            assert (judged["admitted"], judged["ended"]) == (False, ended)
            run.ask({"type": "end", "why": "a test"})


def test_a_fault_in_the_text_is_the_runners_to_tell(scene: Make) -> None:
    made = scene(PROTECT="nothing")
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            assert worker.program("def solve(n:\n")["type"] == "running"
            calls = worker.calls()
            (output,) = calls.ask({"has": "solve"})
            assert output["fault"].startswith("SyntaxError")
            calls.close()
            judged = worker.judge(1.0, fault=output["fault"])
            assert [finding["rule"] for finding in judged["findings"]] == ["program_must_run"]
            run.ask({"type": "end", "why": "a test"})


def test_processes_of_its_own_are_misconduct_and_an_incident(scene: Make) -> None:
    made = scene()
    text = evolved("import os, time\ndef solve(n):\n    if os.fork() == 0:\n        time.sleep(60)\n    return n\n")
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            judged = run_one(worker, text)
            assert (judged["admitted"], judged["ended"]) == (False, "alive")
            assert judged["findings"][0]["message"].startswith("1 process(es)")
            again = worker.program(text)
            assert (again["type"], again["findings"][0]["rule"]) == ("refused", "conduct_must_be_clean")
            run.ask({"type": "end", "why": "a test"})
    (incident,) = made.state().incidents.values()
    assert (incident.kind, incident.facts["programs"]) == ("undeclared-copy", [digest_of(text)])


def test_a_decoy_refuses_its_program_and_the_run_goes_on(scene: Make) -> None:
    made = scene()
    text = evolved("def solve(n):\n    return len(open('/keys/.env').read())\n")
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            worker.program(text)
            calls = worker.calls()
            with contextlib.suppress(AssertionError):
                calls.call("solve", 7)
            calls.close()
            judged = worker.judge(1.0)
            assert (judged["admitted"], judged["ended"]) == (False, "decoy")
            assert run_one(worker, SQUARE)["admitted"] is True
            outcome = run.ask({"type": "propose", "program": digest_of(SQUARE), "claim": {}})
            assert outcome["step"] == "Hold", "a refused sibling does not taint the candidate"
    (incident,) = made.state().incidents.values()
    assert (incident.kind, incident.attempt) == ("decoy", 0)


def test_a_program_whose_worker_goes_away_is_refused_and_in_the_log(scene: Make) -> None:
    made = scene()
    with made.serving():
        run, _ = made.loop()
        with run:
            worker = made.client()
            worker.program(SQUARE)
            worker.close()
            while not run.ask({"type": "verdict", "program": digest_of(SQUARE)})["known"]:
                pass
            run.ask({"type": "end", "why": "a test"})
    (attempt,) = made.state().attempts.values()
    assert (attempt.judged, attempt.refused) == (1, {"program_must_run": 1})


def test_a_second_loop_is_turned_away(scene: Make) -> None:
    made = scene()
    with made.serving():
        run, _ = made.loop()
        with run:
            second, answer = made.loop()
            second.close()
            assert (answer["type"], answer["step"], answer["why"][0]["rule"]) == (
                "no",
                "Conflict",
                "loop_must_be_alone",
            )
            run.ask({"type": "end", "why": "a test"})


def test_a_programs_dice_follow_from_the_step_and_its_text(scene: Make) -> None:
    made = scene(PROTECT="nothing")
    rolled = []
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            for text in ["import random\n\ndef solve(n):\n    return random.random()\n"] * 2 + [
                "import random\n\n\ndef solve(n):\n    return random.random()\n"
            ]:
                worker.program(text)
                calls = worker.calls()
                rolled.append(calls.call("solve", 0))
                calls.close()
                worker.judge(1.0)
            run.ask({"type": "end", "why": "a test"})
    assert rolled[0] == rolled[1] != rolled[2]
    assert rolled[0] != random.Random(0).random()


def test_a_program_longer_than_a_pipe_goes_in_whole(scene: Make) -> None:
    made = scene()
    text = evolved(f"SEEN = {'é' * 40_000!r}\ndef solve(n):\n    return len(SEEN)\n")
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            worker.program(text)
            calls = worker.calls()
            assert calls.call("solve", 7) == 40_000
            calls.close()
            worker.judge(1.0)
            run.ask({"type": "end", "why": "a test"})


def test_in_shadow_mode_nothing_is_refused_and_everything_is_told(scene: Make, tmp_path: Path) -> None:
    made = make(tmp_path)
    made.found()
    bad = PARENT.replace("return 10", "return 11")
    with made.serving(shadow=True):
        run, leave = made.loop()
        assert (leave["shadow"], leave["bounds"]) == (True, None)
        with run, made.client() as worker:
            judged = run_one(worker, bad)
            assert judged["admitted"] is True
            assert [finding["rule"] for finding in judged["findings"]] == ["protected_text_must_stand"]
            outcome = run.ask({"type": "propose", "program": digest_of(bad), "claim": {}})
            assert (outcome["shadow"], outcome["released"]) == (True, False)
    (attempt,) = made.state().attempts.values()
    assert attempt.refused == {"protected_text_must_stand": 1}
    assert [permit.candidate for permit in made.state().permits.values()] == ["founder"]
    assert made.project.replay(lambda _: None).problems == ()
