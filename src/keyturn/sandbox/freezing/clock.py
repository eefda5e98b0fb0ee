"""The clock by which this process judges its subjects: it stands still while they are held still.

Whoever waits for a subject, or charges it for time, reads this clock; whoever waits for anything else must not.
"""

from __future__ import annotations

from keyturn.sandbox.proof import boottime


class SubjectClock:
    """Seconds since the machine started, less those for which nothing of a subject could run."""

    def __init__(self) -> None:
        self._seen: tuple[float | None, float] = (None, 0.0)

    def now(self) -> float:
        """The present moment; the moment at which the clock was stopped, while it stands still."""
        stopped, lost = self._seen
        return (boottime() if stopped is None else stopped) - lost

    def stop(self) -> None:
        """Let it stand still, if it does not already."""
        stopped, lost = self._seen
        if stopped is None:
            self._seen = (boottime(), lost)

    def go_on(self) -> None:
        """Let it go on where it stood."""
        stopped, lost = self._seen
        if stopped is not None:
            self._seen = (None, lost + boottime() - stopped)

    def lost_seconds(self) -> float:
        """For how long it stood still in all; two readings that differ have a freeze between them."""
        stopped, lost = self._seen
        return lost if stopped is None else lost + boottime() - stopped


CLOCK = SubjectClock()
"""The one of this process, because a process governs one project."""

subject_time = CLOCK.now
