"""The attack: stop or set back a node's clock, so that an old permit lives on. It remembers the latest moment it saw.

A clock that simply stands still is believed until the log shows the node something newer: no node can know better.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from keyturn.app import verifying
from keyturn.cli.main import main
from keyturn.core.terms import Instant
from keyturn.flow.permit import pack
from keyturn.verify import trust as trusts
from keyturn.verify.check import check
from keyturn.verify.load import Refused, load
from tests.verify import scene as scenes
from tests.verify.scene import ACTION, SCOPE, Hand

HOUR = 3_600_000


@pytest.fixture
def pinned(scene, tmp_path):
    path = tmp_path / "trust.json"
    trusts.write(scene.trust, path)
    return path


def loaded(weights, scene, path, now, bundle=None):
    shown = bundle or scene.honest
    return load(weights, shown, trust=trusts.read(path), action=ACTION, scope=SCOPE, now=Instant(now))


def refusal(*asked):
    with pytest.raises(Refused) as refused:
        loaded(*asked)
    return [(doubt.check, doubt.message) for doubt in refused.value.doubts]


def test_a_clock_set_back_after_a_permit_expired_revives_nothing(scene, weights, pinned):
    after = scene.permit.not_after + 1000
    assert (7, "the permit expired 1 seconds ago") in refusal(weights, scene, pinned, after)
    back = (after - scene.now) // 1000
    assert refusal(weights, scene, pinned, scene.now) == [
        (7, "the permit expired 1 seconds ago"),
        (9, f"the status is {(after - scene.status.at) // 1000} seconds old; the limit is 3600 seconds"),
        (9, f"this machine's clock is {back} seconds behind a moment that this node has seen"),
    ]


def test_a_clock_set_back_within_the_window_is_refused_before_anything_expires(scene, weights, pinned):
    assert loaded(weights, scene, pinned, scene.now + 600_000)
    message = "this machine's clock is 600 seconds behind a moment that this node has seen"
    assert refusal(weights, scene, pinned, scene.now) == [(9, message)]
    assert loaded(weights, scene, pinned, scene.now + 600_001), "a clock that was set right again is believed again"


def test_a_small_correction_is_no_attack_and_wins_no_time(scene, weights, pinned):
    last = scene.status.at + 3600_000
    assert loaded(weights, scene, pinned, last)
    assert refusal(weights, scene, pinned, last + 2000)
    found = refusal(weights, scene, pinned, last - 1000)
    assert found == [(9, "the status is 3602 seconds old; the limit is 3600 seconds")]


def test_a_clock_that_stands_still_is_overtaken_by_the_log(scene, weights, pinned):
    """The node's clock never moves; the next honest status shows it, and the permit that ended meanwhile is refused."""
    assert loaded(weights, scene, pinned, scene.now)
    hand = Hand([*scene.leaves], scene)
    hand.status(at=Instant(scene.permit.not_after + 1000))
    newer = hand.show(old_size=len(scene.leaves))
    found = refusal(weights, scene, pinned, scene.now, newer)
    ahead = (scene.permit.not_after + 1000 - scene.now) // 1000
    assert found == [(9, f"the status lies {ahead} seconds ahead of this machine's clock")]
    assert (7, "the permit expired 1 seconds ago") in refusal(weights, scene, pinned, scene.now, newer)


def test_a_status_from_the_future_is_no_more_believed_the_second_time(scene, weights, pinned):
    hand = Hand.of(scene)
    hand.status(at=Instant(scene.now + 400_000))
    message = "the status lies 400 seconds ahead of this machine's clock"
    for _ in range(3):
        assert (9, message) in refusal(weights, scene, pinned, scene.now, hand.show())


def test_a_permit_of_tomorrow_is_not_opened_by_a_memory_of_the_day_after(scene, pinned):
    early = Instant(scene.permit.not_before - 301_000)
    trust = replace(trusts.read(pinned), seen=trusts.Seen(latest_at=Instant(scene.now + HOUR)))
    found = check(scene.honest, trust, action=ACTION, scope=SCOPE, now=early)
    assert (7, "the permit is not valid yet") in [(doubt.check, doubt.message) for doubt in found.doubts]


def test_what_nobody_signed_moves_no_clock(scene, weights, pinned):
    before = pinned.read_bytes()
    hand = Hand.of(scene)
    hand.status(at=Instant(scene.now + 10 * HOUR))
    refusal(weights, scene, pinned, scene.now + 10 * HOUR, hand.show(log=scenes.Key("mallory")))
    assert pinned.read_bytes() == before


def test_a_trust_file_of_an_earlier_release_is_read_and_then_remembers(scene, weights, pinned):
    body = json.loads(pinned.read_bytes())
    del body["seen"]["latest_at"]
    pinned.write_text(json.dumps(body))
    assert loaded(weights, scene, pinned, scene.now)
    assert json.loads(pinned.read_bytes())["seen"]["latest_at"] == scene.now


def test_the_memory_of_two_loads_at_once_is_the_later_moment(scene, weights, pinned):
    """Both read the file before either writes; whichever writes last does not take the other's moment away."""
    read = trusts.read(pinned)
    for now in (scene.now + 5000, scene.now + 1000):
        load(weights, scene.honest, trust=read, action=ACTION, scope=SCOPE, now=Instant(now))
    assert trusts.read(pinned).seen.latest_at == scene.now + 5000


def test_the_command_refuses_on_a_machine_whose_clock_was_set_back(tmp_path, monkeypatch, capsys):
    now = time.time_ns() // 1_000_000
    monkeypatch.setattr(scenes, "BEGIN", now - 120_000)
    made = scenes.released(tmp_path / "log.db")
    (tmp_path / "x.permit").write_bytes(pack(made.honest))
    trusts.write(made.trust, tmp_path / "trust.json")
    words = ["verify", "permit", str(tmp_path / "x.permit"), "--trust", str(tmp_path / "trust.json")]

    def at(milliseconds):
        monkeypatch.setattr(verifying.time, "time_ns", lambda: milliseconds * 1_000_000)
        return main(words), capsys.readouterr().out

    assert at(now)[0] == 0
    code, said = at(now + 5 * HOUR)
    assert code == 3
    assert "expired" in said
    code, said = at(now)
    assert code == 3
    assert "seconds behind a moment that this node has seen" in " ".join(said.split())
