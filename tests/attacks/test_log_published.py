"""The attack: what strangers are shown is exchanged, forked, or made to look like the log. It is refused and named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from keyturn.app.publishing import handing
from keyturn.cli.main import main
from keyturn.core.errors import MalformedInput, TamperDetected, UntrustedInput
from keyturn.flow.permit import pack
from keyturn.ledger import tiles_folder
from keyturn.ledger.places.folder import Folder
from keyturn.ledger.store import Store
from keyturn.verify import trust as trusts
from tests.ledger.signers import LOG, Key, leaves_of, signed

KEY = LOG.verifier()


def log(place, leaves, key=LOG):
    store = Store.open(place, create=True)
    store.append(leaves, expected=None)
    store.save_checkpoint(*signed(store, key=key))
    return store


@pytest.fixture
def ours(tmp_path):
    with log(tmp_path / "ours.db", leaves_of(600)) as store:
        yield store


@pytest.fixture
def folder(tmp_path, ours):
    tiles_folder.publish(ours, KEY, Folder(tmp_path / "pub"))
    return tmp_path / "pub"


def everything(folder):
    return {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def rules(store, folder):
    return {each.rule for each in tiles_folder.check_folder(store, KEY, Folder(folder))}


@pytest.mark.parametrize(
    "leaves", [[*leaves_of(599), b"I refuse"], leaves_of(20, b"other "), leaves_of(700, b"other ")]
)
def test_a_folder_that_shows_another_history_is_never_overwritten(folder, tmp_path, leaves):
    before = everything(folder)
    with log(tmp_path / "theirs.db", leaves) as theirs:
        with pytest.raises(TamperDetected) as caught:
            tiles_folder.publish(theirs, KEY, Folder(folder))
        assert rules(theirs, folder) == {"folder_must_be_of_this_log"}
        with pytest.raises(TamperDetected):
            tiles_folder.rebuild(theirs, KEY, Folder(folder), theirs.checkpoint())
    assert "connect4.example/log\n600\n" in caught.value.proof
    assert everything(folder) == before


def test_a_folder_of_another_log_is_never_overwritten(folder, tmp_path):
    before, other = everything(folder), Key("other.example/log")
    with Store.open(tmp_path / "theirs.db", create=True) as theirs:
        from keyturn.ledger import checkpoint

        theirs.append(leaves_of(600), expected=None)
        head = theirs.head()
        note = checkpoint.sign(checkpoint.Checkpoint(other.name, head.size, head.root), other)
        theirs.save_checkpoint(head.size, head.root, note)
        with pytest.raises(UntrustedInput, match="is of another log"):
            tiles_folder.publish(theirs, other.verifier(), Folder(folder))
    assert everything(folder) == before


def test_a_folder_with_something_else_in_it_is_left_alone(ours, tmp_path):
    place = tmp_path / "home"
    place.mkdir()
    (place / "thesis.txt").write_text("ten years")
    with pytest.raises(UntrustedInput, match=r"holds `thesis.txt` and no checkpoint"):
        tiles_folder.publish(ours, KEY, Folder(place))
    assert [each.name for each in place.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/001"])
def test_one_changed_byte_in_a_published_file_is_named_and_made_good(ours, folder, name):
    good = everything(folder)
    data = bytearray((folder / name).read_bytes())
    data[40] ^= 1
    (folder / name).write_bytes(data)
    (problem,) = tiles_folder.check_folder(ours, KEY, Folder(folder))
    assert problem.rule == "files_must_follow_from_entries"
    assert problem.message == f"`{name}` is not what its entries give"
    assert tiles_folder.rebuild(ours, KEY, Folder(folder), ours.checkpoint()).files == 1
    assert everything(folder) == good


def test_a_checkpoint_over_changed_tiles_is_never_put_in_place(ours, folder):
    (folder / "tile/0/000").write_bytes(bytes(8192))
    ours.append(leaves_of(65_536 - 600, b"more "), expected=None)
    ours.save_checkpoint(*signed(ours))
    with pytest.raises(TamperDetected):
        tiles_folder.publish(ours, KEY, Folder(folder))
    assert b"\n600\n" in (folder / "checkpoint").read_bytes()
    assert tiles_folder.rebuild(ours, KEY, Folder(folder), ours.checkpoint()).size == 65_536
    assert rules(ours, folder) == set()


def test_missing_strange_and_linked_files_are_each_named(ours, folder, tmp_path):
    (folder / "tile/0/001").unlink()
    (folder / "tile/index.html").write_text("<script>")
    secret = tmp_path / "secret"
    secret.write_bytes((folder / "tile/0/000").read_bytes())
    (folder / "tile/0/000").unlink()
    (folder / "tile/0/000").symlink_to(secret)
    found = {each.message for each in tiles_folder.check_folder(ours, KEY, Folder(folder))}
    assert found == {
        "`tile/0/001` is missing",
        "`tile/index.html` is no file of a log",
        "`tile/0/000` is not what its entries give",
    }
    tiles_folder.rebuild(ours, KEY, Folder(folder), ours.checkpoint())
    assert rules(ours, folder) == {"folder_must_hold_the_log_only"}
    assert (folder / "tile/index.html").exists()
    assert secret.exists()


def test_a_link_leads_no_file_out_of_the_folder(ours, tmp_path):
    place, outside = tmp_path / "pub", tmp_path / "outside"
    place.mkdir()
    outside.mkdir()
    (place / "tile").symlink_to(outside)
    with pytest.raises(TamperDetected, match="is a link"):
        tiles_folder.publish(ours, KEY, Folder(place))
    assert list(outside.iterdir()) == []


@pytest.fixture
def bundle(scene, tmp_path):
    trusts.write(scene.trust, tmp_path / "trust.json")
    (tmp_path / "b.permit").write_bytes(pack(scene.honest))
    return tmp_path / "b.permit"


def test_a_bundle_comes_apart_into_proofs_that_each_hold_alone(scene, bundle, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["permit", "explode", str(bundle), str(out), "--trust", str(tmp_path / "trust.json"), "--json"]
    assert main(words) == 0
    names = json.loads(capsys.readouterr().out)["files"]
    assert set(names) == {each.name for each in out.iterdir()}
    assert {"checkpoint", "policy", "permit.tlog-proof", "status.leaf", "approval-2.tlog-proof"} <= set(names)
    vkey = (out / "policy").read_text().splitlines()[1].removeprefix("log ")
    assert vkey == scene.trust.founded.log_key
    for each in out.glob("*.tlog-proof"):
        leaf = each.with_suffix(".leaf")
        assert main(["log", "check", str(each), "--entry", str(leaf), "--vkey", vkey]) == 0
        assert "HOLDS" in capsys.readouterr().out
    swapped = ["log", "check", str(out / "permit.tlog-proof"), "--entry", str(out / "status.leaf"), "--vkey", vkey]
    assert main(swapped) == 3
    assert "does not lead from this entry" in capsys.readouterr().err
    with pytest.raises(MalformedInput, match="is not empty"):
        handing.explode(bundle, out, trust=tmp_path / "trust.json")


def test_nothing_of_a_forged_bundle_is_written(scene, bundle, tmp_path):
    honest = scene.honest
    forged = [
        (replace(honest, permit=replace(honest.permit, leaf=honest.status.leaf)), TamperDetected),
        (replace(honest, approvals=(replace(honest.approvals[0], index=0),)), TamperDetected),
        (replace(honest, checkpoint=honest.checkpoint.replace(b"\n", b"x\n", 1)), (TamperDetected, UntrustedInput)),
    ]
    for each, error in forged:
        bundle.write_bytes(pack(each))
        with pytest.raises(error):
            handing.explode(bundle, tmp_path / "out", trust=tmp_path / "trust.json")
        assert not (tmp_path / "out").exists()
