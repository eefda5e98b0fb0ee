"""A log of five entries, and a witness that knows it."""

from __future__ import annotations

import pytest

from tests.witness.cast import GrownLog, witness_of


@pytest.fixture
def log():
    return GrownLog.of(size=5)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "witness.db"


@pytest.fixture
def witness(place, log):
    made = witness_of(place, log)
    yield made
    made.memory.close()
