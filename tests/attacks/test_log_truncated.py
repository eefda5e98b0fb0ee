"""The attack: the end of the log is cut off, so that a halt or a refusal never happened."""

from __future__ import annotations

import shutil

import pytest

from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.ledger.check import check_store, require_sound
from keyturn.ledger.store import Store
from tests.attacks.test_log_edited import VKEY, alter, rebuilt
from tests.ledger.signers import leaves_of, signed


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "log.db"
    with Store.open(place, create=True) as store:
        store.append(leaves_of(50), expected=None)
        store.save_checkpoint(*signed(store))
        store.append([b"halt"], expected=None)
        store.save_checkpoint(*signed(store))
    return place


def test_a_cut_that_leaves_the_signed_checkpoint_is_found_at_once(path):
    rebuilt(path, leaves_of(50))
    with pytest.raises(TamperDetected, match="has 50 entries; 51 are signed"):
        Store.open(path)


def test_a_cut_is_named_with_its_proof(path):
    rebuilt(path, leaves_of(50))
    with Store.open(path, unchecked=True) as store:
        (problem,) = check_store(store, VKEY)
    assert problem.rule == "log_must_not_lose_entries"
    assert problem.message == "the log has 50 entries; a signed checkpoint (kept) has 51"
    assert problem.proof.startswith("connect4.example/log\n51\n")


def test_a_cut_with_its_checkpoint_is_found_by_whoever_kept_one(path):
    """Promise 5 holds as far as others witness the log: alone, a file cannot show what was cut off with its proof."""
    with Store.open(path) as store:
        elsewhere = store.checkpoint()
    rebuilt(path, leaves_of(50))
    alter(path, ("DELETE FROM checkpoint WHERE size = 51", ()))
    with Store.open(path) as store:
        assert check_store(store, VKEY) == ()
        with pytest.raises(
            TamperDetected, match=r"the log has 50 entries; a signed checkpoint \(handed in\) has 51"
        ) as caught:
            require_sound(store, VKEY, known=[elsewhere])
    assert caught.value.proof == elsewhere.decode()


def test_an_older_copy_put_back_is_found_by_whoever_kept_a_checkpoint(path):
    older = path.with_name("older.db")
    alter(path, ("PRAGMA wal_checkpoint(TRUNCATE)", ()))
    shutil.copy(path, older)
    with Store.open(path) as store:
        store.append([b"later"], expected=None)
        elsewhere = signed(store)[2]
    for extra in ("-wal", "-shm"):
        path.with_name(path.name + extra).unlink(missing_ok=True)
    shutil.copy(older, path)
    with Store.open(path) as store, pytest.raises(TamperDetected, match="has 52"):
        require_sound(store, VKEY, known=[elsewhere])


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.99])
def test_a_file_cut_short_never_passes_for_a_log(path, keep):
    alter(path, ("PRAGMA wal_checkpoint(TRUNCATE)", ()))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises((TamperDetected, Unavailable)), Store.open(path) as store:
        require_sound(store, VKEY)


def test_a_lost_log_is_no_log(path):
    path.unlink()
    with pytest.raises(Unavailable, match="there is no log at"):
        Store.open(path)
