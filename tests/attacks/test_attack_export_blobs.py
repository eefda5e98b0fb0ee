"""An exporter who shows other words, hides that he withholds some, or brings back erased ones is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from keyturn.app.auditing.replaying import replay_export
from keyturn.ledger.export.archive import FIRST_FORMAT
from keyturn.wire import canonical
from keyturn.wire.blobs.blob import Blob
from tests.journeys.test_erasure import Desk
from tests.ledger.exports import packed, quiet, unpacked

Files = dict[str, bytes]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def exported(desk: Desk) -> Files:
    desk.say("log", "export", str(desk.folder / "log.tar"))
    files: Files = unpacked((desk.folder / "log.tar").read_bytes())
    (desk.folder / "log.tar").unlink()
    return files


def told(files: Files, **changes: object) -> Files:
    """The same archive with another manifest."""
    said = {**json.loads(files["manifest.json"]), **changes}
    body = {key: value for key, value in said.items() if value is not None}
    return {**files, "manifest.json": canonical.encode(body)}


def rules(desk: Desk, files: Files) -> set[str]:
    path = desk.folder / "changed.tar"
    path.write_bytes(packed(files))
    return {rule for _, rule, _ in replay_export(path, trust=desk.project.home / "trust.json", tell=quiet).problems}


def name_of(files: Files) -> str:
    return next(name for name in files if name.startswith("blobs/"))


def swapped(files: Files) -> Files:
    """Other words under the name of the first."""
    return {**files, name_of(files): Blob(bytes(32), b"he was only tired").encoded}


def left_out(files: Files) -> Files:
    """The manifest keeps quiet about words that are not there."""
    return {name: data for name, data in told(files, blobs=[]).items() if name != name_of(files)}


def called_withheld(files: Files) -> Files:
    """The manifest calls withheld what is there all the same."""
    return told(files, withheld=[f"sha256:{name_of(files).removeprefix('blobs/')}"])


def made_up(files: Files) -> Files:
    """Words that no entry names."""
    more = Blob(bytes(32), b"everybody agreed")
    names = sorted([f"sha256:{name_of(files).removeprefix('blobs/')}", more.digest])
    blobs = {each: {**files, f"blobs/{more.digest[7:]}": more.encoded}[f"blobs/{each[7:]}"] for each in names}
    rest = {name: data for name, data in told(files, blobs=names).items() if not name.startswith("blobs/")}
    return {**rest, **{f"blobs/{each[7:]}": data for each, data in blobs.items()}}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (swapped, "blobs_must_be_what_was_logged"),
        (left_out, "blobs_must_be_shown_or_withheld"),
        (called_withheld, "blobs_must_be_shown_or_withheld"),
        (made_up, "blobs_must_be_named_by_entries"),
    ],
)
def test_attack_an_export_that_does_not_tell_of_its_blobs_as_they_are(
    desk: Desk, change: Callable[[Files], Files], rule: str
) -> None:
    desk.halted()
    files = exported(desk)
    assert rules(desk, files) == set()
    assert rules(desk, change(files)) == {rule}


def test_attack_an_export_that_brings_back_what_was_erased(desk: Desk) -> None:
    digest = desk.halted()
    kept = exported(desk)[f"blobs/{digest[7:]}"]
    desk.erase(digest)
    files = exported(desk)
    said = json.loads(files["manifest.json"])
    names = sorted([*said["blobs"], digest])
    blobs = {f"blobs/{each[7:]}": {**files, f"blobs/{digest[7:]}": kept}[f"blobs/{each[7:]}"] for each in names}
    rest = {name: data for name, data in told(files, blobs=names, withheld=[]).items() if name not in blobs}
    assert rules(desk, {**rest, **blobs}) == {"erased_blobs_must_stay_away"}


def test_attack_a_file_of_the_first_version_cannot_carry_blobs(desk: Desk) -> None:
    desk.halted()
    files = exported(desk)
    assert rules(desk, told(files, format=FIRST_FORMAT)) >= {"file_must_be_an_export"}
    old = told({k: v for k, v in files.items() if k != name_of(files)}, format=FIRST_FORMAT, blobs=None, withheld=None)
    assert rules(desk, old) == set(), "without them it is what the first version wrote"


def test_attack_a_huge_or_unsorted_list_of_blobs_is_out_of_form(desk: Desk) -> None:
    desk.halted()
    files = exported(desk)
    for blobs in (["sha256:" + "0" * 64] * 2, ["sha256:" + "1" * 64, "sha256:" + "0" * 64], ["blobs/../x"]):
        assert rules(desk, told(files, blobs=blobs)) >= {"file_must_be_an_export"}
    big = {**files, name_of(files): b"keyturn-blob-v1\n" + bytes(2 << 20)}
    assert rules(desk, big) == {"file_must_be_an_export"}
