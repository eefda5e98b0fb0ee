"""A founder for every journey, taught once."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.app import exercise


@pytest.fixture(scope="session")
def founder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exercise.founder(tmp_path_factory.mktemp("founder") / "connect4", seed=6)
