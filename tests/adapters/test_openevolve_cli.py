"""`keyturn openevolve`: a project for a folder in OpenEvolve's layout, and a run of it as people see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keyturn.app import read_policy
from keyturn.app.founding import new_key
from keyturn.cli import openevolving
from keyturn.cli.main import main
from keyturn.cli.openevolving import View
from keyturn.cli.screen import Screen
from keyturn.core.policy import Loop
from tests.adapters.conftest import CONFIG, EVALUATOR, HELD_OUT, INITIAL, Scene, times
from tests.adapters.endpoint import answering


def example(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("held_out", [HELD_OUT, ""])
def test_init_founds_a_project_whose_founder_is_the_first_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], held_out: str
) -> None:
    files = {"initial_program": INITIAL, "evaluator": EVALUATOR, **({"held_out": held_out} if held_out else {})}
    place = example(tmp_path / "My Loop, no. 2", **files)
    new_key("ada", kind="simulated", keys=tmp_path / "keys", passphrase_file=None)
    said = ["--project", str(tmp_path / "project"), "--as", "ada", "--keys", str(tmp_path / "keys"), "--demo"]
    assert main(["openevolve", "init", str(place), *said]) == 0
    assert "FOUNDED my-loop-no-2: policy 1 is signed by everyone whom it names" in capsys.readouterr().out
    policy = read_policy(tmp_path / "project" / "keyturn.toml")
    assert policy.loop == Loop("program.py", "evolve-blocks", 50, 60)
    assert (tmp_path / "project" / "founder" / "program.py").read_text() == INITIAL
    limit = "held-out" if held_out else "runs"
    assert [(each.id, each.kind, each.line, each.margin) for each in policy.thresholds] == [
        (limit, "limit", 0.1, 0.0), ("claim", "claim", 1.0, 0.15),
    ]  # fmt: skip  # a table in two rows
    assert [suite.exam.partition(" ")[0] for suite in policy.suites] == [limit, "score"]
    assert str(place / "evaluator.py") in policy.suites[0].grader
    assert main(["openevolve", "init", str(place), *said]) == 5
    assert "holds a project already" in capsys.readouterr().err


def test_a_program_without_marks_may_be_changed_everywhere_and_its_policy_says_so(tmp_path: Path) -> None:
    place = example(tmp_path / "loop", initial_program="def solve(n):\n    return n\n", evaluator=EVALUATOR)
    new_key("ada", kind="simulated", keys=tmp_path / "keys", passphrase_file=None)
    said = ["--project", str(tmp_path / "project"), "--as", "ada", "--keys", str(tmp_path / "keys"), "--demo"]
    assert main(["openevolve", "init", str(place), *said]) == 0
    loop = read_policy(tmp_path / "project" / "keyturn.toml").loop
    assert loop is not None
    assert loop.protect == "nothing"


def test_a_folder_that_lacks_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = example(tmp_path / "loop", initial_program=INITIAL)
    assert main(["openevolve", "init", str(place), "--as", "ada"]) == 2
    assert capsys.readouterr().err == (
        f"error: there is no `evaluator.py` in `{place}`\n"
        "help: name a folder that holds both; `config.yaml` and `held_out.py` may lie beside them\n"
    )


@pytest.mark.slow
def test_a_run_ends_with_the_word_of_who_must_sign(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.warrant(20, tokens_max=5000)
    with answering(times(3), times(0.1), times(5)) as endpoint:
        scene.write("config.yaml", CONFIG.replace("URL", endpoint.url))
        code = main(["openevolve", "run", str(scene.example.folder), "--project", str(scene.project.root)])
    said = capsys.readouterr().out
    assert code == 1, said
    assert "generation 0 starts its run, under its warrant" in said
    assert "HELD" in said
    assert "waits for 1 approval in the role" in " ".join(said.split())
    for part in ("4 admitted, 0 refused", "4 of 20", "360 of 5,000", "0.3500, by the loop's own score", "not bounded"):
        assert part in said, said


def test_without_leave_the_run_says_how_to_give_it(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.write("config.yaml", CONFIG.replace("URL", "http://127.0.0.1:9/v1"))
    words = ["openevolve", "run", str(scene.example.folder), "--project", str(scene.project.root), "--json"]
    assert main(words) == 1
    body = json.loads(capsys.readouterr().out)
    assert (body["word"], body["run"]["step"], body["exit_code"]) == ("HELD", "AwaitWarrant", 1)
    assert "--programs N --wall-minutes M" in body["next"][0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("evaluator.py", "def evaluate(:\n", "SyntaxError: invalid syntax"),
        pytest.param("evaluator.py", "x = 1\n", "has no function `evaluate`", marks=pytest.mark.slow),
        pytest.param("held_out.py", "x = 1\n", "has no function `check`", marks=pytest.mark.slow),
        pytest.param("config.yaml", "llm: {model: m}\n", "Invalid config key 'llm.model'", marks=pytest.mark.slow),
        ("config.yaml", "max_iterations: 3\n", "the configuration names no model"),
    ],
)
def test_a_file_of_the_operators_that_is_wrong_is_named(
    scene: Scene, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    scene.warrant()
    scene.write("config.yaml", CONFIG.replace("URL", "http://127.0.0.1:9/v1"))
    scene.write(name, text)
    code = main(["openevolve", "run", str(scene.example.folder), "--project", str(scene.project.root)])
    assert said in capsys.readouterr().err
    assert code in {2, 4}


class Told(Screen):
    """A screen that keeps its lines."""

    def __init__(self) -> None:
        super().__init__(silent=True)
        self.lines: list[str] = []

    def line(self, text: str = "") -> None:
        self.lines.append(text)

    def progress(self, text: str) -> None:
        self.lines.append(text)


USED = {"programs": 3, "wall_seconds": 2.0, "requests": 4, "tokens": 500, "usd": None}
BOUNDS = {"programs_max": 9, "wall_seconds_max": 60, "requests_max": 0, "tokens_max": 1000, "usd_max": 0.0}


def test_progress_says_what_entered_what_was_refused_by_which_rule_and_what_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openevolving, "EVERY_SECONDS", 0.0)
    screen = Told()
    view = View(screen)
    messages: list[dict[str, Any]] = [
        {"type": "started", "generation": 2, "resumed": True, "bounds": BOUNDS, "used": USED},
        {"type": "program", "admitted": True, "rules": [], "best": 0.25, "used": USED},
        {"type": "program", "admitted": False, "rules": ["checks_must_pass", "x"], "best": 0.25, "used": USED},
        {"type": "stopping", "why": "\x1b[31mused up", "halted": False},
        {"type": "unheard"},
        {"type": "outcome", "candidate": "c1"},
    ]
    for message in messages:
        view.take(message)
    assert screen.lines[0] == "generation 2 goes on with its run, under its warrant"
    assert "   requests: 4, not bounded" in screen.lines
    assert screen.lines[-3:] == [
        "1 program: 1 admitted, 0 refused; best 0.2500; 3 of 9 used",
        "2 programs: 1 admitted, 1 refused; best 0.2500; 3 of 9 used; 1 by checks_must_pass",
        "the governor stops the run: \\x1b[31mused up",
    ]
    assert view.ended == {"type": "outcome", "candidate": "c1"}


def test_keyturn_run_opens_no_step_for_a_loop_and_says_how_the_loop_is_started(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.warrant()
    there = ["--project", str(scene.root / "project")]
    assert main(["run", *there]) == 0
    said = capsys.readouterr().out
    assert "READY" in said
    assert f"keyturn openevolve run FOLDER {' '.join(there)}" in said
    assert not scene.project.state().attempts
    assert main(["run", "--shadow", *there]) == 2
    assert "`keyturn run` cannot start it" in capsys.readouterr().err
    assert not scene.project.state().attempts


def test_a_configuration_that_openevolve_cannot_read_is_the_files_fault(scene: Scene) -> None:
    scene.warrant()
    ended = scene.run(config={"max_iterations: 3": "max_iterations: four"})
    assert (ended["type"], ended["exit_code"]) == ("error", 2)
    assert "OpenEvolve cannot read" in ended["message"]
    assert not scene.project.state().attempts
