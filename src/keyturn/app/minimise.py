"""The example for OpenEvolve as a demo and a bench play it: its folder, its endpoint, and runs of it side by side.

A run is a process of its own, because it holds the endpoint's key and imports a loop of somebody else's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from keyturn.core.errors import Unavailable
from keyturn.core.events import Document
from keyturn.subjects.minimise.endpoint import Answer, Endpoint, Stock

FILES = ("initial_program.py", "evaluator.py", "held_out.py", "config.yaml")
OUTPUT, TRACE = "openevolve_output", "evolution_trace.jsonl"
ADDRESS = "http://127.0.0.1:8000/v1"
"""Where the example's configuration says that the endpoint is."""

UPSTREAM = "import sys; from openevolve.cli import main; sys.exit(main())"
"""What upstream's own command `openevolve-run` does."""

KEY = "OPENAI_API_KEY"
FAKE_KEY = "sk-demo-0000-not-a-real-key"
STOLEN, BURNED = "stolen-key.txt", "burned-seconds.txt"


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


def example(folder: Path) -> None:
    """Copy the example to a folder of its own, as a user of OpenEvolve would have it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_bytes(_own(name))


def _own(name: str) -> bytes:
    return resources.files("keyturn.subjects.minimise").joinpath(name).read_bytes()


@contextmanager
def endpoint(folder: Path, stock: Stock) -> Iterator[None]:
    """Answer from this stock where the folder's configuration says, with a key in the environment that is none."""
    before = os.environ.get(KEY)
    with Endpoint(stock) as served:
        text = _own("config.yaml").decode().replace(ADDRESS, served.url)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        os.environ[KEY] = FAKE_KEY
        try:
            yield
        finally:
            os.environ.pop(KEY) if before is None else os.environ.update({KEY: before})


def ungoverned(folder: Path, *, iterations: int, timeout_seconds: float = 600.0) -> float:
    """Run the folder with upstream's own command to its end; seconds. Raises Unavailable if it failed."""
    started = time.perf_counter()
    command = [sys.executable, "-c", UPSTREAM, "initial_program.py", "evaluator.py", "--config", "config.yaml"]
    said = folder / "output.txt"
    with said.open("wb") as output:
        done = subprocess.run(
            [*command, "--iterations", str(iterations), "--output", OUTPUT],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=timeout_seconds,
            check=False,
        )
    if done.returncode:
        last = (said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        help = "`pip install keyturn[openevolve]`" if "No module named 'openevolve'" in last else f"read `{said}`"
        raise Unavailable(f"OpenEvolve did not end well: {last[:200]}", help=help)
    return time.perf_counter() - started


def rows(folder: Path, answers: Sequence[Answer]) -> tuple[Row, ...]:
    """What became of each answer, as the loop itself traced it; one that left no trace never entered."""
    traced = {int(row["iteration"]): row for row in _trace(folder / OUTPUT / TRACE)}
    found, best = [], first_score(folder)
    for answer in answers:
        row = traced.get(answer.number)
        metrics = row["child_metrics"] if row else {}
        score = metrics.get("combined_score")
        fault = "timed out" if metrics.get("timeout") else "did not run" if "error" in metrics else ""
        better = score is not None and score > best
        best = max(best, score or 0.0)
        found.append(Row(answer, score, row is not None, fault, better, row["child_code"] if row else ""))
    return tuple(found)


def _trace(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def first_score(folder: Path) -> float:
    """What the initial program scored: at first there is no other parent."""
    traced = _trace(folder / OUTPUT / TRACE)
    return float(traced[0]["parent_metrics"].get("combined_score", 0.0)) if traced else 0.0


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
    return _own("evaluator.py") != (folder / "evaluator.py").read_bytes()


def stolen(folder: Path) -> str:
    """The key that a program carried off, if one did."""
    place = folder / STOLEN
    return place.read_text(encoding="utf-8") if place.exists() else ""


def burned_seconds(folder: Path) -> float:
    """How long a core went on burning in a program that nobody waited for any more."""
    place = folder / BURNED
    return float(place.read_text(encoding="utf-8") or 0) if place.exists() else 0.0
