"""What programs of one run share: a sandbox that serves one after another, for as long as nothing is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from keyturn.app.loop import warm
from tests.journeys.playing import PROVEN
from tests.loop.scene import Client, Scene, evolved

Make = Callable[..., Scene]

pytestmark = pytest.mark.skipif(not PROVEN, reason="not run: without a cgroup no sandbox serves twice")


def numbered(mark: int, body: str = "pass") -> str:
    """A program that tells its process number and what lies in its folder, and then does something."""
    told = "os.getpid(), sorted(os.listdir('/tmp')), os.environ.get('LEFT')"
    return evolved(f"import os\ndef solve(n):\n    found = [{told}]\n    {body}\n    return found  # {mark}\n")


def served(client: Client, text: str, **said: object) -> list[object]:
    """Hand a program in, call it once, and have it judged."""
    assert client.program(text)["type"] == "running"
    calls = client.calls()
    found = calls.call("solve", 7)
    client.judge(1.0, **said)
    calls.close()
    return list(found)


def test_programs_run_in_turn_in_few_sandboxes_and_find_each_one_empty(scene: Make) -> None:
    made = scene()
    leaves = "open('/tmp/left', 'w').close(); os.environ['LEFT'] = 'x'"
    with made.serving(warm=1):
        run, _ = made.loop()
        with run, made.client() as worker:
            found = [served(worker, numbered(mark, leaves)) for mark in range(6)]
            run.ask({"type": "end", "why": "a test"})
    assert [row[1:] for row in found] == [[[], None]] * 6
    assert [row[0] for row in found] == [2, 3, 4, 5, 6, 7], (
        "the numbers of processes go on: one sandbox served them all"
    )
    (attempt,) = made.state().attempts.values()
    assert attempt.judged == 6


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.fork() or __import__('time').sleep(60)", {}),
        ("[open(f'/tmp/{n}', 'w').close() for n in range(1500)]", {}),
        ("os.write(2, bytes(60_000))", {"fault": "an assertion failed"}),
        ("pass", {"signals": ["process"]}),
    ],
    ids=["processes", "many-files", "fault", "signals"],
)
def test_a_sandbox_in_doubt_serves_no_more(scene: Make, body: str, said: dict[str, object]) -> None:
    made = scene()
    with made.serving(warm=1):
        run, _ = made.loop()
        with run, made.client() as worker:
            assert served(worker, numbered(1))[0] == 2
            assert served(worker, numbered(2, body), **said)[0] == 3
            assert served(worker, numbered(3)) == [2, [], None], "a fresh sandbox counts from the beginning"
            run.ask({"type": "end", "why": "a test"})


def test_a_sandbox_serves_so_many_programs_and_then_another_does(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyturn.app.loop.improver.PROGRAMS_MAX", 2)
    made = scene()
    with made.serving(warm=1):
        run, _ = made.loop()
        with run, made.client() as worker:
            assert [served(worker, numbered(mark))[0] for mark in range(5)] == [2, 3, 2, 3, 2]
            run.ask({"type": "end", "why": "a test"})
    assert warm.PROGRAMS_MAX > 2


def test_a_halt_ends_a_sandbox_that_serves_as_it_ends_any_other(scene: Make) -> None:
    made = scene()
    with made.serving(warm=1):
        run, _ = made.loop()
        with run, made.client() as worker:
            for mark in range(3):
                served(worker, numbered(mark))
            receipt = made.project.halt(by="a test", reason="enough")
            assert receipt["state"] == "STOPPED"
            assert run.answer()["halted"] is True
    assert made.state().halt is not None


def test_as_many_sandboxes_serve_as_there_are_workers_and_no_more_are_made_for_it(scene: Make) -> None:
    made = scene()
    with made.serving(warm=1):
        run, _ = made.loop()
        with run, made.client() as one, made.client() as two:
            for mark in range(4):
                for client, name in ((one, "one"), (two, "two")):
                    assert client.program(numbered(mark, f"_ = {name!r}"))["type"] == "running"
                for client in (one, two):
                    calls = client.calls()
                    assert calls.call("solve", 1)[0] <= 2 + mark
                    assert client.judge(1.0)["admitted"] is True
                    calls.close()
            run.ask({"type": "end", "why": "a test"})
