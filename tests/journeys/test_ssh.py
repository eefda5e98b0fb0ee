"""A project whose person signs with an SSH key, from founding to a check by strangers."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.cli.main import main
from keyturn.keys import openssh
from keyturn.wire import dsse
from keyturn.wire.ssh import sshsig


@pytest.fixture
def founded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that ada founded with an SSH key which only her agentless key file holds."""
    for name in openssh.ENVIRONMENT:
        if name not in {"PATH", "HOME"}:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEYTURN_KEYS", str(tmp_path / "keys"))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada@host", "-f", str(tmp_path / "id")]
    subprocess.run(command, check=True, capture_output=True)
    assert main(["key", "new", "ada", "--ssh", str(tmp_path / "id.pub"), "--json"]) == 0
    assert main(["init", "--as", "ada", "--unseen", "--json"]) == 0
    return project


def test_a_release_approved_by_ssh_verifies_offline_and_with_ssh_keygen_alone(
    founded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", "--json"])
    assert main(["approval", "give", "founder", "--as", "ada", "--reason", "read it", "--unseen", "--json"]) == 0
    main(["run", "--json"])
    bundle, trust = str(tmp_path / "b.json"), str(tmp_path / "t.json")
    assert main(["permit", "show", "--bundle", bundle, "--trust", trust, "--json"]) == 0
    weights = str(founded / "founder")
    assert main(["verify", "permit", bundle, "--trust", trust, "--weights", weights, "--json"]) == 0
    assert main(["verify", "log", str(founded / ".keyturn" / "log.db"), "--trust", trust, "--json"]) == 0
    capsys.readouterr()
    leaves = sqlite3.connect(founded / ".keyturn" / "log.db").execute("SELECT leaf FROM entry ORDER BY i").fetchall()
    approvals = [row[0] for row in leaves if b"in-toto" in row[0] and b"U1NIU0lH" in row[0]]
    assert len(approvals) == 1
    envelope = dsse.decode(approvals[0])
    public = " ".join((tmp_path / "id.pub").read_text().split()[:2])
    (tmp_path / "allowed").write_text(f"ada {public}\n")
    (tmp_path / "sig").write_text(sshsig.armor(envelope.signatures[0].sig))
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "ada", "-n", "keyturn-approval-v1", "-s", "sig"]
    assert not subprocess.run(
        command, input=envelope.signed(), cwd=tmp_path, capture_output=True, check=False
    ).returncode


def test_the_page_for_strangers_verifies_an_ssh_approval_by_its_own_lines(founded: Path, tmp_path: Path) -> None:
    main(["run", "--json"])
    main(["approval", "give", "founder", "--as", "ada", "--reason", "read it", "--unseen", "--json"])
    page = (Path(__file__).parents[2] / "docs" / "check-it-yourself.md").read_text(encoding="utf-8")
    block = next(part for part in page.split("```") if part.startswith("python") and "BEGIN SSH SIGNATURE" in part)
    (tmp_path / "split.py").write_text(block.removeprefix("python\n"))
    index = next(
        row[0]
        for row in sqlite3.connect(founded / ".keyturn" / "log.db").execute("SELECT i, leaf FROM entry ORDER BY i")
        if b"U1NIU0lH" in row[1] and base64.b64decode(json.loads(row[1])["payload"]).find(b"approval:v1") >= 0
    )
    log = str(founded / ".keyturn" / "log.db")
    subprocess.run([sys.executable, "split.py", log, str(index)], cwd=tmp_path, check=True)
    public = " ".join((tmp_path / "id.pub").read_text().split()[:2])
    (tmp_path / "allowed").write_text(f"ada {public}\n")
    line = next(each for each in page.splitlines() if each.startswith("ssh-keygen -Y verify"))
    assert not subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=False).returncode
