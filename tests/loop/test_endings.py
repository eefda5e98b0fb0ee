"""How a loop's run ends or breaks off: its bounds, a halt, a tripwire, a loop or a governor that goes away."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keyturn.core import agenda
from keyturn.core.errors import Unavailable
from tests.journeys.playing import PROVEN
from tests.loop.scene import Client, Scene, digest_of, eventually, evolved

Make = Callable[..., Scene]


def program(number: int) -> str:
    return evolved(f"def solve(n):\n    return n + {number}\n")


def run_one(worker: Client, text: str) -> dict[str, object]:
    assert worker.program(text)["type"] == "running"
    worker.calls().close()
    return worker.judge(1.0)


@contextmanager
def governor(made: Scene, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The governor as a process of its own, as people start it."""
    command = [sys.executable, "-m", "keyturn", "loop", "serve", "--project", str(made.project.root), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def sealed_processes(made: Scene) -> list[int]:
    """Every process in a sandbox of this project's that is our init, or a runner that is a fork of it."""
    tag = hashlib.sha256(os.fsencode((made.project.home / "run").resolve())).hexdigest()[:12]
    found = []
    for place in [place for place in Path("/proc").iterdir() if place.name.isdigit()]:
        with contextlib.suppress(OSError):
            if f"keyturn-{tag}" in (place / "cgroup").read_text():
                found += [int(place.name)] * (b"/keyturn/init.py" in (place / "cmdline").read_bytes())
    return found


def test_a_used_up_warrant_stops_the_loop_and_the_best_may_still_leave(scene: Make) -> None:
    made = scene(2)
    with made.serving():
        run, leave = made.loop()
        assert leave["bounds"]["programs_max"] == 2
        with run, made.client() as first, made.client() as second, made.client() as third:
            assert first.program(program(1))["type"] == "running"
            assert second.program(program(2))["type"] == "running"
            stopped = third.program(program(3))
            assert (stopped["type"], stopped["halted"]) == ("stop", False)
            assert "warrant ends at 2" in stopped["why"]
            assert run.answer()["type"] == "stop", "the loop itself is told too"
            assert first.judge(1.0)["admitted"] is True, "whoever runs is judged"
            assert second.judge(2.0)["admitted"] is True
            assert third.program(program(4))["type"] == "stop"
            outcome = run.ask({"type": "propose", "program": digest_of(program(2)), "claim": {}})
            assert outcome["step"] == "Hold"
    (attempt,) = made.state().attempts.values()
    assert (attempt.judged, attempt.spent.programs) == (2, 2)
    assert made.project.replay(lambda _: None).problems == ()


def test_a_bound_on_requests_is_held_before_each_request(scene: Make) -> None:
    made = scene(requests_max=2)
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as meter:
            assert meter.ask({"type": "request"})["type"] == "granted"
            assert meter.ask({"type": "usage", "requests": 1, "tokens": 700, "usd": None})["type"] == "noted"
            assert meter.ask({"type": "request"})["type"] == "granted"
            stopped = meter.ask({"type": "request"})
            assert (stopped["type"], "requests" in stopped["why"]) == ("stop", True)
            assert run.answer()["type"] == "stop"
            run.ask({"type": "end", "why": "a test"})
    (attempt,) = made.state().attempts.values()
    assert (attempt.spent.requests, attempt.spent.tokens, attempt.spent.usd) == (2, 700, None)


def test_a_loop_whose_time_is_up_is_told_although_it_asks_nothing(scene: Make) -> None:
    made = scene(wall_seconds=1)
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            stopped = run.answer()
            assert (stopped["type"], "seconds" in stopped["why"]) == ("stop", True)
            assert worker.program(program(1))["type"] == "stop"
            assert run.ask({"type": "end", "why": "its time is up"})["type"] == "outcome"
    assert made.project.replay(lambda _: None).problems == ()


def test_a_loop_that_goes_away_leaves_the_step_open_and_may_come_back(scene: Make) -> None:
    made = scene()
    with made.serving():
        run, _ = made.loop()
        with made.client() as worker:
            assert run_one(worker, program(1))["admitted"] is True
            run.close()
            made.join()
    assert isinstance(made.fault, Unavailable)
    (attempt,) = made.state().attempts.values()
    assert (attempt.outcome, attempt.batch_open, attempt.judged) == ("", False, 1)
    with made.serving():
        run, leave = made.loop()
        assert (leave["resumed"], leave["used"]["programs"], leave["attempt"]) == (True, 1, 1)
        with run:
            known = run.ask({"type": "verdict", "program": digest_of(program(1))})
            assert (known["admitted"], known["known"]) == (True, True)
            outcome = run.ask({"type": "propose", "program": digest_of(program(1)), "claim": {}})
            assert outcome["step"] == "Hold"
    (attempt,) = made.state().attempts.values()
    assert (attempt.judged, attempt.lost) == (1, 0)
    assert made.project.replay(lambda _: None).problems == ()


def test_a_killed_governor_takes_its_sandboxes_with_it_and_what_it_may_have_lost_is_charged(scene: Make) -> None:
    made = scene(60, BATCH="20", LEASE="1")
    with governor(made) as process:
        run, _ = made.loop()
        with run, made.client() as worker:
            assert worker.program(program(1))["type"] == "running"
            calls = worker.calls()
            assert calls.call("solve", 1) == 2
            process.send_signal(signal.SIGKILL)
            assert calls.read() is None, "its lease is over, and so is it"
            calls.close()
    assert eventually(lambda: not sealed_processes(made))
    with made.serving():
        run, leave = made.loop()
        with run:
            assert (leave["resumed"], leave["attempt"]) == (True, 1)
            run.ask({"type": "end", "why": "a test"})
    (attempt,) = made.state().attempts.values()
    assert (attempt.judged, attempt.lost, attempt.spent.programs) == (0, 20, 20)
    assert any("20 programs that may have run unlogged" in said for said in made.said)
    assert made.project.replay(lambda _: None).problems == ()


def test_a_halt_from_a_second_terminal_kills_every_sandbox_and_tells_everybody(scene: Make) -> None:
    made = scene()
    with governor(made, "--json") as process:
        run, _ = made.loop()
        with run, made.client() as worker:
            assert worker.program(program(1))["type"] == "running"
            calls = worker.calls()
            command = [sys.executable, "-m", "keyturn", "halt", "--project", str(made.project.root), "--by", "grace"]
            done = subprocess.run(
                [*command, "--reason", "a drill", "--json"], capture_output=True, timeout=60, check=False
            )
            receipt = json.loads(done.stdout)["receipt"]
            assert receipt["state"] == ("STOPPED" if PROVEN else "UNPROVEN")
            assert calls.read() is None
            calls.close()
            assert (run.answer()["halted"], worker.answer()["halted"]) == (True, True)
            for client in (run, worker):
                with pytest.raises(EOFError):
                    client.answer()
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 6
        assert json.loads(said)["step"] == "Halted"
    assert sealed_processes(made) == []
    state = made.state()
    assert state.halt is not None
    (attempt,) = state.attempts.values()
    assert (attempt.outcome, attempt.judged, attempt.batch_open) == ("", 1, False)
    assert made.project.replay(lambda _: None).problems == ()


def test_a_tripwire_halts_the_whole_run(scene: Make) -> None:
    made = scene(DECOY="halt")
    thief = evolved("def solve(n):\n    return open('/grader/evaluator.py').read()\n")
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker, made.client() as bystander:
            assert bystander.program(program(1))["type"] == "running"
            bystander.calls().close()
            worker.program(thief)
            calls = worker.calls()
            with contextlib.suppress(AssertionError):
                calls.call("solve", 1)
            calls.close()
            assert (run.answer()["type"], bystander.answer()["halted"]) == ("stop", True)
    assert made.served is not None
    assert isinstance(made.served.step, agenda.Halted)
    state = made.state()
    assert state.halt is not None
    assert state.halt.by == "tripwire:decoy_opened"
    (attempt,) = state.attempts.values()
    assert (attempt.judged, attempt.admitted) == (2, frozenset())
    assert made.project.replay(lambda _: None).problems == ()


def test_a_halted_project_gives_a_loop_no_leave(scene: Make) -> None:
    made = scene()
    made.project.halt(by="grace", reason="a drill")
    with made.serving():
        run, answer = made.loop()
        run.close()
    assert (answer["type"], answer["step"], answer["why"][0]["rule"]) == ("no", "Halted", "halt_must_be_lifted")


def test_batches_reach_the_log_as_they_fill(scene: Make) -> None:
    made = scene(BATCH="2")
    with made.serving(warm=4):
        run, _ = made.loop()
        with run, made.client() as worker:
            for number in range(5):
                run_one(worker, program(number))
            assert eventually(lambda: made.state().attempts[1].judged == 4)
            run.ask({"type": "end", "why": "a test"})
    (attempt,) = made.state().attempts.values()
    assert (attempt.judged, attempt.batches) == (5, 3)
    assert sum(said.startswith("batch") for said in made.said) == 3


def test_warm_sandboxes_hold_out_longer_than_a_lease(scene: Make) -> None:
    made = scene(LEASE="1")
    with made.serving():
        run, _ = made.loop()
        with run, made.client() as worker:
            assert eventually(lambda: len(sealed_processes(made)) == 6), "monitor, init and runner, twice"
            before = sealed_processes(made)
            time.sleep(1.5)
            assert set(sealed_processes(made)) == set(before) != set()
            assert run_one(worker, program(1))["admitted"] is True
            run.ask({"type": "end", "why": "a test"})
