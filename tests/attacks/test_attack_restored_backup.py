"""The attack: put last week's backup of the database back, so that what came after it never happened.

What each door says: where anything outside the backup remembers more, everything stops. A backup of the whole folder,
shown to nobody who has seen more, is the log that it was last week: only others can know better (UNWITNESSED).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from keyturn import app
from keyturn.app import project as projects
from keyturn.cli.main import main
from keyturn.core import agenda
from keyturn.verify import trust as trusts
from tests.journeys.test_founding import founded


class Site:
    """A project with a released founder, a loading node beside it, and the commands that people type."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place, self._capsys = place, capsys
        self.project = app.open_project(place / "project")
        self.permit = next(iter(self.project.state().permits))
        self.project.write_trust(place / "node.json")

    @property
    def home(self) -> Path:
        return self.project.home

    def say(self, *words: object) -> tuple[int, str]:
        """A command on the governor's machine, in a process of its own as far as memory goes."""
        projects._read_before.clear()
        code = main([*map(str, words), "--project", str(self.project.root)])
        out, err = self._capsys.readouterr()
        return code, " ".join((out + err).split())

    def check(self, *words: object) -> tuple[int, str]:
        """A command on anybody's machine."""
        code = main([*map(str, words)])
        out, err = self._capsys.readouterr()
        return code, " ".join((out + err).split())

    def show(self, trust: Path) -> tuple[int, str]:
        """A node is handed a fresh bundle, with a proof from what it has seen, and checks it."""
        bundle = self.place / "shown.permit"
        projects._read_before.clear()
        old = min(trusts.read(trust).seen.size, self.project.state().size)
        self.project.bundle(self.permit, bundle, old_size=old)
        return self.check("verify", "permit", bundle, "--trust", trust)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a site, made once."""
    place = tmp_path_factory.mktemp("site")
    app.new_key("ada", kind="simulated", keys=place / "keys", passphrase_file=None)
    project = founded(place / "project", place / "keys")
    step = project.run()
    assert isinstance(step, agenda.Hold)
    who = app.Signing("ada", None, place / "keys", None)
    project.decide(step.dossier.digest, who, decision="approve", reason="read it")
    project.run()
    return place


@pytest.fixture
def site(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    shutil.copytree(released, tmp_path / "site", ignore=shutil.ignore_patterns("*.sock"))
    return Site(tmp_path / "site", capsys)


def put_back(backup: Path, home: Path, *, whole: bool) -> None:
    for each in home.glob("log.db*"):
        each.unlink()
    names = [each.name for each in backup.iterdir() if each.is_file()] if whole else ["log.db"]
    for name in names:
        shutil.copy(backup / name, home / name)


def backed_up(site: Site) -> Path:
    shutil.copytree(site.home, site.place / "backup", ignore=shutil.ignore_patterns("*.sock"))
    return site.place / "backup"


def test_a_database_older_than_the_projects_own_memory_governs_nothing(site: Site) -> None:
    backup = backed_up(site)
    assert site.say("permit", "revoke", site.permit, "--by", "ada", "--reason", "it lies")[0] == 0
    assert site.show(site.home / "trust.json")[0] == 3, "the permit is revoked, and the governor's own file knows it"
    assert site.say("status")[0] == 0
    held = site.project.state().size
    put_back(backup, site.home, whole=False)
    for words in (("run",), ("status",), ("log", "tiles", site.place / "pub"), ("permit", "show")):
        code, said = site.say(*words)
        assert code == 3, words
        assert f"the log does not continue the {held} entries that were seen; it holds" in said, words
        assert "restore the log from a newer copy" in said, words
    code, said = site.check("verify", "log", site.home / "log.db", "--trust", site.home / "trust.json")
    assert code == 3
    assert f"{held} entries were seen" in said


def test_a_halt_acts_on_any_database_and_says_that_it_is_not_recorded(site: Site) -> None:
    backup = backed_up(site)
    site.say("permit", "revoke", site.permit, "--by", "ada", "--reason", "it lies")
    site.show(site.home / "trust.json")
    put_back(backup, site.home, whole=False)
    code, said = site.say("halt", "--by", "ada", "--reason", "the log is wrong")
    assert code in (0, 7)
    assert "the halt is not recorded yet" in said
    assert (site.home / "halt.latch").exists()


def test_who_has_seen_more_refuses_a_backup_of_the_whole_folder(site: Site) -> None:
    """The thief restores everything that the governor knows; a node, an auditor and published files remember."""
    backup, node, pub = backed_up(site), site.place / "node.json", site.place / "pub"
    assert site.show(node)[0] == 0
    site.say("permit", "revoke", site.permit, "--by", "ada", "--reason", "it lies")
    code, said = site.show(node)
    assert code == 3
    assert f"permit `{site.permit}` is revoked" in said
    assert site.say("log", "tiles", pub)[0] == 0
    put_back(backup, site.home, whole=True)
    code, said = site.show(node)
    assert code == 3
    assert "a rollback" in said
    code, said = site.check("verify", "log", site.home / "log.db", "--trust", node)
    assert code == 3
    assert "entries were seen" in said
    code, said = site.say("log", "tiles", pub)
    assert code == 3


def test_alone_it_is_the_log_of_last_week_and_every_screen_says_that_nobody_witnesses_it(site: Site) -> None:
    """Not held without witnesses: LIMITATIONS.md says so, and so does what people see."""
    backup = backed_up(site)
    site.say("permit", "revoke", site.permit, "--by", "ada", "--reason", "it lies")
    put_back(backup, site.home, whole=True)
    code, said = site.say("status")
    assert code == 0
    assert "UNWITNESSED" in said
    assert site.check("verify", "log", site.home / "log.db")[0] == 0


def test_the_newest_copy_put_back_after_all_goes_on_as_before(site: Site) -> None:
    older = backed_up(site)
    site.say("permit", "revoke", site.permit, "--by", "ada", "--reason", "it lies")
    site.show(site.home / "trust.json")
    projects._read_before.clear()
    newest = site.place / "newest"
    shutil.copytree(site.home, newest, ignore=shutil.ignore_patterns("*.sock"))
    put_back(older, site.home, whole=False)
    assert site.say("status")[0] == 3
    put_back(newest, site.home, whole=False)
    assert site.say("status")[0] == 0
    assert site.say("run")[0] == 1, "held: it waits for people, as before"
