"""A real backend for the whole room, and a short way to run code inside a sandbox."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.port import Exit, Limits, Purpose, Spec
from keyturn.sandbox.running import BubblewrapParked, BubblewrapRunning

LIMITS = Limits(memory_bytes=256 << 20, processes_max=32, wall_seconds=20, out_bytes=4 << 20, tmp_bytes=4 << 20)


def specification(backend: Bubblewrap, code: str, *, purpose: Purpose = "improve", **changes: Any) -> Spec:
    """A spec that runs Python code."""
    runtime = backend.runtime(changes.pop("runtime", "python"))
    argv = ("python", "-I", "-S", "-c", textwrap.dedent(code))
    return replace(Spec(purpose, argv, runtime, limits=LIMITS, environment={"KEYTURN_SEED": "7"}), **changes)


@dataclass
class Inside:
    """Runs code in sandboxes and closes them all at the end."""

    backend: Bubblewrap
    opened: list[BubblewrapParked | BubblewrapRunning] = field(default_factory=list)

    def park(self, code: str, **changes: Any) -> BubblewrapParked:
        parked = self.backend.prepare(specification(self.backend, code, **changes))
        self.opened.append(parked)
        return parked

    def start(self, code: str, **changes: Any) -> BubblewrapRunning:
        running = self.park(code, **changes).go()
        self.opened.append(running)
        return running

    def run(self, code: str, **changes: Any) -> Exit:
        return self.start(code, **changes).wait()

    def says(self, code: str, **changes: Any) -> str:
        end = self.run(code, **changes)
        text = end.diagnostics.decode()
        assert (end.reason, end.code) == ("exited", 0), (end, text)
        return text


PURE = {"test_parts.py", "test_standing.py", "test_suite_scoring.py"}
"""What an ordinary user can run of this room: files that start no subject under a user of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Outside CI an ordinary user is told that these were not run; in CI they run as root, or fail."""
    if os.geteuid() == 0 or os.environ.get("CI") == "true":
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.name not in PURE:
            item.add_marker(pytest.mark.skip(reason="not run: subjects get a user of their own, which needs root"))


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bubblewrap]:
    if os.geteuid() != 0:
        reason = "not run: the sandbox's own tests start subjects under a user of their own, which needs root"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    place: Path = tmp_path_factory.mktemp("sandbox")
    made = Bubblewrap(place / "run", runtime_cache=place / "runtime.json")
    yield made
    made.close()


@pytest.fixture
def inside(backend: Bubblewrap) -> Iterator[Inside]:
    here = Inside(backend)
    yield here
    for one in here.opened:
        one.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Whether something comes true within a few seconds."""
    import time

    def waits(true: Callable[[], bool], seconds: float = 5.0) -> bool:
        until = time.monotonic() + seconds
        while not true():
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
        return True

    return waits
