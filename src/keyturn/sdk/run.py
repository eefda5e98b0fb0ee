"""One run of a loop under a warrant: its leave, its programs, what it proposes in the end, and how it is stopped.

It never decides: it asks the governor, and it stops when it is told to.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Finding
from keyturn.core.terms import Json
from keyturn.sdk.errors import Refused, Stopped
from keyturn.sdk.line import Frame, Line, findings_of, stopped
from keyturn.sdk.program import Admission, Program, admission_of
from keyturn.sdk.serving import served
from keyturn.sdk.worker import PROGRAM_SECONDS, VARIABLE, Worker, require

LEAVE_SECONDS: Final = 600.0
_LOG = logging.getLogger("keyturn.sdk")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the run: its candidate, and what it waits for now, or that it was released."""

    step: str
    candidate: str = ""
    dossier: str = ""
    findings: tuple[Finding, ...] = ()
    released: bool = False
    shadow: bool = False

    def __str__(self) -> str:
        """One line for people."""
        if self.shadow:
            return f"shadow mode: nothing was proposed; it would wait at `{self.step}`"
        if self.released:
            return f"candidate `{self.candidate}` was released: it is the next generation"
        if not self.candidate:
            return f"the step ended without a candidate; what comes next is `{self.step}`"
        why = "".join(f"\n  {finding.message}" for finding in self.findings)
        if not self.dossier:
            return f"candidate `{self.candidate}` is not before people; what comes next is `{self.step}`{why}"
        return f"candidate `{self.candidate}` is held at `{self.step}`, for people to look at: `keyturn status`{why}"


class Run(Worker):
    """A run that has leave; `govern` gives one. Its connection is this process's alone."""

    def __init__(
        self,
        project: Path,
        line: Line,
        leave: Mapping[str, Json],
        parent: str,
        on_stop: Callable[[Stopped], None] | None,
    ) -> None:
        super().__init__(project, bytes_max=_whole(leave, "bytes_max"))
        self.parent = parent
        """The text of the present generation, from which the loop starts."""

        self.attempt, self.generation, self.seed = (_whole(leave, name) for name in ("attempt", "generation", "seed"))
        self.bounds, self.used_before = leave.get("bounds"), leave.get("used")
        self.used_now = self.used_before
        """What is used of the bounds, as the governor said at the last verdict."""

        self.shadow, self.resumed = leave.get("shadow") is True, leave.get("resumed") is True
        self._line, self._on_stop = line, on_stop
        self._stop: Stopped | None = None
        self._over = False
        self._asking = threading.Lock()
        self._answers: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._programs: dict[str, Program] = {}
        self._watcher = threading.Thread(target=self._watch, name="keyturn-run", daemon=True)
        self._watcher.start()

    def candidate(self, text: str, *, seconds: float = PROGRAM_SECONDS) -> Program:
        """As `Worker.candidate`; raises Stopped as soon as the governor has said so."""
        self._raise_stop()
        program = super().candidate(text, seconds=seconds)
        self._programs[program.digest] = program
        return program

    def rounds(self, count: int) -> Iterator[int]:
        """Count the rounds of a loop, and end early when the run must stop or its bounds leave no further program."""
        for number in range(count):
            if self._stop is not None or self._left() <= 0:
                return
            yield number

    def verdict(self, program: str) -> Admission | None:
        """What was decided on a program of this step, by its digest; None where it is not known."""
        frame = self._ask({"type": "verdict", "program": program}, "verdict")
        self.used_now = frame.get("used") or self.used_now
        return admission_of(frame, "verdict") if frame.get("known") is True else None

    def held(self, best: str, /, **claim: float) -> Outcome:
        """Propose this text as the candidate, and say what it waits for now, or that it was released.

        `claim` is what the loop says of it, by default the numbers with which it was judged here. It ends the step;
        trials run meanwhile, so it may take long. Raises Refused where it was not admitted in this step, and Stopped.
        """
        digest = digest_of(best)
        known = self._programs.get(digest)
        claimed: dict[str, Json] = {**(claim or (known.claim if known is not None else {}))}
        frame = self._ask({"type": "propose", "program": digest, "claim": claimed}, "outcome", "no")
        if frame["type"] == "no":
            raise Refused("the program was not proposed", findings_of(frame, "why"), step=str(frame.get("step", "")))
        return _outcome(frame)

    def end(self, why: str) -> Outcome:
        """End the step without a candidate. Without this or `held` it stays open, and a later run resumes it."""
        return _outcome(self._ask({"type": "end", "why": why}, "outcome"))

    def close(self) -> None:
        """Let go of the connection; what is running is no longer watched."""
        super().close()
        self._over = True
        self._line.end()
        self._watcher.join()

    def _ask(self, frame: Frame, *wanted: str) -> Frame:
        with self._asking:
            if self._over:
                self._raise_stop()
            self._line.send(frame)
            answer = self._answers.get()
            if answer is None:
                self._answers.put(None)
                self._raise_stop()
            return require(answer or {}, *wanted)

    def _raise_stop(self) -> None:
        if self._stop is not None:
            raise Stopped(self._stop.why, halted=self._stop.halted) from self._stop

    def _left(self) -> float:
        """How many programs the bounds still allow, as far as this process knows."""
        if not isinstance(self.bounds, dict) or not isinstance(self.used_before, dict):
            return float("inf")
        run = sum(
            program.admission is None or program.admission.ended != "not-run" for program in self._programs.values()
        )
        return _whole(self.bounds, "programs_max") - _whole(self.used_before, "programs") - run

    def _watch(self) -> None:
        """Hand answers over and obey `stop`, which may come at any moment, until the connection ends."""
        try:
            while True:
                frame = self._line.frame()
                if frame.get("type") == "progress":
                    _LOG.info("%s", frame.get("text"))
                elif frame.get("type") == "stop":
                    self._told(stopped(frame))
                else:
                    self._over = self._over or frame.get("type") == "outcome"  # after it the governor hangs up
                    self._answers.put(frame)
        except (Stopped, MalformedInput) as error:
            gone = error if isinstance(error, Stopped) else Stopped(error.message)
            self._over, closing = True, self._over
            if not closing:
                self._told(gone)
            self._answers.put(None)

    def _told(self, stop: Stopped) -> None:
        first, self._stop = self._stop is None, self._stop or stop
        if first and self._on_stop is not None:
            self._on_stop(stop)


@contextmanager
def govern(
    project: str | Path,
    *,
    name: str = "a loop in Python",
    shadow: bool = False,
    start: bool = True,
    on_stop: Callable[[Stopped], None] | None = None,
) -> Iterator[Run]:
    """One run of a loop, under the leave that people gave; starts the governor where none listens, unless told not to.

    Raises Refused with every finding where there is no leave. In `shadow` everything is recorded and nothing held.
    `on_stop` is called from another thread when the loop must stop; without it every later call raises Stopped.
    """
    place = Path(project).resolve()
    with served(place, start=start, shadow=shadow) as line:
        leave, parent = _leave(line, name, shadow=shadow)
        run = Run(place, line, leave, parent, on_stop)
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(place)
        try:
            yield run
        finally:
            if before is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = before
            run.close()


def digest_of(text: str) -> str:
    """The digest that names a program everywhere."""
    return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _leave(line: Line, name: str, *, shadow: bool) -> tuple[Frame, str]:
    line.send({"type": "run", "name": name})
    while (frame := line.receive(LEAVE_SECONDS)).get("type") == "progress":
        _LOG.info("%s", frame.get("text"))
    if require(frame, "leave", "no")["type"] == "no":
        step = str(frame.get("step", ""))
        raise Refused(f"there is no leave to run a loop now (`{step}`)", findings_of(frame, "why"), step=step)
    parent = line.exactly(_whole(frame, "parent_bytes")).decode("utf-8")
    if frame.get("shadow") is True and not shadow:
        raise MalformedInput(
            "the governor that listens here only watches, and holds nothing", help="say `govern(..., shadow=True)`"
        )
    return frame, parent


def _outcome(frame: Frame) -> Outcome:
    step, candidate, dossier = (str(frame.get(name) or "") for name in ("step", "candidate", "dossier"))
    released, shadow = frame.get("released") is True, frame.get("shadow") is True
    return Outcome(step, candidate, dossier, findings_of(frame), released, shadow)


def _whole(frame: Mapping[str, Json], name: str) -> int:
    found = frame.get(name, 0)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0
