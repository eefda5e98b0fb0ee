"""A log in one file: the same bytes for the same log, readable by any tar, and decided again anywhere."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import keyturn
from keyturn import app
from keyturn.app.auditing.exporting import export_log
from keyturn.app.auditing.replaying import replay_export
from keyturn.cli.main import main
from keyturn.core.errors import Conflict, MalformedInput
from keyturn.ledger import tree
from keyturn.ledger.checkpoint import Checkpoint, sign
from keyturn.ledger.export import archive
from keyturn.verify import trust as trusts
from tests.ledger.exports import RECORDED, TRUST, Project, quiet
from tests.ledger.naive import mth
from tests.ledger.signers import LOG
from tests.verify.scene import Scene

SRC = Path(keyturn.__file__).parent.parent
ONE_SYSTEM_ALONE = ("fcntl", "resource", "termios", "tty", "pwd", "grp", "syslog", "ctypes", "sqlite3")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = Scene.begin(tmp_path_factory.mktemp("log") / "log.db")
    made.found()
    digest = made.propose()
    made.sign(digest, "ada", "safety")
    made.sign(digest, "cyd", "engineering")
    made.release(digest)
    yield made
    made.log.store.close()


@pytest.fixture
def export(scene, tmp_path):
    export_log(Project(scene.log), tmp_path / "log.tar")
    return tmp_path / "log.tar"


def test_the_same_log_gives_the_same_bytes_and_no_file_is_written_over(scene, export, tmp_path):
    again = export_log(Project(scene.log), tmp_path / "again.tar")
    assert export.read_bytes() == (tmp_path / "again.tar").read_bytes()
    assert (again.entries, again.bytes) == (scene.log.state.published, export.stat().st_size)
    with pytest.raises(Conflict):
        export_log(Project(scene.log), export)
    assert sorted(path.name for path in tmp_path.glob("*tar*")) == ["again.tar", "log.tar"]


def test_any_tar_opens_it_and_finds_the_exact_bytes_of_every_entry(scene, export):
    with tarfile.open(export) as opened:
        names = opened.getnames()
        size = scene.log.state.published
        bundle = opened.extractfile(f"tile/entries/000.p/{size}").read()
        hashes = opened.extractfile(f"tile/0/000.p/{size}").read()
        newest = opened.extractfile("checkpoint").read()
    assert names[:2] == ["manifest.json", "checkpoint"]
    leaves = list(scene.log.store.leaves(0, size))
    assert bundle == b"".join(len(each).to_bytes(2, "big") + each for each in leaves)
    assert hashes == b"".join(tree.leaf_hash(each) for each in leaves)
    assert newest == scene.log.store.checkpoint()


def test_an_export_is_decided_again_without_its_project(scene, export, tmp_path):
    found = replay_export(export, trust=None, tell=quiet)
    assert (found.entries, found.root_hex) == (scene.log.state.published, scene.log.head.root.hex())
    assert (found.genesis, found.pinned) == (scene.trust.genesis, False)
    assert found.checkpoints == len(scene.log.store.checkpoints())
    trusts.write(scene.trust, tmp_path / "trust.json")
    assert replay_export(export, trust=tmp_path / "trust.json", tell=quiet).pinned


def test_short_cuts_that_a_thief_of_the_service_key_takes_are_seen(export):
    """The scene's governor released without a warrant and without a trial; its signatures and tree are sound."""
    rules = {rule for _, rule, _ in replay_export(export, trust=None, tell=quiet).problems}
    assert {"improvement_started_must_be_lawful", "permit_issued_must_be_lawful"} <= rules
    assert all(rule.endswith("_must_be_lawful") for rule in rules)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 513])
def test_tiles_follow_from_the_entries_at_every_edge(count):
    leaves = [b"leaf %d" % n for n in range(count)]
    hashes = [tree.leaf_hash(each) for each in leaves]
    head = Checkpoint(LOG.name, count, mth(leaves))
    manifest = archive.Manifest(LOG.name, "g", LOG.verifier().vkey, count, head.root.hex(), (count,))
    file = io.BytesIO()
    archive.write(file, manifest, [sign(head, LOG)], leaves)
    file.seek(0)
    parts = list(archive.read(file))
    read = [leaf for part in parts if isinstance(part, archive.Entries) for leaf in part.leaves]
    lowest = [h for part in parts if isinstance(part, archive.Tile) and part.level == 0 for h in part.hashes]
    above = [h for part in parts if isinstance(part, archive.Tile) and part.level == 1 for h in part.hashes]
    assert (read, lowest, len(above)) == (leaves, hashes, count // 256)
    assert above[:1] == [mth(leaves[:256])][: count // 256]


def test_names_are_those_of_tlog_tiles():
    assert archive._name("0", 1234067, 256) == "tile/0/x001/x234/067"
    assert archive._name("entries", 0, 7) == "tile/entries/000.p/7"
    assert archive._name("1", 1000, 1) == "tile/1/x001/000.p/1"


def test_no_file_at_all_is_the_callers_fault(tmp_path):
    with pytest.raises(MalformedInput):
        replay_export(tmp_path / "none.tar", trust=None, tell=quiet)


def test_deciding_again_needs_nothing_that_one_system_alone_has():
    script = (
        "import sys\n"
        f"for name in {ONE_SYSTEM_ALONE!r}: sys.modules[name] = None\n"
        "from keyturn.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "log", "replay", str(RECORDED), "--trust", str(TRUST), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["pinned"] is True


def test_the_recorded_lineage_is_still_lawful_and_says_what_its_page_says():
    """Rules may change; a log that was lawful on its day stays so. CONTRIBUTING says what to do when this fails."""
    found = replay_export(RECORDED, trust=TRUST, tell=quiet)
    assert found.problems == ()
    page = (RECORDED.parent / "README.md").read_text("utf-8")
    for said in (f"{found.entries} entries", f"{found.decisions} decisions", found.root_hex, found.genesis):
        assert said in page


def test_the_command_writes_the_file_and_says_that_nothing_is_withheld(scene, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(app, "open_project", lambda root: Project(scene.log), raising=False)
    assert main(["log", "export", str(tmp_path / "x.tar")]) == 0
    said = capsys.readouterr().out
    assert "nothing is withheld" in said
    assert scene.trust.genesis.removeprefix("sha256:") in said
    assert main(["log", "export", str(tmp_path / "x.tar"), "--json"]) == 5
    assert main(["log", "replay", str(tmp_path / "x.tar")]) == 3
    assert "nobody pinned that founding" in capsys.readouterr().out
    assert main(["log", "replay", "--trust", str(TRUST)]) == 2
