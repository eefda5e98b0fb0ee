"""The attack: other bytes than the permitted ones in the folder that is loaded, before, beside or during the look."""

from __future__ import annotations

import os

import pytest

from keyturn.verify import load as loading
from keyturn.verify.load import Refused, examine, load
from tests.verify.scene import ACTION, FILES, SCOPE, Hand


def loaded(folder, scene, **changes):
    asked = {"trust": scene.trust, "action": ACTION, "scope": SCOPE, "now": scene.now, **changes}
    return load(folder, changes.pop("bundle", scene.honest), **asked)


def refusal(folder, scene):
    with pytest.raises(Refused) as refused:
        loaded(folder, scene)
    return [(doubt.check, doubt.message) for doubt in refused.value.doubts]


def test_what_is_handed_out_is_what_was_hashed(scene, weights):
    done = loaded(weights, scene)
    assert done.files == FILES
    assert done.permit == scene.permit
    assert (done.unwitnessed, done.simulated) == (True, False)


def test_a_changed_byte_is_refused(scene, weights):
    for name in FILES:
        data = bytearray(FILES[name])
        data[-1] ^= 1
        (weights / name).write_bytes(data)
        assert refusal(weights, scene) == [(10, "the bytes are not the ones that were permitted")]
        (weights / name).write_bytes(FILES[name])
    assert loaded(weights, scene).files == FILES


def test_swapped_file_names_are_refused(scene, weights):
    (weights / "recipe.json").rename(weights / "x")
    (weights / "subject.py").rename(weights / "recipe.json")
    (weights / "x").rename(weights / "subject.py")
    assert [number for number, _ in refusal(weights, scene)] == [10]


@pytest.mark.parametrize("extra", ["payload.so", ".hidden", "__pycache__", "weights.npz~"])
def test_an_extra_entry_is_refused(scene, weights, extra):
    (weights / extra).mkdir() if extra == "__pycache__" else (weights / extra).write_bytes(b"")
    found = sorted([*FILES, extra])
    assert refusal(weights, scene) == [(10, f"the folder holds {found}; {sorted(FILES)} are permitted")]


def test_a_missing_file_is_refused(scene, weights):
    (weights / "recipe.json").unlink()
    message = (
        "the folder holds ['subject.py', 'weights.npz']; ['recipe.json', 'subject.py', 'weights.npz'] are permitted"
    )
    assert refusal(weights, scene) == [(10, message)]


def test_a_link_is_refused_even_to_the_right_bytes(scene, weights, tmp_path):
    (weights / "weights.npz").rename(tmp_path / "elsewhere")
    (weights / "weights.npz").symlink_to(tmp_path / "elsewhere")
    assert refusal(weights, scene) == [(10, "`weights.npz` cannot be opened: Too many levels of symbolic links")]


def test_a_pipe_is_refused_and_does_not_hang(scene, weights):
    (weights / "weights.npz").unlink()
    os.mkfifo(weights / "weights.npz")
    size = len(FILES["weights.npz"])
    assert refusal(weights, scene) == [(10, f"`weights.npz` is no regular file of {size} bytes")]


def test_a_folder_in_the_place_of_a_file_is_refused(scene, weights):
    (weights / "subject.py").unlink()
    (weights / "subject.py").mkdir()
    size = len(FILES["subject.py"])
    assert refusal(weights, scene) == [(10, f"`subject.py` is no regular file of {size} bytes")]


@pytest.mark.parametrize("data", [b"", b"x" * 10_000_000])
def test_a_file_of_another_size_is_refused_unread(scene, weights, data, monkeypatch):
    (weights / "recipe.json").write_bytes(data)
    size = len(FILES["recipe.json"])
    assert refusal(weights, scene) == [(10, f"`recipe.json` is no regular file of {size} bytes")]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("x")])
def test_a_folder_that_is_none_is_refused(scene, tmp_path, make):
    make(tmp_path / "nothing")
    found = refusal(tmp_path / "nothing", scene)
    assert [number for number, _ in found] == [10]
    assert found[0][1].startswith(f"the folder `{tmp_path}/nothing` cannot be read: ")


def test_a_file_exchanged_between_look_and_use_changes_nothing(scene, weights, monkeypatch):
    """What was hashed is handed out from memory: the path may change as it likes."""
    read_once = loading._read_once

    def exchanged(path, size):
        data = read_once(path, size)
        path.write_bytes(b"evil")
        return data

    monkeypatch.setattr(loading, "_read_once", exchanged)
    assert loaded(weights, scene).files == FILES
    assert (weights / "weights.npz").read_bytes() == b"evil"


def test_a_file_exchanged_between_listing_and_opening_is_refused(scene, weights, monkeypatch):
    names = loading._names

    def exchanged(path):
        found = names(path)
        (path / "subject.py").write_bytes(b"print('evil')"[: len(FILES["subject.py"])])
        return found

    monkeypatch.setattr(loading, "_names", exchanged)
    assert refusal(weights, scene) == [(10, "the bytes are not the ones that were permitted")]


def test_a_file_that_grows_while_it_is_read_is_refused(scene, weights, monkeypatch):
    fstat = os.fstat

    def growing(handle):
        facts = fstat(handle)
        with (weights / "recipe.json").open("ab") as file:
            file.write(b"!")
        return facts

    monkeypatch.setattr(loading.os, "fstat", growing)
    found = refusal(weights, scene)
    assert [number for number, _ in found] == [10]


def test_all_reasons_are_told_and_nothing_is_handed_out(scene, weights):
    (weights / "recipe.json").write_bytes(b"{}")
    hand = Hand.of(scene)
    hand.status(halted=True)
    with pytest.raises(Refused) as refused:
        load(weights, hand.show(), trust=scene.trust, action=ACTION, scope="the world", now=scene.now)
    assert [doubt.check for doubt in refused.value.doubts] == [6, 7, 10]
    assert str(refused.value).startswith(
        "loading is refused: [6] the loop is halted; nothing may load; [7] the permit's"
    )
    assert all(doubt.help for doubt in refused.value.doubts)


def test_examine_says_the_same_and_remembers_nothing(scene, weights):
    (weights / "recipe.json").write_bytes(b"{}")
    found = examine(weights, scene.honest, trust=scene.trust, action=ACTION, scope=SCOPE, now=scene.now)
    assert [doubt.check for doubt in found.doubts] == [10]
