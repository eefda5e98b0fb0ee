"""The attack: the log's own key signs two histories, one for each audience."""

from __future__ import annotations

import pytest

from keyturn.core.errors import TamperDetected
from keyturn.ledger import checkpoint, tree
from keyturn.ledger.check import check_store, require_sound
from keyturn.ledger.store import Store
from tests.attacks.test_attack_edited_entries import VKEY
from tests.ledger.signers import LOG, leaves_of, signed


def log(place, leaves):
    with Store.open(place, create=True) as store:
        store.append(leaves, expected=None)
        store.save_checkpoint(*signed(store))
        return store.checkpoint()


@pytest.fixture
def ours(tmp_path):
    place = tmp_path / "ours.db"
    log(place, leaves_of(20))
    return place


def test_two_signed_roots_of_one_size_are_the_proof(ours, tmp_path):
    theirs = log(tmp_path / "theirs.db", [*leaves_of(19), b"I refuse"])
    with Store.open(ours) as store:
        with pytest.raises(TamperDetected) as caught:
            require_sound(store, VKEY, known=[theirs])
        rules = {each.rule for each in check_store(store, VKEY, known=[theirs])}
        mine = store.checkpoint()
    assert rules == {"log_must_have_one_history", "log_must_be_what_was_signed"}
    assert mine.decode() in caught.value.proof
    assert theirs.decode() in caught.value.proof


def test_the_proof_convinces_a_stranger_who_has_only_the_log_key(ours, tmp_path):
    theirs = log(tmp_path / "theirs.db", [*leaves_of(19), b"I refuse"])
    with Store.open(ours) as store:
        proof = next(p.proof for p in check_store(store, VKEY, known=[theirs]) if p.rule == "log_must_have_one_history")
    first, second = proof.split("\n" + LOG.name)
    heads = [
        checkpoint.open_checkpoint(text.encode(), LOG.verifier()).checkpoint for text in (first, LOG.name + second)
    ]
    assert heads[0].size == heads[1].size == 20
    assert heads[0].root != heads[1].root


@pytest.mark.parametrize("size", [5, 12])
def test_an_earlier_signed_head_of_another_history_is_found(ours, tmp_path, size):
    theirs = log(tmp_path / "theirs.db", [b"another beginning", *leaves_of(size - 1)])
    with Store.open(ours) as store:
        (problem,) = check_store(store, VKEY, known=[theirs])
        mine = store.checkpoint()
    assert problem.rule == "log_must_be_what_was_signed"
    assert problem.message.startswith(f"the first {size} entries have the root ")
    assert "a signed checkpoint (handed in) has" in problem.message
    assert problem.proof == theirs.decode() + "\n" + mine.decode()


def test_no_proof_leads_from_one_history_to_the_other(ours, tmp_path):
    theirs = checkpoint.parse_body(log(tmp_path / "theirs.db", [b"another beginning", *leaves_of(4)]))
    with Store.open(ours) as store:
        head = store.head()
        for old in range(head.size + 1):
            proof = store.prove_consistency(old, head.size)
            assert not tree.check_consistency(
                old=theirs.size, old_root=theirs.root, new=head.size, new_root=head.root, proof=proof
            )


def test_the_store_itself_refuses_to_keep_a_second_history(ours, tmp_path):
    theirs = log(tmp_path / "theirs.db", [*leaves_of(19), b"I refuse"])
    said = checkpoint.parse_body(theirs)
    with Store.open(ours) as store:
        with pytest.raises(TamperDetected, match="a log has one history"):
            store.save_checkpoint(said.size, said.root, theirs)
        assert checkpoint.parse_body(store.checkpoint()).root != said.root
