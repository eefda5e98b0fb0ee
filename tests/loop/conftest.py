"""Loops are served for real: without a sandbox there is nothing to test here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.app.machine.doctor import spare_backend
from keyturn.core.policy import CHECK_SECONDS
from keyturn.sandbox.standing import checking
from tests.loop.scene import Scene, make


@pytest.fixture(scope="session")
def checked() -> None:
    """The containment check has been run, so that no client of a test waits for it."""
    with spare_backend() as backend:
        checking.ensure(backend, CHECK_SECONDS, tell=lambda done, total, what: None, tick=lambda: None)


@pytest.fixture
def scene(tmp_path: Path, checked: None) -> Callable[..., Scene]:
    """Makes a founded project with a warrant; words of its policy may be put in."""

    def made(programs: int = 100, *, wall_seconds: int = 3600, requests_max: int = 0, **words: str) -> Scene:
        found = make(tmp_path, **words)
        found.warrant(programs, wall_seconds=wall_seconds, requests_max=requests_max)
        return found

    return made
