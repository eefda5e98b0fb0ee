"""A replay holds an attestation to the containment check that it names, and asks for one where the policy says so."""

from __future__ import annotations

from typing import Any

import pytest

from keyturn.core import events as ev
from keyturn.core.policy import CHECK_SECONDS, Policy
from keyturn.core.policy_change import change, needs_quorum
from keyturn.core.policy_reading import read_policy
from tests.core.examples import Story, document, loop
from tests.core.test_policy_reading import put
from tests.core.test_replay import problems

SUITE = "sha256:" + "c" * 64
DAY_SECONDS = 86400


def policy(seconds: int | None) -> dict[str, Any]:
    """The example policy, naming how old a check may be, or not."""
    text = document()
    if seconds is not None:
        put("sandbox.check_seconds_max", seconds)(text)
    return text


def asking() -> Story:
    """A lineage whose policy names the key: a day."""
    return loop(policy(DAY_SECONDS))


def check(story: Story, *, seconds: int = 60, **fields: Any) -> dict[str, Any]:
    """A check that stands, run so many seconds before the next entry."""
    body = {"suite": SUITE, "held": 27, "scored": 28, "controlled": 20, "tier": "T2", "at": story.at - seconds * 1000}
    return {**body, **fields}


def found(story: Story, facts: dict[str, Any], *, tier: str = "T2", faults: tuple[str, ...] = ()) -> list[str]:
    """What a replay says of a log that goes on with this attestation."""
    story.add(ev.SandboxAttested, purpose="improve:1", tier=tier, facts=facts, problems=faults)
    return [message for rule, message in problems(story.events) if rule == "sandbox_attested_must_be_lawful"]


def test_a_log_from_before_there_were_checks_stays_lawful() -> None:
    assert found(loop(), {}) == []


def test_under_a_policy_that_asks_for_a_check_one_must_be_there() -> None:
    story = asking()
    assert found(story, {"check": check(story)}) == []
    assert found(asking(), {}) == ["it rests on no check of the sandbox; the policy asks for one"]
    assert found(asking(), {"check": {}}) == ["it rests on no check of the sandbox; the policy asks for one"]


def test_a_refused_sandbox_needs_no_check() -> None:
    assert found(asking(), {}, tier="T0", faults=("containment check: it was never checked on this machine",)) == []


@pytest.mark.parametrize("story", [loop, asking])
def test_a_check_that_failed_bears_nothing(story: Any) -> None:
    made = story()
    assert "the check that it rests on failed" in found(made, {"check": check(made, tier="T0")})


@pytest.mark.parametrize("story", [loop, asking])
def test_no_tier_is_better_than_its_check(story: Any) -> None:
    made = story()
    assert found(made, {"check": check(made, tier="T1")}) == ["it says tier T2; the check that it rests on earned T1"]
    assert found(made, {"check": check(made, tier="T1")}, tier="T1") == found(made, {"check": check(made)})


def test_a_check_that_is_too_old_is_found_only_where_the_policy_says_how_old() -> None:
    story = asking()
    assert found(story, {"check": check(story, seconds=DAY_SECONDS)}) == []
    said = found(story, {"check": check(story, seconds=DAY_SECONDS + 1)})
    assert said == [f"its check was {DAY_SECONDS + 1} seconds old; the policy allows {DAY_SECONDS}"]
    story = loop()
    assert found(story, {"check": check(story, seconds=CHECK_SECONDS + 1)}) == []


def test_a_check_from_after_its_attestation_is_found() -> None:
    story = asking()
    assert found(story, {"check": check(story, seconds=-60)}) == [
        "its check was -60 seconds old; the policy allows 86400"
    ]


@pytest.mark.parametrize(
    "fields",
    [{"held": 29}, {"held": -1}, {"scored": 0, "held": 0}, {"controlled": "many"}, {"held": True}, {"scored": None}],
)
def test_a_score_that_does_not_add_up_is_found(fields: dict[str, Any]) -> None:
    story = asking()
    assert found(story, {"check": check(story, **fields)}) == [
        "the check that it rests on held more probes than it scored, or scored none"
    ]


@pytest.mark.parametrize("fields", [{"tier": "T9"}, {"tier": None}, {"at": None}, {"at": "yesterday"}])
def test_a_check_that_says_nothing_readable_is_found(fields: dict[str, Any]) -> None:
    story = asking()
    assert found(story, {"check": check(story, **fields)})


@pytest.mark.parametrize(
    ("old", "new", "free"),
    [
        (None, CHECK_SECONDS, True),
        (None, 60, True),
        (3600, 60, True),
        (None, CHECK_SECONDS + 1, False),
        (CHECK_SECONDS, None, False),
        (2 * CHECK_SECONDS, None, False),
        (60, 3600, False),
    ],
)
def test_a_replay_that_no_longer_looks_is_never_a_tightening(old: int | None, new: int | None, free: bool) -> None:
    before, after = read_policy(policy(old)), read_policy(policy(new))
    assert isinstance(before, Policy)
    assert isinstance(after, Policy)
    [difference] = change(before, after)
    assert difference.path == "sandbox.check_seconds_max"
    assert needs_quorum((difference,)) is not free
