"""Cosignatures of both kinds, byte for byte, and what cannot be checked here counting for nothing."""

from __future__ import annotations

import base64
import sys
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from keyturn.core.errors import MalformedInput, TamperDetected, Unavailable, UntrustedInput
from keyturn.ledger import checkpoint, note
from keyturn.ledger.note import Verifier
from keyturn.ledger.witnessing import cosignature
from tests.ledger.signers import Key
from tests.witness.cast import NOW, GrownLog, PostQuantum

LOG = GrownLog.of(size=3)
PQ, ED = PostQuantum("witness.example/pq"), Key("witness.example/ed")
BOTH = note.cosign(note.cosign(LOG.note, ED, at=NOW), PQ, at=NOW, kind=note.ML_DSA)
KNOWN = (LOG.key.verifier(), ED.witness, PQ.verifier)

# From the tests of github.com/transparency-dev/formats: a key of kind 0x04 that stood in a real policy.
REMORA = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"


@pytest.fixture
def no_ml_dsa(monkeypatch):
    """A build of `cryptography` without ML-DSA."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)


@pytest.fixture(scope="module")
def foreign(repo):
    """Two verifier keys and a note, made by Go 1.27's crypto/mldsa and crypto/ed25519 from seeds that are digests."""
    text = (repo / "tests/vectors/cosigned/go-1.27-ml-dsa-44.txt").read_bytes()
    log, witness, signed = text.split(b"\n", 2)
    return note.parse_vkey(log.decode()), note.parse_vkey(witness.decode()), signed


def test_what_go_cosigned_with_ml_dsa_opens(foreign):
    log, witness, signed = foreign
    opened = checkpoint.open_checkpoint(signed, log, [witness])
    assert (witness.kind, witness.name) == (note.ML_DSA, "witness.example/w1")
    assert [(each.verifier, each.at) for each in opened.witnessed] == [(witness, NOW)]
    assert opened.checkpoint.size == 20852163


def test_the_same_seed_is_the_same_key_there_and_here(foreign):
    seed = sha256(b"keyturn vector: a cosigner").digest()
    public = MLDSA44PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()
    ours = Verifier("witness.example/w1", base64.b64encode(public).decode(), note.ML_DSA)
    assert ours == foreign[1]
    assert note.parse_vkey(ours.vkey) == ours


def test_a_verifier_key_of_a_real_witness_is_read():
    key = note.parse_vkey(REMORA)
    assert (key.name, key.kind, key.vkey) == ("remora.n621.de", note.COSIGNATURE, REMORA)


def test_the_message_is_the_structure_of_the_specification():
    message = cosignature.ml_dsa_message(cosigner="w", seconds=1, origin="log", size=258, root=b"r" * 32)
    assert message == (
        b"subtree/v1\n\0" + b"\x01w" + bytes(7) + b"\x01" + b"\x03log" + bytes(8) + bytes(6) + b"\x01\x02" + b"r" * 32
    )


def test_both_kinds_are_opened_and_swear_to_the_moment():
    opened = checkpoint.open_checkpoint(BOTH, KNOWN[0], KNOWN[1:])
    assert [(each.verifier.kind, each.at) for each in opened.witnessed] == [(4, NOW), (6, NOW)]
    line = BOTH.decode().splitlines()[-1].split(" ")
    assert len(base64.b64decode(line[2])) == 4 + 8 + cosignature.SIGNATURE_BYTES


def changed(spot):
    """`BOTH` with one bit of the last line's signature flipped, counted from the key's hint on."""
    head, _, line = BOTH.decode()[:-1].rpartition(" ")
    blob = bytearray(base64.b64decode(line))
    blob[spot] ^= 1
    return f"{head} {base64.b64encode(blob).decode()}\n".encode()


@pytest.mark.parametrize("spot", [4, 11, 12, 500, -1])
def test_one_bit_of_moment_or_signature_and_it_does_not_fit(spot):
    with pytest.raises(TamperDetected, match=r"`witness\.example/pq` does not fit"):
        note.open_note(changed(spot), KNOWN)


def test_another_size_root_origin_or_name_does_not_fit():
    line = BOTH.decode().splitlines()[-1]
    for other in (LOG.cut(2), GrownLog(Key(LOG.key.name), [b"x"] * 3), GrownLog(Key("other.example"), LOG.told)):
        with pytest.raises(TamperDetected):
            note.open_note(note.merge(other.note, [line]), KNOWN)
    renamed = Verifier("witness.example/qp", PQ.public, note.ML_DSA)
    blob = renamed.hash + base64.b64decode(line.split(" ")[2])[4:]
    with pytest.raises(TamperDetected):  # unlike Ed25519's, the message holds the cosigner's name
        note.open_note(note.merge(LOG.note, [f"— {renamed.name} {base64.b64encode(blob).decode()}"]), [renamed])


def test_a_cut_or_padded_signature_does_not_fit():
    head, _, line = BOTH.decode()[:-1].rpartition(" ")
    blob = base64.b64decode(line)
    for other in (blob[:-1], blob + b"\0", blob[:11], blob[:5]):
        with pytest.raises(TamperDetected):
            note.open_note(f"{head} {base64.b64encode(other).decode()}\n".encode(), KNOWN)


def test_what_is_no_checkpoint_is_not_cosigned_with_ml_dsa():
    text = note.sign("just a text\n", LOG.key)
    with pytest.raises(MalformedInput, match="a checkpoint has three"):
        note.cosign(text, PQ, at=NOW, kind=note.ML_DSA)
    extended = note.sign(f"{LOG.head.body()}extension\n", LOG.key)
    with pytest.raises(MalformedInput):
        note.cosign(extended, PQ, at=NOW, kind=note.ML_DSA)
    pasted = note.merge(extended, [BOTH.decode().splitlines()[-1]])
    with pytest.raises(TamperDetected):
        note.open_note(pasted, [PQ.verifier])


def test_a_signature_that_swears_to_no_moment_witnesses_nothing():
    with pytest.raises(MalformedInput, match="at the moment zero"):
        note.cosign(LOG.note, PQ, at=999, kind=note.ML_DSA)
    head = LOG.head
    message = cosignature.ml_dsa_message(cosigner=PQ.name, seconds=0, origin=head.origin, size=3, root=head.root)
    blob = PQ.verifier.hash + bytes(8) + PQ.sign(message)
    timeless = note.merge(LOG.note, [f"— {PQ.name} {base64.b64encode(blob).decode()}"])
    assert note.open_note(timeless, [PQ.verifier]).signed[0].at is None
    assert checkpoint.open_checkpoint(timeless, KNOWN[0], [PQ.verifier]).witnessed == ()


def test_a_moment_beyond_63_bits_does_not_fit():
    seconds = 2**63
    message = cosignature.ed25519_message(LOG.head.body(), seconds)
    blob = ED.witness.hash + seconds.to_bytes(8, "big") + ED.sign(message)
    with pytest.raises(TamperDetected):
        note.open_note(note.merge(LOG.note, [f"— {ED.name} {base64.b64encode(blob).decode()}"]), [ED.witness])


def test_without_ml_dsa_a_known_line_opens_and_counts_for_nothing(no_ml_dsa):
    opened = note.open_note(BOTH, KNOWN)
    assert [each.verifier.kind for each in opened.signed] == [note.ED25519, note.COSIGNATURE]
    assert opened.unchecked == (PQ.name,)
    assert [each.verifier for each in checkpoint.open_checkpoint(BOTH, KNOWN[0], KNOWN[1:]).witnessed] == [ED.witness]


def test_without_ml_dsa_it_alone_opens_nothing(no_ml_dsa):
    with pytest.raises(Unavailable, match=r"only `witness.example/pq` signed this note, with ML-DSA-44") as caught:
        note.open_note(BOTH, [PQ.verifier])
    assert "OpenSSL 3.5" in caught.value.help
    with pytest.raises(Unavailable, match="no ML-DSA-44"):
        cosignature.require_ml_dsa()


def test_without_ml_dsa_a_key_can_still_be_read_and_named(no_ml_dsa):
    assert note.parse_vkey(PQ.verifier.vkey) == PQ.verifier


def test_a_line_of_a_key_that_is_not_known_is_passed_by():
    assert note.open_note(BOTH, KNOWN[:1]).unknown == (ED.name, PQ.name)
    with pytest.raises(UntrustedInput):
        note.open_note(BOTH, [Key("nobody").verifier()])


def test_the_same_key_twice_counts_once():
    twice = note.cosign(BOTH, PQ, at=NOW + 5000, kind=note.ML_DSA)
    assert [each.at for each in note.open_note(twice, [PQ.verifier, PQ.verifier]).signed] == [NOW]


def test_sixteen_post_quantum_witnesses_fit_on_one_note():
    everybody = [PostQuantum(f"witness-{n:02}.example/with-a-rather-long-name/{'x' * 60}") for n in range(16)]
    signed = LOG.note
    for each in everybody:
        signed = note.cosign(signed, each, at=NOW, kind=note.ML_DSA)
    opened = checkpoint.open_checkpoint(signed, KNOWN[0], [each.verifier for each in everybody])
    assert len(opened.witnessed) == 16


def test_a_key_of_another_length_is_no_key():
    for kind, size in ((note.ML_DSA, 32), (note.ML_DSA, 1311), (note.COSIGNATURE, 1312)):
        with pytest.raises(MalformedInput):
            Verifier("name", base64.b64encode(bytes([7]) * size).decode(), kind)


def test_a_new_line_takes_the_place_of_the_older_one_of_its_key():
    later = note.cosign(LOG.note, ED, at=NOW + 60_000).decode().splitlines()[-1]
    merged = note.merge(BOTH, [later])
    assert merged.count(ED.name.encode()) == 1
    assert {each.at for each in note.open_note(merged, KNOWN).signed} == {None, NOW, NOW + 60_000}
    assert note.keep(merged, [KNOWN[0]]) == LOG.note
    with pytest.raises(MalformedInput):
        note.merge(BOTH, ["no line"])
