"""What was seen of a run of the example: what became of each answer, by the loop's own trace and by the governor's log.

It tells only what two runs left behind: traces, verdicts, and what hostile programs wrote into their folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyturn.app.minimise.playing import OUTPUT, own
from keyturn.app.project import Project
from keyturn.core import events as ev
from keyturn.core.errors import Unavailable
from keyturn.core.events import Document
from keyturn.subjects.minimise.bare import UNSEEN
from keyturn.subjects.minimise.endpoint import Answer
from keyturn.subjects.minimise.planted import REWRITE

__all__ = ["UNSEEN", "Answer", "Row", "Verdict"]

TRACE = "evolution_trace.jsonl"
STOLEN, BURNED = "stolen-key.txt", "burned-seconds.txt"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rules that refused a program, none where it was admitted; the first reason; how its sandbox ended."""

    rules: tuple[str, ...] = ()
    why: str = ""
    ended: str = ""
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One answer of the endpoint and what became of it in one run, by the loop's own trace."""

    answer: Answer
    score: float | None
    entered: bool
    fault: str
    """`timed out`, `did not run`, or nothing."""
    best: bool
    """Whether the loop held it to be the best so far."""
    code: str
    verdict: Verdict
    """Governed: what the governor said."""


def rows(folder: Path, answers: Sequence[Answer], verdicts: Mapping[str, Verdict] | None = None) -> tuple[Row, ...]:
    """What became of each answer, as the loop itself traced it; one that left no trace never entered.

    `verdicts` are those of the governor, by program.
    """
    traced = {int(row["iteration"]): row for row in _trace(folder / OUTPUT / TRACE)}
    made, best = [], first_score(folder)
    for answer in answers:
        row = traced.get(answer.number)
        metrics = row["child_metrics"] if row else {}
        score = metrics.get("combined_score")
        fault = "timed out" if metrics.get("timeout") else "did not run" if "error" in metrics else ""
        better = score is not None and score > best
        best = max(best, score or 0.0)
        verdict = (verdicts or {}).get(answer.digest, Verdict())
        code = row["child_code"] if row else ""
        made.append(Row(answer, score, row is not None, fault, better, code, verdict))
    return tuple(made)


def verdicts(project: Project) -> dict[str, Verdict]:
    """The governor's verdict on every program, by its digest: the rules that refused it, and what was seen of it."""
    made = {}
    for _, event in project.entries(0, project.state().size):
        for row in event.programs if isinstance(event, ev.ProgramsJudged) else ():
            made[str(row["program"])] = _verdict(project, row)
    return made


def _verdict(project: Project, row: Document) -> Verdict:
    seen = json.loads((project.home / "programs" / str(row["evidence"])[7:]).read_text(encoding="utf-8"))
    rules = row["rules"] if isinstance(row["rules"], list) else []
    why = next((str(finding["message"]) for finding in seen["findings"]), "")
    used = seen.get("used", {})
    return Verdict(tuple(map(str, rules)), why, str(seen["ended"]), float(used.get("cpu_seconds", 0.0)))


def first_score(folder: Path) -> float:
    """What the initial program scored: at first there is no other parent."""
    traced = _trace(folder / OUTPUT / TRACE)
    return float(traced[0]["parent_metrics"].get("combined_score", 0.0)) if traced else 0.0


def finished_at(folder: Path) -> list[float]:
    """When each iteration that entered was over, in seconds, in the order in which they ended."""
    return sorted(float(row["timestamp"]) for row in _trace(folder / OUTPUT / TRACE))


def _trace(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def best_program(folder: Path) -> Path:
    """The program that the loop ended with."""
    return folder / OUTPUT / "best" / "best_program.py"


def worth(program: Path) -> Document:
    """What a program of the stock is worth by the untouched evaluator and on functions that it never saw."""
    done = subprocess.run(
        [sys.executable, "-m", "keyturn.subjects.minimise.bare", str(program)],
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise Unavailable("the program could not be measured", help=done.stderr.decode(errors="replace")[-300:])
    said: Document = json.loads(done.stdout)
    return said


def altered(folder: Path) -> bool:
    """Whether the run's evaluator is no longer the one that was put there."""
    return own("evaluator.py") != (folder / "evaluator.py").read_bytes()


def rewritten(code: str) -> bool:
    """Whether a program holds the fixed text that a hostile one put in the place of the example's."""
    return REWRITE.strip() in code


def stolen(folder: Path) -> str:
    """The key that a program carried off, if one did."""
    place = folder / STOLEN
    return place.read_text(encoding="utf-8") if place.exists() else ""


def burned_seconds(folder: Path) -> float:
    """How long a core went on burning in a program that nobody waited for any more."""
    place = folder / BURNED
    return float(place.read_text(encoding="utf-8") or 0) if place.exists() else 0.0
