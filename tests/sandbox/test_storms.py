"""Whatever happens to sandboxes, in any order: no receipt says STOPPED while something lives, and nothing is left."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import census, kills
from tests.sandbox.nursery import Nursery, Order, nursery

pytestmark = pytest.mark.root
REPO = Path(__file__).resolve().parents[2]
WORKERS = 2
SWEPT_EVERY = 25


def storms(first: int, count: int) -> Counter[str]:
    """The storms of these seeds, shared out to processes; fails with the recipe of the first that broke."""
    each = count // WORKERS
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO / "src"), str(REPO)])}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.sandbox.storm", str(first + n * each), str(each)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=REPO,
        )
        for n in range(WORKERS)
    ]  # fmt: skip  # one command
    said = [worker.communicate() for worker in workers]
    for worker, (_, error) in zip(workers, said, strict=True):
        if worker.returncode:
            pytest.fail(error)
    return sum((Counter(json.loads(out)) for out, _ in said), Counter())


def test_no_storm_outlives_its_receipts() -> None:
    told = storms(0, 40)
    assert told["storms"] == 40
    assert told["STOPPED"] > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_storm_of_a_thousand_outlives_its_receipts() -> None:
    told = storms(10_000, 1000)
    assert told["storms"] == 1000
    assert told["STOPPED"] > 500


@pytest.fixture
def governors(tmp_path: Path) -> Iterator[Nursery]:
    with nursery(tmp_path / "runtime.json") as made:
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_nothing_outlives_a_governor_that_is_killed_while_it_launches(
    governors: Nursery, tmp_path: Path, count: int
) -> None:
    dice = random.Random(20261201)
    root, lived = tmp_path / "run", 0
    for number in range(count):
        after = dice.uniform(0, 0.09 if number % 4 else 0.4)  # where the machine is busy, a launch takes longer
        warm, launcher = dice.random() < 0.5, dice.random() < 0.5
        governor = governors.governor(Order(str(root), warm=warm))
        time.sleep(after)
        death = kills.kill(governor, root, launcher=launcher)
        assert not death.survivors, f"kill {number}, {after:.4f} s into a launch, launcher {launcher}, warm {warm}"
        lived += death.lived > 0
        if number % SWEPT_EVERY == SWEPT_EVERY - 1:
            kills.swept(root, tmp_path / "runtime.json")
    kills.swept(root, tmp_path / "runtime.json")
    assert lived, "the kills came too early to prove anything"


def test_the_census_sees_who_lives_and_who_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    one = census.identity(process.pid)
    assert one is not None
    assert census.lives(one)
    assert not census.lives((process.pid, "another start"))
    process.kill()
    assert census.within(5, lambda: not census.lives(one))
    process.communicate()
    assert census.identity(process.pid) is None
