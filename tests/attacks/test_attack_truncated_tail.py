"""The attack: the end of the log is cut off, so that a halt or a refusal never happened."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.ledger.check import check_store, require_sound
from keyturn.ledger.store import Store
from keyturn.verify import trust as trusts
from keyturn.verify.trust import Seen
from tests.attacks.forging import leaves_in, signed_log, verified
from tests.attacks.test_attack_edited_entries import VKEY, alter, rebuilt
from tests.fakes.world import LogKey, World
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


# --- by one who has the log's key as well


@pytest.mark.parametrize("entries", [1, 7])
def test_a_real_log_cut_at_its_end_and_signed_anew_is_found_by_who_kept_a_head(tmp_path, capsys, entries):
    world = World.founded(tmp_path / "home")
    world.approve(world.hold().dossier)
    world.run()
    leaves = leaves_in(world.home / "log.db")
    with world.log() as log:
        seen = Seen(log.head.size, log.head.root.hex())
    trusts.write(replace(trusts.read(world.home / "trust.json"), seen=seen), tmp_path / "seen.json")
    assert verified(capsys, world.home / "log.db", "--trust", str(tmp_path / "seen.json"))[1] == []
    cut = signed_log(tmp_path / "cut.db", leaves[:-entries], LogKey())
    code, found = verified(capsys, cut, "--trust", str(tmp_path / "seen.json"))
    assert code == 3
    size = len(leaves)
    assert f"{size - entries} log_must_not_shrink {size} entries were seen; {size - entries} are here" in found
