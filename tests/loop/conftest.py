"""Loops are served for real: without a sandbox there is nothing to test here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loop.scene import Scene, make


@pytest.fixture
def scene(tmp_path: Path) -> Callable[..., Scene]:
    """Makes a founded project with a warrant; words of its policy may be put in."""

    def made(programs: int = 100, *, wall_seconds: int = 3600, requests_max: int = 0, **words: str) -> Scene:
        found = make(tmp_path, **words)
        found.warrant(programs, wall_seconds=wall_seconds, requests_max=requests_max)
        return found

    return made
