"""The governor's end of one attach stream: frames to and from `contained.py`, and the subject's streams as pipes.

A thread moves bytes and takes words in, and never renews a lease: that is for whoever governs. A frame that is
too long, unknown or not init's own ends the link, and with it the container.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import struct
import threading
from collections.abc import Callable

from keyturn.core.errors import Unavailable
from keyturn.sandbox.alone.surroundings import GOVERNOR, INIT, TAG_BYTES, tag
from keyturn.sandbox.engines.port import Stream
from keyturn.sandbox.port import DecoyOpened

HEADER = struct.Struct(">IB")
FRAME_BYTES_MAX = 128 * 1024
WINDOW_BYTES = 256 * 1024
"""How much of the subject's output may be on its way; more is let through as it is read."""

INPUT_BYTES_MAX = 64 * 1024
INIT_WORDS_MAX = 8192
ENTRIES_MAX = 1000


class Link:
    """One attach stream. `hands_out_max` is the most that may come out of `/out` in all."""

    def __init__(self, stream: Stream, *, key: bytes, joined: bool, diagnostics_max: int, hands_out_max: int) -> None:
        self._stream, self._diagnostics_max, self._left = stream, diagnostics_max, hands_out_max
        self._key, self._said, self._heard = key, 0, 0
        self._lock, self._changed = threading.Lock(), threading.Condition()
        self._inbox = bytearray()
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.decoy_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stop_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.stdin = self.stdout = self._stdin_far = self._stdout_far = -1
        if joined:
            (self._stdin_far, self.stdin), (self.stdout, self._stdout_far) = os.pipe(), os.pipe()
            for fd in (self.stdin, self.stdout, self._stdin_far, self._stdout_far):
                os.set_blocking(fd, False)
            with contextlib.suppress(OSError):  # without it what is on its way waits here instead
                fcntl.fcntl(self._stdout_far, fcntl.F_SETPIPE_SZ, WINDOW_BYTES)
        self.parked: dict[str, object] | None = None
        self.ended: dict[str, object] | None = None
        self.last_words, self.init_words, self.diagnostics, self.said_bytes = "", b"", b"", 0
        self.silent = False
        self.living: list[int] | None = None
        self.entries: list[tuple[str, tuple[int, int, int], bytes | str | None]] = []
        self.handed_out = False
        self.touched: dict[DecoyOpened, None] = {}
        self._output, self._input_left, self._parts = bytearray(), INPUT_BYTES_MAX, bytearray()
        self._over = False
        self._thread = threading.Thread(target=self._move, name="keyturn-link", daemon=True)
        self._thread.start()

    # -- speaking

    def say(self, kind: bytes, data: bytes = b"") -> bool:
        """Send one frame, from any thread; False where nobody can hear it any more."""
        with self._lock:
            if self.silent:
                return False
            try:
                frame = HEADER.pack(len(data), kind[0]) + data
                key = b"" if kind == b"C" else self._key  # the first frame of all brings it
                self._stream.send(frame + tag(key, GOVERNOR, self._said, frame))
                self._said += 1
            except OSError:
                self._end()
                return False
            return True

    def wait_for(self, true: Callable[[], object], seconds: float) -> bool:
        """Whether something comes true before that, while the other end still speaks."""
        with self._changed:
            self._changed.wait_for(lambda: true() or self.silent, seconds)
            return bool(true())

    def ask_living(self, seconds: float) -> frozenset[int]:
        """Who lives inside, init left out, by their numbers there. Raises `Unavailable` without an answer."""
        self.living = None
        self.say(b"Q")
        self.wait_for(lambda: self.living is not None, seconds)
        found: list[int] | None = self.living
        if found is None:
            raise Unavailable("the container does not say who lives in it", help="take another one")
        return frozenset(found)

    def close(self) -> None:
        """End the stream, which ends what is at its other end, and give the descriptors back; idempotent."""
        self._end()
        os.eventfd_write(self._stop_fd, 1)
        if self._thread is not threading.current_thread():
            self._thread.join(10)
        with self._lock:
            for fd in (self.stdin, self.stdout, self._stdin_far, self._stdout_far):
                if fd >= 0:
                    os.close(fd)
            self.stdin = self.stdout = self._stdin_far = self._stdout_far = -1

    def release(self) -> None:
        """Give the last descriptors back, once nobody waits on them; only after `close`."""
        for fd in (self.wake_fd, self.decoy_fd, self._stop_fd):
            os.close(fd)

    def cut(self) -> None:
        """End the stream alone: whatever is at its other end dies of that."""
        self._end()

    def _end(self) -> None:
        if not self.silent:
            self.silent = True
            with contextlib.suppress(OSError):
                self._stream.cut()
            os.eventfd_write(self.wake_fd, 1)
            with self._changed:
                self._changed.notify_all()

    # -- the thread

    def _move(self) -> None:
        try:
            while not self.silent:
                self._round()
        except (OSError, ValueError, LookupError, TypeError, struct.error, Unavailable):
            pass  # what cannot be read ends the link below, and whoever governs sees it as lost
        finally:
            self._end()
            self._stream.close()
            self._leave_output()

    def _round(self) -> None:
        poll = select.poll()
        poll.register(self._stop_fd, select.POLLIN)
        poll.register(self._stream.fileno(), select.POLLIN)
        if self._stdin_far >= 0 and self._input_left:
            poll.register(self._stdin_far, select.POLLIN)
        if self._output:
            poll.register(self._stdout_far, select.POLLOUT)
        ready = {fd for fd, _ in poll.poll(0 if self._stream.pending() else 1000)}
        if self._stop_fd in ready:
            self._end()
            return
        if self._stream.pending() or self._stream.fileno() in ready:
            self._hear()
        if self._stdin_far in ready:
            self._hand_in()
        if self._stdout_far in ready:
            self._hand_on()

    def _hand_in(self) -> None:
        data = os.read(self._stdin_far, min(32768, self._input_left))
        if not data:
            os.close(self._stdin_far)
            self._stdin_far = -1
            return
        self._input_left -= len(data)
        self.say(b"I", data)

    def _hand_on(self) -> None:
        try:
            took = os.write(self._stdout_far, self._output[:65536])
        except BlockingIOError:
            return
        except OSError:  # the reader is gone
            took = len(self._output)
        del self._output[:took]
        self.say(b"W", b"%d" % took)
        if self._over:
            self._shut_output()

    def _hear(self) -> None:
        got = self._stream.receive()
        if got is None:
            self._end()
            return
        out, err = got
        self.init_words = (self.init_words + err)[-INIT_WORDS_MAX:]
        self._inbox += out
        while len(self._inbox) >= HEADER.size:
            length, kind = HEADER.unpack_from(self._inbox)
            if length > FRAME_BYTES_MAX:
                raise ValueError("a frame is too long")
            size = HEADER.size + length
            if len(self._inbox) < size + TAG_BYTES:
                return
            frame, shown = bytes(self._inbox[:size]), bytes(self._inbox[size : size + TAG_BYTES])
            if shown != tag(self._key, INIT, self._heard, frame):
                raise ValueError("a frame is not init's own")
            del self._inbox[: size + TAG_BYTES]
            self._heard += 1
            self._take(bytes([kind]), frame[HEADER.size :])

    def _take(self, kind: bytes, body: bytes) -> None:
        """One whole frame of init's."""
        if kind == b"O":
            self._output += body
            if len(self._output) > WINDOW_BYTES:
                raise ValueError("more output than was let through")
            if not body:
                self._shut_output()
            elif self._stdout_far >= 0:
                self._hand_on()
        elif kind == b"S":
            self.said_bytes += len(body)
            self.diagnostics = (self.diagnostics + body)[-self._diagnostics_max :]
        elif kind == b"A":
            self._input_left = min(INPUT_BYTES_MAX, self._input_left + int(body))
        elif kind == b"Y":
            name, how = json.loads(body)
            if how not in {"opened", "written"}:
                raise ValueError("a decoy was touched in no known way")
            self.touched.setdefault(DecoyOpened(str(name), how))
            os.eventfd_write(self.decoy_fd, 1)
        elif not self._take_in_the_end(kind, body):
            self._take_word(kind, body)
        with self._changed:
            self._changed.notify_all()

    def _take_word(self, kind: bytes, body: bytes) -> None:
        if kind == b"P":
            self.parked = json.loads(body)
        elif kind == b"E" and self.ended is None:
            self.ended = json.loads(body)
            os.eventfd_write(self.wake_fd, 1)
        elif kind == b"X":
            self.last_words = body.decode()
        elif kind == b"N":
            self.living = [int(pid) for pid in json.loads(body)]
        elif kind == b"U" and self._stdin_far >= 0:  # the subject has closed its input
            os.close(self._stdin_far)
            self._stdin_far = -1
        elif kind != b"U":
            raise ValueError("an unknown frame")

    def _take_in_the_end(self, kind: bytes, body: bytes) -> bool:
        """What comes out of `/out`, entry by entry; whether it was that."""
        if kind == b"M" and len(self.entries) <= ENTRIES_MAX:
            name, mode, links, size = json.loads(body)
            self.entries.append((os.fsdecode(bytes.fromhex(name)), (int(mode), int(links), int(size)), None))
            self._parts.clear()
        elif kind == b"m":
            self._left -= len(body)
            if self._left < 0:
                raise ValueError("more came out than may lie there")
            self._parts += body
        elif kind in {b"w", b"e"}:
            name, status, _ = self.entries[-1]
            self.entries[-1] = (name, status, bytes(self._parts) if kind == b"w" else body.decode(errors="replace"))
        elif kind == b"D":
            self.handed_out = True
        else:
            return False
        return True

    def _shut_output(self) -> None:
        """Whoever reads the subject's output sees its end once all has been read."""
        self._over = True
        if not self._output and self._stdout_far >= 0:
            os.close(self._stdout_far)
            self._stdout_far = -1

    def _leave_output(self) -> None:
        """What had come by the end may still be read; waits for the reader, or until everything is given back."""
        poll = select.poll()
        poll.register(self._stop_fd, select.POLLIN)
        if self._stdout_far >= 0:
            poll.register(self._stdout_far, select.POLLOUT)
        while self._output and self._stdout_far >= 0:
            if any(fd == self._stop_fd for fd, _ in poll.poll()):
                self._output.clear()
            self._hand_on()
        self._shut_output()
