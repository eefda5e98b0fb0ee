"""Somebody else on the same machine, and files that lie where a loop is started."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

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
