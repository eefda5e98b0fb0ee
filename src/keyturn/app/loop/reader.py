"""The governor's end of the process that reads programs: one text at a time, and patience that runs out.

A text that breaks or outlasts its reader is refused; the next text gets a fresh one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict

from keyturn.app.loop.door import Door
from keyturn.app.loop.reading import LENGTH, SECONDS_MAX
from keyturn.core.admission import look
from keyturn.core.errors import Unavailable
from keyturn.core.finding import Finding
from keyturn.core.policy import Loop
from keyturn.sandbox.proof import boottime

PATIENCE_SECONDS = SECONDS_MAX + 2.0
READ_BYTES = 65_536

Then = Callable[[tuple[Finding, ...]], None]


class Reader:
    """Says what is wrong with texts, in the order in which they were handed in; close it at the end."""

    def __init__(self, door: Door, loop: Loop, *, parent: bytes, bytes_max: int) -> None:
        self._door, self._loop, self._parent, self._bytes_max = door, loop, parent, bytes_max
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: deque[tuple[bytes, Then]] = deque()
        self._current: Then | None = None
        self._going_in, self._come_out = memoryview(b""), bytearray()
        self._writes = False
        self._until = 0.0
        if loop.protect != "nothing":
            self._start()

    def ask(self, data: bytes, then: Then) -> None:
        """Call `then` with what is wrong with this text: at once where nothing has to be read as Python."""
        if self._loop.protect == "nothing" or not 0 < len(data) <= self._bytes_max:
            then(look(data, "", self._loop, self._bytes_max))
            return
        self._waiting.append((data, then))
        self._next()

    def tick(self) -> float | None:
        """Give up on a text that takes too long; returns until when the one at hand may take."""
        if self._current is not None and boottime() >= self._until:
            self._give_up("reading it took too long")
        return self._until if self._current is not None else None

    def close(self) -> None:
        """End the process; what was not read yet is never answered."""
        self._waiting.clear()
        self._current = None
        self._stop()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "keyturn.app.loop.reading"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip  # streams in one row
        self._process = process
        sink, source = _ends(process)
        os.set_blocking(sink, False)
        os.set_blocking(source, False)
        self._door.watch(source, self._read)
        rules = json.dumps({**asdict(self._loop), "bytes_max": self._bytes_max}).encode()
        self._going_in = memoryview(_block(rules) + _block(self._parent))
        self._come_out = bytearray()
        self._write()
        return process

    def _next(self) -> None:
        if self._current is not None or not self._waiting:
            return
        if self._process is None:
            self._start()
        data, self._current = self._waiting.popleft()
        self._until = boottime() + PATIENCE_SECONDS
        self._going_in = memoryview(bytes(self._going_in) + _block(data))
        self._write()

    def _write(self) -> None:
        if self._process is None:
            return
        sink, _ = _ends(self._process)
        try:
            while self._going_in:
                self._going_in = self._going_in[os.write(sink, self._going_in) :]
        except BlockingIOError:
            pass
        except OSError:
            self._going_in = memoryview(b"")  # it is gone, which its other pipe tells
        wants = bool(self._going_in)
        if wants and not self._writes:
            self._door.watch(sink, self._write, writable=True)
        elif self._writes and not wants:
            self._door.unwatch(sink)
        self._writes = wants

    def _read(self) -> None:
        if self._process is None:
            return
        try:
            data = os.read(_ends(self._process)[1], READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._ended()
            return
        self._come_out += data
        if len(self._come_out) < LENGTH.size:
            return
        (length,) = LENGTH.unpack_from(self._come_out)
        if len(self._come_out) < LENGTH.size + length:
            return
        rows = json.loads(bytes(self._come_out[LENGTH.size : LENGTH.size + length]))
        self._come_out.clear()
        self._answer(tuple(Finding(row["rule"], row["message"], row["help"]) for row in rows))

    def _ended(self) -> None:
        """It ended by itself: struck down by a text, or unable to run at all."""
        code = self._stop(wait=True)
        if code is not None and code > 0:
            raise Unavailable("the process that reads programs cannot run", help="see `keyturn doctor`")
        self._give_up("reading it broke down")

    def _give_up(self, why: str) -> None:
        self._stop()
        help = "a text that cannot be read cannot be compared with its parent; write it more plainly"
        self._answer((Finding("protected_text_must_stand", f"the program could not be compared: {why}", help),))

    def _answer(self, found: tuple[Finding, ...]) -> None:
        then, self._current = self._current, None
        if then is not None:
            then(found)
        self._next()

    def _stop(self, *, wait: bool = False) -> int | None:
        """End the process if there is one; the code with which it ended by itself, which may come a little later."""
        process, self._process = self._process, None
        if process is None:
            return None
        sink, source = _ends(process)
        if self._writes:
            self._door.unwatch(sink)
            self._writes = False
        self._door.unwatch(source)
        try:
            process.wait(1.0 if wait else 0.0)
        except subprocess.TimeoutExpired:
            process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        return process.wait()


def _ends(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Where it reads from us, and where it writes to us."""
    if process.stdin is None or process.stdout is None:
        raise Unavailable("the process that reads programs has no pipes", help="this must not be; please report it")
    return process.stdin.fileno(), process.stdout.fileno()


def _block(data: bytes) -> bytes:
    return LENGTH.pack(len(data)) + data
