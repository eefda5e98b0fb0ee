"""A published folder that is made anew shows no head that its witnesses have not seen."""

from __future__ import annotations

import pytest

from keyturn.core.errors import Unavailable
from keyturn.flow.ports import Cosigned
from keyturn.ledger import checkpoint, tiles_folder
from keyturn.ledger.places.folder import Folder
from tests.fakes.witnesses import table
from tests.verify.scene import Scene, document


class Silent:
    """Witnesses who do not answer."""

    def cosign(self, note, parties, *, size, prove):
        return Cosigned(note, {each.id: "it does not answer" for each in parties})


@pytest.fixture
def scene(tmp_path):
    made = Scene.begin(tmp_path / "log.db", document(witnesses=table(1, "w1")))
    made.found()
    made.log.publish()
    return made


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pub").mkdir()
    return tmp_path / "pub"


def size_of(folder):
    return checkpoint.parse_body((folder / "checkpoint").read_bytes()).size


def test_a_folder_made_anew_stays_at_the_head_that_may_be_shown(scene, folder):
    log = scene.log
    tiles_folder.publish(log.store, log.log_keys, Folder(folder), log.shown())
    before, kept = size_of(folder), (folder / "checkpoint").read_bytes()
    log.witnessing = Silent()
    scene.propose()
    assert checkpoint.parse_body(log.store.checkpoint()).size > before
    next(folder.glob("tile/0/000.p/*")).unlink()
    tiles_folder.rebuild(log.store, log.log_keys, Folder(folder), log.shown())
    assert (folder / "checkpoint").read_bytes() == kept
    assert tiles_folder.check_folder(log.store, log.log_keys, Folder(folder)) == ()


def test_a_head_that_the_folder_shows_already_is_not_taken_back(scene, folder):
    log = scene.log
    older = log.shown()
    scene.propose()
    tiles_folder.publish(log.store, log.log_keys, Folder(folder), log.shown())
    newest = size_of(folder)
    assert newest > checkpoint.parse_body(older).size
    for shown in (older, None):
        tiles_folder.rebuild(log.store, log.log_keys, Folder(folder), shown)
        assert size_of(folder) == newest


def test_a_folder_without_a_checkpoint_is_given_none_that_may_not_be_shown(scene, folder):
    log = scene.log
    with pytest.raises(Unavailable, match="no checkpoint may be shown"):
        tiles_folder.rebuild(log.store, log.log_keys, Folder(folder), None)
    assert not (folder / "checkpoint").exists()


def test_what_may_be_shown_is_the_newest_that_enough_cosigned(scene):
    log = scene.log
    notes, asked = log.store.checkpoints(), log.state.current.policy.witnesses
    assert checkpoint.newest_shown(notes, log.log_keys, asked) == log.shown() == notes[-1]
    log.witnessing = Silent()
    scene.propose()
    more = log.store.checkpoints()
    assert checkpoint.newest_shown(more, log.log_keys, asked) == notes[-1] != more[-1]
    assert checkpoint.newest_shown(more, log.log_keys, None) == more[-1]
    assert checkpoint.newest_shown((), log.log_keys, None) is None
