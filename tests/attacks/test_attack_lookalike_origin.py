"""The attack: a checkpoint under a name that looks like the log's. A name is its bytes, and the key decides."""

from __future__ import annotations

import pytest

from keyturn.cli.main import main
from keyturn.core.errors import KeyturnError, UntrustedInput
from keyturn.flow.permit import pack
from keyturn.ledger import checkpoint, note, proof, tree
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.proof import Proof
from keyturn.verify import trust as trusts
from tests.ledger.signers import LOG, Key
from tests.verify import scene as scenes
from tests.verify.scene import Hand, doubts

LEAF = b"entry"
ROOT = tree.leaf_hash(LEAF)

LOOKALIKES = {
    "cyrillic letter": "connect4.ex\u0430mple/log",
    "fullwidth letter": "connect\uff14.example/log",
    "upper case": "Connect4.example/log",
    "combining accent": "connect4.example\u0301/log",
    "composed, which decomposes": "connect4.\u00e9xample/log",
    "a joiner that nobody sees": "connect4.example/log\u200d",
    "a mark that turns the direction": "\u202econnect4.example/log",
    "longer": "connect4.example/log2",
    "longer by a path": "connect4.example/log/",
    "shorter": "connect4.example/lo",
    "in front": "x.connect4.example/log",
    "another slash": "connect4.example\u2215log",
    "a scheme": "https://connect4.example/log",
    "a dot": "connect4.example./log",
}


def forged(origin: str, key: Key) -> bytes:
    return note.sign(Checkpoint(origin, 1, ROOT).body(), key)


@pytest.mark.parametrize("origin", LOOKALIKES.values(), ids=LOOKALIKES.keys())
def test_a_thief_with_a_key_of_his_own_is_unknown_under_any_name(origin):
    with pytest.raises(UntrustedInput, match="no known key signed this note"):
        checkpoint.open_checkpoint(forged(origin, Key(origin, "thief")), LOG.verifier())


@pytest.mark.parametrize("origin", LOOKALIKES.values(), ids=LOOKALIKES.keys())
def test_the_logs_own_key_speaks_for_no_other_name(origin):
    """The thief tricked the key into signing a checkpoint of the other log, under its right name."""
    with pytest.raises(UntrustedInput, match="is of the log"):
        checkpoint.open_checkpoint(forged(origin, LOG), LOG.verifier())


@pytest.mark.parametrize("origin", LOOKALIKES.values(), ids=LOOKALIKES.keys())
def test_the_same_key_under_the_other_name_is_another_key(origin):
    """The four bytes of the hint bind the name: a signature moved to another name leads to no known key."""
    other = Key(LOG.name)
    other.name = origin
    assert note.Verifier(origin, LOG.public).hash != LOG.verifier().hash
    with pytest.raises(UntrustedInput):
        checkpoint.open_checkpoint(forged(LOG.name, other), LOG.verifier())


@pytest.mark.parametrize("name", ["connect4 .example/log", "connect4.example/log\n", "a+b", "", "\u2003x", "x\u2028y"])
def test_a_name_with_a_space_a_plus_or_a_new_line_is_no_name(name):
    with pytest.raises(KeyturnError):
        note.Verifier(name, LOG.public)
    with pytest.raises(KeyturnError):
        checkpoint.parse_body(note.sign(f"{name}\n1\n{_root()}\nmore\n", LOG))


def _root() -> str:
    return Checkpoint("x", 1, ROOT).body().splitlines()[2]


def test_the_command_refuses_a_proof_under_another_name(tmp_path, capsys):
    (tmp_path / "leaf").write_bytes(LEAF)
    for n, origin in enumerate(LOOKALIKES.values()):
        thief = Key(origin, "thief")
        (tmp_path / f"{n}").write_bytes(proof.encode(Proof(0, (), forged(origin, thief))))
        words = ["log", "check", str(tmp_path / f"{n}"), "--entry", str(tmp_path / "leaf"), "--vkey"]
        assert main([*words, LOG.verifier().vkey]) == 3
        assert main([*words, thief.verifier().vkey]) == 0, "for whoever pinned the thief's key it is a proof"
    (tmp_path / "honest").write_bytes(proof.encode(Proof(0, (), forged(LOG.name, LOG))))
    assert main(["log", "check", str(tmp_path / "honest"), *words[3:], LOG.verifier().vkey]) == 0
    said = capsys.readouterr()
    assert "\u202e" not in said.out + said.err, "a name never steers the terminal"


@pytest.mark.parametrize("origin", ["T\u043ey.example/log", "toy.example/log2", "Toy.example/log", "toy.example/lo"])
def test_a_bundle_of_a_similar_log_is_refused_by_its_first_check(scene, origin, tmp_path, capsys):
    hand = Hand.of(scene)
    hand.status()
    thief = scenes.Key(origin)
    bundle = hand.show(log=thief, origin=origin)
    ((number, message),) = doubts(bundle, scene)
    assert number == 1
    assert "the checkpoint is not signed by the trusted log" in message
    (tmp_path / "b").write_bytes(pack(bundle))
    trusts.write(scene.trust, tmp_path / "t")
    assert main(["verify", "permit", str(tmp_path / "b"), "--trust", str(tmp_path / "t")]) == 3
    assert main(["permit", "explode", str(tmp_path / "b"), str(tmp_path / "out"), "--trust", str(tmp_path / "t")]) == 3
    capsys.readouterr()
