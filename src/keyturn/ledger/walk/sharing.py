"""The parts of a log, recomputed by this process from the front and by a second one from the back, until they meet.

The second starts with nothing of this one in it: no thread, no lock and no main module is copied. Whatever it does not
deliver is recomputed here, so that one that cannot start, or dies, only costs time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from keyturn.core.errors import InvariantBroken
from keyturn.ledger.store import Store
from keyturn.ledger.stores.port import LogStore
from keyturn.ledger.walk.part import Found, Task, recompute

PARTS_MIN = 16
"""A log of fewer parts, a million entries, is done about as soon as a second process has started and helped."""

SECOND = Path(__file__).with_name("second.py")


def processes_for(task: Task) -> int:
    """How many processes are worth their start: two on two cores for a log that is long enough."""
    return 2 if task.parts >= PARTS_MIN and len(os.sched_getaffinity(0)) > 1 else 1


def recompute_all(store: LogStore, task: Task, *, processes: int) -> Iterator[Found]:
    """Yield what every part shows, in order; the same whether one process or two do it."""
    if processes < 2 or task.parts < 2 or not isinstance(store, Store):  # one connection reads a database of others
        yield from (recompute(store, task, part) for part in range(task.parts))
        return
    with _seconded(store.path, task) as back:
        part = 0
        while part < task.parts and part < back.working_on():
            yield recompute(store, task, part)
            part += 1
        for rest in range(part, task.parts):
            yield back.take(rest) or recompute(store, task, rest)


@dataclass(slots=True)
class _Back:
    """What the second has delivered so far: every part from `reached` on."""

    parts: int
    reached: int
    done: dict[int, Found] = field(default_factory=dict)
    ended: bool = False
    news: threading.Condition = field(default_factory=threading.Condition)

    def listen(self, lines: IO[str]) -> None:
        """Take what the second says until it ends; what is cut off or senseless ends it too."""
        try:
            for line in lines:
                said = json.loads(line)
                self._deliver(int(said["part"]), Found.from_json(said))
        except (ValueError, KeyError, TypeError, InvariantBroken):
            pass  # what it did not deliver is recomputed by whoever asks for it
        finally:
            with self.news:
                self.ended = True
                self.news.notify_all()

    def _deliver(self, part: int, found: Found) -> None:
        with self.news:
            self.done[part], self.reached = found, part
            self.news.notify_all()

    def working_on(self) -> int:
        """The part that the second is at, which need not be begun here."""
        with self.news:
            return self.parts if self.ended and not self.done else self.reached if self.ended else self.reached - 1

    def take(self, part: int) -> Found | None:
        """What the second found in a part, once it has; None when it will not."""
        with self.news:
            self.news.wait_for(lambda: self.ended or part in self.done)
            return self.done.pop(part, None)


@contextmanager
def _seconded(path: Path, task: Task) -> Iterator[_Back]:
    back, pipe = _Back(task.parts, task.parts), subprocess.PIPE
    try:
        second = subprocess.Popen(
            [sys.executable, "-I", str(SECOND)], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:  # no process or no memory is left
        back.ended = True
        yield back
        return
    with second:
        listener = threading.Thread(target=back.listen, args=(second.stdout,), name="keyturn-check", daemon=True)
        listener.start()
        try:
            _tell(second.stdin, {"path": str(path.absolute()), **asdict(task)})
            yield back
        finally:
            second.kill()
            listener.join()


def _tell(second: IO[str] | None, task: dict[str, object]) -> None:
    with suppress(BrokenPipeError):  # one that ended already is heard to have ended
        if second is not None:
            second.write(json.dumps(task))
            second.close()
