"""The cast of one test: real processes, stopped at its end, with what they left in their session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.trials.cast import SENT, Cast


@pytest.fixture
def cast() -> Iterator[Cast]:
    SENT.clear()
    found = Cast()
    yield found
    found.stop()
