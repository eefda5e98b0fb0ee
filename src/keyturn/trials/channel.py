"""The way to a sealed subject: one question, one answer, and who is at fault when none comes.

It never tells a subject its scores, and it never lets a failing sandbox look like a failing candidate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Final, Protocol

from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.terms import Json
from keyturn.trials.link import Allowance, Fault, Frame, Link, LinkBroken, LinkLimits
from keyturn.wire import canonical
from keyturn.wire.frames import FRAME_BYTES_MAX

_ENVELOPE_BYTES: Final = 128  # what a frame needs around its outputs


class CandidateFault(KeyturnError):
    """The subject broke the protocol: the items of the block count against it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"the subject broke the protocol: {fault.value}", help="its items count against it")
        self.fault = fault


class SandboxFault(Unavailable):
    """The sandbox itself failed: the slot stays open, and nothing is known about the candidate."""


class Channel(Protocol):
    """A way to one subject. Every answer may come from something smarter than the reader."""

    def ask(self, frame: Frame, *, timeout_seconds: float) -> Frame:
        """Send a frame and return its answer; raises CandidateFault or SandboxFault."""
        ...

    def bye(self) -> None:
        """Say that nothing more will be asked; never waits and never raises."""
        ...


class FdChannel:
    """A channel over two pipes of a sandbox, which the caller owns and closes.

    `on_tick` renews the lease and may raise to abort on a halt. `sandbox_fault` is asked when the
    conversation breaks: if it says why the sandbox itself failed, the candidate is not charged.
    """

    def __init__(
        self,
        *,
        read_fd: int,
        write_fd: int,
        on_tick: Callable[[], None],
        limits: LinkLimits,
        sandbox_fault: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        allowance: Allowance | None = None,
    ) -> None:
        self._link = Link(
            read_fd=read_fd, write_fd=write_fd, on_tick=on_tick, limits=limits, clock=clock, allowance=allowance
        )
        self._sandbox_fault = sandbox_fault

    @property
    def bytes_read(self) -> int:
        """All bytes that were read of this subject so far; the `allowance` counts them over all its links."""
        return self._link.bytes_read

    def ask(self, frame: Frame, *, timeout_seconds: float) -> Frame:
        """Send a frame and return its answer within the time, or raise CandidateFault or SandboxFault."""
        try:
            return self._link.exchange(frame, timeout_seconds=timeout_seconds)
        except LinkBroken as broken:
            why = self._sandbox_fault()
            if why is not None:
                raise SandboxFault(
                    f"the sandbox failed during a trial: {why}", help="start the trial again; it resumes"
                ) from broken
            raise CandidateFault(broken.fault) from broken

    def bye(self) -> None:
        """Say that nothing more will be asked."""
        self._link.tell({"type": "bye"})


class RememberedChannel:
    """A reference that is asked each item once: later trials over the same bank reuse its answers.

    `answers` maps an item's canonical bytes to its output and belongs to one (root, bank); the caller keeps
    it. `opened` starts the reference only when an answer is missing. Only for suites whose items stand alone.
    """

    def __init__(self, *, answers: MutableMapping[bytes, Json], opened: Callable[[], Channel]) -> None:
        self._answers, self._opened = answers, opened
        self._channel: Channel | None = None

    def ask(self, frame: Frame, *, timeout_seconds: float) -> Frame:
        """Answer from memory where it can, and ask the reference for the rest."""
        if frame["type"] != "ask":
            return {"type": "ready"}
        items = frame["items"] if isinstance(frame["items"], list) else []
        keys = [canonical.encode(item) for item in items]
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in self._answers}
        if missing:
            outputs = converse(
                self._reference(timeout_seconds),
                frame["block"],
                list(missing.values()),
                timeout_seconds=timeout_seconds,
            )
            self._answers.update(zip(missing, outputs, strict=True))
        return {"type": "answer", "block": frame["block"], "outputs": [self._answers[key] for key in keys]}

    def bye(self) -> None:
        """Let go of the reference if it was started."""
        if self._channel is not None:
            self._channel.bye()

    def _reference(self, timeout_seconds: float) -> Channel:
        if self._channel is None:
            channel = self._opened()
            greet(channel, timeout_seconds=timeout_seconds)
            self._channel = channel
        return self._channel


def greet(channel: Channel, *, timeout_seconds: float) -> None:
    """Say hello and wait for `ready`; raises CandidateFault when something else comes."""
    if channel.ask({"type": "hello"}, timeout_seconds=timeout_seconds).get("type") != "ready":
        raise CandidateFault(Fault.NOT_READY)


def converse(channel: Channel, block: Json, items: list[Json], *, timeout_seconds: float) -> list[Json]:
    """Ask for one block's items and return one output for each; raises CandidateFault for anything else."""
    answer = channel.ask({"type": "ask", "block": block, "items": items}, timeout_seconds=timeout_seconds)
    outputs = answer.get("outputs")
    right = (
        set(answer) == {"type", "block", "outputs"}
        and answer["type"] == "answer"
        and type(answer["block"]) is int  # `true` equals 1, but is no block
        and answer["block"] == block
    )
    if not right or not isinstance(outputs, list) or len(outputs) != len(items):
        raise CandidateFault(Fault.WRONG_ANSWER)
    if len(canonical.encode(outputs)) > FRAME_BYTES_MAX - _ENVELOPE_BYTES:
        raise CandidateFault(Fault.WRONG_ANSWER)  # it could not be handed on, and that must not stop the trial
    return outputs
