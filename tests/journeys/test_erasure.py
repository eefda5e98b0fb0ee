"""What people typed: kept beside the log, shown where it is at hand, gone everywhere once its erasure is cleared."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyturn import app
from keyturn.app.auditing.replaying import replay_export
from keyturn.app.reasons.erasing import _find
from keyturn.cli.main import main
from keyturn.core import events as ev
from keyturn.core.terms import Digest, Instant
from keyturn.flow.blobs.erase import ask
from keyturn.ledger.export.archive import FORMAT
from tests.journeys.test_founding import founded

WORDS = "ada's mother was taken to hospital"


class Desk:
    """A project with one simulated person, and its terminal."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.keys, self.folder, self._capsys = folder / "project", folder / "keys", folder, capsys
        app.new_key("ada", kind="simulated", keys=self.keys, passphrase_file=None)
        self.project = founded(self.root, self.keys)

    def say(self, *words: str, code: int = 0) -> str:
        assert main([*words, "--project", str(self.root)]) == code
        return self._capsys.readouterr().out

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        body = json.loads(self.say(*words, "--json", code=code))
        assert isinstance(body, dict)
        return body

    def halted(self, words: str = WORDS) -> Digest:
        """Halt for this reason; the blob that holds it. Whether it can be proven here is another matter."""
        assert main(["halt", "--as", "ada", "--reason", words, "--project", str(self.root)]) in {0, 7}
        self._capsys.readouterr()
        halt = self.project.logged().halt
        assert halt is not None
        assert halt.reason.startswith("withheld:sha256:")
        return Digest(halt.reason.removeprefix("withheld:"))

    def erase(self, what: str, code: int = 0) -> str:
        signing = ("--as", "ada", "--keys", str(self.keys), "--reason", "asked for by ada")
        return self.say("log", "erase", what, *signing, code=code)

    def holds(self, words: str) -> list[str]:
        """Every file of the project, and of what was made from it, in which these words stand."""
        return [str(path) for path in self.folder.rglob("*") if path.is_file() and words.encode() in path.read_bytes()]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_a_reason_is_shown_where_it_is_at_hand_and_stands_in_no_entry(desk: Desk) -> None:
    digest = desk.halted()
    assert WORDS in desk.say("status", code=6)
    assert WORDS in desk.say("log", "list")
    assert desk.holds(WORDS) == [str(desk.project.blobs.folder / digest[7:])]
    body = desk.json("status", code=6)
    assert body["halt"]["reason"] == f"withheld:{digest}"
    assert body["words"] == {f"withheld:{digest}": WORDS}
    assert desk.json("log", "list")["words"] == {f"withheld:{digest}": WORDS}
    shown = desk.say("log", "blob", digest[7:15])
    assert shown.startswith("SHOWN")
    assert WORDS in shown


def test_a_stranger_checks_a_shown_blob_with_the_tools_of_any_system(desk: Desk) -> None:
    digest, file = desk.halted(), desk.folder / "blob"
    desk.say("log", "blob", f"sha256:{digest[7:]}", "--out", str(file))
    said = subprocess.run(["sha256sum", str(file)], capture_output=True, text=True, check=True).stdout
    assert said.split()[0] == digest[7:]
    words = subprocess.run(["tail", "-n", "+3", str(file)], capture_output=True, text=True, check=True).stdout
    assert words == WORDS


def test_an_erased_reason_is_withheld_everywhere_and_nothing_else_changes(desk: Desk) -> None:
    digest = desk.halted()
    before = desk.json("log", "replay")
    assert desk.erase(digest[7:15]).startswith("ERASED")
    desk.say("log", "tiles", str(desk.folder / "pub"))
    desk.say("log", "export", str(desk.folder / "log.tar"))
    assert desk.holds(WORDS) == []
    for words in (("status",), ("log", "list", "--limit", "50"), ("log", "list", "--kind", "HaltRequested")):
        said = desk.say(*words, code=6 if words == ("status",) else 0)
        assert f"withheld ({digest[:15]}…)" in said
        assert WORDS not in said
    assert desk.json("status", code=6)["words"] == {f"withheld:{digest}": None}
    assert desk.say("log", "blob", digest[7:15], code=1).startswith("ERASED")
    after = desk.json("log", "replay")
    assert (before["equal"], after["equal"], after["problems"]) == (True, True, [])
    assert after["decisions"] == before["decisions"] + 1
    fsck = desk.json("log", "fsck", str(desk.folder / "pub"))
    assert (fsck["holds"], fsck["blobs"]["erased"], fsck["blobs"]["sound"]) == (True, 1, 1)
    found = replay_export(desk.folder / "log.tar", trust=desk.project.home / "trust.json", tell=lambda _: None)
    assert (found.problems, found.shown, found.withheld) == ((), 1, 1)
    assert "by the quorum" in desk.say("log", "list", "--kind", "BlobErased")


def test_a_second_person_reads_what_an_erasure_would_delete_and_why(desk: Desk) -> None:
    digest = desk.halted()
    said = desk.project.typed("asked for by ada")
    said.keep()
    with desk.project.opened() as log:
        dossier = ask(log, digest, why=said.reference)
    shown = desk.say("dossier", "show", dossier[7:15])
    assert "WHAT IT WOULD ERASE" in shown
    assert digest in shown
    assert "asked for by ada" in shown
    assert desk.json("dossier", "show", dossier[7:15])["document"]["why"] == said.reference
    signing = ("--as", "ada", "--keys", str(desk.keys), "--reason", "agreed")
    assert "in the log" in desk.say("approval", "give", dossier[7:15], *signing)
    assert desk.erase(digest).startswith("ERASED")
    assert desk.holds(WORDS) == []


def test_attack_an_erased_blob_that_is_put_back_is_shown_to_nobody_and_named(desk: Desk) -> None:
    digest = desk.halted()
    place = desk.project.blobs.folder / digest[7:]
    kept = place.read_bytes()
    desk.erase(digest)
    place.write_bytes(kept)
    assert WORDS not in desk.say("status", code=6)
    assert WORDS not in desk.say("log", "blob", digest, code=1)
    assert "erased_blobs_must_stay_away" in desk.say("log", "fsck", code=3)
    assert desk.json("log", "fsck", code=3)["blobs"]["sound"] == 1, "the reason of the erasure"
    desk.say("log", "export", str(desk.folder / "log.tar"))
    place.unlink()
    assert desk.holds(WORDS) == []
    place.write_bytes(kept)
    told: list[str] = []
    desk.project.run(tell=told.append)
    assert [each for each in told if "lay there all the same" in each]
    assert desk.holds(WORDS) == [], "the next start of the governor deletes it, and says so"
    place.write_bytes(kept)
    assert desk.erase(digest).startswith("ERASED"), "asked again, it is deleted again, and nobody signs twice"
    assert desk.holds(WORDS) == []
    assert desk.say("log", "fsck").startswith("HOLDS")


def test_a_lost_blob_and_a_swapped_one_are_problems_of_their_own_and_lock_nobody_out(desk: Desk) -> None:
    digest = desk.halted()
    place = desk.project.blobs.folder / digest[7:]
    kept = place.read_bytes()
    place.write_bytes(kept.replace(b"mother", b"father"))
    assert "blobs_must_be_what_was_logged" in desk.say("log", "fsck", code=3)
    said = desk.say("status", code=6)
    assert "not what was logged" in said
    assert "father" not in said
    desk.say("log", "blob", digest, code=3)
    desk.say("log", "export", str(desk.folder / "log.tar"), code=3)
    desk.say("log", "export", str(desk.folder / "log.tar"), "--without-blobs")
    place.unlink()
    assert "is lost" in desk.say("log", "fsck", code=3)
    assert desk.say("log", "blob", digest, code=1).startswith("LOST")
    assert f"withheld ({digest[:15]}…)" in desk.say("status", code=6)


def test_what_no_entry_names_is_no_problem_and_can_be_deleted(desk: Desk) -> None:
    desk.halted()
    stray = desk.project.blobs.folder / f".{'0' * 64}.4711"
    stray.write_bytes(b"half of what a crash left")
    assert "that no entry names" in desk.say("log", "fsck")
    desk.say("log", "fsck", "--tidy")
    assert stray.exists(), "an entry may be about to name it"
    os.utime(stray, (0, 0))
    assert "deleted" in desk.say("log", "fsck", "--tidy")
    assert not stray.exists()
    assert desk.say("log", "fsck").startswith("HOLDS")


def test_words_that_look_like_a_reference_are_words_all_the_same(desk: Desk) -> None:
    trap = "withheld:sha256:" + "0" * 64
    digest = desk.halted(trap)
    assert digest != trap.removeprefix("withheld:")
    assert trap in desk.say("status", code=6).replace("\n", "").replace(" ", "")
    assert desk.say("log", "fsck").startswith("HOLDS")


def test_an_export_shows_the_words_unless_it_is_told_not_to(desk: Desk) -> None:
    digest = desk.halted()
    with_words, without = desk.folder / "with.tar", desk.folder / "without.tar"
    assert "1 reason that people typed is in it" in desk.say("log", "export", str(with_words))
    assert "1 blob withheld" in desk.say("log", "export", str(without), "--without-blobs")
    with tarfile.open(with_words) as opened:
        assert opened.getnames()[-1] == f"blobs/{digest[7:]}"
        manifest = json.loads(opened.extractfile("manifest.json").read())  # type: ignore[union-attr]  # it is a file
    assert (manifest["format"], manifest["blobs"], manifest["withheld"]) == (FORMAT, [digest], [])
    assert WORDS.encode() in with_words.read_bytes()
    assert WORDS.encode() not in without.read_bytes()
    assert "1 shown, each what its entry names; 0 withheld" in desk.say("log", "replay", str(with_words))
    assert "0 shown, each what its entry names; 1 withheld" in desk.say("log", "replay", str(without))


def test_a_name_that_fits_no_blob_erases_nothing(desk: Desk) -> None:
    desk.halted()
    size = desk.project.logged().size
    for name in ("0", "f" * 64, "sha256:", ""):
        desk.erase(name, code=2)
    assert desk.project.logged().size == size


def test_an_old_plain_reason_still_reads(desk: Desk) -> None:
    with desk.project.opened() as log:
        log.record(lambda stamp: ev.HaltRequested(**stamp, halt="h-1", by="person:ada", reason="said in the open"))
    assert "said in the open" in desk.say("status", code=6)
    assert desk.json("status", code=6)["words"] == {}
    assert desk.say("log", "fsck").startswith("HOLDS")


def test_a_digest_that_begins_with_digits_alone_is_found_by_them() -> None:
    """What a screen shows of a digest is what a command takes, whatever its digits are."""
    digest, other = Digest("sha256:" + "44596470".ljust(64, "a")), Digest("sha256:" + "3".ljust(64, "b"))
    stamp = {"id": "e1", "at": Instant(1), "actor": "governor", "policy": ""}
    said = ev.PermitRevoked(**stamp, permit="p", reason=f"withheld:{digest}")  # type: ignore[arg-type]  # a stamp is four fields
    named = {digest: [(3, said)], other: [(7, replace(said, id="e2", reason=f"withheld:{other}"))]}
    assert _find(named, "44596470", 10) == digest
    assert _find(named, "3", 10) == digest, "entry 3, not the digest that begins with a 3"
    assert _find(named, "sha256:3", 10) == other
    assert _find(named, "e2", 10) == other
