"""The folder of blobs: private, durable before it is named, verified when it is read, gone when it is erased."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.ledger import shelf
from keyturn.ledger.blobs.store import BlobStore
from keyturn.wire.blobs.blob import Blob

ONE, TWO = Blob(b"1" * 32, b"one"), Blob(b"2" * 32, b"two")


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def test_what_is_put_is_read_back_from_private_files(store: BlobStore) -> None:
    store.put(ONE)
    store.put(ONE)
    assert store.get(ONE.digest) == ONE
    assert store.get(TWO.digest) is None
    assert store.names() == (ONE.digest[7:],)
    assert [path.stat().st_mode & 0o777 for path in (store.root, store.folder)] == [0o700, 0o700]
    assert (store.folder / ONE.digest[7:]).stat().st_mode & 0o777 == 0o600


def test_attack_a_blob_that_is_swapped_for_another_is_noticed(store: BlobStore) -> None:
    store.put(ONE)
    store.put(TWO)
    (store.folder / TWO.digest[7:]).rename(store.folder / ONE.digest[7:])
    with pytest.raises(TamperDetected, match="other bytes"):
        store.get(ONE.digest)
    assert (store.holds(ONE.digest), store.sound(ONE.digest)) == (True, False)


def test_the_bytes_are_synced_before_they_get_their_name_and_the_folder_after(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(handle: int) -> None:
        seen.append("folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "bytes")
        fsync(handle)

    def renamed(path: Path, to: Path) -> Path:
        seen.append("name")
        return rename(path, to)

    monkeypatch.setattr(shelf.os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    store.put(ONE)
    assert seen[-3:] == ["bytes", "name", "folder"]
    assert seen[:-3] == ["folder", "folder"], "the new folders have their names"
    seen.clear()
    store.erase(ONE.digest)
    assert seen == ["folder"], "the deletion is durable"


def test_erasing_takes_the_half_written_drafts_of_a_crash_too(store: BlobStore) -> None:
    store.put(ONE)
    store.put(TWO)
    draft = store.folder / f".{ONE.digest[7:]}.4711"
    draft.write_bytes(ONE.encoded)
    assert store.erase(ONE.digest)
    assert store.names() == (TWO.digest[7:],)
    assert not store.holds(ONE.digest)
    assert not store.erase(ONE.digest)


def test_a_full_disk_keeps_nothing_and_says_so(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelf.os, "fsync", full)
    with pytest.raises(Unavailable, match="could not be kept: No space left"):
        store.put(ONE)
    assert store.get(ONE.digest) is None
