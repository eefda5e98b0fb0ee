"""Hostile subjects for the real sandbox: a founder of a few lines, and a check that nothing of a run is left behind."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from keyturn import app
from keyturn.core import agenda
from keyturn.core.state import State
from tests.journeys.playing import play

MANNERS = """
import json, os, struct, sys, time

def read():
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        sys.exit(0)
    frame = json.loads(sys.stdin.buffer.read(struct.unpack(">I", head)[0]))
    if frame["type"] == "bye":
        sys.exit(0)
    return frame

def raw(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()

def write(frame):
    body = json.dumps(frame, sort_keys=True, separators=(",", ":")).encode()
    raw(struct.pack(">I", len(body)) + body)

def column(board):
    return next((c for c in (0, 1, 2, 4, 5, 6) if not int(board[1]) >> (7 * c + 5) & 1), 3)

def answer(frame):
    write({"type": "answer", "block": frame["block"], "outputs": [column(board) for board in frame["items"]]})

def honest():
    while True:
        frame = read()
        write({"type": "ready"}) if frame["type"] == "hello" else answer(frame)

def produce(source, claim='{"win_rate_against_parent": 0.0}'):
    for name, text in (("subject.py", source), ("weights.npz", "w"), ("recipe.json", "{}"), ("claim.json", claim)):
        with open("/out/" + name, "w") as file:
            file.write(text)
"""
"""What every subject here can do; `column` keeps the promise and plays badly."""


def _steps(answer: str, improve: str) -> str:
    parts = (textwrap.indent(textwrap.dedent(code).strip(), "    ") for code in (answer, improve))
    return MANNERS + 'if sys.argv[1] == "answer":\n{}\nelse:\n{}\n'.format(*parts)


@dataclass(frozen=True)
class Ended:
    """How a run ended, and what stands in its log."""

    step: agenda.Step
    state: State
    project: app.Project

    @property
    def kinds(self) -> list[str]:
        return [incident.kind for incident in self.state.incidents.values()]

    @property
    def outcome(self) -> str:
        return self.state.attempts[1].outcome

    def require_lawful(self) -> None:
        """The log replays, and no folder, cgroup or process of the run is left."""
        replay = self.project.replay(lambda _: None)
        assert replay.problems == ()
        run = self.project.home / "run"
        assert not run.exists() or list(run.iterdir()) == []


def govern(
    root: Path,
    *,
    improve: str = "produce(CANDIDATE)",
    answer: str = "honest()",
    founder_answer: str = "honest()",
    candidates: int = 1,
    wall_seconds: int = 10,
) -> Ended:
    """Run a founder that improves as `improve` says; `CANDIDATE` is a subject that answers as `answer` says."""
    folder = root / "founder"
    folder.mkdir(parents=True)
    candidate = _steps(answer, "sys.exit(1)")
    source = f"CANDIDATE = {candidate!r}\n" + _steps(founder_answer, improve)
    (folder / "subject.py").write_text(source, encoding="utf-8")
    (folder / "weights.npz").write_bytes(b"w")
    (folder / "recipe.json").write_text("{}", encoding="utf-8")
    made = play(root, folder, name="hostile", wall_seconds=wall_seconds)
    step = made.go(candidates=candidates)
    return Ended(step, made.project.state(), made.project)
