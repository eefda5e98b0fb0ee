"""The grader: a process outside the candidate's reach that holds the answers and scores, block by block.

Its own failures are never evidence: whatever it does wrong is Unavailable, and the trial's slot stays open.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Final, Protocol, Self

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Digest, Json
from keyturn.trials.link import Frame, Link, LinkBroken, LinkLimits

LIMITS: Final = LinkLimits(bytes_max=1 << 30, frames_max=1 << 20)
"""What a grader may send in one trial; it is trusted, but a loop in it must end."""

_COMPLAINT_BYTES: Final = 500
_HELP: Final = "repair the grader and start the trial again; what was logged is kept"


@dataclass(frozen=True, slots=True)
class Planned:
    """What a grader holds for a suite and seed: its bank's digest, its items, the cluster of each if any."""

    bank: Digest
    items: int
    clusters: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """The grader wants outputs for these items from `candidate`, `parent`, `audited` or `founder`."""

    block: int
    to: str
    items: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """A block's scores in [0, 1], one per item, None for an illegal output of the examined subject."""

    block: int
    values: tuple[float | None, ...]


class Grader(Protocol):
    """What a trial asks of a grader. A new `begin` drops a block that is still open.

    It examines whoever answers as `candidate`: in a paired trial the same block is begun again for the reference.
    """

    def begin(self, block: int, items: Sequence[int]) -> Ask | Scores:
        """Start a block of these items of the bank."""
        ...

    def outputs(self, block: int, outputs: list[Json]) -> Ask | Scores:
        """Hand over what a subject answered."""
        ...


class GraderProcess:
    """A grader as the policy names it, in a process group of its own with a scrubbed environment.

    Use it as a context manager: at the end the whole group is killed. `timeout_seconds` bounds each turn.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        on_tick: Callable[[], None],
        timeout_seconds: float = 60.0,
        environment: Mapping[str, str] | None = None,
        cwd: str | None = None,
        limits: LinkLimits = LIMITS,
    ) -> None:
        self._argv, self._cwd, self._environment = list(argv), cwd, dict(environment or {})
        self._on_tick, self._timeout_seconds, self._limits = on_tick, timeout_seconds, limits

    def __enter__(self) -> Self:
        """Start the grader; raises Unavailable when it cannot be started."""
        self._complaints: IO[bytes] = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                bufsize=0,
                cwd=self._cwd,
                start_new_session=True,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **self._environment},
            )
        except OSError as error:
            self._complaints.close()
            raise Unavailable(
                f"the grader cannot be started: {error}", help="correct `grader` in the policy"
            ) from error
        self._link = Link(
            read_fd=_fd(self._process.stdout),
            write_fd=_fd(self._process.stdin),
            on_tick=self._on_tick,
            limits=self._limits,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the grader's whole process group and reap it; a grader holds nothing that a goodbye would save."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._complaints):
            if pipe is not None:
                pipe.close()

    def plan(self, *, suite: str, seed: Json, items: int) -> Planned:
        """Ask what the grader holds for this suite and seed; `items` is the budget that the trial may use."""
        reply = self._turn({"type": "plan", "suite": suite, "seed": seed, "items": items})
        bank, held, clusters = reply.get("bank"), reply.get("items"), reply.get("clusters", [])
        if (
            reply.get("type") != "planned"
            or not isinstance(bank, str)
            or not bank.startswith("sha256:")
            or not _whole(held)
            or not isinstance(clusters, list)
            or not all(map(_whole, clusters))
        ):
            raise self._wrong("no bank for its plan")
        return Planned(Digest(bank), _int(held), tuple(map(_int, clusters)))

    def begin(self, block: int, items: Sequence[int]) -> Ask | Scores:
        """Start a block of these items of the bank, dropping one that is still open."""
        return self._reply({"type": "begin", "block": block, "items": list(items)}, block)

    def outputs(self, block: int, outputs: list[Json]) -> Ask | Scores:
        """Hand over what a subject answered to the last ask."""
        return self._reply({"type": "outputs", "block": block, "outputs": outputs}, block)

    def _reply(self, frame: Frame, block: int) -> Ask | Scores:
        reply = self._turn(frame)
        if not _whole(reply.get("block")) or reply["block"] != block:
            raise self._wrong(f"another block than `{block}`")
        items, to = reply.get("items"), reply.get("to")
        if reply.get("type") == "ask" and isinstance(items, list) and isinstance(to, str):
            return Ask(block, to, tuple(items))
        if reply.get("type") == "scores":
            return Scores(block, self._scores(reply.get("values")))
        raise self._wrong("neither `ask` nor `scores`")

    def _scores(self, found: Json) -> tuple[float | None, ...]:
        if not isinstance(found, list):
            raise self._wrong("no list of scores")
        return tuple(None if value is None else self._score(value) for value in found)

    def _score(self, value: Json) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
            raise self._wrong("a score outside [0, 1]")
        return float(value)

    def _turn(self, frame: Frame) -> Frame:
        try:
            return self._link.exchange(frame, timeout_seconds=self._timeout_seconds)
        except LinkBroken as broken:
            raise Unavailable(
                f"the grader failed at `{frame['type']}`: {broken.fault.value}{self._complaint()}", help=_HELP
            ) from broken

    def _complaint(self) -> str:
        self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, self._complaints.tell() - _COMPLAINT_BYTES))
        said = self._complaints.read().decode(errors="replace").strip()
        return f"; it last wrote `{said}`" if said else ""

    def _wrong(self, found: str) -> Unavailable:
        return Unavailable(f"the grader sent {found}", help=_HELP)


def _fd(pipe: IO[bytes] | None) -> int:
    return -1 if pipe is None else pipe.fileno()


def _whole(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _int(value: Json) -> int:
    return value if isinstance(value, int) else 0
