"""The conversation with the runner beside a sealed program, over two pipes that may be lied into at any moment.

It asks one item at a time and waits no longer than it was told. What does not answer as it should is over for good.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import Final, Protocol

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Json
from keyturn.sdk.errors import ProgramEnded
from keyturn.wire.frames import FrameReader, encode_frame

Output = dict[str, Json]

BYTES_MAX: Final = 1 << 30
"""What a program may send over its whole life."""

FRAMES_MAX: Final = 1 << 22
_CHUNK_BYTES: Final = 65_536


class Conversation(Protocol):
    """Questions to one runner and its answers. `lock` is held for as long as several questions belong together."""

    @property
    def lock(self) -> threading.RLock:
        """Held by whoever is asking."""

    def ask(self, item: Output, *, seconds: float | None = None) -> Output:
        """The output for one item; raises ProgramEnded."""


class Pipes:
    """A conversation over descriptors that it owns, for at most `seconds` in all. See `Conversation`."""

    def __init__(self, *, read_fd: int, write_fd: int, seconds: float) -> None:
        self.lock = threading.RLock()
        self._read_fd, self._write_fd = read_fd, write_fd
        for fd in (read_fd, write_fd):
            os.set_blocking(fd, False)
        self._reader = FrameReader(bytes_max_total=BYTES_MAX, frames_max=FRAMES_MAX)
        self._until = time.monotonic() + seconds
        self._block = 0
        self.how = ""
        """Why it is over, as seen from here; nothing while it goes on."""

    def ask(self, item: Output, *, seconds: float | None = None) -> Output:
        """The output for one item, within so many seconds; raises ProgramEnded, then and at every later question."""
        with self.lock:
            until = self._until if seconds is None else min(self._until, time.monotonic() + seconds)
            if self.how:
                raise ProgramEnded(self.how)
            self._block += 1
            try:
                self._send(encode_frame({"type": "ask", "block": self._block, "items": [item]}), until)
                return self._output(self._frame(until))
            except ProgramEnded as ended:
                self.how = ended.how
                raise

    def close(self) -> None:
        """Let go of the pipes; waits for a question that is under way, so let the sandbox end first."""
        with self.lock:
            self.how = self.how or "it was judged"
            for fd in (self._read_fd, self._write_fd):
                if fd >= 0:
                    os.close(fd)
            self._read_fd = self._write_fd = -1

    def _send(self, data: bytes, until: float) -> None:
        while data:
            try:
                data = data[os.write(self._write_fd, data) :]
            except BlockingIOError:
                self._wait(self._write_fd, select.POLLOUT, until)
            except OSError as error:
                raise ProgramEnded("it was stopped") from error

    def _frame(self, until: float) -> Output:
        while True:
            try:
                data = os.read(self._read_fd, _CHUNK_BYTES)
            except BlockingIOError:
                self._wait(self._read_fd, select.POLLIN, until)
                continue
            except OSError as error:
                raise ProgramEnded("it was stopped") from error
            if not data:
                raise ProgramEnded("it was stopped, or it ended itself")
            try:
                frames = self._reader.feed(data)
            except MalformedInput as error:
                raise ProgramEnded(f"it broke off the conversation: {error.message}") from error
            if len(frames) > 1:
                raise ProgramEnded("it broke off the conversation: it answered what was not asked")
            if frames:
                return frames[0]

    def _output(self, frame: Output) -> Output:
        outputs = frame.get("outputs")
        right = frame.get("type") == "answer" and type(frame.get("block")) is int and frame["block"] == self._block
        if right and isinstance(outputs, list) and len(outputs) == 1 and isinstance(outputs[0], dict):
            return outputs[0]
        raise ProgramEnded("it broke off the conversation: it did not answer what was asked")

    def _wait(self, fd: int, events: int, until: float) -> None:
        poll = select.poll()
        poll.register(fd, events)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000.0):
            raise ProgramEnded("it did not answer in time")


def at_once(conversation: Conversation, seconds: float) -> contextlib.AbstractContextManager[bool]:
    """Hold the conversation if it is free within so many seconds; gives whether it was."""
    return _Hold(conversation.lock, seconds)


class _Hold:
    """The lock, if it can be had in time."""

    def __init__(self, lock: threading.RLock, seconds: float) -> None:
        self._lock, self._seconds, self._held = lock, seconds, False

    def __enter__(self) -> bool:
        self._held = self._lock.acquire(timeout=self._seconds)
        return self._held

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._lock.release()
