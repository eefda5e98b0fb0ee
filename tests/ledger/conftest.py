"""A log on disk for every test that asks for one."""

from __future__ import annotations

import pytest

from keyturn.ledger.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


@pytest.fixture
def store(path):
    with Store.open(path, create=True) as opened:
        yield opened
