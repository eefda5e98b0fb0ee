"""What every place of static files promises, a folder and a bucket: once written it stays, the checkpoint is last."""

from __future__ import annotations

import builtins

import pytest

from keyturn.core.errors import Conflict, MalformedInput, TamperDetected, Unavailable, UntrustedInput
from keyturn.ledger import tiles_folder
from keyturn.ledger.places.folder import Folder
from keyturn.ledger.places.s3 import Bucket
from keyturn.ledger.store import Store
from tests.ledger.signers import LOG, leaves_of, signed

KEY = LOG.verifier()


@pytest.fixture(params=["folder", "bucket"])
def reached(request, tmp_path):
    """Opens the same place again and again."""
    if request.param == "folder":
        return lambda: Folder(tmp_path / "pub")
    buckets = request.getfixturevalue("buckets")
    address = f"s3://{buckets.bucket()}/logs/connect4"
    return lambda: Bucket.open(address, endpoint=buckets.endpoint)


@pytest.fixture
def place(reached):
    return reached()


def log(path, leaves):
    store = Store.open(path, create=True)
    store.append(leaves, expected=None)
    store.save_checkpoint(*signed(store))
    return store


@pytest.fixture
def store(tmp_path):
    with log(tmp_path / "ours.db", leaves_of(600)) as opened:
        yield opened


def everything(place):
    return {name: place.read(name) for name in place.names()}


def rules(store, place):
    return {each.rule for each in tiles_folder.check_folder(store, KEY, place)}


def test_a_file_is_written_once_and_never_over_other_bytes(place):
    with place.held():
        assert place.read("tile/0/000") is None
        assert place.write_once("tile/0/000", b"one") is True
        assert place.write_once("tile/0/000", b"one") is False
        with pytest.raises(TamperDetected, match="is there with other bytes than the log has"):
            place.write_once("tile/0/000", b"two")
        place.sync()
        assert everything(place) == {"tile/0/000": b"one"}
        place.remove("tile/0/000")
        place.remove("tile/0/000")
        assert everything(place) == {}


def test_a_checkpoint_is_replaced_and_says_whether_it_changed(place):
    with place.held():
        assert place.read("checkpoint") is None
        assert place.replace("checkpoint", b"one") is True
        assert place.read("checkpoint") == b"one"
        assert place.replace("checkpoint", b"one") is False
        assert place.replace("checkpoint", b"two") is True
        assert place.read("checkpoint") == b"two"


def test_a_log_is_published_in_steps_and_checked(store, place, reached):
    done = tiles_folder.publish(store, KEY, place)
    assert (done.size, done.before, done.files) == (600, 0, 8)
    assert rules(store, place) == set()
    assert tiles_folder.publish(store, KEY, reached()).files == 0
    store.append(leaves_of(200, b"more "), expected=None)
    store.save_checkpoint(*signed(store))
    done = tiles_folder.publish(store, KEY, reached())
    assert (done.size, done.before, done.pruned) == (800, 600, 2)
    assert rules(store, place) == set()
    assert {"checkpoint", "tile/0/002", "tile/0/003.p/32", "tile/1/000.p/3", "tile/entries/002"} <= set(place.names())
    assert "tile/0/002.p/88" not in set(place.names())


def test_what_differs_is_named_and_made_anew(store, place):
    tiles_folder.publish(store, KEY, place)
    good = everything(place)
    place.remove("tile/0/001")
    place.replace("tile/0/000", bytes(8192))
    place.write_once("tile/index.html", b"<script>")
    found = {each.message for each in tiles_folder.check_folder(store, KEY, place)}
    assert found == {
        "`tile/0/001` is missing",
        "`tile/index.html` is no file of a log",
        "`tile/0/000` is not what its entries give",
    }
    assert tiles_folder.rebuild(store, KEY, place, store.checkpoint()).files == 2
    assert rules(store, place) == {"folder_must_hold_the_log_only"}
    place.remove("tile/index.html")
    assert everything(place) == good


@pytest.mark.parametrize("leaves", [[*leaves_of(599), b"I refuse"], leaves_of(20, b"other ")])
def test_a_place_that_shows_another_history_is_never_overwritten(store, place, tmp_path, leaves):
    tiles_folder.publish(store, KEY, place)
    before = everything(place)
    with log(tmp_path / "theirs.db", leaves) as theirs:
        with pytest.raises(TamperDetected):
            tiles_folder.publish(theirs, KEY, place)
        assert rules(theirs, place) == {"folder_must_be_of_this_log"}
    assert everything(place) == before


def test_a_place_with_something_else_in_it_is_left_alone(store, place):
    with place.held():
        place.write_once("thesis.txt", b"ten years")
    with pytest.raises(UntrustedInput, match=r"holds `thesis.txt` and no checkpoint"):
        tiles_folder.publish(store, KEY, place)
    assert everything(place) == {"thesis.txt": b"ten years"}


def test_files_that_do_not_lead_to_the_signed_root_get_no_checkpoint(store, place):
    with place.held():
        place.write_once("tile/0/000", bytes(8192))
    with pytest.raises(TamperDetected, match="is there with other bytes"):
        tiles_folder.publish(store, KEY, place)
    assert place.read("checkpoint") is None


def test_a_publishing_that_was_cut_off_is_finished_by_the_next(store, place, reached, monkeypatch):
    real, left = type(place).write_once, [3]

    def cut_off(self, name, data):
        left[0] -= 1
        if left[0] < 0:
            raise Unavailable("the power went", help="")
        return real(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(type(place), "write_once", cut_off)
        with pytest.raises(Unavailable):
            tiles_folder.publish(store, KEY, place)
    assert place.read("checkpoint") is None
    assert len(everything(place)) == 3
    assert tiles_folder.publish(store, KEY, reached()).files == 5
    assert rules(store, place) == set()


# --- what only a bucket has


@pytest.fixture
def address(buckets):
    return f"s3://{buckets.bucket()}/log"


@pytest.mark.parametrize("there", [None, b"before"])
def test_of_two_that_publish_into_a_bucket_one_is_told(buckets, address, there):
    one, two = (Bucket.open(address, endpoint=buckets.endpoint) for _ in range(2))
    if there is not None:
        one.replace("checkpoint", there)
    assert one.read("checkpoint") == two.read("checkpoint") == there
    assert two.replace("checkpoint", b"theirs") is True
    with pytest.raises(Conflict, match="was replaced by somebody else"):
        one.replace("checkpoint", b"ours")
    assert one.read("checkpoint") == b"theirs"


def test_an_object_that_comes_between_look_and_write_is_not_overwritten(buckets, address, monkeypatch):
    place, other = (Bucket.open(address, endpoint=buckets.endpoint) for _ in range(2))
    real, looked = Bucket.read, []

    def late(self, name):
        found = real(self, name)
        if self is place and not looked:
            looked.append(name)
            other.write_once(name, b"theirs")
        return found

    monkeypatch.setattr(Bucket, "read", late)
    with pytest.raises(TamperDetected, match="is there with other bytes"):
        place.write_once("tile/0/000", b"ours")
    assert real(other, "tile/0/000") == b"theirs"


def test_logs_under_two_prefixes_of_a_bucket_do_not_see_each_other(buckets, address):
    ours, theirs = (Bucket.open(each, endpoint=buckets.endpoint) for each in (address, address + "-2"))
    theirs.write_once("checkpoint", b"theirs")
    assert list(ours.names()) == []
    assert ours.read("checkpoint") is None


def test_what_a_bucket_refuses_is_unavailable(buckets, address, monkeypatch):
    with pytest.raises(Unavailable, match="`s3://nowhere/x` cannot be read"):
        Bucket.open("s3://nowhere", endpoint=buckets.endpoint).read("x")
    with pytest.raises(Unavailable, match="`s3://nowhere` cannot be listed"):
        list(Bucket.open("s3://nowhere", endpoint=buckets.endpoint).names())
    with pytest.raises(MalformedInput, match="is no bucket"):
        Bucket.open("s3:///x")
    monkeypatch.setattr("keyturn.ledger.places.s3.TRIES_MAX", 1)
    with pytest.raises(Unavailable, match=r"cannot be written|cannot be read"):
        Bucket.open(address, endpoint="http://127.0.0.1:1").write_once("x", b"")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nothing-here")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nothing-here")
    with pytest.raises(Unavailable, match="credentials"):
        Bucket.open(address, endpoint=buckets.endpoint).read("x")


def test_without_the_library_it_is_said_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name.split(".")[0] == "boto3":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(Unavailable) as caught:
        Bucket.open("s3://bucket")
    assert caught.value.help == "`pip install 'keyturn[s3]'`"
