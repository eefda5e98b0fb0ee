"""aics-tlog, a log library by others in Python, accepts what we write and writes what we accept."""

from __future__ import annotations

import base64

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.ledger import checkpoint, note, proof, tiles_folder, tree
from keyturn.ledger.places.folder import Folder
from keyturn.ledger.proof import Proof
from keyturn.ledger.store import Store
from tests.ledger.signers import LOG, Key, leaves_of, signed

pytestmark = pytest.mark.judges

WITNESS = Key("witness.example/w1")


@pytest.fixture(scope="module")
def aics(judges):
    import aics_tlog

    return aics_tlog


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "log.db", create=True) as opened:
        opened.append(leaves_of(700), expected=None)
        opened.save_checkpoint(*signed(opened))
        yield opened


def test_it_accepts_our_proof_of_an_entry(aics, store):
    read = proof.decode(proof.encode(Proof(5, store.prove_inclusion(5, 700), store.checkpoint())))
    result = aics.verify_checkpoint(aics.parse_note(read.checkpoint), aics.parse_vkey(LOG.verifier().vkey))
    assert result.ok
    assert aics.verify_leaf_inclusion(b"entry 5", read.index, result.size, read.hashes, result.root)
    assert not aics.verify_leaf_inclusion(b"entry 6", read.index, result.size, read.hashes, result.root)


def test_it_accepts_our_proof_of_a_beginning(aics, store):
    for old in (1, 255, 256, 257, 699):
        said = list(store.prove_consistency(old, 700))
        assert aics.verify_consistency(old, 700, store.root_at(old), store.root_at(700), said)
        assert not aics.verify_consistency(old, 700, store.root_at(old - 1), store.root_at(700), said)


def test_it_audits_our_folder_and_makes_our_proofs_from_it(aics, store, tmp_path):
    folder, leaves = tmp_path / "pub", leaves_of(700)
    tiles_folder.publish(store, LOG.verifier(), Folder(folder))
    reader = aics.FileSystemTileReader(folder)
    head = checkpoint.parse_body((folder / "checkpoint").read_bytes())
    aics.audit_tiles(reader, 700, head.root)
    assert aics.tree_root_from_tiles(reader, 700) == head.root
    assert [aics.read_entry(reader, index, 700) for index in (0, 300, 699)] == [leaves[i] for i in (0, 300, 699)]
    for index in (0, 255, 256, 699):
        assert tuple(aics.inclusion_proof_from_tiles(reader, index, 700)) == store.prove_inclusion(index, 700)
    assert tuple(aics.consistency_proof_from_tiles(reader, 300, 700)) == store.prove_consistency(300, 700)


def test_it_audits_the_recorded_log_of_a_real_governor(aics, recorded):
    head = checkpoint.parse_body((recorded / "checkpoint").read_bytes())
    aics.audit_tiles(aics.FileSystemTileReader(recorded), head.size, head.root)


def test_it_writes_the_files_that_we_write(aics, store, tmp_path):
    tiles_folder.publish(store, LOG.verifier(), Folder(tmp_path / "ours"))
    aics.TileWriter(leaves_of(700)).write_to(tmp_path / "theirs")
    theirs = {
        p.relative_to(tmp_path / "theirs"): p.read_bytes() for p in (tmp_path / "theirs").rglob("*") if p.is_file()
    }
    ours = {p: (tmp_path / "ours" / p).read_bytes() for p in theirs}
    assert ours == theirs
    assert len(theirs) > 5


def test_it_accepts_our_cosignature_and_we_accept_its(aics, store):
    made = note.cosign(store.checkpoint(), WITNESS, at=1_790_000_000_000)
    line = aics.parse_note(made).signatures[-1]
    public = base64.b64decode(WITNESS.public)
    root = store.root_at(700)
    assert aics.verify_cosignature(line.signature, WITNESS.name, public, LOG.name, 700, root)
    assert not aics.verify_cosignature(line.signature, WITNESS.name, public, LOG.name, 699, root)
    _, theirs = aics.sign_cosignature(WITNESS._key, WITNESS.name, 1_790_000_000, LOG.name, 700, root)
    assert (theirs.name, theirs.key_id, theirs.signature) == (line.name, line.key_id, line.signature)


def test_we_open_the_checkpoint_that_it_signs(aics):
    root = tree.leaf_hash(b"one")
    made = aics.sign_checkpoint(aics.Checkpoint(LOG.name, 1, root), LOG._key, LOG.name)
    head = checkpoint.open_checkpoint(made.to_bytes(), LOG.verifier()).checkpoint
    assert (head.origin, head.size, head.root) == (LOG.name, 1, root)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"\n700\n", b"\n0700\n"),
        lambda data: data.replace(b"\n700\n", b"\n-700\n"),
        lambda data: data + b"\n",
        lambda data: data.replace(b"=\n", b"\n"),
        lambda data: data.replace(b"\n", b"\r\n"),
    ],
)
def test_what_it_refuses_as_a_checkpoint_we_refuse_too(aics, store, change):
    data = change(store.checkpoint())
    assert data != store.checkpoint()
    try:
        accepted = aics.verify_checkpoint(aics.parse_note(data), aics.parse_vkey(LOG.verifier().vkey)).ok
    except ValueError:
        accepted = False
    assert not accepted
    with pytest.raises(KeyturnError):
        checkpoint.open_checkpoint(data, LOG.verifier())
