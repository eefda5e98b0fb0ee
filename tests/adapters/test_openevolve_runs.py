"""Whole runs of OpenEvolve under the real governor: what enters, what leaves, and how a run is stopped."""

from __future__ import annotations

import pytest

from tests.adapters.conftest import Scene, evolved, times
from tests.adapters.endpoint import answering


def test_the_best_of_what_was_admitted_is_held_for_people(scene: Scene) -> None:
    scene.warrant(20, requests_max=10, tokens_max=5000, usd_max=1.0)
    flat = evolved("def solve(n):\n    return 99\n")
    with answering(times(3), flat, times(5)) as endpoint:
        ended = scene.run(endpoint.url)
    assert scene.code == 0, scene.said
    assert scene.verdicts() == [
        ("admitted", ()), ("admitted", ()), ("refused", ("checks_must_pass",)), ("admitted", ()),
    ]  # fmt: skip  # a list in one row
    assert (ended["type"], ended["step"], ended["released"]) == ("outcome", "Hold", False), ended
    state = scene.project.state()
    candidate = state.candidates[ended["candidate"]]
    assert candidate.claim["score"] == candidate.claim["combined_score"] == pytest.approx(0.35)
    files = scene.project.home / "artifacts" / candidate.root.removeprefix("sha256:")
    assert times(5) == next(files.rglob("program.py")).read_text()
    spent = state.warrant.spent
    assert (spent.programs, spent.requests, spent.tokens, spent.usd) == (4, 3, 360, pytest.approx(0.03))
