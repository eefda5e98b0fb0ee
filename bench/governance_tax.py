"""What governance costs: five candidates under Keyturn with simulated people, and the same work over a bare pipe.

Both do the same improve steps (same parents, same seeds) and put the same number of items of the same suites to the
same members in the same blocks; the bare side has no sandbox, no log, no dossier, no key and no gate. The two take
turns, so that a machine whose speed drifts slows both. Printed: seconds of each round and the ratio of medians.

    python -m bench.governance_tax [--rounds 3] [--candidates 5] [--seed 6]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from keyturn import app
from keyturn.app import exercise
from keyturn.app.exercise import Cast
from keyturn.core import agenda
from keyturn.core.state import State
from keyturn.subjects.connect4 import bare

STEPS_MAX = 60
SUITES = {"centre": "centre", "depth-2": "score.depth_2", "parent": "parent"}


def governed(project: app.Project, keys: Path, candidates: int) -> tuple[float, float]:
    """Run until the warrant is used up; seconds in all, and until the first candidate was held."""
    ada = app.Signing("ada", None, keys, None)
    grace = app.Signing("grace", None, keys, None)
    _found(project, ada)
    started = time.perf_counter()
    first_held = 0.0
    project.give_warrant(ada, candidates=candidates, level_ceiling=1, hours=2, reason="bench")
    for _ in range(STEPS_MAX):
        step = project.run()
        if isinstance(step, agenda.Hold):
            first_held = first_held or time.perf_counter() - started
            project.decide(step.dossier.digest, ada, decision="approve", reason="bench")
            if step.dossier.document["level"] == 1:
                project.decide(step.dossier.digest, grace, decision="approve", reason="bench")
        elif isinstance(step, agenda.AwaitAudit):
            project.audit(ada, root=None, reason="bench")
        else:
            break
    return time.perf_counter() - started, first_held


def _found(project: app.Project, ada: app.Signing) -> None:
    step = project.run()
    if isinstance(step, agenda.Hold):
        project.decide(step.dossier.digest, ada, decision="approve", reason="bench")
        project.run()


def ungoverned(state: State, artifacts: Path, scratch: Path, seed: int) -> float:
    """The same improve steps and the same examinations over bare pipes; seconds."""
    started = time.perf_counter()
    for candidate in state.candidates.values():
        attempt = state.attempts[candidate.attempt]
        parent = artifacts / attempt.parent[7:]
        out = scratch / candidate.name
        bare.improve(parent, out, seed=seed, attempt=attempt.number, generation=attempt.generation)
        for trial in (t for t in state.trials.values() if t.candidate == candidate.name):
            _examine(state, trial.threshold, trial.read, trial.plan, out, artifacts)
        shutil.rmtree(out)
    return time.perf_counter() - started


def _examine(state: State, threshold: str, items: int, plan: object, candidate: Path, artifacts: Path) -> None:
    """One trial's questions: the same exam, the same number of items, the same members, each in a fresh process."""
    policy = state.policies[-1].policy
    rule = policy.threshold(threshold)
    suite = policy.suite(rule.suite) if rule else None
    if rule is None or suite is None or not items:
        return
    name = SUITES[suite.id]
    members = {"candidate": candidate}
    reference = rule.reference or ("parent" if rule.kind == "claim" else "")
    if reference:
        members[reference] = _member(state, candidate.name, reference, artifacts)
    with bare.examining() as exam:
        seats = {who: bare.answering(folder) for who, folder in members.items()}
        opened = {who: seat.__enter__() for who, seat in seats.items()}
        try:
            for who in members if rule.reference else ("candidate",):
                sides = opened if rule.kind == "claim" else {"candidate": opened[who]}
                bare.examine(exam, sides, suite=name, seed="bench", items=items, block_items=suite.block)
        finally:
            for seat in seats.values():
                seat.__exit__(None, None, None)


def _member(state: State, name: str, reference: str, artifacts: Path) -> Path:
    candidate = state.candidates[name]
    lineage = state.lineage
    founder = lineage.founder.root if lineage else ""
    root = candidate.parent if reference == "parent" else founder
    return artifacts / root[7:]


def main() -> None:
    """Take turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument("--seed", type=int, default=6)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        founder = exercise.founder(out / "founder", seed=asked.seed)
        for number in range(asked.rounds):
            keys = out / f"keys-{number}"
            cast = [Cast("ada", ("safety",), True, keys), Cast("grace", ("security",), True, keys)]
            project = exercise.exercise(
                out / f"project-{number}", name="connect4", cast=cast, seed=asked.seed, founder=founder
            )
            with_us, first_held = governed(project, keys, asked.candidates)
            state = project.state()
            without = ungoverned(state, project.home / "artifacts", out / "scratch", asked.seed)
            rows.append((with_us, without, first_held))
            print(
                f"round {number + 1}: governed {with_us:6.2f} s, bare {without:6.2f} s, ratio {with_us / without:.3f}, "
                f"first candidate held after {first_held:.2f} s"
            )
    _report(rows)


def _report(rows: list[tuple[float, float, float]]) -> None:
    with_us, without, first = (statistics.median(column) for column in zip(*rows, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "governed_seconds": round(with_us, 2),
                "bare_seconds": round(without, 2),
                "ratio": round(with_us / without, 3),
                "first_held_seconds": round(first, 2),
                "governor_peak_mib": round(peak, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
