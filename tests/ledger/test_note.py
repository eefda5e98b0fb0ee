"""Signed notes and checkpoints: unknown is not the same as forged, and a head has one spelling."""

from __future__ import annotations

import base64

import pytest

from keyturn.core.errors import MalformedInput, TamperDetected, UntrustedInput
from keyturn.ledger import checkpoint, note, tree
from keyturn.ledger.checkpoint import Checkpoint
from tests.ledger.signers import LOG, Key

WITNESS, OTHER = Key("witness.example/w1"), Key("somebody.example")
TEXT = "connect4.example/log\n1\n" + base64.b64encode(tree.leaf_hash(b"")).decode() + "\n"
NOTE = note.sign(TEXT, LOG)

# The example of the C2SP signed-note specification, as golang.org/x/mod/sumdb/note publishes it.
PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_the_example_of_the_specification_opens():
    opened = note.open_note(PETER_NOTE.encode(), [note.parse_vkey(PETER_KEY)])
    assert opened.text.startswith("If you think cryptography")
    assert [each.verifier.name for each in opened.signed] == ["PeterNeumann"]
    assert note.parse_vkey(PETER_KEY).vkey == PETER_KEY


def test_a_key_that_is_not_known_and_a_signature_that_is_wrong_are_different():
    with pytest.raises(UntrustedInput, match=r"no known key signed this note; it is signed by `connect4.example/log`"):
        note.open_note(NOTE, [OTHER.verifier(), WITNESS.witness])
    forged = NOTE.replace(b"\n1\n", b"\n2\n")
    with pytest.raises(TamperDetected, match="does not fit the text") as caught:
        note.open_note(forged, [LOG.verifier()])
    assert caught.value.proof == forged.decode()


def test_a_key_of_the_same_name_is_still_another_key():
    with pytest.raises(UntrustedInput):
        note.open_note(NOTE, [Key(LOG.name, "another").verifier()])


def test_a_witness_swears_to_a_moment():
    both = note.cosign(NOTE, WITNESS, at=1_790_000_000_999)
    opened = checkpoint.open_checkpoint(both, LOG.verifier(), [WITNESS.witness])
    assert opened.checkpoint == Checkpoint(LOG.name, 1, tree.leaf_hash(b""))
    assert [(each.verifier, each.at) for each in opened.witnessed] == [(WITNESS.witness, 1_790_000_000_000)]
    line = both.decode().splitlines()[-1].split(" ")
    blob = bytearray(base64.b64decode(line[2]))
    blob[11] ^= 1
    later = both.decode().replace(line[2], base64.b64encode(blob).decode()).encode()
    with pytest.raises(TamperDetected):
        checkpoint.open_checkpoint(later, LOG.verifier(), [WITNESS.witness])


def test_a_witness_line_that_is_not_asked_about_changes_nothing():
    both = note.cosign(NOTE, WITNESS, at=0)
    opened = note.open_note(both, [LOG.verifier()])
    assert opened.unknown == (WITNESS.name,)
    assert opened.text == TEXT


def test_a_witness_alone_does_not_speak_for_the_log():
    alone = note.cosign(note.sign(TEXT, OTHER), WITNESS, at=0)
    with pytest.raises(UntrustedInput, match=r"the log `connect4.example/log` did not sign this checkpoint"):
        checkpoint.open_checkpoint(alone, LOG.verifier(), [WITNESS.witness])


def test_a_cosignature_never_stands_for_the_signature_of_the_log():
    as_witness = note.cosign(note.sign(TEXT, OTHER), LOG, at=0)
    with pytest.raises(UntrustedInput):
        checkpoint.open_checkpoint(as_witness, LOG.verifier())


def test_a_checkpoint_of_another_log_is_refused():
    foreign = note.sign(TEXT.replace("connect4", "connect5"), LOG)
    with pytest.raises(UntrustedInput, match=r"is of the log `connect5\.example/log`; `connect4\.example/log`"):
        checkpoint.open_checkpoint(foreign, LOG.verifier())
    with pytest.raises(MalformedInput, match="cannot sign for the log"):
        checkpoint.sign(Checkpoint("another.example", 1, tree.leaf_hash(b"")), LOG)


def test_what_is_signed_is_what_is_read():
    head = Checkpoint(LOG.name, 1, tree.leaf_hash(b""))
    assert checkpoint.sign(head, LOG) == NOTE
    assert checkpoint.parse_body(NOTE) == head


@pytest.mark.parametrize(
    "data",
    [
        b"", b"text\n", b"text\n\n", NOTE[:-1], NOTE + b"\n", NOTE + b"trailing", NOTE.replace(b"\xe2\x80\x94", b"-"),
        b"\xff" + NOTE, b"a\tb\n" + NOTE, b"a\r\n" + NOTE, TEXT.encode() + b"\n\xe2\x80\x94 na+me AAAAAAAA\n",
        TEXT.encode() + b"\n\xe2\x80\x94 name AAAA\n", TEXT.encode() + b"\n\xe2\x80\x94 name x y\n",
        NOTE + b"\xe2\x80\x94 x AAAAAAAA\n" * 100, b"x" * 64_001,
    ],
)  # fmt: skip
def test_what_is_no_note_is_malformed(data):
    with pytest.raises(MalformedInput):
        note.open_note(data, [LOG.verifier()])


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n", "o\n01\n{root}\n", "o\n-1\n{root}\n", "o\n1\n{root}\nextra\n", "\n1\n{root}\n", "o\n\u0661\n{root}\n",
        "o\n1\nAAAA\n", "o\n0\n{root}\n", "o\n9007199254740992\n{root}\n", "o\n+1\n{root}\n", "o\n1 \n{root}\n",
    ],
)  # fmt: skip
def test_a_head_has_one_spelling(text):
    root = base64.b64encode(tree.leaf_hash(b"")).decode()
    with pytest.raises(MalformedInput):
        checkpoint.parse_body(note.sign(text.format(root=root), LOG))


@pytest.mark.parametrize(
    "vkey",
    [
        "", "PeterNeumann", PETER_KEY[:-4], PETER_KEY.replace("c74f20a3", "c74f20a4"), PETER_KEY.replace("+AR", "+BR"),
        PETER_KEY.replace("Peter", "Pe ter"), PETER_KEY + "\n",
    ],
)  # fmt: skip
def test_a_verifier_key_that_is_not_whole_is_refused(vkey):
    with pytest.raises(MalformedInput):
        note.parse_vkey(vkey)


def test_kinds_of_keys_are_kept_apart_by_their_hash():
    assert LOG.verifier().hash != LOG.witness.hash
    for verifier in (LOG.verifier(), LOG.witness):
        assert note.parse_vkey(verifier.vkey) == verifier
