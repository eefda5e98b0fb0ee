"""The static files are exactly those of C2SP tlog-tiles: names, bytes, which there are, and when they go."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.errors import Unavailable
from keyturn.ledger import checkpoint, tiles, tiles_folder, tree
from keyturn.ledger.places.folder import Folder
from keyturn.ledger.tiles import ENTRIES, Tile
from tests.ledger import naive
from tests.ledger.signers import LOG, leaves_of, signed

KEY = LOG.verifier()


def publish(store, folder, more=()):
    """Append, sign and publish."""
    if more:
        store.append(more, expected=None)
    store.save_checkpoint(*signed(store))
    return tiles_folder.publish(store, KEY, Folder(folder))


def files(folder):
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def read(folder):
    return lambda tile: (folder / tile.name).read_bytes()


@pytest.mark.parametrize(
    ("tile", "name"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(63, 0, 1), "tile/63/000.p/1"),
        (Tile(ENTRIES, 999, 255), "tile/entries/999.p/255"),
        (Tile(ENTRIES, 1000), "tile/entries/x001/000"),
    ],
)
def test_a_file_is_named_as_the_specification_names_it(tile, name):
    assert tile.name == name
    assert tiles.parse_name(name) == tile


@pytest.mark.parametrize(
    "name",
    [
        *("tile/00/000", "tile/64/000", "tile/0/0000", "tile/0/x000/001", "tile/0/000.p/0", "tile/0/000.p/256"),
        *("tile/0/000.p/300", "tile/0/000.p/01", "tile/0/001/x000", "tile/x/000", "checkpoint", "tile/0/000/", ""),
    ],
)
def test_another_spelling_names_no_file(name):
    assert tiles.parse_name(name) is None


def test_a_tree_of_70000_leaves_has_the_files_that_the_specification_counts():
    found = list(tiles.tiles_of(70_000))
    assert sum(each.level == 0 and each.full for each in found) == 273
    partial = {each for each in found if not each.full}
    assert partial == {Tile(ENTRIES, 273, 112), Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)}
    assert [each for each in found if each.level == 1 and each.full] == [Tile(1, 0)]
    assert {Tile(0, 0), Tile(1, 0, 1)} <= set(tiles.tiles_of(256))
    assert list(tiles.tiles_of(0)) == []


@given(st.integers(0, 200_000), st.integers(0, 3000))
def test_what_is_new_and_what_was_there_in_full_is_everything(old, more):
    kept = {each for each in tiles.tiles_of(old) if each.full}
    new = list(tiles.tiles_of(old + more, after=old))
    assert len(new) == len(set(new))
    assert not kept & set(new)
    partial_before = {each for each in tiles.tiles_of(old) if not each.full}
    assert kept | set(new) | partial_before >= set(tiles.tiles_of(old + more))


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 700])
def test_the_files_are_the_definition_and_every_proof_can_be_made_from_them(store, tmp_path, size):
    leaves = leaves_of(size)
    publish(store, tmp_path / "pub", leaves)
    folder = tmp_path / "pub"
    assert files(folder) == {"checkpoint"} | {each.name for each in tiles.tiles_of(size)}
    for tile in tiles.tiles_of(size):
        data = read(folder)(tile)
        if tile.level == ENTRIES:
            assert tiles.unbundle(data) == tuple(leaves[tile.start : tile.end])
        else:
            span = 256**tile.level
            wanted = [naive.mth(leaves[n * span : (n + 1) * span]) for n in range(tile.start, tile.end)]
            assert data == b"".join(wanted)
    look = tiles.nodes(size, read(folder))
    assert tree.root_from(size, look) == naive.mth(leaves)
    for index in {0, size // 2, size - 1}:
        assert tree.prove_inclusion(index=index, size=size, nodes=look) == store.prove_inclusion(index, size)
    assert tree.prove_consistency(old=size // 2, new=size, nodes=look) == store.prove_consistency(size // 2, size)


def test_only_what_is_new_is_written_and_partial_files_go_when_they_are_full(store, tmp_path):
    folder = tmp_path / "pub"
    assert publish(store, folder, leaves_of(250)).files == 3
    again = tiles_folder.publish(store, KEY, Folder(folder))
    assert (again.files, again.written, again.before) == (0, 0, 250)
    before = {name: (folder / name).stat().st_mtime_ns for name in files(folder)}
    assert publish(store, folder, leaves_of(3, b"more ")).files == 3
    assert {"tile/0/000.p/250", "tile/0/000.p/253"} <= files(folder)
    assert (folder / "tile/0/000.p/250").stat().st_mtime_ns == before["tile/0/000.p/250"]
    done = publish(store, folder, leaves_of(10, b"last "))
    assert (done.pruned, done.size) == (4, 263)
    assert files(folder) == {"checkpoint"} | {each.name for each in tiles.tiles_of(263)}
    assert tiles_folder.check_folder(store, KEY, Folder(folder)) == ()


def test_every_size_that_was_signed_has_its_partial_files(store, tmp_path):
    for count in (3, 4):
        store.append(leaves_of(count, b"%d " % count), expected=None)
        store.save_checkpoint(*signed(store))
    tiles_folder.publish(store, KEY, Folder(tmp_path / "pub"))
    assert {"tile/0/000.p/3", "tile/0/000.p/7", "tile/entries/000.p/3", "tile/entries/000.p/7"} < files(
        tmp_path / "pub"
    )
    assert tiles_folder.check_folder(store, KEY, Folder(tmp_path / "pub")) == ()


def test_nothing_signed_is_nothing_to_publish(store, tmp_path):
    with pytest.raises(Unavailable, match="no checkpoint is signed"):
        tiles_folder.publish(store, KEY, Folder(tmp_path / "pub"))


def test_the_checkpoint_comes_last_whenever_a_publishing_is_cut_off(store, tmp_path, monkeypatch):
    """Each write is the last in turn; a reader always finds a whole tree under the checkpoint that he finds."""
    folder, rename = tmp_path / "pub", os.replace
    publish(store, folder, leaves_of(200))
    store.append(leaves_of(400, b"more "), expected=None)
    store.save_checkpoint(*signed(store))
    for allowed in range(20):
        left = [allowed]

        def replace(self, target, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.replace", replace)
            try:
                tiles_folder.publish(store, KEY, Folder(folder))
            except KeyboardInterrupt:
                pass
        head = checkpoint.parse_body((folder / "checkpoint").read_bytes())
        assert tree.root_from(head.size, tiles.nodes(head.size, read(folder))) == head.root
        assert tiles_folder.check_folder(store, KEY, Folder(folder)) == ()
        if head.size == 600:
            break
    assert head.size == 600
    assert allowed == 4  # what was written before a cut stays: 0 + 1 + 2 + 3 files, then the rest
    assert tiles_folder.publish(store, KEY, Folder(folder)).files == 0


def test_a_first_publishing_that_was_cut_off_is_made_good(store, tmp_path):
    folder = tmp_path / "pub"
    publish(store, folder, leaves_of(300))
    (folder / "checkpoint").unlink()
    (folder / ".checkpoint.new").write_bytes(b"half")
    assert publish(store, folder).files == 1
    assert tiles_folder.check_folder(store, KEY, Folder(folder)) == ()


def test_pymerkle_has_the_same_roots_as_the_files(store, tmp_path):
    import pymerkle

    leaves = leaves_of(300)
    publish(store, tmp_path / "pub", leaves)
    theirs = pymerkle.InmemoryTree(algorithm="sha256")
    for each in leaves:
        theirs.append_entry(each)
    look = tiles.nodes(300, read(tmp_path / "pub"))
    for size in (1, 2, 127, 255, 256, 257, 300):
        assert theirs.get_root(size) == tree.root_from(size, look)


def test_a_bundle_that_is_cut_short_is_refused():
    from keyturn.core.errors import MalformedInput

    whole = tiles.bundle([b"one", b"", b"three"])
    assert tiles.unbundle(whole) == (b"one", b"", b"three")
    for end in range(1, len(whole)):
        if end not in {5, 7}:
            with pytest.raises(MalformedInput, match="cut short"):
                tiles.unbundle(whole[:end])
