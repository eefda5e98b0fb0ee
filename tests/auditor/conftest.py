"""One honest story, played once and never changed: every test cuts it where it needs to."""

from __future__ import annotations

import pytest

from tests.auditor.scene import leaves_of, pin_of, played


@pytest.fixture(scope="session")
def story(tmp_path_factory):
    return played(tmp_path_factory.mktemp("story") / "world")


@pytest.fixture(scope="session")
def honest(story):
    return leaves_of(story)


@pytest.fixture(scope="session")
def pin(story):
    return pin_of(story)
