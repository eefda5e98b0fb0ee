"""A team's project: its log in a database by one line, its files in a bucket, its governor replaced by a standby."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn import app
from keyturn.app.operating.governing import governing
from keyturn.cli.main import main
from keyturn.core import agenda
from keyturn.core.errors import Conflict, MalformedInput, Unavailable
from tests.conftest import REPO
from tests.journeys.playing import TIER
from tests.journeys.test_founding import founded
from tests.servers.buckets import Buckets
from tests.servers.cluster import NAME, Cluster

WAIT_SECONDS = 40


class Running:
    """A `keyturn` command in a process of its own, and what it has said so far."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "keyturn", *words]
        self.child = subprocess.Popen(
            command, cwd=REPO, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.said: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        self.said.extend(self.child.stdout)

    def says(self, words: str) -> bool:
        """Whether it says so before the time is up."""
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until and not any(words in line for line in self.said):
            if self.child.poll() is not None:
                self.reader.join()
                break
            time.sleep(0.02)
        return any(words in line for line in self.said)

    def ends(self) -> int:
        """Its exit code, in time."""
        code = self.child.wait(timeout=WAIT_SECONDS)
        self.reader.join()
        return code

    def close(self) -> None:
        """End it whatever became of it."""
        self.child.kill()
        self.child.wait()
        self.reader.join()
        assert self.child.stdout is not None
        self.child.stdout.close()


@pytest.fixture
def started() -> Iterator[list[Running]]:
    running: list[Running] = []
    yield running
    for each in running:
        each.close()


def operate(root: Path, **lines: object) -> None:
    root.mkdir(exist_ok=True)
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
    (root / "operation.toml").write_text(f"[log]\n{text}", encoding="utf-8")


def project_in(root: Path, keys: Path) -> app.Project:
    app.new_key("ada", kind="simulated", keys=keys, passphrase_file=None)
    return founded(root, keys)


def approve(project: app.Project, keys: Path) -> None:
    """What somebody at another terminal types."""
    (dossier,) = [each.digest[7:19] for each in project.state().dossiers.values() if not each.used]
    words = ["approval", "give", dossier, "--as", "ada", "--keys", str(keys), "--reason", "read it"]
    assert main([*words, "--project", str(project.root)]) == 0


def test_one_line_puts_the_log_into_a_database_and_another_its_files_into_a_bucket(
    tmp_path: Path,
    cluster: Cluster,
    buckets: Buckets,
    capsys: pytest.CaptureFixture[str],
    started: list[Running],
) -> None:
    root, keys, url = tmp_path / "project", tmp_path / "keys", cluster.database()
    operate(root, store=url)
    project = project_in(root, keys)
    assert not list(project.home.glob("log.*db*"))
    assert project.head().size == 2

    started.append(Running("run", "--wait", "--project", str(root)))
    assert started[0].says("waits for people")
    with pytest.raises(Conflict, match="another governor"):
        project.run()
    approve(project, keys)
    assert started[0].ends() == 1  # it went on by itself, up to where a warrant is needed
    state = project.state()
    assert state.lineage is not None
    assert len(state.lineage.generations) == 1

    bucket = f"s3://{buckets.bucket()}/connect4"
    operate(root, store=url, tiles=bucket, endpoint=buckets.endpoint)

    def say(*words: str, code: int = 0) -> str:
        assert main([*words, "--project", str(root)]) == code
        return capsys.readouterr().out

    capsys.readouterr()
    assert say("log", "replay").startswith("EQUAL")
    assert say("verify", "log", url, "--trust", str(project.home / "trust.json")).startswith("EQUAL")
    assert f"in {bucket}" in say("log", "tiles")
    assert json.loads(say("log", "fsck", bucket, "--json"))["holds"] is True
    client, (name, prefix) = buckets.client(), bucket.removeprefix("s3://").split("/", 1)
    client.put_object(Bucket=name, Key=f"{prefix}/tile/entries/000.p/{project.head().size}", Body=b"forged")
    assert "files_must_follow_from_entries" in say("log", "fsck", bucket, code=3)
    assert "made anew" in say("log", "fsck", bucket, "--rebuild")
    assert say("log", "export", str(tmp_path / "all.tar"))
    assert say("log", "replay", str(tmp_path / "all.tar"))
    assert "in a database" in say("doctor")
    with pytest.raises(Conflict, match="already; a project is founded on an empty one"):
        project_in_another_folder(tmp_path, url, keys)


def project_in_another_folder(tmp_path: Path, url: str, keys: Path) -> None:
    operate(tmp_path / "second", store=url)
    founded(tmp_path / "second", keys)


def standby_folder(project: app.Project, place: Path) -> app.Project:
    """What an operator prepares on a second machine: policy, operation and keys; the artifacts are shared."""
    leave = shutil.ignore_patterns("run", "artifacts", "*.lock", "*.sock", "*.latch", "runtime.json")
    shutil.copytree(project.root, place, ignore=leave)
    (place / ".keyturn" / "artifacts").symlink_to(project.home / "artifacts")
    return app.Project(place)


@pytest.mark.slow
def test_attack_a_frozen_governor_comes_back_after_a_standby_took_over_and_writes_nothing(
    tmp_path: Path, cluster: Cluster, started: list[Running]
) -> None:
    keys = tmp_path / "keys"
    operate(tmp_path / "one", store=cluster.database(), takeover_seconds=2)
    first = project_in(tmp_path / "one", keys)
    second = standby_folder(first, tmp_path / "two")
    started.append(Running("run", "--wait", "--project", str(first.root)))
    assert started[0].says("waits for people")
    started.append(Running("run", "--standby", "--wait", "--project", str(second.root)))
    assert started[1].says("stands by: another governor (process ")
    frozen, standby = started
    size = first.head().size

    frozen.child.send_signal(signal.SIGSTOP)
    assert standby.says("governs in term 2")
    assert standby.says("waits for people")
    assert first.head().size == size
    frozen.child.send_signal(signal.SIGCONT)
    assert frozen.ends() == 5
    assert "took over in term 2; this one had term 1 and is over" in "".join(frozen.said)
    assert first.head().size == size

    approve(second, keys)
    assert standby.ends() == 1
    assert "no leave to train" in "".join(standby.said)
    lineage = first.state().lineage
    assert lineage is not None
    assert len(lineage.generations) == 1
    assert first.replay(lambda _: None).problems == ()


@pytest.mark.slow
def test_a_standby_takes_over_from_a_governor_that_was_killed(
    tmp_path: Path, cluster: Cluster, started: list[Running]
) -> None:
    operate(tmp_path / "one", store=cluster.database())
    first = project_in(tmp_path / "one", tmp_path / "keys")
    second = standby_folder(first, tmp_path / "two")
    started.append(Running("run", "--wait", "--project", str(first.root)))
    assert started[0].says("waits for people")
    started[0].child.kill()
    with governing(second, lambda _: None, standby=True) as governor:
        with pytest.raises(Conflict, match="another governor"):
            first.run()
        step = agenda.next_step(governor.state, governor.log.now())
        assert isinstance(step, agenda.Found | agenda.Hold)


def test_a_halt_asked_for_on_another_machine_is_unproven_there_and_carried_out_where_the_governor_is(
    tmp_path: Path, cluster: Cluster
) -> None:
    operate(tmp_path / "one", store=cluster.database())
    first = project_in(tmp_path / "one", tmp_path / "keys")
    second = standby_folder(first, tmp_path / "two")
    with governing(first, lambda _: None):
        receipt = second.halt(by="ada", reason="stop it")
        assert receipt["state"] == "UNPROVEN"
        assert "governs; what it runs cannot be seen from here" in str(receipt["unknown"])
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until and not proven(second):
            time.sleep(0.1)
        assert (first.home / "halt.latch").exists()
        assert proven(second) is (TIER == "T2")
    receipt = second.halt(by="ada", reason="again")  # nobody governs any more, so this machine's own word is enough
    assert receipt["state"] == ("STOPPED" if TIER == "T2" else "UNPROVEN")
    cluster.stop()
    try:
        receipt = second.halt(by="ada", reason="the database is gone")
    finally:
        cluster.start()
    assert receipt["state"] == "UNPROVEN"
    assert "the halt is not recorded yet" in str(receipt["unknown"])


def proven(project: app.Project) -> bool:
    halt = project.state().halt
    return halt is not None and halt.proven


def test_a_standby_of_a_file_waits_for_the_lock_on_its_folder(tmp_path: Path, started: list[Running]) -> None:
    project = project_in(tmp_path / "project", tmp_path / "keys")
    with governing(project, lambda _: None):
        started.append(Running("run", "--standby", "--project", str(project.root)))
        assert started[0].says("stands by: another governor")
    assert started[0].ends() == 1
    assert "waits for 1 approval" in "".join(started[0].said)


def test_a_project_whose_database_is_gone_is_not_founded_again(tmp_path: Path, cluster: Cluster) -> None:
    root, keys, url = tmp_path / "project", tmp_path / "keys", cluster.database()
    operate(root, store=url)
    project_in(root, keys)
    cluster.sql("DROP SCHEMA keyturn CASCADE", NAME)
    with pytest.raises(Unavailable, match="there is no log in"):
        app.open_project(root).state()
    with pytest.raises(Conflict, match="holds a trust file but no log"):
        founded(root, keys)
    (root / "operation.toml").unlink()
    with pytest.raises(MalformedInput, match="there is no Keyturn project"):
        app.open_project(root)
