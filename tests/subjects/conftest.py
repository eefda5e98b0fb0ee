"""One founder, taught once, for all tests of the built-in subject."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.subjects.connect4 import teach


@pytest.fixture(scope="session")
def founder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("founder")
    teach.found(seed=6, out=folder)
    return folder
