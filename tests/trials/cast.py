"""Scripted subjects and graders as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.core import trial
from keyturn.core.terms import Digest
from keyturn.core.trial import TrialPlan
from keyturn.trials.channel import FdChannel
from keyturn.trials.grader import GraderProcess
from keyturn.trials.link import Frame, LinkLimits

HERE = Path(__file__).parent
SEED = bytes(range(32))
ORDER = trial.order(SEED, bank_items=400)


def plan_of(**changes: object) -> TrialPlan:
    """The plan that the scripted grader's bank fits."""
    fields: dict[str, object] = {
        "suite": "centre-probes",
        "metric": "broken",
        "threshold": "centre",
        "kind": "limit",
        "line": 0.30,
        "margin": 0.05,
        "error": 0.05,
        "bank": Digest("sha256:" + "b" * 64),
        "bank_items": 400,
        "clusters": 400,
        "estimand": "population",
        "seed": trial.seed_digest(SEED),
        "order": trial.order_digest(ORDER),
        "items": 200,
        "block_items": 8,
    }
    return TrialPlan(**{**fields, **changes})  # type: ignore[arg-type]  # fields of many types in one dict


class Spy(FdChannel):
    """A channel that remembers every frame it sent."""

    def ask(self, frame: Frame, *, timeout_seconds: float) -> Frame:
        SENT.append(frame)
        return super().ask(frame, timeout_seconds=timeout_seconds)


SENT: list[Frame] = []


@dataclass
class Cast:
    """Starts scripted processes and counts the ticks that waiting on them gave."""

    ticks: int = 0
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    sandbox_fault: str | None = None
    on_tick: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic

    def tick(self) -> None:
        self.ticks += 1
        self.on_tick()

    def subject(
        self,
        mode: str = "honest",
        at_block: int = 0,
        marker: str = "",
        limits: LinkLimits = LinkLimits(bytes_max=1_000_000, frames_max=1000),  # noqa: B008  # it is frozen, so sharing it is safe
    ) -> Spy:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "scripted_subject.py"), mode, str(at_block), marker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.started.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        return Spy(
            read_fd=process.stdout.fileno(),
            write_fd=process.stdin.fileno(),
            on_tick=self.tick,
            limits=limits,
            sandbox_fault=lambda: self.sandbox_fault,
            clock=self.clock,
        )

    def grader(self, mode: str = "honest", at_block: int = 0, timeout_seconds: float = 20.0) -> GraderProcess:
        argv = [sys.executable, str(HERE / "scripted_grader.py"), mode, str(at_block)]
        return GraderProcess(argv, on_tick=self.tick, timeout_seconds=timeout_seconds)

    def stop(self) -> None:
        for process in self.started:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
