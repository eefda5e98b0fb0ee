"""The attack: a log keeps two histories and shows each to another reader. Its witnesses sign one of them."""

from __future__ import annotations

import pytest

from keyturn.core.errors import TamperDetected
from keyturn.ledger import checkpoint, note
from keyturn.ledger.witnessing import client, request
from keyturn.ledger.witnessing.client import Asked
from tests.ledger.signers import Key
from tests.witness.cast import GrownLog, served, witness_of

HONEST = GrownLog.of(size=5)
FORKED = GrownLog(HONEST.key, [*HONEST.told[:3], b"no halt was asked for", b"release c9"])


@pytest.fixture
def two(tmp_path):
    pair = [witness_of(tmp_path / f"{n}.db", HONEST, name=f"w{n}.example") for n in (1, 2)]
    yield pair
    for each in pair:
        each.memory.close()


def keys(witnesses):
    return [each.verifier for witness in witnesses for each in witness.cosigners]


def test_two_histories_of_one_size_never_get_both_witnesses(two):
    """Each witness is shown another one first; then each history is carried to the other witness, by all ways."""
    with served(two[0]) as (one, _), served(two[1]) as (other, _):
        asked = [Asked((key,), url) for key, url in zip(keys(two), (one, other), strict=True)]
        notes = {}
        for log, first in ((HONEST, 0), (FORKED, 1)):
            begun = client.gather([asked[first]], log.note, prove=log.prove, timeout_seconds=20)
            assert len(begun.signed) == 1
            notes[first] = begun.note
        for log, first in ((HONEST, 0), (FORKED, 1)):
            for size in range(6):
                more = [Asked(each.verifiers, each.url, size) for each in asked]
                notes[first] = client.gather(more, notes[first], prove=log.prove, timeout_seconds=20).note
    names = [
        [one.verifier.name for one in checkpoint.open_checkpoint(each, HONEST.key.verifier(), keys(two)).witnessed]
        for each in notes.values()
    ]
    assert names == [["w1.example"], ["w2.example"]]


def test_a_fork_that_grows_is_refused_with_any_proof(two):
    witness, longer = two[0], FORKED.grow(4)
    assert witness.add_checkpoint(HONEST.asks(0)).status == 200
    for proof in (longer.prove(5), HONEST.grow(4).prove(5), longer.prove(4), longer.prove(3), ()):
        assert witness.add_checkpoint(longer.asks(5, hashes=proof)).status == 422
    for old in (0, 3, 4, 6, 9):
        answer = witness.add_checkpoint(longer.asks(old))
        assert (answer.status, answer.body) == (409, b"5\n")
    assert witness.memory.seen("log.example").head == HONEST.head


def test_a_smaller_tree_is_never_cosigned(two):
    witness = two[0]
    assert witness.add_checkpoint(HONEST.asks(0)).status == 200
    for size in range(5):
        for old in range(6):
            assert witness.add_checkpoint(HONEST.cut(size).asks(old)).status in {400, 409}
    assert witness.memory.seen("log.example").head == HONEST.head


def test_the_lie_is_kept_as_a_proof_for_strangers(two):
    witness = two[0]
    witness.add_checkpoint(HONEST.asks(0))
    for old in (0, 5, 5):  # whatever it says about the old size, and once however often
        witness.add_checkpoint(FORKED.asks(old))
    (fork,) = witness.memory.logs()[0].forks
    ours, theirs = [
        checkpoint.open_checkpoint(each, HONEST.key.verifier()).checkpoint for each in (fork.ours, fork.theirs)
    ]
    assert (ours, theirs) == (HONEST.head, FORKED.head)
    assert (ours.size, ours.root != theirs.root) == (5, True)


def test_nobody_can_frame_a_log(two):
    """Only what the log's own key signed is kept against it."""
    witness = two[0]
    witness.add_checkpoint(HONEST.asks(0))
    forger = GrownLog(Key("log.example", "a forger's"), FORKED.told)
    assert witness.add_checkpoint(forger.asks(5)).status == 403
    pasted = note.merge(FORKED.note, HONEST.note.decode().splitlines()[-1:])
    assert witness.add_checkpoint(FORKED.asks(5, signed=pasted)).status == 403
    assert witness.memory.logs()[0].forks == ()


def test_a_log_cannot_fill_the_disk_with_its_lies(two):
    witness = two[0]
    witness.add_checkpoint(HONEST.asks(0))
    for n in range(40):
        witness.add_checkpoint(GrownLog.of(size=5, history=f"lie {n}").asks(5))
    assert len(witness.memory.logs()[0].forks) == 16


def test_a_cosignature_cannot_be_carried_to_the_other_history(two):
    witness = two[0]
    lines = request.decode_lines(witness.add_checkpoint(HONEST.asks(0)).body)
    with pytest.raises(TamperDetected):
        checkpoint.open_checkpoint(note.merge(FORKED.note, lines), HONEST.key.verifier(), keys(two))


def test_one_log_cannot_move_the_memory_of_another(two):
    witness, other = two[0], GrownLog.of("other.example", size=9)
    witness.memory.trust("other.example", other.key.verifier())
    witness.add_checkpoint(HONEST.asks(0))
    assert witness.add_checkpoint(other.asks(0)).status == 200
    as_honest = note.sign(GrownLog(HONEST.key, other.told).head.body(), other.key)
    assert witness.add_checkpoint(other.asks(5, signed=as_honest)).status == 403
    assert witness.memory.seen("log.example").head == HONEST.head
