"""Somebody else on the same machine, and files that lie where a loop is started."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from keyturn.app import Project, openevolve
from keyturn.app.founding import new_key
from keyturn.cli import openevolving
from keyturn.cli.main import main
from keyturn.core.errors import Unavailable
from keyturn.sdk.line import Line
from keyturn.sdk.serving import LOG, served


def listening(project: Path) -> socket.socket:
    (project / ".keyturn").mkdir()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(project / ".keyturn" / "loop.sock"))
    listener.listen()
    return listener


def test_a_listener_of_another_account_is_no_governor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(tmp_path):
        Line.to(tmp_path).close()
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        with pytest.raises(Unavailable, match=r"who listens there for a loop is user \d+, and this is user 4242"):
            Line.to(tmp_path)


def test_what_lies_where_a_loop_is_started_is_never_run_by_its_governor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project := tmp_path / "project").mkdir()
    (project / ".keyturn").mkdir()
    (here := tmp_path / "here").mkdir()
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n"
    for name in ("keyturn.py", "argparse.py", "queue.py", "struct.py"):
        (here / name).write_text(trap)
    monkeypatch.chdir(here)
    with pytest.raises(Unavailable, match="the governor did not come up"), served(project, start=True, shadow=False):
        pass
    assert not (tmp_path / "sprung").exists()
    assert "keyturn" in (project / LOG).read_text()


def test_a_governors_log_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / ".keyturn").mkdir()
    (precious := tmp_path / "precious").write_text("mine")
    (tmp_path / LOG).symlink_to(precious)
    with pytest.raises(Unavailable), served(tmp_path, start=True, shadow=False):
        pass
    assert precious.read_text() == "mine"


def test_an_evaluator_that_was_edited_after_the_founding_is_named_before_the_warrant_is_spent(tmp_path: Path) -> None:
    (place := tmp_path / "loop").mkdir()
    (place / "initial_program.py").write_text("def solve(n):\n    return n\n")
    for name in ("evaluator.py", "held_out.py"):
        (place / name).write_text("def evaluate(path):\n    return {'combined_score': 1.0}\n")
    keys, root = tmp_path / "keys", tmp_path / "project"
    new_key("ada", kind="simulated", keys=keys, passphrase_file=None)
    said = ["--project", str(root), "--as", "ada", "--keys", str(keys), "--demo"]
    assert main(["openevolve", "init", str(place), *said]) == 0
    of, project = openevolve.example(place), Project(root)
    assert openevolving.changed(of, project) == []
    for name in ("evaluator.py", "held_out.py"):
        with (place / name).open("a") as file:
            file.write("# just a small change\n")
    assert openevolving.changed(of, project) == ["evaluator.py", "held_out.py"]
