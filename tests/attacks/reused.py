"""A sandbox that serves programs one after another, in hands that reuse it as the loop's governor does."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from keyturn.app import specs
from keyturn.app.loop.seat import frames_in
from keyturn.app.loop.warm import greet
from keyturn.core.errors import Unavailable
from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.port import Exit, Limits, Mount, Spec
from keyturn.sandbox.running import BubblewrapRunning
from keyturn.wire import values
from keyturn.wire.frames import FrameReader, encode_frame

MEBIBYTE = 1 << 20
LIMITS = Limits(memory_bytes=256 * MEBIBYTE, processes_max=32, wall_seconds=20, tmp_bytes=4 * MEBIBYTE)

SEEN = """
import builtins, json, os, random, re, resource, signal, sys, threading

def folder(place):
    status, room = os.stat(place), os.statvfs(place)
    numbers = [status.st_mode, status.st_nlink, status.st_atime_ns, status.st_mtime_ns, room.f_bfree, room.f_ffree]
    return [*numbers, sorted(os.listdir(place))]

def read(place):
    try:
        with open(place) as file:
            return file.read()
    except OSError as error:
        return type(error).__name__

def seen():
    places = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    links = [os.readlink(place) for place in places if os.path.lexists(place)]
    now = json.dumps, sum, open, print, os.fork, sys.modules["_keyturn_values"].encode
    init = dict(line.split(":", 1) for line in read("/proc/1/status").splitlines())
    return {
        "folders": [folder("/tmp"), folder("/dev/shm")],
        "environment": dict(os.environ), "place": os.getcwd(), "mask": os.umask(0o22),
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "pending": sorted(map(int, signal.sigpending())),
        "handlers": [re.sub("0x[0-9a-f]+", "", str(signal.getsignal(n))) for n in range(1, 65)],
        "timers": [signal.getitimer(n) for n in range(3)], "alarm": signal.alarm(0),
        "limits": [resource.getrlimit(n) for n in range(16)],
        "nice": os.getpriority(os.PRIO_PROCESS, 0), "policy": os.sched_getscheduler(0),
        "processors": sorted(os.sched_getaffinity(0)), "group": read("/proc/self/autogroup"),
        "oom": read("/proc/self/oom_score_adj"), "inits_oom": read("/proc/1/oom_score_adj"),
        "threads": [threading.active_count(), len(os.listdir("/proc/self/task"))],
        "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
        "descriptors": sorted(re.sub("[0-9]+", "", link) for link in links),
        "init": [init.get(name) for name in ("Threads", "SigBlk", "SigIgn", "SigCgt", "Seccomp", "CapEff", "Umask")],
        "inits_own": [read(f"/proc/1/{name}") for name in ("environ", "mem", "maps", "stack")],
        "builtins": sorted(dir(builtins)), "modules": sorted(sys.modules), "path": sys.path, "arguments": sys.argv,
        "functions": [f"{each.__module__}.{each.__qualname__}" for each in now],
        "interpreter": [sys.getswitchinterval(), sys.getrecursionlimit(), sys.gettrace() is None, sys.flags.isolated],
        "dice": random.random(),
        "main": sorted(vars(sys.modules["__main__"])),
    }
"""
"""A program that tells of everything that a program before it might have changed."""


@dataclass
class Reused:
    """One sandbox, and the program that it serves now."""

    backend: Bubblewrap
    running: BubblewrapRunning
    asked: int = 0

    @classmethod
    def make(cls, backend: Bubblewrap, runner: Any, **changes: Any) -> Reused:
        changes = {"limits": LIMITS, "programs_max": 100, "decoys": specs.DECOYS, "lease_seconds": 5.0, **changes}
        spec = Spec(
            "answer",
            ("python", "-I", f"/runner/{specs.COMPILED}"),
            backend.runtime(changes.pop("runtime", "python")),
            mounts=(Mount(runner, "/runner"),),
            waits=True,
            **changes,
        )
        parked = backend.prepare(spec)
        assert parked.attest().problems == ()
        running = parked.go()
        greet(running)
        return cls(backend, running)

    @property
    def cell(self) -> Any:
        return self.running._cell

    def load(self, source: str, seconds: float = 15) -> None:
        """Begin a program."""
        self.running.begin(seconds)
        self.running.send(frames_in(source, 7), 5)

    def call(self, name: str, *args: Any) -> Any:
        """What a function of the program returns; the output itself where that is no value."""
        items = [{"call": name, "args": values.encode([list(args), {}])}]
        self.running.send(encode_frame({"type": "ask", "block": 1, "items": items}), 5)
        reader = FrameReader(bytes_max_total=1 << 20, frames_max=1)
        frames: list[Any] = []
        while not frames:
            data = self.running.receive(10)
            assert data, "the program has ended"
            frames = reader.feed(data)
        (output,) = frames[0]["outputs"]
        return json.loads(output["value"]) if "value" in output else output

    def end(self) -> Exit:
        """Kill the program alone and see that it is gone, as after a verdict."""
        self.running.tick()
        assert self.running.alive()
        self.running.spare()
        until = time.monotonic() + 5
        while not self.running.gone():
            assert time.monotonic() < until, "it was not seen to go"
            time.sleep(0.0002)
        return self.running.seen()

    def again(self) -> bool:
        """Make it ready for the next program; false where it is doubted, and then it is killed with proof."""
        try:
            self.running.clear()
            self.running = self.running.again()
            greet(self.running)
        except Unavailable:
            receipt = self.running.halt("doubted")
            assert receipt.state == "STOPPED", receipt
            return False
        return True

    def looked_at(self) -> dict[str, Any]:
        """What the next program sees, which then ends."""
        self.load(SEEN)
        found = self.call("seen")
        assert not {"raised", "fault"} & set(found), found
        self.end()
        return dict(found)
