"""A log that was rolled back is not called sound, and nobody is helped to delete what shows that it was longer."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from keyturn.verify import trust as trusts
from tests.journeys.test_erasure import Desk


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def aged(desk: Desk) -> list[Path]:
    """Every blob, made old enough to be tidied away."""
    found = list(desk.project.blobs.folder.iterdir())
    for place in found:
        os.utime(place, (1, 1))
    return found


def rolled_back(desk: Desk) -> None:
    """The database from before a halt, put back after the project's own trust file remembered the halt."""
    log, older = desk.project.home / "log.db", desk.folder / "older.db"
    shutil.copy(log, older)
    desk.halted()
    with desk.project.store() as store:
        head = store.head()
    trust = trusts.read(desk.project.home / "trust.json")
    seen = replace(trust.seen, size=head.size, root=head.root.hex())
    trusts.write(replace(trust, seen=seen), desk.project.home / "trust.json")
    shutil.copy(older, log)


def test_fsck_of_a_log_that_was_rolled_back_says_so_and_tidies_nothing_away(desk: Desk) -> None:
    rolled_back(desk)
    (desk.project.home / "halt.latch").unlink(missing_ok=True)
    [blob] = aged(desk)
    said = desk.say("log", "fsck", "--tidy", code=3)
    assert said.startswith("BROKEN")
    assert "log_must_not_shrink: the log does not continue the" in said
    assert "deleted" not in said
    assert blob.is_file()


def test_what_only_the_latch_names_is_no_orphan(desk: Desk) -> None:
    desk.halted()
    [named] = aged(desk)
    orphan = named.with_name("0" * 64)
    shutil.copy(named, orphan)
    latched = named.with_name("1" * 64)
    shutil.copy(named, latched)
    (desk.project.home / "halt.latch").write_text(f"h-00000001 ada: withheld:sha256:{'1' * 64}", encoding="utf-8")
    waiting = named.with_name("2" * 64)
    shutil.copy(named, waiting)
    place = desk.project.home / "adoptions" / ("3" * 64) / "ada-0123456789abcdef.json"
    place.parent.mkdir(parents=True)
    place.write_text(f'{{"why": "withheld:sha256:{"2" * 64}"}}', encoding="utf-8")
    aged(desk)
    assert "1 file that no entry named" in desk.say("log", "fsck", "--tidy")
    assert {each.name for each in desk.project.blobs.folder.iterdir()} == {named.name, latched.name, waiting.name}


def test_where_one_blob_is_wrong_no_other_is_tidied_away(desk: Desk) -> None:
    desk.halted()
    [named] = aged(desk)
    shutil.copy(named, named.with_name("0" * 64))
    named.chmod(0o600)
    named.write_bytes(b"other words")
    aged(desk)
    assert "blobs_must_be_what_was_logged" in desk.say("log", "fsck", "--tidy", code=3)
    assert named.with_name("0" * 64).is_file()
