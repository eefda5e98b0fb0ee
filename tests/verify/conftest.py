"""One honest release, made once and never changed: every test takes its pieces apart in its own hands."""

from __future__ import annotations

import pytest

from tests.verify.scene import FILES, put, released


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    return released(tmp_path_factory.mktemp("honest") / "log.db")


@pytest.fixture
def weights(tmp_path):
    return put(tmp_path / "weights", FILES)
