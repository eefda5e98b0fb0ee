"""Every answer of a witness, and what it remembers after it."""

from __future__ import annotations

import base64

import pytest

from keyturn.core.errors import Unavailable
from keyturn.ledger import checkpoint, note, tree
from keyturn.ledger.checkpoint import Checkpoint
from keyturn.ledger.witnessing import cosignature, request
from tests.ledger.signers import Key
from tests.witness.cast import NOW, GrownLog, PostQuantum, witness_of

LOG = GrownLog.of(size=5)
OTHER = GrownLog.of(size=5, history="another")
STRANGER = GrownLog.of("stranger.example", size=2)
ROTATED = GrownLog(Key("log.example", "a second key"), LOG.told)


def sized(answer):
    return (answer.status, answer.kind, answer.body)


def cosigned(log, answer, witness):
    """What the answer's lines are worth over the log's own note."""
    lines = request.decode_lines(answer.body)
    keys = [each.verifier for each in witness.cosigners]
    return checkpoint.open_checkpoint(note.merge(log.note, lines), log.key.verifier(), keys).witnessed


@pytest.fixture
def at_five(witness):
    assert witness.add_checkpoint(LOG.asks(0)).status == 200
    return witness


def test_the_first_head_of_a_known_log_is_cosigned(witness):
    answer = witness.add_checkpoint(LOG.asks(0))
    assert answer.status == 200
    assert [each.at for each in cosigned(LOG, answer, witness)] == [NOW]
    assert answer.body.count(b"\n") == 1
    assert witness.memory.seen("log.example").head == LOG.head


def test_a_head_that_goes_on_is_cosigned(at_five):
    for size in (6, 7, 13, 64):
        longer = LOG.grow(size - 5)
        answer = at_five.add_checkpoint(longer.asks(at_five.memory.seen("log.example").head.size))
        assert (answer.status, at_five.memory.seen("log.example").head.size) == (200, size)


def test_the_same_head_is_cosigned_again_with_the_new_moment(place, witness):
    witness.add_checkpoint(LOG.asks(0))
    later = witness_of(place, now=lambda: NOW + 60_000)
    answer = later.add_checkpoint(LOG.asks(5))
    assert [each.at for each in cosigned(LOG, answer, later)] == [NOW + 60_000]
    later.memory.close()


def test_a_witness_with_two_keys_signs_with_both(tmp_path):
    both = witness_of(tmp_path / "both.db", LOG, ml_dsa=True)
    answer = both.add_checkpoint(LOG.asks(0))
    assert [each.verifier.kind for each in cosigned(LOG, answer, both)] == [note.COSIGNATURE, note.ML_DSA]
    both.memory.close()


def test_a_log_that_changes_its_key_goes_on_with_the_new_one_and_never_back(at_five):
    assert at_five.add_checkpoint(ROTATED.asks(5)).status == 403
    at_five.memory.trust("log.example", ROTATED.key.verifier())
    assert at_five.add_checkpoint(ROTATED.grow(2).asks(5)).status == 200
    assert at_five.add_checkpoint(LOG.grow(3).asks(7)).status == 403


def test_a_log_may_sign_with_ml_dsa_alone_and_without_a_moment(witness):
    """As a log of litewitness's own tests does: its signature is a cosignature whose time is zero."""
    key, head = PostQuantum("pq.example/log"), Checkpoint("pq.example/log", 5, LOG.head.root)
    witness.memory.trust("pq.example/log", key.verifier)
    message = cosignature.ml_dsa_message(cosigner=key.name, seconds=0, origin=head.origin, size=5, root=head.root)
    blob = key.verifier.hash + bytes(8) + key.sign(message)
    signed = f"{head.body()}\n— {key.name} {base64.b64encode(blob).decode()}\n".encode()
    answer = witness.add_checkpoint(LOG.asks(0, signed=signed))
    assert answer.status == 200
    merged = note.merge(signed, request.decode_lines(answer.body))
    assert len(checkpoint.open_checkpoint(merged, key.verifier, [witness.cosigners[0].verifier]).witnessed) == 1


def test_lines_of_keys_that_are_not_known_are_passed_by_and_not_kept(at_five):
    signed = note.cosign(LOG.note, Key("somebody.example"), at=NOW)
    assert at_five.add_checkpoint(LOG.asks(5, signed=signed)).status == 200
    assert b"somebody" not in at_five.memory.seen("log.example").note


EXTENDED = note.sign(f"{LOG.head.body()}an extension\n", LOG.key)
UNSIGNED = LOG.note.rpartition(b"\n\n")[0] + b"\n\n"
TOO_BIG = checkpoint.sign(Checkpoint("log.example", 2**53 - 1, b"r" * 32), LOG.key).replace(
    b"9007199254740991", b"9" * 17
)
FORGED = LOG.note.replace(b"\n5\n", b"\n6\n")
EMPTY_WITH_A_ROOT = note.sign("log.example\n0\n" + LOG.head.body().split("\n")[2] + "\n", LOG.key)
BY_ANOTHER = checkpoint.sign(LOG.head, Key("log.example", "not its key"))
NAMED_BY_ANOTHER = note.sign(LOG.head.body(), Key("mallory.example"))


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, b"no line `old N`"),
        (b"\xff" * 100, 400, b"no line `old N`"),
        (LOG.note, 400, b"no line `old N`"),
        (LOG.asks(0, signed=UNSIGNED), 400, b"signature line"),
        (LOG.asks(0, signed=EXTENDED), 400, b"a checkpoint has three"),
        (LOG.asks(0, signed=TOO_BIG), 400, b"a plain decimal number is expected"),
        (LOG.asks(0, signed=EMPTY_WITH_A_ROOT), 400, b"not the empty tree's"),
        (LOG.asks(6), 400, b"the old size 6 is beyond the checkpoint's, 5"),
        (STRANGER.asks(0), 404, b"does not know the log"),
        (LOG.asks(0, signed=BY_ANOTHER), 403, b"no known key signed this note"),
        (LOG.asks(0, signed=NAMED_BY_ANOTHER), 403, b"it is signed by `mallory.example`"),
        (LOG.asks(0, signed=FORGED), 403, b"does not fit the text"),
        (LOG.asks(0, hashes=[b"h" * 32]), 422, b"the proof does not lead from the size 0"),
        (LOG.asks(3), 409, b"0\n"),
    ],
)  # fmt: skip
def test_what_a_fresh_witness_refuses(witness, body, status, said):
    answer = witness.add_checkpoint(body)
    assert answer.status == status
    assert said in answer.body
    assert witness.memory.seen("log.example") is None


LONGER, SWAPPED = LOG.grow(3), OTHER.grow(3, "another")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (LOG.asks(0), 409, b"5\n"),
        (LOG.asks(4), 409, b"5\n"),
        (LONGER.asks(6), 409, b"5\n"),
        (LOG.cut(3).asks(3), 409, b"5\n"),
        (LOG.cut(3).asks(0), 409, b"5\n"),
        (LOG.cut(3).asks(5), 400, b"the old size 5 is beyond the checkpoint's, 3"),
        (GrownLog.of().asks(0), 409, b"5\n"),
        (LOG.asks(5, hashes=[b"h" * 32]), 422, b"from the size 5, cosigned here, to 5"),
        (LONGER.asks(5, hashes=[]), 422, b"from the size 5, cosigned here, to 8"),
        (LONGER.asks(5, hashes=LONGER.prove(4)), 422, b"does not lead"),
        (LONGER.asks(5, hashes=[*LONGER.prove(5), b"h" * 32]), 422, b"does not lead"),
        (LONGER.asks(5, hashes=LONGER.prove(5)[::-1]), 422, b"does not lead"),
        (SWAPPED.asks(5), 422, b"does not lead"),
        (OTHER.asks(5), 409, b"another root was cosigned for the size 5"),
    ],
)  # fmt: skip
def test_what_a_witness_at_five_refuses(at_five, body, status, said):
    answer = at_five.add_checkpoint(body)
    assert answer.status == status
    assert said in answer.body
    assert at_five.memory.seen("log.example").head == LOG.head
    sized_ones = status == 409 and b"root" not in said
    assert (answer.kind == request.SIZE_TYPE) == sized_ones
    assert not sized_ones or request.decode_size(answer.body) == 5


def test_every_hash_of_a_proof_counts(at_five):
    good = LONGER.prove(5)
    for place in range(len(good)):
        bent = [*good[:place], bytes([good[place][0] ^ 1]) + good[place][1:], *good[place + 1 :]]
        assert at_five.add_checkpoint(LONGER.asks(5, hashes=bent)).status == 422
    assert at_five.add_checkpoint(LONGER.asks(5)).status == 200


def test_a_log_without_entries_is_cosigned_and_may_grow(witness):
    empty = GrownLog.of()
    assert witness.add_checkpoint(empty.asks(0)).status == 200
    assert witness.memory.seen("log.example").head == Checkpoint("log.example", 0, tree.EMPTY_ROOT)
    assert witness.add_checkpoint(LOG.asks(0)).status == 200


def test_a_log_whose_keys_have_another_name_is_known_by_its_origin(witness):
    key = Key("key.of.the.log")
    witness.memory.trust("go.sum database tree", key.verifier())
    head = Checkpoint("go.sum database tree", 5, LOG.head.root)
    assert witness.add_checkpoint(LOG.asks(0, signed=note.sign(head.body(), key))).status == 200
    other = Checkpoint("log.example", 5, LOG.head.root)
    assert witness.add_checkpoint(LOG.asks(0, signed=note.sign(other.body(), key))).status == 403


# --- the auditor's seam -----------------------------------------------------------------------------------


def test_an_auditor_is_asked_about_what_holds_and_nothing_else(place):
    asked = []
    witness = witness_of(place, LOG, judge=asked.append)
    for body in (b"", STRANGER.asks(0), LOG.asks(0, signed=FORGED), LOG.asks(3), LOG.asks(0, hashes=[b"h" * 32])):
        assert witness.add_checkpoint(body).status != 200
    assert asked == []
    assert witness.add_checkpoint(LOG.asks(0)).status == 200
    assert asked == [LOG.note]
    witness.memory.close()


def test_an_auditors_reason_refuses_and_nothing_is_remembered(place):
    witness = witness_of(place, LOG, judge=lambda note: f"entry 3 of {checkpoint.parse_body(note).size} was not lawful")
    assert sized(witness.add_checkpoint(LOG.asks(0)))[::2] == (422, b"entry 3 of 5 was not lawful\n")
    assert witness.memory.seen("log.example") is None
    witness.memory.close()


def test_an_empty_reason_refuses_too(place):
    witness = witness_of(place, LOG, judge=lambda head: "")
    assert witness.add_checkpoint(LOG.asks(0)).status == 422
    witness.memory.close()


def test_what_an_auditor_raises_signs_nothing(place):
    def cannot(head):
        raise Unavailable("the entries cannot be fetched")

    witness = witness_of(place, LOG, judge=cannot)
    with pytest.raises(Unavailable):
        witness.add_checkpoint(LOG.asks(0))
    assert witness.memory.seen("log.example") is None
    witness.memory.close()


def test_what_others_cosigned_while_an_auditor_thought_is_seen(place, witness):
    def slow(head):
        assert witness.add_checkpoint(LOG.asks(0)).status == 200

    auditor = witness_of(place, judge=slow)
    assert sized(auditor.add_checkpoint(OTHER.asks(0))) == (409, request.SIZE_TYPE, b"5\n")
    assert witness.memory.seen("log.example").head == LOG.head
    auditor.memory.close()


# --- moments and monitors ---------------------------------------------------------------------------------


def test_a_clock_that_runs_back_signs_nothing(place, witness):
    witness.add_checkpoint(LOG.asks(0))
    earlier = witness_of(place, now=lambda: NOW - 1)
    answer = earlier.add_checkpoint(LONGER.asks(5))
    assert (answer.status, witness.memory.seen("log.example").head.size) == (503, 5)
    earlier.memory.close()


def test_a_monitor_is_shown_the_last_head_with_both_signatures(at_five):
    from hashlib import sha256

    hashed = sha256(b"log.example").hexdigest()
    answer = at_five.latest(hashed)
    opened = checkpoint.open_checkpoint(answer.body, LOG.key.verifier(), [at_five.cosigners[0].verifier])
    assert (answer.status, opened.checkpoint, len(opened.witnessed)) == (200, LOG.head, 1)
    at_five.add_checkpoint(LONGER.asks(5))
    assert checkpoint.parse_body(at_five.latest(hashed).body).size == 8
    assert at_five.latest(sha256(b"stranger.example").hexdigest()).status == 404


def test_a_monitor_is_told_when_nothing_was_cosigned_yet(witness):
    from hashlib import sha256

    assert witness.latest(sha256(b"log.example").hexdigest()).status == 404
