"""The tutorial's code is run as it stands there, and its loop has no more lines than it says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.governor import governing


def blocks(repo: Path) -> list[str]:
    text = (repo / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_ten_lines_are_ten_and_work(repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = blocks(repo)[0]
    after = loop.split("\n\n", 1)[1]
    assert len([line for line in after.splitlines() if line.strip()]) <= 10
    made: list[str] = []

    def mutate(best: str) -> str:
        made.append(f"def solve(n):\n    return n * {len(made)}\n")
        return made[-1] if len(made) != 3 else "def solve(:"

    namespace: dict[str, Any] = {"mutate": mutate, "grade": lambda value: value / 100}
    here = Path.cwd()
    with governing(tmp_path, programs_max=5) as governor:
        exec(loop.replace('"my-project"', repr(str(tmp_path))), namespace)
    assert Path.cwd() == here
    assert (namespace["best"], namespace["top"]) == (made[4], 0.28)
    assert capsys.readouterr().out.startswith("candidate `g1-c1` is held")
    assert [frame["type"] for frame in governor.heard].count("program") == 5


def test_the_check_and_the_worker_work(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, check, worker = blocks(repo)
    monkeypatch.setitem(os.environ, "KEYTURN_LOOP", str(tmp_path))
    honest = "def objective(x):\n    return x * x\ndef search():\n    return min(range(-9, 9), key=objective)\n"
    namespace: dict[str, Any] = {"text": honest + "def solve(n):\n    return n\n", "grade": float}
    exec(check, namespace)
    with governing(tmp_path):
        exec(worker, namespace)
        assert capsys.readouterr().out == "True\n"
        found = []
        for text in (honest, "def search():\n    return 0\n"):
            with namespace["worker"].candidate(text) as program:
                found.append(program.admit(namespace["check"](program), score=1.0).admitted)
    assert found == [True, False]
