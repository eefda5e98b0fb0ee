"""A plain Python loop under the real governor, in real sandboxes: from its leave to a candidate that people look at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keyturn.sdk import Refused, govern
from tests.loop.scene import evolved, make
from tests.sdk.piped import SRC

LEAKING = "import os\ndef solve(n):\n    os.environ.get('API_KEY')\n    return n * 3\n"
HANGING = "import time\ndef solve(n):\n    time.sleep(60)\n"


def test_a_loop_of_ten_lines_is_governed_from_its_warrant_to_its_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SRC.parent)]))
    monkeypatch.setenv("API_KEY", "of the loop's own")
    scene = make(tmp_path)
    place = tmp_path / "project"
    with pytest.raises(Refused, match="there is no leave to run a loop now") as caught, govern(place):
        pytest.fail("nobody gave leave")
    assert caught.value.findings
    scene.warrant(50)
    children = [evolved(f"def solve(n):\n    return n * {factor}\n") for factor in (2, 5, 3)]
    children += [evolved(LEAKING), children[0].replace("return 10", "return 99"), "def solve(:", "x" * 100_001]
    children += [evolved("def solve(n):\n    raise ValueError(n)\n")]
    refused: list[str] = []
    with govern(place, name="ten lines") as run:
        best, top = run.parent, 0.0
        for number in run.rounds(len(children)):
            with run.candidate(children[number]) as program:
                score = float(program.call("solve", 7))
                if program.admit(score=score).admitted and score > top:
                    best, top = children[number], score
            assert program.admission is not None
            refused += [finding.rule for finding in program.admission.findings[:1]]
        with run.candidate(evolved(HANGING), seconds=1.0) as program:
            program.call("solve", 7)
        with pytest.raises(Refused, match="the program was not proposed"):
            run.held(children[-1])
        verdict = run.verdict(program.digest)
        outcome = run.held(best)
    assert (best, top) == (children[1], 35.0)
    assert refused == [
        "conduct_must_be_clean", "protected_text_must_stand", "protected_text_must_stand", "size_must_fit",
        "program_must_run",
    ]  # fmt: skip  # a list in few rows
    assert verdict is not None
    assert (verdict.admitted, verdict.findings[0].rule) == (False, "program_must_run")
    assert (outcome.released, outcome.shadow) == (False, False)
    assert outcome.dossier.startswith("sha256:")
    candidate = scene.state().candidates[outcome.candidate]
    assert candidate.status not in ("released", "rejected")
    assert not (place / ".keyturn" / "loop.sock").exists()
