"""What the sandbox costs: bare processes, bare bubblewrap and us, interleaved in one run.

    python -m bench.sandbox [--rounds 40] [--work-rounds 7] [--write]

A launch is clocked from before its first preparation to its seen end, without giving things back. Rows: `bare`, a
process; `bubblewrap`, with our namespaces and files, under the governor's user, without filter, cgroup or user of its
own; `without init`, our launcher with all of these, turning directly into the program; `cold`, prepare, attest, go, and
the whole sandbox proven gone; `parked`, go to proven gone of one that was waiting. Each round runs all rows in a new
order; a difference is the median of the rounds' differences. Work inside is processor time, least of its rounds, beside
the same program outside, and outside under a filter of one instruction that allows everything (`filtered`): what the
kernel takes for any filter at all. `--write` keeps the numbers and their picture under bench/results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.machine import Rows, bars, judged, looked_at, summary
from keyturn.core.terms import Json
from keyturn.sandbox import seccomp
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.cgroups import Layout, Leaf
from keyturn.sandbox.command import OWN_USERS, launch_request
from keyturn.sandbox.decoys import Decoys
from keyturn.sandbox.launching.launcher import Launcher
from keyturn.sandbox.port import Limits, Mount, Spec

RESULTS = Path(__file__).parent / "results"
TRUE = "/true"
PASS = ("-I", "-c", "pass")
WORK = """
import ctypes, hashlib, json, os, resource, struct, sys, time
place, true = sys.argv[1], sys.argv[2]
if sys.argv[3:]:
    one = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7FFF0000))
    call, filter = ctypes.CDLL(None).prctl, struct.pack('HxxxxxxP', 1, ctypes.addressof(one))
    if call(38, 1, 0, 0, 0) or call(22, 2, filter): sys.exit('no filter')
def spent():
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
def loop():
    total = 0
    for n in range(2_500_000): total += n & 3
def sha256():
    data = b'x' * (1 << 20)
    for _ in range(120): hashlib.sha256(data).digest()
def getppid():
    ask = os.getppid
    for _ in range(400_000): ask()
def stat():
    ask = os.stat
    for _ in range(100_000): ask('/dev/null')
def read():
    fd, ask = os.open('/dev/zero', os.O_RDONLY), os.read
    for _ in range(300_000): ask(fd, 1)
def files():
    for n in range(8_000):
        path = f'{place}/{n & 15}'
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.unlink(path)
def execute():
    for _ in range(120):
        pid = os.fork()
        if not pid: os.execv(true, [true])
        os.waitpid(pid, 0)
found = {}
for work in (loop, sha256, getppid, stat, read, files, execute):
    work() if work is loop else None
    before = spent()
    work()
    found[work.__name__] = spent() - before
sys.stderr.write('FOUND ' + json.dumps(found))
"""
ALLOWED = {"loop": 1.03, "sha256": 1.03}
SYSTEM_CALL_RATIO_MAX = 1.15
Took = dict[str, list[float]]


class Bench:
    """One backend, and every way to launch; each gives its milliseconds."""

    def __init__(self, folder: Path) -> None:
        self.backend = Bubblewrap(folder / "run", runtime_cache=folder / "runtime.json")
        self.launcher = Launcher()
        self.runtime = self.backend.runtime("python")
        self.outside = str(self.runtime.binds[0].source)
        self.filter = seccomp.for_this_machine()
        self.bare_files = Decoys(folder / "none", (), None)
        mounts = (Mount(Path("/usr/bin/true"), TRUE),)
        limits = Limits(memory_bytes=512 << 20, processes_max=32, wall_seconds=60)
        self.specs = {
            "true": Spec("improve", (TRUE,), self.runtime, mounts, limits=limits),
            "python": Spec("improve", ("python", *PASS), self.runtime, mounts, limits=limits),
        }
        self.parts: Took = {}

    def close(self) -> None:
        self.launcher.close()
        self.backend.close()

    def request(self, what: str, user: int, tasks: list[str]) -> dict[str, Json]:
        """What the launcher is asked, with the program in the place of init."""
        asked = launch_request(self.backend.program(), self.specs[what], self.bare_files, user=user, tasks=tasks)
        argv = asked["argv"]
        assert isinstance(argv, list)
        program: list[Json] = [TRUE] if what == "true" else [self.runtime.python, *PASS]
        return {**asked, "argv": [*argv[: argv.index("--") + 1], *program]}

    def bare(self, what: str) -> float:
        argv = ["/usr/bin/true"] if what == "true" else [self.outside, *PASS]
        began = time.perf_counter()
        subprocess.run(argv, check=True, env={})
        return (time.perf_counter() - began) * 1000

    def bubblewrap(self, what: str) -> float:
        argv = self.request(what, 0, [])["argv"]
        assert isinstance(argv, list)
        at = argv.index("--seccomp")
        words = [str(word) for word in argv[:at] + argv[at + 2 :]]
        began = time.perf_counter()
        subprocess.run(words, check=True, env={})
        return (time.perf_counter() - began) * 1000

    def without_init(self, what: str, *, joined: bool) -> float:
        """Through our launcher into a fresh cgroup; `joined`: with leaves of the old hierarchy as well."""
        layout = self.backend.layout()
        chosen = layout if joined else Layout(layout.root, {}, layout.controllers)
        user = OWN_USERS[0] + secrets.randbelow(OWN_USERS[1] - OWN_USERS[0])
        began = time.perf_counter()
        leaf = Leaf.make(chosen, f"bench-{secrets.token_hex(4)}", memory_bytes=512 << 20, processes_max=34)
        fds, kept = self.ends()
        _, pidfd = self.launcher.launch(self.request(what, user, leaf.tasks()), [*fds, leaf.fd], may=lambda: True)
        for fd in fds:
            os.close(fd)
        select.select([pidfd], [], [])
        took = (time.perf_counter() - began) * 1000
        said = os.read(kept, 4096)
        os.close(pidfd)
        os.close(kept)
        leaf.remove()
        if said:
            sys.exit(f"bubblewrap failed: {said.decode()}")
        return took

    def ends(self) -> tuple[list[int], int]:
        """What the launcher hands on: lease, streams, the pipe for what goes wrong, the filter; and our end of that."""
        near, far = socket.socketpair()
        near.close()
        setup, setup_far = os.pipe()
        made = os.memfd_create("filter")
        os.write(made, self.filter)
        os.lseek(made, 0, os.SEEK_SET)
        null = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        return [far.detach(), *null, setup_far, made], setup

    def cold(self, what: str) -> float:
        """All of it, in its parts: until parked, attested, and from go until proven gone."""
        began = time.perf_counter()
        parked = self.backend.prepare(self.specs[what])
        ready = time.perf_counter()
        problems = parked.attest().problems
        attested = time.perf_counter()
        end = parked.go().wait()
        over = time.perf_counter()
        parked.close()
        if problems or not end.clean:
            sys.exit(f"the sandbox failed: {problems} {end}")
        steps = {"prepare": ready - began, "attest": attested - ready, "go to gone": over - attested}
        for name, seconds in steps.items():
            self.parts.setdefault(f"cold {what}, {name}", []).append(seconds * 1000)
        return (over - began) * 1000

    def parked(self, what: str) -> float:
        parked = self.backend.prepare(self.specs[what])
        parked.attest()
        began = time.perf_counter()
        parked.go().wait()
        took = (time.perf_counter() - began) * 1000
        parked.close()
        return took


def launches(bench: Bench, rounds: int) -> dict[str, Took]:
    """Milliseconds of each row for each program, interleaved."""
    rows: dict[str, Callable[[str], float]] = {"bare": bench.bare, "bubblewrap": bench.bubblewrap}
    rows["without init"] = lambda what: bench.without_init(what, joined=False)
    if bench.backend.layout().v1:
        rows["without init, old leaves joined"] = lambda what: bench.without_init(what, joined=True)
    rows |= {"cold": bench.cold, "parked": bench.parked}
    found: dict[str, Took] = {what: {name: [] for name in rows} for what in bench.specs}
    for what in found:
        for row in rows.values():
            row(what)
    bench.parts.clear()
    for _ in range(rounds):
        for what, took in found.items():
            for name in random.sample(list(rows), len(rows)):
                took[name].append(rows[name](what))
    return found


def work(bench: Bench, rounds: int) -> dict[str, dict[str, float]]:
    """Processor time of the same work inside and outside, the least of each, and their ratio."""
    sides: dict[str, list[dict[str, float]]] = {"inside": [], "outside": [], "filtered": []}
    argv = ("python", "-I", "-S", "-c", WORK, "/tmp", TRUE)
    limits = Limits(memory_bytes=512 << 20, processes_max=32, wall_seconds=120)
    spec = Spec("improve", argv, bench.runtime, (Mount(Path("/usr/bin/true"), TRUE),), limits=limits)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:  # the sandbox writes to memory too
        command = [bench.outside, "-I", "-S", "-c", WORK, place, "/usr/bin/true"]
        for _ in range(rounds):
            for side in random.sample(list(sides), len(sides)):
                if side == "inside":
                    running = bench.backend.prepare(spec).go()
                    said = running.wait().diagnostics.decode()
                    running.close()
                else:
                    words = [*command, "filter"] if side == "filtered" else command
                    said = subprocess.run(words, capture_output=True, text=True, check=True, env={}).stderr
                sides[side].append(json.loads(said.partition("FOUND ")[2]))
    found = {}
    for name in sides["inside"][0]:
        least = {side: min(each[name] for each in several) * 1000 for side, several in sides.items()}
        figures = {"ratio": least["inside"] / least["outside"], "to_filtered": least["inside"] / least["filtered"]}
        found[name] = {key: round(value, 3) for key, value in {**least, **figures}.items()}
    return found


def beyond(took: Took, row: str) -> float:
    """How many milliseconds more than bare bubblewrap in the same round."""
    return round(statistics.median(mine - its for mine, its in zip(took[row], took["bubblewrap"], strict=True)), 2)


def targets(found: dict[str, Took], ratios: dict[str, dict[str, float]]) -> Rows:
    rows: Rows = []
    for what, took in found.items():
        rows.append((f"{what}: without init, ms beyond bubblewrap", beyond(took, "without init"), 1.5, "launch"))
        if "without init, old leaves joined" in took:
            more = beyond(took, "without init, old leaves joined")
            rows.append((f"{what}: the same with old cgroups joined", more, 5.0, "launch"))
        rows.append((f"{what}: cold with init, ms beyond bubblewrap", beyond(took, "cold"), 20.0, "launch"))
    took = found["true"]
    parked = statistics.median(m / b for m, b in zip(took["parked"], took["bubblewrap"], strict=True))
    rows.append(("true: from a parked pool, of bubblewrap", round(parked, 3), 1.0, "launch"))
    rows += [
        (f"{name}: processor time, of outside", figures["ratio"], ALLOWED.get(name, SYSTEM_CALL_RATIO_MAX), "work")
        for name, figures in ratios.items()
    ]
    return rows


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--work-rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        print("not run: each sandbox gets a user of its own, which needs root")
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Bench(Path(folder))) as bench:
        parts = {"launch": looked_at("launch")}
        found = launches(bench, asked.rounds)
        parts["work"] = looked_at("work")
        ratios = work(bench, asked.work_rounds)
        steps = {name: summary(each) for name, each in bench.parts.items()}
    shown = {f"{what}, {row}": summary(each) for what, took in found.items() for row, each in took.items()}
    for table in (shown, steps, ratios):
        print()
        for name, figures in table.items():
            print(f"  {name:40}" + "".join(f"  {key} {value:8g}" for key, value in figures.items()))
    rows = targets(found, ratios)
    missed = judged(rows, parts)
    if asked.write:
        kept = {"command": "python -m bench.sandbox --write", "python": sys.version.split()[0]}
        figures = {"machine": parts, "launch_ms": shown, "steps_ms": steps, "work": ratios, "targets": rows}
        (RESULTS / "sandbox.json").write_text(json.dumps({**kept, **figures}, indent=1) + "\n")
        idle = min(part["idle_percent"] for part in parts.values())
        (RESULTS / "sandbox.svg").write_text(bars(rows, f"{idle:.0f} % idle before"))
    print(f"\n{missed} missed")


if __name__ == "__main__":
    main()
