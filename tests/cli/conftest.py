"""A terminal to type commands into, with a project that is a story and a clock that stands still."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyturn import app
from keyturn.cli import context
from keyturn.cli.main import main
from keyturn.core.terms import Instant
from tests.cli.fake import FakeProject
from tests.cli.stories import long_story, simulated

GOLDEN = Path(__file__).parent / "golden"


class Terminal:
    """What a command printed and how it ended."""

    def __init__(self, project: FakeProject, capsys: pytest.CaptureFixture[str]) -> None:
        self.project, self._capsys = project, capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        try:
            code = main(words)
        except SystemExit as left:
            code = int(left.code or 0)
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit code and the one JSON object."""
        code, out, _ = self(*words, "--json")
        body = json.loads(out)
        assert isinstance(body, dict)
        return code, body


@pytest.fixture
def project() -> FakeProject:
    """A lineage with everything in it, in a demo with simulated people."""
    return FakeProject(long_story(simulated()))


@pytest.fixture
def terminal(
    project: FakeProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Terminal:
    """A terminal in front of that project; keys lie in a temporary folder."""
    monkeypatch.setattr(app, "open_project", lambda root, **_: project, raising=False)
    monkeypatch.setattr(app, "default_keys", lambda: tmp_path, raising=False)
    monkeypatch.setattr(context, "now", lambda: Instant(project.story.at))
    monkeypatch.delenv("COLUMNS", raising=False)
    return Terminal(project, capsys)


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a screen with the one on file; `KEYTURN_GOLDEN=write` writes it, for a person to look at the change."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if os.environ.get("KEYTURN_GOLDEN") == "write":
            GOLDEN.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare
