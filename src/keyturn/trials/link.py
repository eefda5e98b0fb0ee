"""One conversation in frames over two pipes, with a patience that runs out; it never trusts the other end.

Used for both ends of a trial: the sealed subject and the grader. Who is at fault when it breaks, they know.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Json
from keyturn.wire.frames import FrameReader, encode_frame

Frame = dict[str, Json]

TICK_SECONDS: Final = 0.05
"""How often a waiting link calls `on_tick`; twice as often as the lease needs it."""

_CHUNK_BYTES: Final = 65_536


class Fault(StrEnum):
    """How the other end broke the protocol: a closed list, so that no text of a subject reaches the log."""

    LATE = "late"
    CLOSED = "closed"
    ILLEGAL_FRAME = "illegal-frame"
    UNASKED = "unasked"
    NOT_READY = "not-ready"
    WRONG_ANSWER = "wrong-answer"
    NOT_ASKED = "not-asked"


class LinkBroken(Exception):
    """The other end broke the protocol; the link stays broken."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """How much the other end may send over the life of the link; one frame is bounded by the wire format."""

    bytes_max: int
    frames_max: int


@dataclass(slots=True)
class Allowance:
    """How much one member may say until it is asked for another block, over all links that it has; None: no matter."""

    most: int | None = None
    read: int = 0

    @property
    def left(self) -> int:
        """How much may be read in one go."""
        return _CHUNK_BYTES if self.most is None else min(_CHUNK_BYTES, self.most - self.read)

    def taken(self) -> int:
        """What was read since this was asked last; from here on it counts anew."""
        read, self.read = self.read, 0
        return read


class Link:
    """Frames over a pair of file descriptors, which the caller opens and closes.

    `on_tick` is called at least every 100 ms while waiting, also under a flood; what it raises (a halt) comes
    through. The descriptors become non-blocking.
    """

    def __init__(
        self,
        *,
        read_fd: int,
        write_fd: int,
        on_tick: Callable[[], None],
        limits: LinkLimits,
        clock: Callable[[], float] = time.monotonic,
        allowance: Allowance | None = None,
    ) -> None:
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)
        self._read_fd, self._write_fd = read_fd, write_fd
        self._on_tick, self._clock, self._ticked_at = on_tick, clock, clock()
        self._reader = FrameReader(bytes_max_total=limits.bytes_max, frames_max=limits.frames_max)
        self._broken: Fault | None = None
        self._allowance = allowance or Allowance()
        self.bytes_read = 0
        """All bytes that came from the other end so far, for the lineage's byte budget."""

    def exchange(self, frame: Frame, *, timeout_seconds: float) -> Frame:
        """Send one frame and return the one that answers it, or raise LinkBroken; a broken link stays so."""
        data = encode_frame(frame)
        deadline = self._clock() + timeout_seconds
        try:
            self._must_be_quiet()
            self._send(data, deadline)
            return self._receive(deadline)
        except LinkBroken as broken:
            self._broken = broken.fault
            raise

    def tell(self, frame: Frame) -> None:
        """Send one frame if that needs no waiting; for a last word, whose loss does no harm."""
        try:
            os.write(self._write_fd, encode_frame(frame))
        except OSError:
            return

    def _must_be_quiet(self) -> None:
        if self._broken is not None:
            raise LinkBroken(self._broken)
        if self._read() not in (None, b""):
            raise LinkBroken(Fault.UNASKED)

    def _send(self, data: bytes, deadline: float) -> None:
        while data:
            self._wait(self._write_fd, select.POLLOUT, deadline)
            try:
                data = data[os.write(self._write_fd, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise LinkBroken(Fault.CLOSED) from error

    def _receive(self, deadline: float) -> Frame:
        while True:
            self._wait(self._read_fd, select.POLLIN, deadline)
            data = self._read()
            if data is None:
                continue
            if not data:
                raise LinkBroken(Fault.CLOSED)
            try:
                frames = self._reader.feed(data)
            except MalformedInput as error:
                raise LinkBroken(Fault.ILLEGAL_FRAME) from error
            if len(frames) > 1:
                raise LinkBroken(Fault.UNASKED)
            if frames:
                return frames[0]

    def _read(self) -> bytes | None:
        """The bytes that lie ready, nothing at the end of the file, or None when one would have to wait."""
        if self._allowance.left <= 0:
            raise LinkBroken(Fault.ILLEGAL_FRAME)  # what it might say beyond this is never read
        try:
            data = os.read(self._read_fd, self._allowance.left)
        except BlockingIOError:
            return None
        except OSError as error:
            raise LinkBroken(Fault.CLOSED) from error
        self.bytes_read += len(data)
        self._allowance.read += len(data)
        return data

    def _wait(self, fd: int, events: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(fd, events)
        while True:
            now = self._clock()
            if now - self._ticked_at >= TICK_SECONDS:
                self._ticked_at = now
                self._on_tick()
            if now >= deadline:
                raise LinkBroken(Fault.LATE)
            if poll.poll(1000.0 * min(TICK_SECONDS, deadline - now)):
                return
            self._ticked_at = self._clock()
            self._on_tick()  # here too, because a subject's clock may stand still
