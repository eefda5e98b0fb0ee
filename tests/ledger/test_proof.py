"""A proof is the text that C2SP tlog-proof@v1 describes, reads back as written, and holds for one entry only."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pytest

from keyturn.core.errors import MalformedInput, TamperDetected, UntrustedInput
from keyturn.core.policy import Party, Witnesses
from keyturn.ledger import note, proof, tree
from keyturn.ledger.proof import Proof
from tests.fakes.witnesses import WitnessKey
from tests.ledger.signers import LOG, Key, leaves_of, signed

H1, H2 = sha256(b"hash1").digest(), sha256(b"hash2").digest()
T1, T2 = (base64.b64encode(each).decode() for each in (H1, H2))
HEADER = "c2sp.org/tlog-proof@v1"


@pytest.fixture
def made(store):
    store.append(leaves_of(7), expected=None)
    return Proof(5, store.prove_inclusion(5, 7), signed(store)[2])


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (Proof(5, (H1, H2), b"checkpoint\n"), f"{HEADER}\nindex 5\n{T1}\n{T2}\n\ncheckpoint\n"),
        (Proof(10, (H1,), b"c\n", b"extra"), f"{HEADER}\nextra ZXh0cmE=\nindex 10\n{T1}\n\nc\n"),
        (Proof(0, (), b"checkpoint\n"), f"{HEADER}\nindex 0\n\ncheckpoint\n"),
    ],
)
def test_a_proof_is_written_as_the_specification_writes_it(said, text):
    assert proof.encode(said) == text.encode()
    assert proof.decode(text.encode()) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{HEADER}\nindex 0\n",
        "c2sp.org/tlog-proof@v2\nindex 0\n\nc\n",
        f"{HEADER}\n\nc\n",
        f"{HEADER}\nindex 00\n\nc\n",
        f"{HEADER}\nindex -1\n\nc\n",
        f"{HEADER}\nindex 1 \n\nc\n",
        f"{HEADER}\nindex 99999999999999999\n\nc\n",
        f"{HEADER}\nextra \nindex 0\n\nc\n",
        f"{HEADER}\nextra !!\nindex 0\n\nc\n",
        f"{HEADER}\nindex 0\nextra ZXh0cmE=\n\nc\n",
        f"{HEADER}\nindex 0\n{T1[:-4]}\n\nc\n",
        f"{HEADER}\nindex 0\n{T1.rstrip('=')}\n\nc\n",
        f"{HEADER}\r\nindex 0\r\n\r\nc\n",
        f"{HEADER}\nindex 0\n" + f"{T1}\n" * 64 + "\nc\n",
        f"{HEADER}\nindex 0\né\n\nc\n",
        f"{HEADER}\nextra {'A' * 300_000}\nindex 0\n\nc\n",
    ],
)
def test_anything_else_is_no_proof(text):
    with pytest.raises(MalformedInput) as caught:
        proof.decode(text.encode())
    assert caught.value.help


def test_every_entry_of_every_small_log_is_proven(store):
    for size in range(1, 20):
        store.append([b"entry %d" % (size - 1)], expected=None)
        at = signed(store)[2]
        for index in range(size):
            said = proof.decode(proof.encode(Proof(index, store.prove_inclusion(index, size), at)))
            head = proof.check(said, b"entry %d" % index, LOG.verifier()).checkpoint
            assert (head.size, head.root) == (size, store.root_at(size))


def test_attack_no_changed_bit_of_a_proof_holds(made):
    text = proof.encode(made)
    for place in range(len(text)):
        for bit in (0, 5):
            bent = bytearray(text)
            bent[place] ^= 1 << bit
            with pytest.raises((MalformedInput, TamperDetected, UntrustedInput)):
                proof.check(proof.decode(bytes(bent)), b"entry 5", LOG.verifier())


@pytest.mark.parametrize("leaf", [b"entry 4", b"entry 5 ", b""])
def test_attack_another_entry_is_not_proven(made, leaf):
    with pytest.raises(TamperDetected) as caught:
        proof.check(made, leaf, LOG.verifier())
    assert caught.value.proof == made.checkpoint.decode()


def test_attack_an_inner_node_is_no_entry(store):
    """The bytes of a node, shown as an entry one level up, would prove what nobody logged, were they not kept apart."""
    store.append(leaves_of(4), expected=None)
    left, right = (tree.leaf_hash(b"entry %d" % n) for n in (0, 1))
    path = store.prove_inclusion(0, 4)
    for leaf in (left + right, b"\1" + left + right):
        with pytest.raises(TamperDetected):
            proof.check(Proof(0, path[1:], signed(store)[2]), leaf, LOG.verifier())


def test_attack_a_checkpoint_by_another_key_of_the_same_name_shows_nothing(store, made):
    thief = Key(LOG.name, "thief")
    forged = note.sign(note.text_of(made.checkpoint), thief)
    with pytest.raises(UntrustedInput):
        proof.check(Proof(made.index, made.hashes, forged), b"entry 5", LOG.verifier())


def test_the_policy_asks_for_what_ours_asks_for_in_words_that_other_tools_read():
    keys = {name: WitnessKey(f"{name}.example").vkey for name in ("w1", "w2", "a1", "x")}
    parties = (
        Party("w1", (keys["w1"], keys["x"]), "https://w1", independent=True, auditor=False),
        Party("a1", (keys["a1"],), "https://a1/log", independent=True, auditor=True),
        Party("own", (keys["w2"],), "https://own", independent=False, auditor=False),
    )
    assert proof.policy(LOG.verifier(), Witnesses(2, allow_unwitnessed=False, auditors=1, parties=parties)) == (
        f"log {LOG.verifier().vkey}\n"
        f"witness w1.1 {keys['w1']} https://w1\n"
        f"witness w1.2 {keys['x']} https://w1\n"
        "group w1 any w1.1 w1.2\n"
        f"witness a1 {keys['a1']} https://a1/log\n"
        "group WITNESSES 2 w1 a1\n"
        "group AUDITORS 1 a1\n"
        "group BOTH all WITNESSES AUDITORS\n"
        "quorum BOTH\n"
    )


def test_the_policy_asks_for_the_log_key_and_says_that_nobody_witnesses():
    lines = proof.policy(LOG.verifier(), Witnesses(0, allow_unwitnessed=True)).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [f"log {LOG.verifier().vkey}", "quorum none"]
    assert "UNWITNESSED" in lines[0]


def test_foreign_inclusion_cases_hold_or_fail_as_said_in_our_text(shared_vectors):
    seen = 0
    for path in sorted((shared_vectors / "merkle" / "inclusion").rglob("*.json")):
        case = json.loads(path.read_text())
        hashes = tuple(base64.b64decode(each) for each in case["proof"] or ())
        if any(len(each) != 32 for each in hashes) or not 0 <= case["leafIdx"] < 10**15:
            continue
        read = proof.decode(proof.encode(Proof(case["leafIdx"], hashes, b"c\n")))
        holds = tree.check_inclusion(
            index=read.index,
            size=case["treeSize"],
            leaf=base64.b64decode(case["leafHash"]),
            proof=read.hashes,
            root=base64.b64decode(case["root"] or ""),
        )
        assert holds is not case["wantErr"], path.name
        seen += 1
    assert seen > 60
