"""Checking says nothing about a sound log and everything about another."""

from __future__ import annotations

import pytest

from keyturn.core.errors import MalformedInput, TamperDetected
from keyturn.ledger import note
from keyturn.ledger.check import PROBLEMS_MAX, check_store, require_sound
from tests.ledger.signers import LOG, Key, leaves_of, signed

VKEY = LOG.verifier().vkey


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 700])
def test_a_sound_log_has_no_problems(store, size):
    store.append(leaves_of(size), expected=None)
    elsewhere = []
    for at in {1, size // 2, size} - {0}:
        if at <= size:
            elsewhere.append(signed(store, at)[2])
            store.save_checkpoint(*signed(store, at))
    assert check_store(store, VKEY, known=elsewhere) == ()
    assert require_sound(store, VKEY, known=elsewhere) == store.head()


def test_a_checkpoint_that_the_log_did_not_sign_is_a_problem(store):
    store.append(leaves_of(3), expected=None)
    stranger = note.sign(note.text_of(signed(store)[2]), Key("somebody.example"))
    (problem,) = check_store(store, VKEY, known=[stranger])
    assert problem.rule == "checkpoints_must_be_signed"
    assert "no known key signed this note" in problem.message


def test_many_problems_are_counted_not_listed(store):
    store.append(leaves_of(100), expected=None)
    store._db.execute("UPDATE entry SET leaf = x'00' WHERE i < 90")
    problems = check_store(store, VKEY)
    edits = [each for each in problems if each.rule == "entries_must_stay_as_appended"]
    assert len(edits) == PROBLEMS_MAX + 1
    assert edits[-1].message == "70 more problems of this kind were found"
    with pytest.raises(TamperDetected, match=r"entry 0 has the hash .* \(and \d+ more\)"):
        require_sound(store, VKEY)


def test_a_check_without_a_whole_key_is_no_check(store):
    with pytest.raises(MalformedInput):
        check_store(store, VKEY[:-1])
