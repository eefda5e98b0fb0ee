"""Old cosignatures, cosignatures of another head, and cosigners who do not count load nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core.terms import Instant
from keyturn.ledger import note
from keyturn.verify.bundle import Bundle
from keyturn.verify.check import check
from tests.fakes.witnesses import WitnessKey, cosigned, party
from tests.verify.scene import ACTION, SCOPE, Hand, Key, Released, document, doubts, released

MINUTE = 60_000
PERMIT_SECONDS = 3_600


@pytest.fixture
def scene(tmp_path) -> Released:
    rows = [party("w1"), party("w2"), party("aud", auditor=True), party("own", independent=False)]
    return released(tmp_path / "log.db", document(witnesses={"required": 2, "auditors": 1, "parties": rows}))


def by(bundle: Bundle, at: int, *names: str) -> Bundle:
    """The bundle with the log's signature over its head and these witnesses' cosignatures, and no others."""
    text, lines = bundle.checkpoint.split(b"\n\n")
    data = text + b"\n\n" + lines.split(b"\n")[0] + b"\n"
    for name in names:
        data = cosigned(data, name, Instant(at))
    return replace(bundle, checkpoint=data)


def missing(found: list[tuple[int, str]]) -> list[str]:
    assert {number for number, _ in found} <= {9}, found
    return [message.partition(" this head")[0] for _, message in found]


BOTH = ["0 of 2 independent witnesses cosigned", "0 of 1 independent auditors cosigned"]


def test_fresh_cosignatures_of_enough_parties_load(scene):
    assert doubts(by(scene.honest, scene.now - MINUTE, "w1", "aud"), scene) == []


def test_without_cosignatures_nothing_loads_however_young_the_status(scene):
    assert missing(doubts(by(scene.honest, scene.now), scene)) == BOTH


def test_a_witness_too_few_or_no_auditor_is_refused(scene):
    assert missing(doubts(by(scene.honest, scene.now, "aud"), scene)) == ["1 of 2 independent witnesses cosigned"]
    assert missing(doubts(by(scene.honest, scene.now, "w1", "w2"), scene)) == ["0 of 1 independent auditors cosigned"]


def test_cosignatures_grow_stale_each_by_its_own_moment(scene):
    late = scene.now - PERMIT_SECONDS * 1000 - 2000
    old = by(scene.honest, late, "w1")
    old = replace(old, checkpoint=cosigned(old.checkpoint, "aud", scene.now))
    [(number, message)] = doubts(old, scene)
    assert number == 9
    assert message == (
        f"1 of 2 independent witnesses cosigned this head within the last {PERMIT_SECONDS} seconds"
        f"; `w1` did {PERMIT_SECONDS + 2} seconds ago; `aud` did {(scene.now % 1000) // 1000} seconds ago"
    )


def test_attack_a_head_that_witnesses_sign_again_and_again_does_not_hide_what_came_after_it(scene):
    """Whoever withholds a newer head can have the old one cosigned for ever: the status still grows old."""
    late = Instant(scene.now + 2 * PERMIT_SECONDS * 1000)
    age = (late - scene.status.at) // 1000
    found = doubts(by(scene.honest, late, "w1", "aud"), scene, now=late)
    assert (9, f"the status is {age} seconds old; the limit is {PERMIT_SECONDS} seconds") in found


def test_attack_a_fork_that_nobody_cosigned_is_refused_and_teaches_a_node_nothing(scene):
    hand = Hand.of(scene)
    hand.status(at=Instant(9_999_999_999_000))
    bundle = by(hand.show(), scene.now)
    assert missing(doubts(bundle, scene))[:2] == BOTH
    assert check(bundle, scene.trust, action=ACTION, scope=SCOPE, now=scene.now).seen is None
    good = check(by(scene.honest, scene.now, "w1", "aud"), scene.trust, action=ACTION, scope=SCOPE, now=scene.now)
    assert good.seen is not None


def test_a_moment_far_ahead_keeps_nothing_alive(scene):
    ahead = by(scene.honest, scene.now + 3600 * 1000, "w1", "aud")
    assert missing(doubts(ahead, scene)) == BOTH


def test_cosignatures_of_another_head_do_not_fit(scene):
    hand = Hand.of(scene)
    hand.status(at=Instant(scene.status.at + 10))
    other = hand.show()
    lines = by(other, scene.now, "w1", "aud").checkpoint.split(b"\n\n", 1)[1].split(b"\n", 1)[1]
    found = doubts(replace(scene.honest, checkpoint=by(scene.honest, 0).checkpoint + lines), scene)
    assert [message for _, message in found] == [
        "the signature of `w1.example` does not fit the text of the note",
    ]


def test_the_operators_own_witness_and_strangers_do_not_count(scene):
    own = by(scene.honest, scene.now, "own", "aud", "stranger")
    assert missing(doubts(own, scene)) == ["1 of 2 independent witnesses cosigned"]


def test_one_witness_signing_twice_is_one(scene):
    assert missing(doubts(by(scene.honest, scene.now, "aud", "aud"), scene)) == [
        "1 of 2 independent witnesses cosigned"
    ]


def test_a_key_of_a_witness_under_the_name_of_another_does_not_count(scene):
    borrowed = Key("w2.example")
    borrowed._private = WitnessKey("w1.example").private
    borrowed.public = WitnessKey("w1.example").public
    data = note.cosign(by(scene.honest, scene.now, "aud").checkpoint, borrowed, at=scene.now)
    assert missing(doubts(replace(scene.honest, checkpoint=data), scene)) == ["1 of 2 independent witnesses cosigned"]
