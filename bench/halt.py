"""How long a halt takes until nothing lives, beside the kernel's own kill of the same daemons, interleaved in one run.

    python -m bench.halt [--rounds 1.0] [--kills 500] [--write]

Every daemon is double-forked, has a session of its own and ignores all that can be ignored. `ours` is what the receipt
says, from the request until the cgroup is empty; `bare` is one write to `cgroup.kill` of a plain cgroup that holds the
same daemons without a sandbox, until the kernel says that it is empty; `bubblewrap` is the same write where the daemons
are in bare bubblewrap, and so with what the kernel needs to take namespaces down.

Then governors: killed at a random moment of their launches, half of them with their launcher; killed at rest over 100
daemons; and held (SIGSTOP) until the lease ends. Who lives is read by `tests/sandbox/census.py`, not by our own code.
`--rounds` makes all but the kills longer or shorter; `--write` keeps numbers and picture under bench/results. Needs the
superuser.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.machine import Rows, burning, judged, looked_at, summary
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.command import launch_request
from keyturn.sandbox.decoys import Decoys
from keyturn.sandbox.port import Limits, Runtime, Spec

REPO = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
sys.path.insert(0, str(REPO))
from tests.sandbox import census, kills  # noqa: E402 - tests are not on the path of a bench
from tests.sandbox.nursery import SUBJECT, Nursery, Order, nursery  # noqa: E402 - tests are not on the path of a bench

PR_SET_CHILD_SUBREAPER = 36
QUIET = {1: (40, 5.0), 100: (20, 25.0), 1000: (5, 250.0)}
"""For each number of daemons how many rounds, and the most milliseconds of the 99th in 100."""

LOADED, LOADED_ROUNDS, LOADED_MS_MAX = 256, 8, 500.0
RATIO_MAX = 1.3
DEATH_MS_MAX = 25.0
LOOK_SECONDS = 0.0002
PHYSICAL = (1.0, 0.12)
"""Milliseconds, and milliseconds for each process, that no kill can be quicker than on two processors."""


def code(count: int) -> str:
    return SUBJECT.format(daemons=count, stays=300)


def ours(backend: Bubblewrap, runtime: Runtime, count: int) -> float:
    """Milliseconds from the request to an empty cgroup, as the receipt has it."""
    limits = Limits(processes_max=2 * count + 64, memory_bytes=8 << 30, wall_seconds=120)
    spec = Spec("improve", ("python", "-I", "-S", "-c", code(count)), runtime, limits=limits, lease_seconds=60)
    running = backend.prepare(spec).go()
    place = census.unified(backend.run_root) / running.id
    await_members(place, count + 3)
    receipt = running.halt("measured")
    running.close()
    if receipt.state != "STOPPED" or receipt.cgroup_empty_ms is None:
        sys.exit(f"a halt was not proven: {receipt}")
    return receipt.cgroup_empty_ms


def bubblewrap(backend: Bubblewrap, runtime: Runtime, count: int) -> list[str]:
    """Bare bubblewrap around the daemons, with our namespaces and files; as PID 1 their parent must take them in."""
    spec = Spec("improve", ("python",), runtime)
    asked = launch_request(backend.program(), spec, Decoys(Path("/nonexistent"), (), None), user=0, tasks=[])["argv"]
    assert isinstance(asked, list)
    at = asked.index("--seccomp")
    words = [str(word) for word in asked[:at] if word != "--as-pid-1"]
    return [*words, "--", runtime.python, "-I", "-S", "-c", code(count)]


def unguarded(place: Path, program: list[str], count: int) -> float:
    """Milliseconds from the write of the kill to an empty cgroup, outside of all our machinery."""
    place.mkdir()
    words = ["/bin/sh", "-c", 'echo 0 > "$0"; exec "$@"', str(place / "cgroup.procs")]
    main = subprocess.Popen([*words, *program], stdin=subprocess.DEVNULL, env={})
    await_members(place, count)
    with (place / "cgroup.kill").open("w") as kill:
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        kill.write("1")
        kill.flush()
        while census.populated(place):
            time.sleep(LOOK_SECONDS)
        took = (time.clock_gettime(time.CLOCK_BOOTTIME) - began) * 1000
    main.wait()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass  # the daemons came to us when their parents ended
    place.rmdir()
    return took


def await_members(place: Path, count: int) -> None:
    """Wait until all the daemons live and those in between are gone."""
    if not census.within(60, lambda: len((place / "cgroup.procs").read_text().split()) == count, 0.003):
        sys.exit(f"there never were {count} processes in {place}")
    time.sleep(0.02)


def halts(backend: Bubblewrap, runtime: Runtime, count: int, rounds: int) -> dict[str, list[float]]:
    """All three, in turns, in a random order."""
    place = census.unified(backend.run_root).parent / f"bench-{os.getpid()}"
    outside = [str(runtime.binds[0].source), "-I", "-S", "-c", code(count)]
    inside = bubblewrap(backend, runtime, count)
    sides: dict[str, Callable[[], float]] = {
        "ours": lambda: ours(backend, runtime, count),
        "bare": lambda: unguarded(place, outside, count + 1),
        "bubblewrap": lambda: unguarded(place, inside, count + 3),
    }
    took: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in random.sample(list(sides), len(sides)):
            took[side].append(sides[side]())
    return took


def figures(took: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Each side's, and the median of the rounds' ratios."""
    ratios = {
        side: round(statistics.median(mine / its for mine, its in zip(took["ours"], each, strict=True)), 2)
        for side, each in took.items()
    }
    return {**{side: summary(each) for side, each in took.items()}, "ours, times": ratios}


def killed(governors: Nursery, folder: Path, count: int) -> dict[str, float]:
    """Governors killed at random moments of their launches: survivors, and milliseconds until nothing lived."""
    root, took, survivors = folder / "killed", [], 0
    for number in range(count):
        governor = governors.governor(Order(str(root), warm=random.random() < 0.5))
        time.sleep(random.uniform(0, 0.09))
        death = kills.kill(governor, root, launcher=random.random() < 0.5)
        survivors += len(death.survivors)
        if death.lived:
            took.append(death.milliseconds)
        if number % 25 == 24:
            kills.swept(root, folder / "runtime.json")
    kills.swept(root, folder / "runtime.json")
    return {**summary(took), "killed": count, "survivors": survivors}


def at_rest(governors: Nursery, folder: Path, rounds: int) -> list[float]:
    """Milliseconds until the hundred daemons of a killed governor are gone."""
    root, took = folder / "rest", []
    for _ in range(rounds):
        governor = governors.governor(Order(str(root), daemons=100))
        governors.ready(governor)
        took.append(kills.kill(governor, root, launcher=False).milliseconds)
    kills.swept(root, folder / "runtime.json")
    return took


def hung(governors: Nursery, folder: Path, rounds: int, lease: float = 0.3) -> list[float]:
    """Milliseconds beyond the lease until the subject of a held governor is gone; it had renewed a moment before."""
    root, took = folder / "hung", []
    for _ in range(rounds):
        governor = governors.governor(Order(str(root), lease=lease))
        governors.ready(governor)
        with kills.held([governor]) as [fd]:
            signal.pidfd_send_signal(fd, signal.SIGSTOP)
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            if not census.within(lease + 10, lambda: not census.populated(census.unified(root)), LOOK_SECONDS):
                sys.exit("the subject of a hung governor outlived its lease")
            took.append((time.clock_gettime(time.CLOCK_BOOTTIME) - began - lease) * 1000)
        kills.kill(governor, root, launcher=False)
    kills.swept(root, folder / "runtime.json")
    return took


@contextlib.contextmanager
def stage() -> Iterator[tuple[Path, Bubblewrap, Runtime]]:
    """A folder, a backend and its runtime; daemons that lose their parents come to this process."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as place:
        backend = Bubblewrap(Path(place) / "run", runtime_cache=Path(place) / "runtime.json")
        try:
            backend.capabilities()
            yield Path(place), backend, backend.runtime("python")
        finally:
            backend.close()


def picture(table: dict[int, dict[str, dict[str, float]]], said: str) -> str:
    """Milliseconds over the number of daemons, both on logarithmic axes, with the line of the physically possible."""

    def at(count: float, value: float) -> str:
        return f"{90 + 190 * math.log10(count):.1f},{330 - 95 * math.log10(max(value, 0.1) / 0.3):.1f}"

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="760" height="390" font-size="13">']
    parts.append('<style>text{font-family:sans-serif}</style><rect width="100%" height="100%" fill="#fff"/>')
    parts.append(f'<text x="90" y="20">request to nothing alive, ms, by the number of daemons; {said}</text>')
    for value in (0.3, 1, 3, 10, 30, 100, 300):
        y = at(1, value).split(",")[1]
        parts.append(f'<line x1="90" x2="660" y1="{y}" y2="{y}" stroke="#eee"/><text x="50" y="{y}">{value:g}</text>')
    parts += [f'<text x="{at(count, 1).split(",")[0]}" y="360">{count}</text>' for count in table]
    line = " ".join(at(count, PHYSICAL[0] + PHYSICAL[1] * count) for count in (1, 3, 10, 30, 100, 300, 1000))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#999" stroke-dasharray="4"/>')
    shown = [("ours", "p50", "#4a7ab5"), ("ours", "p99", "#9dbbe0"), ("bare", "p50", "#333")]
    for row, (side, figure, colour) in enumerate(shown):
        points = [at(count, each[side][figure]) for count, each in table.items()]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in points:
            x, y = point.split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
        name = f"{'ours' if side == 'ours' else 'bare cgroup.kill'}, {figure}"
        parts.append(f'<text x="110" y="{50 + 18 * row}" fill="{colour}">{name}</text>')
    parts.append('<text x="110" y="104" fill="#999">1 ms + 0.12 ms for each process</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=float, default=1.0)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        print("not run: each sandbox gets a user of its own, which needs root")
        return

    def times(rounds: int) -> int:
        return max(2, round(rounds * asked.rounds))

    parts: dict[str, dict[str, float]] = {}
    rows: Rows = []
    quiet: dict[int, dict[str, dict[str, float]]] = {}
    with stage() as (folder, backend, runtime):
        for count, (rounds, most) in QUIET.items():
            part = f"{count} daemons"
            parts[part] = looked_at(part)
            quiet[count] = figures(halts(backend, runtime, count, times(rounds)))
            rows.append((f"halt of {count}: 99th of 100, ms", quiet[count]["ours"]["p99"], most, part))
            rows.append(
                (f"halt of {count}: of the kernel's own kill", quiet[count]["ours, times"]["bare"], RATIO_MAX, part)
            )
        parts["loaded"] = {**looked_at("loaded by our own burners from here"), "loaded_by_us": 1}
        with burning(os.cpu_count() or 1):
            loaded = figures(halts(backend, runtime, LOADED, times(LOADED_ROUNDS)))
        rows.append((f"loaded, halt of {LOADED}: 99th of 100, ms", loaded["ours"]["p99"], LOADED_MS_MAX, "loaded"))
        with nursery(folder / "runtime.json") as governors:
            parts["governors"] = looked_at("governors")
            rested, late = (summary(act(governors, folder, times(12))) for act in (at_rest, hung))
            deaths = killed(governors, folder, asked.kills)
    rows.append(("governor killed over 100 daemons: 99th of 100, ms", rested["p99"], DEATH_MS_MAX, "governors"))
    rows.append(("governor hung: ms beyond the lease, greatest", late["max"], DEATH_MS_MAX, "governors"))
    rows.append((f"governor killed at {asked.kills} moments: survivors", deaths["survivors"], 0.0, "survivors"))
    parts["survivors"] = {**parts["governors"], "loaded_by_us": 1}  # no load excuses a survivor
    table = {f"{count} daemons": each for count, each in quiet.items()} | {f"{LOADED} loaded": loaded}
    table["governors"] = {"killed at rest": rested, "hung, beyond lease": late, "killed launching": deaths}
    for part, figure in table.items():
        print(f"\n{part}")
        for side, each in figure.items():
            print(f"  {side:20}" + "".join(f"  {key} {value:8g}" for key, value in each.items()))
    missed = judged(rows, parts)
    if asked.write:
        kept = {"command": "python -m bench.halt --write", "python": sys.version.split()[0], "machine": parts}
        (RESULTS / "halt.json").write_text(json.dumps({**kept, "ms": table, "targets": rows}, indent=1) + "\n")
        idle = min(parts[f"{count} daemons"]["idle_percent"] for count in quiet)
        (RESULTS / "halt.svg").write_text(picture(quiet, f"{idle:.0f} % idle before"))
    print(f"\n{missed} missed")


if __name__ == "__main__":
    main()
