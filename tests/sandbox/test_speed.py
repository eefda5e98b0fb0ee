"""How quick it is; each bound is generous, because a shared machine may be busy. `-s` shows what was measured."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import pytest

from keyturn.sandbox.port import Limits
from tests.sandbox.conftest import Inside
from tests.sandbox.test_halt import DAEMONS, STAY

pytestmark = [pytest.mark.root, pytest.mark.bench]


def told(name: str, values: list[float]) -> float:
    """Show the median and the worst, and give the median."""
    middle = statistics.median(values)
    sys.stderr.write(f"\n{name}: p50 {middle:.1f} ms, worst {max(values):.1f} ms, n {len(values)}\n")
    return middle


def clocked(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000


def test_launch_and_attest(inside: Inside) -> None:
    inside.park("pass").close()
    launches, attests, runs = [], [], []
    for _ in range(15):
        launches.append(clocked(lambda: inside.park("pass", out=True)))
        parked = inside.opened[-1]
        attests.append(clocked(parked.attest))  # type: ignore[union-attr]  # it was parked just now
        running = parked.go()  # type: ignore[union-attr]  # as above, it was parked just now
        runs.append(clocked(running.wait))
        running.close()
    assert told("cold to parked", launches) < 250
    assert told("attest", attests) < 50
    assert told("go to end, `pass` in Python", runs) < 250


@pytest.mark.parametrize("count", [1, 100, 500])
def test_halt(inside: Inside, eventually: Callable[..., bool], count: int) -> None:
    empty = []
    for _ in range(8 if count < 200 else 3):
        limits = Limits(processes_max=600, wall_seconds=60, memory_bytes=3 << 30)
        running = inside.start(DAEMONS.format(count=count, then=STAY), limits=limits)
        assert eventually(lambda: running.tick() and len(running._cell.processes()) >= count + 3, 30)  # noqa: B023 - used at once
        receipt = running.halt("measured")
        assert receipt.cgroup_empty_ms is not None
        empty.append(receipt.cgroup_empty_ms)
        running.close()
    assert told(f"halt of {count} daemons", empty) < 1000


def test_a_hung_governor(inside: Inside) -> None:
    late = []
    for _ in range(10):
        running = inside.start("import time; time.sleep(30)", lease_seconds=0.3)
        running.tick()
        renewed = time.perf_counter()
        while running._cell.leaf.populated():
            time.sleep(0.0005)
        late.append((time.perf_counter() - renewed) * 1000 - 300)
        running.close()
    assert told("dead after the lease ran out", late) < 250
