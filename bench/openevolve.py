"""What it costs to govern OpenEvolve, and what is caught: the example, ungoverned and governed by turns, then hostile.

For timing the endpoint answers with honest programs only, the same ones to both; the two take turns, so that a machine
whose speed drifts slows both. Seconds of a run go from its first program to its last; start-up, the trials of the best
program and what people do are not in them. `--answer-seconds` lets the endpoint think, as one of a language model does.
Then one governed run gets five hostile programs among its answers: how many were refused, and how many honest ones.

    python -m bench.openevolve [--rounds 3] [--iterations 200] [--seed 4] [--answer-seconds 0] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keyturn import app
from keyturn.app import openevolve as loops
from keyturn.app.exercise import Cast
from keyturn.app.minimise import playing, seen
from keyturn.app.minimise.seen import Answer, Row
from keyturn.core import agenda
from keyturn.core.bounds import Bounds

RESULTS = Path("bench/results/openevolve.json")


@dataclass(frozen=True, slots=True)
class Timed:
    """One run: seconds from its first program to its last, the median of one iteration, and its whole process."""

    loop_seconds: float
    iteration_ms: float
    process_seconds: float


def timed(folder: Path, process_seconds: float) -> Timed:
    ended = seen.finished_at(folder)
    gaps = [after - before for before, after in itertools.pairwise(ended)]
    return Timed(ended[-1] - ended[0], 1000 * statistics.median(gaps), process_seconds)


def ungoverned(place: Path, asked: argparse.Namespace) -> Timed:
    playing.example(place)
    with playing.endpoint(place, seed=asked.seed, malformed=False, answer_seconds=asked.answer_seconds):
        return timed(place, playing.ungoverned(place, iterations=asked.iterations))


def governed(place: Path, project: app.Project, asked: argparse.Namespace) -> Timed:
    with playing.endpoint(place, seed=asked.seed, malformed=False, answer_seconds=asked.answer_seconds):
        return timed(place, _run(place, project, asked.iterations))


def _run(place: Path, project: app.Project, iterations: int) -> float:
    started = time.perf_counter()
    with loops.Loop(loops.example(place), project.root, loops.Options(iterations=iterations)) as loop:
        last = [message for message in loop.messages() if message.get("type") in {"outcome", "no", "error"}]
        if loop.code() != 0 or last[-1:] == [] or last[-1]["type"] != "outcome":
            raise SystemExit(f"the governed run failed: {last or loop.last_words()}")
    return time.perf_counter() - started


def founded(place: Path, root: Path, asked: argparse.Namespace) -> app.Project:
    """A project with one warrant, ready to run; none of this is timed."""
    playing.example(place)
    keys = root.parent / "keys"
    cast = [Cast("ada", ("safety",), True, keys), Cast("grace", ("security",), True, keys)]
    project = playing.found(root, place, cast=cast, seed=asked.seed)
    ada = app.Signing("ada", None, keys, None)
    step = project.run()
    if isinstance(step, agenda.Hold):
        project.decide(step.dossier.digest, ada, decision="approve", reason="bench")
        project.run()
    bounds = Bounds(asked.iterations + 10, 7200)
    project.give_warrant(ada, candidates=1, level_ceiling=0, hours=4, reason="bench", loop=bounds)
    return project


def hostile(out: Path, asked: argparse.Namespace) -> tuple[list[Answer], Sequence[Row], app.Project]:
    """One governed run with all five hostile programs among its answers."""
    place = out / "hostile"
    project = founded(place, out / "hostile-project", asked)
    with playing.endpoint(place, seed=asked.seed, hostile_every=max(asked.iterations // 6, 1)) as answers:
        _run(place, project, asked.iterations)
    return answers, seen.rows(place, answers, seen.verdicts(project)), project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--answer-seconds", type=float, default=0.0)
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"where the numbers go (default {RESULTS})")
    asked = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for number in range(asked.rounds):
            mine = ungoverned(out / f"ungoverned-{number}", asked)
            project = founded(out / f"governed-{number}", out / f"project-{number}", asked)
            ours = governed(out / f"governed-{number}", project, asked)
            rounds.append((mine, ours))
            _say(number + 1, mine, ours)
        answers, rows, _ = hostile(out, asked)
    report = _report(asked, rounds, answers, rows)
    print(json.dumps(report, indent=1))
    asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _say(number: int, mine: Timed, ours: Timed) -> None:
    if number == 1:
        print("round   ungoverned: seconds, ms an iteration   governed: seconds, ms an iteration   ratio")
    print(
        f"{number:>5} {mine.loop_seconds:>20.2f} {mine.iteration_ms:>19.1f} {ours.loop_seconds:>18.2f} "
        f"{ours.iteration_ms:>17.1f} {ours.loop_seconds / mine.loop_seconds:>8.2f}",
        flush=True,
    )


def _report(
    asked: argparse.Namespace, rounds: Sequence[tuple[Timed, Timed]], answers: Sequence[Answer], rows: Sequence[Row]
) -> dict[str, object]:
    mine, ours = ([each[side] for each in rounds] for side in (0, 1))
    seconds = [statistics.median(each.loop_seconds for each in side) for side in (mine, ours)]
    iteration = [statistics.median(each.iteration_ms for each in side) for side in (mine, ours)]
    bad = [row for row in rows if row.answer.kind == "hostile"]
    honest = [row for row in rows if row.answer.kind == "honest"]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{os.cpu_count()} cores",
        "command": f"python -m bench.openevolve --rounds {asked.rounds} --iterations {asked.iterations}"
        f" --seed {asked.seed} --answer-seconds {asked.answer_seconds:g}",
        "iterations": asked.iterations,
        "rounds": [
            {
                "ungoverned_seconds": round(a.loop_seconds, 2),
                "governed_seconds": round(b.loop_seconds, 2),
                "ratio": round(b.loop_seconds / a.loop_seconds, 3),
                "ungoverned_iteration_ms": round(a.iteration_ms, 1),
                "governed_iteration_ms": round(b.iteration_ms, 1),
                "ungoverned_process_seconds": round(a.process_seconds, 2),
                "governed_process_seconds": round(b.process_seconds, 2),
            }
            for a, b in rounds
        ],
        "ratio_of_medians": round(seconds[1] / seconds[0], 3),
        "ratio_of_median_iterations": round(iteration[1] / iteration[0], 3),
        "added_ms_per_program": round(1000 * (seconds[1] - seconds[0]) / asked.iterations, 1),
        "hostile": {row.answer.name: list(row.verdict.rules) for row in bad},
        "hostile_refused": f"{sum(bool(row.verdict.rules) and not row.entered for row in bad)} of {len(bad)}",
        "honest_refused": f"{sum(bool(row.verdict.rules) or not row.entered for row in honest)} of {len(honest)}",
        "malformed": len(answers) - len(bad) - len(honest),
    }


if __name__ == "__main__":
    main()
