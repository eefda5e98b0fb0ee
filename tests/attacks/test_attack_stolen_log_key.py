"""A thief of every key that the governor has, and of no witness's, shows no other history to anybody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyturn.core import events as ev
from keyturn.ledger import checkpoint, note
from keyturn.wire import canonical
from keyturn.wire.digest import sha256
from tests.fakes.witnesses import party, table
from tests.verify.scene import LOG, Hand, Key, Released, document, doubts, released, stated

BOTH = ["0 of 2 independent witnesses cosigned", "0 of 1 independent auditors cosigned"]


@pytest.fixture
def scene(tmp_path) -> Released:
    rows = [party("w1"), party("w2"), party("aud", auditor=True)]
    return released(tmp_path / "log.db", document(witnesses={"required": 2, "auditors": 1, "parties": rows}))


def missing(found: list[tuple[int, str]]) -> list[str]:
    assert {number for number, _ in found} <= {9}, found
    return [message.partition(" this head")[0] for _, message in found]


def test_what_the_witnesses_signed_loads(scene):
    assert doubts(scene.honest, scene) == []


def test_attack_a_log_key_stolen_without_the_witnesses_keys_shows_no_other_history(scene):
    """The thief rewrites the log's end and signs it well; no witness signs for it, and nothing loads."""
    hand = Hand.of(scene)
    hand.status(at=scene.now, counter=scene.status.counter + 1, halted=False)
    forged = hand.show()
    assert checkpoint.open_checkpoint(forged.checkpoint, note.Verifier(LOG.name, LOG.public))
    assert missing(doubts(forged, scene)) == BOTH


def test_attack_the_stolen_log_key_is_no_witness_under_any_name(scene):
    hand = Hand.of(scene)
    hand.status(at=scene.now)
    data = hand.show().checkpoint
    for name in ("w1.example", "aud.example", LOG.name):
        thief = Key(LOG.name)
        thief.name = name
        data = note.cosign(data, thief, at=scene.now)
    assert missing(doubts(replace(hand.show(), checkpoint=data), scene)) == BOTH


def test_attack_a_thief_cannot_ask_for_fewer_witnesses(scene, tmp_path):
    """A policy that asks for none needs the quorum of the one before: the governor's keys adopt nothing."""
    text = document(witnesses=table(0, allow_unwitnessed=True))
    digest = sha256(canonical.encode(text))
    hand = Hand.of(scene)
    adopted = hand.add(
        stated(
            ev.PolicyAdopted(
                id="x", at=scene.now, actor="governor", policy=digest, version=2, digest=digest, document=text,
                signatures=(), dossier="",
            )
        )
    )  # fmt: skip
    hand.status(at=scene.now, policy_version=2, policy_digest=digest)
    [(number, message)] = doubts(hand.show(policies=[adopted]), scene)
    assert number == 5
    assert message == "policy 2 loosens policy 1 and no dossier shows that people were asked for it"
