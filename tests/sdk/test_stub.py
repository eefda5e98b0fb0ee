"""The file that stands where a program would lie."""

from __future__ import annotations

import importlib
import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.sdk.stub import forget, stub_for
from tests.sdk.piped import SRC
from tests.sdk.test_sealed import sealed_program

SOURCE = """
calls = 0


class Thing:
    size = 2


def count():
    global calls
    calls += 1
    return calls
"""


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("program", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_loading_it_gives_the_program_anew_each_time(tmp_path: Path) -> None:
    with sealed_program(tmp_path, SOURCE) as program:
        path = stub_for(program, tmp_path)
        module = load(path)
        assert [module.count(), module.count(), module.calls, module.Thing().size] == [1, 2, 2, 2]
        assert load(path).count() == 1
        assert hasattr(module, "count")
        assert not hasattr(module, "solve")
        assert "calls" not in path.read_text(encoding="utf-8")
        forget(path)
        assert not path.exists()


def test_it_can_be_imported_by_name_and_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sealed_program(tmp_path, SOURCE) as program:
        path = stub_for(program, tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        module = importlib.import_module(path.stem)
        monkeypatch.delitem(sys.modules, path.stem)
        assert module.count() == 1
        namespace: dict[str, Any] = {}
        exec(f"from {path.stem} import count", namespace)
        assert namespace["count"]() == 1


def test_a_program_that_does_not_load_raises_as_it_would_here(tmp_path: Path) -> None:
    with sealed_program(tmp_path, "raise ValueError('no')") as program:
        path = stub_for(program, tmp_path)
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                load(path)


def test_as_a_command_it_says_what_is_not_supported(tmp_path: Path) -> None:
    with sealed_program(tmp_path, SOURCE) as program:
        path = stub_for(program, tmp_path)
        environment = {**os.environ, "PYTHONPATH": str(SRC.parent)}
        done = subprocess.run(
            [sys.executable, path], check=False, capture_output=True, text=True, env=environment, timeout=20
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: this evaluator starts programs as commands, which is not supported")
        with pytest.raises(SystemExit, match="which is not supported"):
            runpy.run_path(str(path), run_name="__main__")
        script = f"import runpy; runpy.run_path({str(path)!r})"
        done = subprocess.run(
            [sys.executable, "-c", script], check=False, capture_output=True, text=True, env=environment, timeout=20
        )
        assert "stands for a program of another process, or one that was judged" in done.stderr


def test_after_the_verdict_it_stands_for_nothing(tmp_path: Path) -> None:
    with sealed_program(tmp_path, SOURCE) as program:
        path = stub_for(program, tmp_path)
        text = path.read_text(encoding="utf-8")
        forget(path)
        path.write_text(text, encoding="utf-8")
        with pytest.raises(MalformedInput, match="stands for a program of another process"):
            load(path)
