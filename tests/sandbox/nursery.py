"""Governors to be killed, each forked from a process that has everything loaded, so that one costs milliseconds.

`python -m tests.sandbox.nursery RUNTIME_CACHE` reads orders, one JSON object in a line, and prints what its governors
say. `Nursery` is the other end. A governor says `PID LAUNCHING` right before it begins to launch, and then `PID READY`
when all of its daemons live; it renews its lease every millisecond until it is killed or held.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SUBJECT = """
import os, signal, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
for n in range({daemons}):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 3)
            while True: time.sleep(60)
        os._exit(0)
time.sleep({stays})
os._exit(0)
"""
"""Daemons that detach and ignore whatever can be ignored; the main process stays for so many seconds."""


@dataclass(frozen=True)
class Order:
    """One governor: `warm` has launched once before, so that its launcher stands; it starts so many sandboxes."""

    run_root: str
    warm: bool = False
    lease: float = 30.0
    daemons: int = 2
    sandboxes: int = 1


class Nursery:
    """A process from which governors come."""

    def __init__(self, cache: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO / "src"), str(REPO)])}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.sandbox.nursery", str(cache)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPO,
        )  # fmt: skip  # streams in one row
        self.hear()

    def hear(self) -> tuple[int, str]:
        """The next word, and whose."""
        assert self.process.stdout is not None
        pid, _, word = self.process.stdout.readline().strip().partition(" ")
        return int(pid), word

    def governor(self, order: Order) -> int:
        """A governor that is about to launch; its process id, which nobody else gets before it is taken in."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(order)) + "\n")
        self.process.stdin.flush()
        while (heard := self.hear())[1] != "LAUNCHING":
            assert heard[1] == "READY", heard  # the last word of one that is dead
        return heard[0]

    def ready(self, pid: int) -> None:
        """Wait until all of this governor's daemons live."""
        while (heard := self.hear()) != (pid, "READY"):
            assert heard[1] == "READY", heard

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@contextmanager
def nursery(cache: Path) -> Iterator[Nursery]:
    """A nursery for as long as it is needed."""
    made = Nursery(cache)
    try:
        yield made
    finally:
        made.close()


def govern(order: Order, runtime: object) -> None:
    """Be a governor, and never come back."""
    from keyturn.sandbox.bubblewrap import Bubblewrap
    from keyturn.sandbox.port import Limits, Spec

    backend = Bubblewrap(Path(order.run_root), runtime_cache=Path("/nonexistent"))
    limits = Limits(processes_max=2100, wall_seconds=300, memory_bytes=6 << 30)
    code = SUBJECT.format(daemons=order.daemons, stays=300)
    spec = Spec("improve", ("python", "-I", "-S", "-c", code), runtime, limits=limits, lease_seconds=order.lease)  # type: ignore[arg-type]  # resolved before the fork
    if order.warm:
        backend.prepare(spec).close()
    _say("LAUNCHING")
    running = []
    for _ in range(order.sandboxes):
        parked = backend.prepare(spec)
        parked.attest()
        running.append(parked.go())
    ready = False
    while True:
        for one in running:
            one.tick()
        if not ready and all(len(one._cell.processes()) >= order.daemons + 3 for one in running):
            ready = True
            for one in running:
                one.tick()
            _say("READY")
        time.sleep(0.001)


def _say(word: str) -> None:
    os.write(1, f"{os.getpid()} {word}\n".encode())


def main() -> None:
    """Fork a governor for each order; take in everybody who has ended."""
    from keyturn.sandbox.bubblewrap import Bubblewrap

    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    runtime = Bubblewrap(Path("/nonexistent"), runtime_cache=Path(sys.argv[1])).runtime("python")
    _say("THERE")
    orders = b""
    while True:
        ready = select.select([0], [], [], 0.05)[0]
        got = os.read(0, 65536) if ready else b""
        if ready and not got:
            os._exit(0)
        while _ended():
            pass
        *lines, orders = (orders + got).split(b"\n")
        for line in lines:
            if os.fork() == 0:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                null = os.open(os.devnull, os.O_RDONLY)
                os.dup2(null, 0)
                try:
                    govern(Order(**json.loads(line)), runtime)
                finally:
                    _say(f"FAILED {sys.exc_info()[1]}".replace("\n", " "))
                    os._exit(1)


def _ended() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


if __name__ == "__main__":
    main()
