"""Go's own packages and ours accept the same notes, proofs and tiles, and refuse the same changes."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from keyturn.core.errors import KeyturnError, TamperDetected
from keyturn.ledger import checkpoint, note, proof, tiles_folder, tree
from keyturn.ledger.places.folder import Folder
from keyturn.ledger.proof import Proof
from keyturn.ledger.store import Store
from tests.ledger.exports import TRUST
from tests.ledger.signers import LOG, Key, leaves_of, signed

pytestmark = pytest.mark.judges

WITNESS = Key("witness.example/w1")
TEXT = "connect4.example/log\n1\n" + base64.b64encode(tree.leaf_hash(b"")).decode() + "\n"


def b64(data):
    return base64.b64encode(data).decode()


def hashes(found):
    return [b64(each) for each in found]


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "log.db", create=True) as opened:
        opened.append(leaves_of(13), expected=None)
        yield opened


# --- notes


def test_go_opens_our_checkpoint_with_our_key_and_sees_who_cosigned(go):
    made = note.cosign(note.sign(TEXT, LOG), WITNESS, at=1_790_000_000_000).decode()
    vkeys = [LOG.verifier().vkey, WITNESS.witness.vkey]
    assert go("open", note=made, vkeys=vkeys) == {"text": TEXT, "signed": [LOG.name, WITNESS.name], "unknown": []}
    alone = go("open", note=made, vkeys=vkeys[:1])
    assert (alone["signed"], alone["unknown"]) == ([LOG.name], [WITNESS.name])


def test_we_open_what_go_signs(go):
    made = go("sign", name="go.example", seed=b64(bytes(range(32))), text="a text\nof two lines\n")
    opened = note.open_note(made["note"].encode(), [note.parse_vkey(made["vkey"])])
    assert opened.text == "a text\nof two lines\n"
    assert note.parse_vkey(made["vkey"]).vkey == made["vkey"]


def test_the_same_seed_signs_the_same_note_in_both(go):
    seed = sha256(f"{LOG.name} ".encode()).digest()
    made = go("sign", name=LOG.name, seed=b64(seed), text=TEXT)
    assert (made["note"].encode(), made["vkey"]) == (note.sign(TEXT, LOG), LOG.verifier().vkey)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.replace("\n1\n", "\n2\n"),
        lambda made: made[:-1],
        lambda made: made + "\n",
        lambda made: made.replace("—", "-"),
        lambda made: made.replace("— connect4", "— connect5"),
        lambda made: "\x01" + made,
        lambda made: made.replace("\n\n", "\n"),
        lambda made: made + "— x AAAAAAAA\n" * 100,
    ],
)
def test_what_go_refuses_as_a_note_we_refuse_too(go, change):
    made = change(note.sign(TEXT, LOG).decode())
    assert "error" in go("open", note=made, vkeys=[LOG.verifier().vkey])
    with pytest.raises(KeyturnError):
        note.open_note(made.encode(), [LOG.verifier()])


def test_go_opens_every_checkpoint_of_the_recorded_log_with_its_pinned_key(go, recorded):
    vkey = json.loads(TRUST.read_text())["founded"]["log_key"]
    found = sorted((recorded / "checkpoints").iterdir())
    for path in found:
        opened = go("open", note=path.read_text(), vkeys=[vkey])
        assert opened["text"].split("\n")[1] == path.name
    assert len(found) > 3


# --- proofs


def test_go_accepts_every_proof_of_an_entry_and_of_a_beginning(go, store):
    size = store.head().size
    at = {"size": size, "root": b64(store.head().root)}
    for index in range(size):
        said = hashes(store.prove_inclusion(index, size))
        leaf = b"entry %d" % index
        assert go("record", **at, leaf=b64(leaf), index=index, proof=said) == {"holds": True}
        old = {"old": index + 1, "from": b64(store.root_at(index + 1))}
        assert go("tree", **at, **old, proof=hashes(store.prove_consistency(index + 1, size))) == {"holds": True}


def test_go_refuses_the_proof_of_another_entry_and_of_another_beginning(go, store):
    size = store.head().size
    at = {"size": size, "root": b64(store.head().root)}
    said = hashes(store.prove_inclusion(4, size))
    assert "error" in go("record", **at, leaf=b64(b"entry 5"), index=4, proof=said)
    assert "error" in go("record", **at, leaf=b64(b"entry 4"), index=5, proof=said)
    assert "error" in go("record", **at, leaf=b64(b"entry 4"), index=4, proof=said[1:])
    forked = {"old": 5, "from": b64(store.root_at(4))}
    assert "error" in go("tree", **at, **forked, proof=hashes(store.prove_consistency(5, size)))


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 70])
def test_we_accept_every_root_and_proof_that_go_makes(go, size):
    leaves = leaves_of(size)
    made = go("grow", leaves=hashes(leaves))
    roots = [base64.b64decode(each) for each in made["roots"]]
    assert roots == [tree.Frontier().extend(tree.leaf_hashes(leaves[: n + 1])).root() for n in range(size)]
    for index, (record, grown) in enumerate(zip(made["records"], made["trees"], strict=True)):
        inside = tuple(map(base64.b64decode, record or ()))
        leaf = tree.leaf_hash(leaves[index])
        assert tree.check_inclusion(index=index, size=size, leaf=leaf, proof=inside, root=roots[-1])
        beginning = tuple(map(base64.b64decode, grown or ()))
        assert tree.check_consistency(
            old=index + 1, old_root=roots[index], new=size, new_root=roots[-1], proof=beginning
        )


def test_go_accepts_what_a_tlog_proof_of_ours_says(go, store):
    text = proof.encode(Proof(6, store.prove_inclusion(6, 13), signed(store)[2])).decode()
    head, _, noted = text.partition("\n\n")
    index, *lines = head.split("\n")[1:]
    opened = go("open", note=noted, vkeys=[LOG.verifier().vkey])
    _, size, root = opened["text"].splitlines()
    asked = {"size": int(size), "root": root, "index": int(index.split()[1]), "proof": lines}
    assert go("record", **asked, leaf=b64(b"entry 6")) == {"holds": True}


# --- tiles


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700])
def test_go_proves_every_entry_and_beginning_from_our_files(go, tmp_path, size):
    folder = tmp_path / "pub"
    with Store.open(tmp_path / "log.db", create=True) as opened:
        opened.append(leaves_of(size), expected=None)
        opened.save_checkpoint(*signed(opened))
        tiles_folder.publish(opened, LOG.verifier(), Folder(folder))
        root = b64(opened.head().root)
    assert go("tiles", folder=str(folder), size=size, root=root) == {"root": root, "entries": size}
    last = max((folder / "tile" / "0").rglob("*"), key=lambda each: each.is_file())
    data = bytearray(last.read_bytes())
    data[0] ^= 1
    last.write_bytes(data)
    assert "error" in go("tiles", folder=str(folder), size=size, root=root)


def test_go_proves_every_entry_of_the_recorded_log_from_its_export(go, recorded):
    head = checkpoint.parse_body((recorded / "checkpoint").read_bytes())
    asked = {"folder": str(recorded), "size": head.size, "root": b64(head.root)}
    assert go("tiles", **asked) == {"root": b64(head.root), "entries": head.size}


# --- ML-DSA-44


class PostQuantum:
    """A cosigner of kind 0x06 whose key follows from its name."""

    def __init__(self, name):
        self.name, self.seed = name, sha256(name.encode()).digest()
        self._key = MLDSA44PrivateKey.from_seed_bytes(self.seed)
        self.public = b64(self._key.public_key().public_bytes_raw())

    def sign(self, message):
        return self._key.sign(message)

    @property
    def verifier(self):
        return note.Verifier(self.name, self.public, note.ML_DSA)


QUANTUM = PostQuantum("witness.example/pq")
AT = 1_790_000_000


def test_go_accepts_our_ml_dsa_cosignature_and_refuses_it_over_another_head(go):
    made = note.cosign(note.sign(TEXT, LOG), QUANTUM, at=AT * 1000, kind=note.ML_DSA).decode()
    vkeys = [LOG.verifier().vkey, QUANTUM.verifier.vkey]
    assert go("open", note=made, vkeys=vkeys)["signed"] == [LOG.name, QUANTUM.name]
    both = note.cosign(made.encode(), WITNESS, at=AT * 1000).decode()
    three = [*vkeys, WITNESS.witness.vkey]
    assert go("open", note=both, vkeys=three)["signed"] == [LOG.name, QUANTUM.name, WITNESS.name]
    other = TEXT.replace("\n1\n", "\n2\n")
    moved = note.sign(other, LOG).decode() + made.splitlines()[-1] + "\n"
    assert "error" in go("open", note=moved, vkeys=vkeys)
    with pytest.raises(KeyturnError):
        note.open_note(moved.encode(), [LOG.verifier(), QUANTUM.verifier])


def test_we_accept_gos_ml_dsa_cosignature_and_refuse_it_at_another_moment(go):
    made = go("mldsa-sign", name=QUANTUM.name, seed=b64(QUANTUM.seed), size=AT, text=TEXT)
    assert made["key"] == QUANTUM.public
    sig = base64.b64decode(made["sig"])

    def opened(at):
        line = b64(QUANTUM.verifier.hash + at.to_bytes(8, "big") + sig)
        data = note.sign(TEXT, LOG) + f"— {QUANTUM.name} {line}\n".encode()
        return checkpoint.open_checkpoint(data, LOG.verifier(), [QUANTUM.verifier])

    assert [(each.verifier, each.at) for each in opened(AT).witnessed] == [(QUANTUM.verifier, AT * 1000)]
    with pytest.raises(TamperDetected):
        opened(AT + 1)


def test_a_bare_ml_dsa_signature_of_ours_holds_in_go_for_its_own_bytes_only(go):
    sig = QUANTUM.sign(b"what was signed")
    asked = {"key": QUANTUM.public, "sig": b64(sig)}
    assert go("mldsa", **asked, bytes=b64(b"what was signed")) == {"holds": True}
    assert "error" in go("mldsa", **asked, bytes=b64(b"what was not"))
