"""A run that is killed, or whose endpoint is down, until its warrant is used up: the step must still come to an end."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("openevolve")

from tests.adapters.conftest import Scene, found


@pytest.mark.slow
def test_a_step_whose_warrant_is_used_up_before_anything_came_of_it_ends_and_leaves_room_for_another(
    tmp_path: Path,
) -> None:
    scene: Scene = found(tmp_path)
    scene.warrant(1)
    ended = scene.run(iterations=2)
    assert (ended["type"], ended.get("candidate")) == ("outcome", ""), scene.said
    scene.warrant(5)
    assert scene.run(iterations=1)["type"] == "error", "the endpoint is down still"
    assert next(message for message in scene.said if message["type"] == "started")["resumed"] is False
