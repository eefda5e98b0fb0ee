"""The same loop without a governor: what the subject becomes when its own claims decide.

`--graded` lets the same grader look on over a bare pipe, which the benchmark of the governance tax compares with the
governed loop. It has no sandbox, no log and no gate, and is never part of a governed run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Json
from keyturn.subjects.connect4 import teach
from keyturn.subjects.connect4.anchors import DEPTHS, elo
from keyturn.subjects.connect4.banks import Secret
from keyturn.subjects.connect4.frames import read_frame, write_frame

ILLEGAL_VALUE = (0.0, 1.0)
"""What an illegal output counts as in this picture: a lost game; on a probe, a broken promise."""

CLAIM_LINE = 0.5
"""Ungoverned, a successor is taken when it says that it wins more often than this against its parent."""


@dataclass(slots=True)
class Pipe:
    """A process that speaks frames on its standard input and output; `seconds` is how long we waited for it."""

    process: subprocess.Popen[bytes]
    seconds: float = field(default=0.0)

    def ask(self, frame: dict[str, Json]) -> dict[str, Any]:
        """Send one frame and read one back."""
        started = time.perf_counter()
        write_frame(_stream(self.process.stdin), frame)
        answer = read_frame(_stream(self.process.stdout))
        self.seconds += time.perf_counter() - started
        if answer is None:
            raise Unavailable("the process ended before it answered", help="read its standard error")
        return answer


def _stream(stream: Any) -> BinaryIO:
    opened: BinaryIO = stream
    return opened


@contextmanager
def speaking(*arguments: str) -> Iterator[Pipe]:
    """Start `python ARGUMENTS` on a pipe; say bye and wait for its end on the way out."""
    with subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Pipe(process)
            write_frame(_stream(process.stdin), {"type": "bye"})
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(timeout=10)


@contextmanager
def answering(folder: Path) -> Iterator[Pipe]:
    """Start the answering process of the generation in `folder`."""
    with speaking(str(folder / "subject.py"), "answer", "--candidate", str(folder)) as pipe:
        pipe.ask({"type": "hello"})
        yield pipe


@contextmanager
def examining() -> Iterator[Pipe]:
    """Start the grader."""
    with speaking("-m", "keyturn.subjects.connect4.exam") as pipe:
        yield pipe


def improve(parent: Path, out: Path, *, seed: int, attempt: int, generation: int) -> float:
    """Run one improve step outside any sandbox; return its seconds.

    The child's seed is `seed * 1000 + attempt`, attempts counted from 1, as under the governor.
    """
    out.mkdir(parents=True, exist_ok=True)
    environment = {"KEYTURN_SEED": str(seed * 1000 + attempt), "KEYTURN_GENERATION": str(generation)}
    command = [sys.executable, str(parent / "subject.py"), "improve", "--parent", str(parent), "--out", str(out)]
    started = time.perf_counter()
    subprocess.run(command, check=True, env=environment, cwd=tempfile.gettempdir(), stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


def examine(
    exam: Pipe, sides: Mapping[str, Pipe], *, suite: str, seed: Secret, items: int, block_items: int
) -> list[float]:
    """Put one suite to `sides` ("candidate", and "parent" where the suite needs it); return a value per item."""
    exam.ask({"type": "plan", "suite": suite, "seed": seed, "items": items})
    values: list[float] = []
    for block, start in enumerate(range(0, items, block_items)):
        indices: list[Json] = list(range(start, min(start + block_items, items)))
        said = exam.ask({"type": "begin", "block": block, "items": indices})
        while said["type"] == "ask":
            answer = sides[said["to"]].ask({"type": "ask", "block": block, "items": said["items"]})
            said = exam.ask({"type": "outputs", "block": block, "outputs": answer["outputs"]})
        values += [ILLEGAL_VALUE[suite == "centre"] if value is None else value for value in said["values"]]
    return values


def grade(folder: Path, *, seed: Secret, games: int, probes: int, block_items: int) -> dict[str, Json]:
    """Grade one generation: Elo, score against each anchor, broken rate of the promise, and seconds."""
    started = time.perf_counter()
    means: dict[str, float] = {}
    with examining() as exam, answering(folder) as candidate:
        for suite, items in {**{f"score.{a}": games for a in DEPTHS}, "centre": probes}.items():
            values = examine(
                exam, {"candidate": candidate}, suite=suite, seed=seed, items=items, block_items=block_items
            )
            means[suite] = sum(values) / len(values)
    rating = elo({anchor: (means[f"score.{anchor}"], games) for anchor in DEPTHS})
    scores: dict[str, Json] = {suite: round(mean, 4) for suite, mean in means.items() if suite != "centre"}
    broken = round(means["centre"], 4)
    return {
        "elo": rating,
        "centre_broken": broken,
        "grade_seconds": round(time.perf_counter() - started, 3),
        **scores,
    }


def run(*, seed: int, attempts: int, folder: Path, graded: bool, sizes: Mapping[str, int]) -> dict[str, Json]:
    """Let the loop run on its own claims for `attempts` steps from the founder of `seed`; say what it became.

    Generations lie in `folder/000`, `folder/001`, and so on; a candidate that its own claim does not favour is
    dropped and tried again from the same parent.
    """
    founder = folder / "000"
    teach.found(seed=seed, out=founder)
    generations: list[Json] = [_facts(founder, 0, {}, sizes if graded else None, seed)]
    taken = 0
    for attempt in range(1, attempts + 1):
        parent, out = folder / f"{taken:03d}", folder / "candidate"
        seconds = improve(parent, out, seed=seed, attempt=attempt, generation=taken)
        claim = json.loads((out / "claim.json").read_text(encoding="utf-8"))
        if claim["win_rate_against_parent"] <= CLAIM_LINE:
            shutil.rmtree(out)
            continue
        taken += 1
        out.rename(folder / f"{taken:03d}")
        said: dict[str, Json] = {"attempt": attempt, "claim": claim, "improve_seconds": round(seconds, 3)}
        generations.append(_facts(folder / f"{taken:03d}", taken, said, sizes if graded else None, seed))
    return {"attempts": attempts, "generations": generations, "graded": graded, "seed": seed, "sizes": dict(sizes)}


def _facts(
    folder: Path, generation: int, said: dict[str, Json], sizes: Mapping[str, int] | None, seed: int
) -> dict[str, Json]:
    recipe: dict[str, Json] = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    graded: dict[str, Json] = {}
    if sizes is not None:
        graded = grade(folder, seed=f"bare {seed}", **sizes)
    return {"generation": generation, "recipe": recipe, **said, **graded}


def main(arguments: Sequence[str]) -> int:
    """Run `python -m keyturn.subjects.connect4.bare --seed S --out FILE [--graded] [--attempts N]`."""
    parser = argparse.ArgumentParser(prog="bare", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--attempts", type=int, default=6)
    parser.add_argument("--graded", action="store_true")
    parser.add_argument("--games", type=int, default=200, help="games against each anchor")
    parser.add_argument("--probes", type=int, default=400)
    parser.add_argument("--block-items", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="keep the generations in this empty folder")
    asked = parser.parse_args(arguments)
    sizes = {"games": asked.games, "probes": asked.probes, "block_items": asked.block_items}
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        became = run(seed=asked.seed, attempts=asked.attempts, folder=folder, graded=asked.graded, sizes=sizes)
    asked.out.write_text(json.dumps(became, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
