"""The two places where a probe is tried: sealed, through the port of a backend, and bare, which is its control.

Bare is what a naive governor does: start it, read what comes, wait for the main process. It contains nothing, and never
runs anything but the probes.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Instant, Json
from keyturn.sandbox.port import Backend, Collected, Exit, Finding, Limits, Mount, Receipt, Runtime, Spec
from keyturn.sandbox.suite.canaries import Canaries

PROBES = Path(__file__).parent / "probes"
INSIDE, SHARED_INSIDE, PUBLIC_INSIDE, OUT_INSIDE, SCRATCH_INSIDE = "/probe", "/shared", "/public", "/out", "/tmp"  # noqa: S108 - the sandbox's own
MEBIBYTE = 1 << 20
LIMITS = Limits(
    memory_bytes=64 * MEBIBYTE, processes_max=16, wall_seconds=15.0, output_bytes_max=MEBIBYTE // 4,
    out_bytes=MEBIBYTE, tmp_bytes=2 * MEBIBYTE, file_bytes_max=MEBIBYTE,
)  # fmt: skip  # limits in two rows
SHM_BYTES_MAX = 64 * MEBIBYTE
"""The most that a sandbox may let its `/dev/shm` hold; it counts as memory, and the limit on that is no more."""

READ_BYTES = 65536
BARE_SPARE_SECONDS = 0.3
END_SECONDS_MAX = 10.0
MARK = "KEYTURN_PROBE"
"""The variable by which a bare run's processes are found again, however they detached."""


@dataclass(frozen=True, slots=True)
class How:
    """How a probe is started: joined to us by pipes or not, and with which limits.

    `held` makes a bare run one with somebody above it; `public` shows the folder in which the host listens;
    `cpus` is its share of the processors.
    """

    answer: bool = False
    wall_seconds: float = LIMITS.wall_seconds
    lease_seconds: float = 2.0
    held: bool = False
    public: bool = False
    cpus: float | None = None


class Started(Protocol):
    """A probe that runs: what of `port.Running` the scenes need, so that both places can give it."""

    stdout_fd: int

    def receive(self, timeout: float) -> bytes:
        """As in `port.Running`."""
        ...

    def wait(self) -> Exit:
        """As in `port.Running`."""
        ...

    def gone(self) -> bool:
        """As in `port.Running`."""
        ...

    def halt(self, why: str) -> Receipt:
        """As in `port.Running`."""
        ...

    def collect(self, declared: tuple[tuple[str, int], ...]) -> Collected:
        """As in `port.Running`."""
        ...

    def close(self) -> None:
        """As in `port.Running`."""
        ...


class Place(Protocol):
    """Where probes are started, with the canaries that they are to reach from there."""

    canaries: Canaries

    def facts(self) -> dict[str, Json]:
        """What a probe started here is told."""
        ...

    def start(self, words: tuple[str, ...], how: How) -> Started:
        """Start a probe: its program, its name and its facts."""
        ...


def cgroups() -> list[Json]:
    """Where this machine's cgroups are mounted."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [line.partition(" - ") for line in lines]
    return [before.split(" ")[4] for before, _, after in found if after.startswith("cgroup")]


def _common(canaries: Canaries) -> dict[str, Json]:
    """What is asked for in either place: a little more than is given."""
    return {
        **canaries.facts(),
        "cgroups": cgroups(),
        "processes": LIMITS.processes_max + 8,
        "burners": LIMITS.processes_max - 4,
        "memory": LIMITS.memory_bytes + 32 * MEBIBYTE,
        "file": LIMITS.file_bytes_max + MEBIBYTE // 2,
        "flood": 4 * MEBIBYTE,
        "huge": MEBIBYTE // 2,
    }


class Sealed:
    """The sandbox: every probe gets a fresh one."""

    def __init__(self, backend: Backend, canaries: Canaries) -> None:
        self._backend, self.canaries = backend, canaries
        self._runtime: Runtime = backend.runtime("python")

    def facts(self) -> dict[str, Json]:
        """What a probe is told inside."""
        room = {SCRATCH_INSIDE: LIMITS.tmp_bytes, OUT_INSIDE: LIMITS.out_bytes, "/dev/shm": SHM_BYTES_MAX}  # noqa: S108 - the sandbox's own
        places: dict[str, Json] = {place: size + MEBIBYTE for place, size in room.items()}
        inside: dict[str, Json] = {"shared": SHARED_INSIDE, "out": OUT_INSIDE, "scratch": SCRATCH_INSIDE}
        inside["public"] = PUBLIC_INSIDE
        return {**_common(self.canaries), **inside, "places": places}

    def spec(self, words: tuple[str, ...], how: How) -> Spec:
        """The sealed run of a probe."""
        shown = (Mount(PROBES, INSIDE), Mount(self.canaries.shared.folder, SHARED_INSIDE))
        return Spec(
            purpose="answer" if how.answer else "improve",
            argv=("python", "-I", "-S", f"{INSIDE}/attempt.py", *words),
            runtime=self._runtime,
            mounts=(*shown, Mount(self.canaries.public, PUBLIC_INSIDE)) if how.public else shown,
            limits=replace(LIMITS, wall_seconds=how.wall_seconds, cpus=how.cpus),
            out=True,
            lease_seconds=how.lease_seconds,
        )

    def start(self, words: tuple[str, ...], how: How) -> Started:
        """Build a sandbox and let the probe go."""
        return self._backend.prepare(self.spec(words, how)).go()


class Bare:
    """No sandbox at all."""

    def __init__(self, canaries: Canaries) -> None:
        self.canaries = canaries

    def facts(self) -> dict[str, Json]:
        """What a probe is told in a bare run."""
        scratch, folder = str(self.canaries.folder / "scratch"), str(self.canaries.folder / "out")
        places: dict[str, Json] = {scratch: 3 * MEBIBYTE, folder: 2 * MEBIBYTE, "/dev/shm": 24 * MEBIBYTE}  # noqa: S108 - shared by all who run here
        bare: dict[str, Json] = {"shared": str(self.canaries.shared.folder), "out": folder, "scratch": scratch}
        bare["public"] = str(self.canaries.public)
        return {**_common(self.canaries), **bare, "places": places}

    def start(self, words: tuple[str, ...], how: How) -> Started:
        """Start the probe as a plain child."""
        program = (str(PROBES / "attempt.py"), *(("--hold",) if how.held else ()), *words)
        return BareRun((sys.executable, "-I", "-S", *program), how, self.canaries.folder / "out")


class BareRun:
    """A bare run of a probe. See `Started`."""

    def __init__(self, argv: tuple[str, ...], how: How, out: Path) -> None:
        self._how, self._out = how, out
        self._mark = os.urandom(16).hex()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the run and is closed with it
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if how.answer else self._said, stderr=self._said,
            close_fds=False, start_new_session=True, env={**os.environ, MARK: self._mark},
        )  # fmt: skip  # streams in one row
        self.stdout_fd = self._process.stdout.fileno() if self._process.stdout is not None else -1
        if self.stdout_fd >= 0:
            os.set_blocking(self.stdout_fd, False)

    def receive(self, timeout: float) -> bytes:
        """Read what is there, with no bound on how much comes in all."""
        if not select.select([self.stdout_fd], [], [], timeout)[0]:
            raise Unavailable(f"the bare run wrote nothing within {timeout} seconds")
        return os.read(self.stdout_fd, READ_BYTES)

    def wait(self) -> Exit:
        """Wait for the main process, and for nothing else."""
        started, code = time.monotonic(), None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(self._how.wall_seconds + BARE_SPARE_SECONDS)
        self._said.seek(0)
        said = self._said.read()
        own, killed_by = (code, None) if code is None or code >= 0 else (None, -code)
        took = time.monotonic() - started
        reason = "lost" if code is None else "exited"
        return Exit(reason, own, killed_by, 0.0, took, len(self._living()), (), said)  # type: ignore[arg-type]  # two of the reasons

    def _living(self) -> list[int]:
        """Every process that bears this run's mark."""
        wanted, found = f"{MARK}={self._mark}".encode(), []
        for place in Path("/proc").iterdir():
            if place.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (place / "environ").read_bytes().split(b"\0"):
                        found.append(int(place.name))
        return found

    def gone(self) -> bool:
        """Whether none of them lives."""
        return not self._living()

    def halt(self, why: str) -> Receipt:
        """Kill the main process, and say what that is worth."""
        before = len(self._living())
        self._process.kill()
        self._process.wait()
        left = len(self._living())
        at = Instant(time.time_ns() // 1_000_000)
        return Receipt("a bare run", why, at, 0.0, None, None, before, left, "UNPROVEN", ("nothing was looked at",))

    def collect(self, declared: tuple[tuple[str, int], ...]) -> Collected:
        """Read whatever lies there under these names, and follow wherever that leads."""
        files, findings = {}, []
        for path in sorted(self._out.iterdir()):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as refused:  # a device, say, below a mount that shows none
                findings.append(Finding("refused_outside_too", f"`{path.name}`: {refused.strerror}"))
                continue
            with contextlib.suppress(BlockingIOError):
                files[path.name] = os.read(fd, READ_BYTES)
            os.close(fd)
        return Collected(files, tuple(findings))

    def close(self) -> None:
        """End every process of this run, however it detached, and let go of its pipes."""
        until = time.monotonic() + END_SECONDS_MAX
        while (living := self._living()) and time.monotonic() < until:
            for pid in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.poll()
            time.sleep(0.002)
        if living:
            raise Unavailable(f"{len(living)} processes of a bare run cannot be killed", help="look at what holds them")
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()
