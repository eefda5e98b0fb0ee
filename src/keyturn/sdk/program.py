"""One program from its way in to its verdict: it runs sealed, is called, and is admitted or refused.

What it says and does wrong ends its block, never the loop. It is judged once, by the governor, and then it is killed.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from numbers import Real
from types import TracebackType
from typing import Any, Final, Self

from keyturn.core.errors import KeyturnError, MalformedInput
from keyturn.core.finding import Finding
from keyturn.core.terms import Json
from keyturn.sdk.errors import ProgramEnded, ProgramFailed, ProgramRefused, Stopped
from keyturn.sdk.line import BLOB_BYTES_MAX, Line, findings_of
from keyturn.sdk.pipes import Output, Pipes, at_once
from keyturn.sdk.sealed import Sealed

ANSWER_SECONDS: Final = 600.0
"""How long the governor may take to make a sandbox ready, or to judge."""

SIGNALS_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 10.0
_INSIDE: Final = "call `program.admit(...)` before its `with` block ends: the program lives until then"


@dataclass(frozen=True, slots=True)
class Admission:
    """The verdict on one program. In shadow mode `admitted` is always true; `findings` says what would have been."""

    admitted: bool
    findings: tuple[Finding, ...]
    evidence: str = ""
    """The digest of what the governor recorded about it."""

    ended: str = ""
    """How its sandbox ended, in one word."""

    def __bool__(self) -> bool:
        raise MalformedInput("an admission has no truth value", help="ask `.admitted`, and read `.findings`")


class Program(Sealed):
    """A program at work in a sandbox of its own; `findings` says why it was refused before anything of it ran.

    Use it as a context manager and judge it inside with `admit`. An error of the program itself ends the block, the
    program is recorded as refused, and the loop goes on after the block; any other error goes through.
    """

    def __init__(self, line: Line, *, digest: str, pipes: Pipes | None, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(pipes or _Nobody(findings))
        self.digest, self.findings = digest, findings
        self._line, self._pipes = line, pipes
        self._admission = None if pipes else Admission(False, findings, ended="not-run")
        self._judging = threading.Lock()
        self.claim: dict[str, float] = {}
        """The numbers with which it was judged."""

    @property
    def admission(self) -> Admission | None:
        """The verdict, once there is one."""
        return self._admission

    def admit(self, reasons: str | Iterable[str] | bool | None = (), /, **metrics: object) -> Admission:
        """Ask whether it may stay, by these metrics and reasons against it; ends it. Raises Stopped.

        `reasons` is what a check of the operator's said: one of them refuses it. Metrics may have any name.
        """
        return self._verdict(metrics, reasons_of(reasons), "")

    def broken(self, why: str, /, **metrics: object) -> Admission:
        """Judge it as one whose evaluation broke off, which refuses it; ends it. Raises Stopped."""
        return self._verdict(metrics, (), why or "its evaluation broke off")

    def close(self) -> None:
        """Let go of it; one that was not judged is recorded by the governor as abandoned, and refused."""
        self._line.close()
        if self._pipes is not None:
            self._pipes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        own = isinstance(error, ProgramFailed | ProgramEnded | ProgramRefused) and error.program is self
        try:
            if self._admission is not None or isinstance(error, Stopped):
                return own and self._pipes is None  # what is asked after the verdict is the caller's mistake
            if isinstance(error, Exception):
                self.broken(str(error) if own else f"{type(error).__name__}: {error}")
            elif error is None:
                self.broken("its block ended without a verdict")
                raise MalformedInput("the program was not judged", help=_INSIDE)
            return own
        finally:
            self.close()

    def _verdict(self, metrics: Mapping[str, object], reasons: tuple[str, ...], fault: str) -> Admission:
        with self._judging:
            if self._pipes is None and self._admission is not None:
                return self._admission
            if self._admission is not None:
                raise MalformedInput("the program was judged already, and has ended", help=_INSIDE)
            signals, late = self._seen()
            told: dict[str, Json] = {name[:100]: _metric(value) for name, value in metrics.items() if value is not None}
            self.claim = {name: float(value) for name, value in told.items() if isinstance(value, float)}
            self._line.send(
                {
                    "type": "judge",
                    "metrics": told,
                    "reasons": [_plain(reason, 300) for reason in reasons[:20]],
                    "signals": [_plain(word, 200) for word in signals[:64]],
                    "fault": _plain(fault or late, 300),
                }
            )
            frame = self._line.receive(ANSWER_SECONDS)
            self._admission = admission_of(frame, "judged")
            self.close()
            return self._admission

    def _seen(self) -> tuple[tuple[str, ...], str]:
        """The signals, and what is wrong with a program that cannot say them now."""
        with at_once(self._conversation, 0.2) as free:
            if not free:
                return (), "it was still at work when it was judged"
            try:
                return self.signals(seconds=SIGNALS_SECONDS), ""
            except ProgramEnded as error:
                return (), error.how
            except ProgramFailed as error:
                return (), str(error)


class _Nobody:
    """The conversation with a program that does not run: every question raises ProgramRefused."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.lock = threading.RLock()
        self._findings = findings

    def ask(self, item: Output, *, seconds: float | None = None) -> Output:
        """Raise ProgramRefused."""
        raise ProgramRefused(self._findings)


def start(line: Line, text: str, *, seconds: float, bytes_max: int = 0) -> Program:
    """Hand a program in and wait until it runs or is refused; the line is the program's own from then on.

    Raises Stopped. One that is longer than it may be is named to the governor and not sent.
    """
    try:
        return _started(line, text, seconds, bytes_max)
    except KeyturnError:
        line.close()
        raise


def _started(line: Line, text: str, seconds: float, bytes_max: int) -> Program:
    data = text.encode("utf-8", "surrogatepass")
    digest = f"sha256:{sha256(data).hexdigest()}"
    if len(data) > min(bytes_max or BLOB_BYTES_MAX, BLOB_BYTES_MAX):
        line.send({"type": "program", "bytes": 0, "too_long": len(data), "digest": digest, "seconds": seconds})
    else:
        line.send({"type": "program", "bytes": len(data), "seconds": seconds}, data)
    frame = line.receive(ANSWER_SECONDS)
    if frame.get("program") != digest or frame.get("type") not in ("running", "refused"):
        raise MalformedInput("the governor answered something else than was asked", help="update both sides")
    if frame["type"] == "refused":
        line.close()
        return Program(line, digest=digest, pipes=None, findings=findings_of(frame))
    read_fd, write_fd = line.take_fds(2)
    pipes = Pipes(read_fd=read_fd, write_fd=write_fd, seconds=seconds + GRACE_SECONDS)
    return Program(line, digest=digest, pipes=pipes)


def admission_of(frame: Mapping[str, Json], kind: str) -> Admission:
    """The verdict in a frame; raises MalformedInput for another frame."""
    if frame.get("type") != kind:
        raise MalformedInput(f"the governor answered `{frame.get('type')}`", help="update both sides")
    words = (str(frame.get(name, "")) for name in ("evidence", "ended"))
    return Admission(frame.get("admitted") is True, findings_of(dict(frame)), *words)


def reasons_of(said: object) -> tuple[str, ...]:
    """The reasons that a check gave: a text, several, or none where it said nothing or that all is well."""
    if said is None or said is True:
        return ()
    if said is False:
        return ("the check refused it",)
    given = said if isinstance(said, Iterable) and not isinstance(said, str) else (said,)
    return tuple(_written(each) for each in given if each != "")


def _metric(value: object) -> Json:
    """A metric as a frame carries it: a number, a truth value, or a text for everything else."""
    value = _unpacked(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Real):
        try:
            number = float(value)
        except OverflowError:  # a whole number beyond every float: a program may well return one
            number = -math.inf if value < 0 else math.inf
        return number if math.isfinite(number) and not 2**53 <= abs(number) < 1e21 else repr(number)
    return _plain(_written(value), 200)


def _written(value: object) -> str:
    """Whatever it is as a text; Python writes no whole number of thousands of digits, and no endless nesting."""
    try:
        return str(value)
    except (ValueError, RecursionError) as error:
        return f"a `{type(value).__name__}` that cannot be written: {error}"


def _unpacked(value: Any) -> Any:
    """A number of numpy's as Python's own."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value


def _plain(text: str, characters: int) -> str:
    return text.encode("utf-8", "backslashreplace").decode()[:characters]
