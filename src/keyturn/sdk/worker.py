"""What any process of a loop may do: run a program sealed, and ask leave for what costs requests, tokens or money.

It needs to know only where the project is; `KEYTURN_LOOP` tells workers that a run started.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from keyturn.core.errors import KeyturnError, MalformedInput
from keyturn.core.terms import Json
from keyturn.sdk.line import Frame, Line
from keyturn.sdk.program import ANSWER_SECONDS, Program, start

VARIABLE: Final = "KEYTURN_LOOP"
"""The environment variable that names the project's folder to workers."""

PROGRAM_SECONDS: Final = 3600.0
"""How long a program is wanted where nothing else is said; the policy's limit ends it long before."""


class Worker:
    """One process of a loop; safe to use from several threads, and in a forked child."""

    def __init__(self, project: Path, *, bytes_max: int = 0) -> None:
        self.project = project
        self.bytes_max = bytes_max
        self._meter: tuple[int, Line] | None = None
        self._meter_lock = threading.Lock()

    def candidate(self, text: str, *, seconds: float = PROGRAM_SECONDS) -> Program:
        """Run a program's text sealed, for at most so many seconds; judge it inside a `with` block.

        Raises Stopped when nothing more may run. A refused text gives a program with `findings` that cannot be called.
        """
        return start(Line.to(self.project), text, seconds=seconds, bytes_max=self.bytes_max)

    def request(self) -> None:
        """Ask leave for one more request to an endpoint; raises Stopped when the bounds are used up."""
        self._metered({"type": "request"}, "granted")

    def used(self, *, requests: int = 1, tokens: int = 0, usd: float | None = None) -> None:
        """Report what was used; a price that is not known is not left out but said to be unknown. Raises Stopped."""
        self._metered({"type": "usage", "requests": requests, "tokens": tokens, "usd": usd}, "noted")

    def close(self) -> None:
        """Let go of the line on which usage is reported."""
        with self._meter_lock:
            if self._meter is not None:
                self._meter[1].close()
            self._meter = None

    def _metered(self, frame: dict[str, Json], wanted: str) -> None:
        with self._meter_lock:
            if self._meter is None or self._meter[0] != os.getpid():
                self._meter = (os.getpid(), Line.to(self.project))
            try:
                self._meter[1].send(frame)
                require(self._meter[1].receive(ANSWER_SECONDS), wanted)
            except KeyturnError:
                self._meter[1].close()
                self._meter = None
                raise


def attach(project: str | Path | None = None) -> Worker:
    """A worker of the run that governs this project, by default the one that `KEYTURN_LOOP` names."""
    place = project or os.environ.get(VARIABLE)
    if not place:
        raise MalformedInput(
            f"no project is named, and `{VARIABLE}` is not set", help="start this process inside `with govern(...)`"
        )
    return Worker(Path(place))


def require(frame: Frame, *wanted: str) -> Frame:
    """The frame, if it is of a kind that was expected; raises MalformedInput."""
    if frame.get("type") not in wanted:
        raise MalformedInput(f"the governor answered `{frame.get('type')}`", help="update both sides")
    return frame
