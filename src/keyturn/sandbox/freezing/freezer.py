"""Hold every sandbox of one governor still with one write, and let them go on by its word: the protocol's other end.

First nothing more is launched, then each init is told and answers, then the kernel holds all of it still. A halt takes
no lock of this and comes through at any moment; it ends what is held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from keyturn.core.errors import Conflict, Unavailable
from keyturn.core.terms import Instant
from keyturn.sandbox.cell import Cell
from keyturn.sandbox.cgroups import hold_still, is_still, processes
from keyturn.sandbox.freezing.clock import CLOCK
from keyturn.sandbox.freezing.held import Held, Look
from keyturn.sandbox.proof import boottime

LAUNCH_SECONDS_MAX = 3.0
"""How long a launch that is under way may take before it counts as not held."""

PATIENCE_SECONDS = 10.0
"""How long after its bound a launch still waits for the halt of what was forgotten."""

ANSWER_SECONDS_MAX = 1.0
STILL_SECONDS_MAX = 2.0
LOOK_SECONDS = 0.0005


class Freezer:
    """What is held still, and the gate through which every launch goes. `cells` are the live sandboxes."""

    def __init__(self, root: Callable[[], Path | None], cells: Callable[[], list[Cell]]) -> None:
        self._root, self._cells = root, cells
        self._turn = threading.Lock()
        self._gate = threading.Condition()
        self._launching = 0
        self._until: float | None = None
        self._ends = 0

    @contextmanager
    def launching(self) -> Iterator[None]:
        """Build a sandbox inside: waits while all is held still, and raises `Unavailable` when a halt ends that."""
        with self._gate:
            ends = self._ends
            while self._until is not None:
                if boottime() > self._until + PATIENCE_SECONDS:
                    raise Unavailable("a freeze is past its bound, and nobody has halted", help="`keyturn halt`")
                self._gate.wait(LAUNCH_SECONDS_MAX)
            if self._ends != ends:
                raise Unavailable("a halt came while everything was held still", help="see `keyturn status`")
            self._launching += 1
        try:
            yield
        finally:
            with self._gate:
                self._launching -= 1
                self._gate.notify_all()

    def freeze(self, seconds: float) -> Held:
        """Hold everything still for so long at the most; what goes on after that ends by itself."""
        with self._turn:
            return self._freeze(seconds)

    def _freeze(self, seconds: float) -> Held:
        start, requested_at = boottime(), Instant(time.time_ns() // 1_000_000)
        root, ends = self._root(), self._ends
        if self._until is not None:
            raise Conflict("everything is held still already", help="let it go on first, or halt")
        if root is None and self._cells():
            why = "there is no cgroup of ours, so nothing can be held still"
            return Held("nothing", requested_at, None, len(self._cells()), 0, "NOT HELD", (why,))
        with self._gate:
            self._until = start + seconds
        CLOCK.stop()
        try:
            return self._hold(root, ends, seconds, start, requested_at)
        except BaseException:
            self._open(root)  # whoever asked hears of a fault, and nobody would let go of what was held
            raise

    def _hold(self, root: Path | None, ends: int, seconds: float, start: float, requested_at: Instant) -> Held:
        unknown = [] if self._launched() else ["a sandbox is still being built"]
        cells = [cell for cell in self._cells() if not cell.closed]
        unknown += self._announce(cells, int((start + seconds - boottime()) * 1000))
        took = None
        if root is not None:
            took = self._still(root, start)
            unknown += [] if took is not None else ["the kernel did not say that everything is still"]
        if self._ends != ends:
            self._open(root)
            unknown.append("a halt came in between")
        alive = len(processes(root)) if root is not None else 0
        scope = f"{len(cells)} {'sandbox' if len(cells) == 1 else 'sandboxes'} of this governor"
        state = "UNPROVEN" if unknown else "HELD"
        return Held(scope, requested_at, took, len(cells), alive, state, tuple(unknown))  # type: ignore[arg-type]  # one of two

    def _launched(self) -> bool:
        """Whether whatever was being built is built now."""
        with self._gate:
            return self._gate.wait_for(lambda: not self._launching, LAUNCH_SECONDS_MAX)

    def _announce(self, cells: list[Cell], milliseconds: int) -> list[str]:
        """Tell each init, and hear from each; who is silent and holds no subject yet is killed, others are named."""
        for cell in cells:
            cell.announce(milliseconds)
        leases = [cell.spec.lease_seconds for cell in cells]
        until = boottime() + min([ANSWER_SECONDS_MAX, *(each / 2 for each in leases)])
        waiting = list(cells)
        while waiting and boottime() < until:
            for cell in waiting:
                cell.hear()
            waiting = [cell for cell in waiting if not cell.ready_to_hold and not cell.silent and not cell.closed]
            time.sleep(LOOK_SECONDS)
        for cell in [each for each in waiting if each.idle]:
            cell.kill()
        named = [cell.id for cell in waiting if not cell.idle]
        return [f"the init of {name} did not answer; it ends at the thaw" for name in named]

    def _still(self, root: Path, start: float) -> float | None:
        """Have the kernel hold it still; milliseconds since `start`, None where that was not seen."""
        until = boottime() + STILL_SECONDS_MAX
        hold_still(root, still=True)
        while not is_still(root):
            if boottime() > until:
                return None
            time.sleep(LOOK_SECONDS)
        return round((boottime() - start) * 1000, 3)

    def thaw(self) -> None:
        """Let everything go on; raises `Conflict` when nothing is held or the bound has passed, which is for a halt."""
        with self._turn:
            if self._until is None:
                raise Conflict("nothing is held still here", help="see `keyturn status`")
            if boottime() > self._until:
                raise Conflict("the bound of the freeze has passed, so nothing goes on", help="halt")
            for cell in self._cells():
                cell.go_on()
            if not self._open(self._root()):
                raise Unavailable("the kernel does not let go of what is held still", help="`keyturn halt`")

    def end(self) -> None:
        """After a kill: nothing is held still any more, and whoever waited to launch must not."""
        self._ends += 1
        self._open(self._root())

    def _open(self, root: Path | None) -> bool:
        """Let go, then let the clock go on and launches through."""
        done = root is None or hold_still(root, still=False)
        CLOCK.go_on()
        with self._gate:
            self._until = None
            self._gate.notify_all()
        return done

    def look(self) -> tuple[Look, ...]:
        """What lives now, as the kernel tells of it."""
        return tuple(_look(cell) for cell in self._cells() if not cell.closed)


def _look(cell: Cell) -> Look:
    leaf = cell.leaf
    return Look(
        id=cell.id,
        purpose=cell.spec.purpose,
        waits=cell.idle,
        still=leaf.folder is not None and is_still(leaf.folder),
        processes=len(cell.processes()),
        cpu_seconds=leaf.cpu_seconds(),
        memory_bytes=leaf.memory_bytes(),
        age_seconds=round(boottime() - cell.born, 3),
    )
