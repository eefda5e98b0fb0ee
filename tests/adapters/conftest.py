"""A small example in OpenEvolve's layout and a founded project for it, copied for every test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keyturn import app
from keyturn.app import openevolve
from keyturn.app.founding import new_key
from keyturn.core import events as ev
from keyturn.core.bounds import Bounds
from keyturn.keys import keyfile

INITIAL = "# EVOLVE-BLOCK-START\ndef solve(n):\n    return n\n\n\n# EVOLVE-BLOCK-END\n\n\ndef limit():\n    return 10\n"

EVALUATOR = """
import importlib.util


def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return {"combined_score": program.solve(7) / 100}
"""

HELD_OUT = """
def check(program):
    return [] if program.solve(14) >= 1.5 * program.solve(7) else ["it does not grow with what it is asked"]
"""

CONFIG = """
random_seed: 6
max_iterations: 3
checkpoint_interval: 1000
log_level: WARNING
diff_based_evolution: false
max_code_length: 20000000
language: python
llm:
  api_base: URL
  api_key: none
  models: [{name: m, weight: 1.0}]
  timeout: 10
  retries: 0
  retry_delay: 0
database: {num_islands: 1, population_size: 20, archive_size: 5}
evaluator: {timeout: 6, cascade_evaluation: true, cascade_thresholds: [0.01, 2.0]}
"""


def evolved(body: str) -> str:
    """The first program with this between its marks."""
    return INITIAL.replace("def solve(n):\n    return n\n", body).rstrip("\n")


def times(factor: float) -> str:
    """An honest program that scores the better, the larger the factor."""
    return evolved(f"def solve(n):\n    return n * {factor}\n")


@dataclass
class Scene:
    """A project, the example that it governs, and what the last run reported."""

    root: Path
    keys: Path
    said: list[dict[str, Any]] = field(default_factory=list)
    code: int = -1
    left: list[str] = field(default_factory=list)
    """What was alive of the run's processes when its first one had ended."""

    @property
    def project(self) -> app.Project:
        return app.open_project(self.root / "project")

    @property
    def example(self) -> openevolve.Example:
        return openevolve.example(self.root / "example")

    def write(self, name: str, text: str) -> None:
        (self.root / "example" / name).write_text(text, encoding="utf-8")

    def warrant(self, programs: int = 100, seconds: int = 600, **more: Any) -> None:
        who = app.Signing("ada", None, self.keys, None)
        bounds = Bounds(programs, seconds, **more)
        self.project.give_warrant(who, candidates=1, level_ceiling=0, hours=1, loop=bounds, reason="a test")

    def run(
        self,
        url: str = "http://127.0.0.1:9/v1",
        *,
        meanwhile: Callable[[dict[str, Any], openevolve.Loop], None] = lambda message, loop: None,
        config: dict[str, str] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """A run to its end; gives its last report. `meanwhile` sees every report as it comes."""
        text = CONFIG.replace("URL", url)
        for old, new in (config or {}).items():
            assert old in text
            text = text.replace(old, new)
        self.write("config.yaml", text)
        self.said = []
        with openevolve.Loop(self.example, self.root / "project", openevolve.Options(**options)) as loop:
            for message in loop.messages():
                self.said.append(message)
                meanwhile(message, loop)
            self.code = loop.code()
            self.left = alive(loop.session)
            assert self.said, loop.last_words()
        return self.said[-1]

    def programs(self) -> list[dict[str, Any]]:
        """What the run reported of each program that OpenEvolve wanted to take in."""
        return [message for message in self.said if message["type"] == "program"]

    def verdicts(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(bool(row["admitted"]) * "admitted" or "refused", tuple(row["rules"])) for row in self.programs()]

    def judged(self) -> list[str]:
        """The digests of the programs in the log, in its order."""
        with self.project.opened() as log:
            size = log.head.size
        entries = [event for _, event in self.project.entries(0, size)]
        return [
            str(row["program"]) for event in entries if isinstance(event, ev.ProgramsJudged) for row in event.programs
        ]


def found(root: Path, *, held_out: str = HELD_OUT) -> Scene:
    """An example and a project whose lineage is founded; simulated ada decides."""
    scene = Scene(root, root / "keys")
    (root / "example").mkdir(parents=True)
    for name, text in {"initial_program.py": INITIAL, "evaluator.py": EVALUATOR, "held_out.py": held_out}.items():
        if text:
            scene.write(name, text)
    new_key("ada", kind="simulated", keys=scene.keys, passphrase_file=None)
    place = root / "project"
    (place / "founder").mkdir(parents=True)
    (place / "founder" / openevolve.PROGRAM).write_text(INITIAL)
    key = keyfile.read_public(keyfile.path_of(scene.keys, "ada"))
    policy = openevolve.policy_text(scene.example, place / "founder", name="small", person="ada", key=key, demo=True)
    quick = {"line = 0.10": "line = 0.5", "lifetime_error = 0.05": "lifetime_error = 0.2", "batch = 50": "batch = 4"}
    for old, new in quick.items():
        assert old in policy
        policy = policy.replace(old, new)
    (place / "keyturn.toml").write_text(policy)
    openevolve.init(scene.example, place, name="small", person="ada", keys=scene.keys, passphrase_file=None, demo=True)
    who = app.Signing("ada", None, scene.keys, None)
    scene.project.run()
    waiting = next(iter(scene.project.state().dossiers))
    scene.project.decide(waiting, who, decision="approve", reason="a test")
    scene.project.run()
    return scene


def alive(session: int) -> list[str]:
    """The processes of a session that are not dead, by their command lines."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, member = (place / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(member) == session and state != "Z":
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return found(tmp_path_factory.mktemp("openevolve") / "scene")


@pytest.fixture
def scene(founded: Scene, tmp_path: Path) -> Scene:
    """A copy of a founded project; its graders still name the first example, whose files are the same."""
    shutil.copytree(founded.root, tmp_path / "scene", symlinks=True)
    return Scene(tmp_path / "scene", tmp_path / "scene" / "keys")
