"""Worlds for the tests of the flow: real disk, real signatures, a fake sandbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.flow import halt
from tests.fakes.world import World

Found = Callable[..., World]


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Found:
    """Founds a project; the first argument says which attempt is what (see `tests.fakes.runner`)."""
    monkeypatch.setattr(halt, "TRACE_SECONDS", 0.2)
    return lambda traits=None, **changes: World.founded(tmp_path / "home", traits, **changes)
