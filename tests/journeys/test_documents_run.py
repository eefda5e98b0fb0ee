"""What the documents tell people to run does what they say: the auditor's script, and the subject of the README."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.app import exercise
from keyturn.app.exercise import Cast
from keyturn.sandbox import open_backend
from keyturn.sandbox.port import Backend, Mount, Spec
from keyturn.wire.frames import FrameReader, encode_frame


def block_of(page: Path) -> str:
    """The page's program, which is its first Python block."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks, f"{page.name} has no Python block"
    return str(blocks[0])


def checked(script: Path, home: Path) -> list[list[str]]:
    """What the auditor's script says about a log, line by line, in words; run without our packages."""
    command = [sys.executable, "-I", "-S", str(script), str(home / "log.db"), str(home / "trust.json")]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return [line.split() for line in said.stdout.splitlines()]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The governor's folder of a founded project with one checkpoint."""
    cast = [
        Cast("ada", ("safety", "security"), True, tmp_path / "keys"),
        Cast("grace", ("security",), True, tmp_path / "keys"),
    ]
    founder = exercise.founder(tmp_path / "founder", seed=1)
    project = exercise.exercise(tmp_path / "project", name="connect4", cast=cast, seed=1, founder=founder)
    with project.opened() as log:
        log.publish()
    return project.home


def test_a_strangers_script_finds_a_sound_log_sound(repo: Path, tmp_path: Path, home: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text(block_of(repo / "docs/check-it-yourself.md"), encoding="utf-8")
    said = checked(script, home)
    assert [line[0] for line in said] == ["origin", "checkpoint", "root", "0", "1", "2"]
    assert {line[-1] for line in said} == {"True"}


def test_attack_an_edited_entry_is_found_by_a_strangers_script(repo: Path, tmp_path: Path, home: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text(block_of(repo / "docs/check-it-yourself.md"), encoding="utf-8")
    with sqlite3.connect(home / "log.db") as log:
        # One letter of the founding's signature, so that it stays an envelope.
        text = bytes(log.execute("SELECT leaf FROM entry WHERE i = 0").fetchone()[0])
        at = text.index(b'"sig":"') + 10
        other = text[:at] + (b"B" if text[at : at + 1] == b"A" else b"A") + text[at + 1 :]
        log.execute("UPDATE entry SET leaf = ? WHERE i = 0", (other,))
    wrong = [line[0] for line in checked(script, home) if line[-1] == "False"]
    assert wrong == ["root", "0"]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    made = open_backend(tmp_path / "run", runtime_cache=tmp_path / "runtime.json")
    yield made
    made.close()


@pytest.fixture
def member(repo: Path, tmp_path: Path) -> Path:
    """The files of the README's subject."""
    folder = tmp_path / "member"
    folder.mkdir()
    (folder / "subject.py").write_text(block_of(repo / "README.md"), encoding="utf-8")
    (folder / "weights.json").write_text('{"bias": 1}', encoding="utf-8")
    return folder


@pytest.mark.root
def test_the_readmes_subject_makes_a_successor(backend: Backend, member: Path) -> None:
    spec = Spec(
        purpose="improve",
        argv=("python", "/parent/subject.py", "improve"),
        runtime=backend.runtime("python"),
        mounts=(Mount(member, "/parent"),),
        environment={"KEYTURN_SEED": "1001", "KEYTURN_GENERATION": "0"},
        out=True,
    )
    running = backend.prepare(spec).go()
    ended = running.wait()
    assert ended.clean, ended.diagnostics
    taken = running.collect((("subject.py", 10_000), ("weights.json", 100)))
    running.close()
    assert taken.findings == ()
    assert set(taken.files) == {"subject.py", "weights.json", "claim.json"}
    assert taken.files["subject.py"] == (member / "subject.py").read_bytes()
    assert taken.files["weights.json"] in (b'{"bias": 0}', b'{"bias": 2}')


@pytest.mark.root
def test_the_readmes_subject_answers_frames(backend: Backend, member: Path) -> None:
    spec = Spec(
        purpose="answer",
        argv=("python", "/candidate/subject.py", "answer"),
        runtime=backend.runtime("python"),
        mounts=(Mount(member, "/candidate"),),
    )
    running = backend.prepare(spec).go()
    reader = FrameReader(bytes_max_total=10_000, frames_max=10)
    running.send(encode_frame({"type": "hello"}), timeout=10)
    assert reader.feed(running.receive(timeout=10)) == [{"type": "ready"}]
    running.send(encode_frame({"type": "ask", "block": 3, "items": [1, 2]}), timeout=10)
    assert reader.feed(running.receive(timeout=10)) == [{"type": "answer", "block": 3, "outputs": [2, 3]}]
    running.send(encode_frame({"type": "bye"}), timeout=10)
    assert running.wait().clean
    running.close()
