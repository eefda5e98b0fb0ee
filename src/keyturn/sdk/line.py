"""The line to the governor: frames over the socket of a project, with bytes or descriptors that go along.

It bounds what it reads, and never guesses: what is no frame ends the line.
"""

from __future__ import annotations

import os
import socket
import struct
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.finding import Finding
from keyturn.core.terms import Json
from keyturn.sdk.errors import Stopped
from keyturn.wire.frames import FRAME_BYTES_MAX, FrameReader, encode_frame

Frame = dict[str, Json]

SOCKET: Final = ".keyturn/loop.sock"
"""Where the governor of a loop listens, within the project's folder."""

BLOB_BYTES_MAX: Final = 64 << 20
_FDS_MAX: Final = 8
_LENGTH: Final = struct.Struct(">I")
_PEER: Final = struct.Struct("3i")
_GONE: Final = "the governor is gone; start `keyturn loop serve` again, and the step goes on"


class Line:
    """One connection, for one question at a time; a context manager. A forked child must make one of its own."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._fds: list[int] = []
        _OPEN.add(self)

    @classmethod
    def to(cls, project: Path) -> Line:
        """Connect; raises Unavailable where nobody listens."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = -1
        try:
            place = project / SOCKET
            folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            channel.connect(f"/proc/self/fd/{folder}/{place.name}")  # a socket's own path may have 107 bytes only
            _require_own(channel)
        except Unavailable:
            channel.close()
            raise
        except OSError as error:
            channel.close()
            raise Unavailable(
                f"no governor listens for a loop in `{project}`: {error.strerror}",
                help="run `keyturn loop serve` there, or let `govern` start it",
            ) from error
        finally:
            if folder >= 0:
                os.close(folder)
        return cls(channel)

    def send(self, frame: Frame, blob: bytes = b"") -> None:
        """Send a frame, and the bytes that it announces; raises Stopped where the governor is gone."""
        try:
            self._channel.sendall(encode_frame(frame) + blob)
        except OSError as error:
            raise Stopped(_GONE) from error

    def receive(self, timeout_seconds: float | None = None) -> Frame:
        """The next frame; raises Stopped for the governor's `stop` and for its end, Unavailable when none comes."""
        frame = self.frame(timeout_seconds)
        if frame.get("type") == "stop":
            raise stopped(frame)
        return frame

    def frame(self, timeout_seconds: float | None = None) -> Frame:
        """The next frame, whatever it says; raises Stopped where the governor is gone, Unavailable when none comes."""
        self._channel.settimeout(timeout_seconds)
        head = self.exactly(_LENGTH.size)
        length = min(_LENGTH.unpack(head)[0], FRAME_BYTES_MAX)
        reader = FrameReader(bytes_max_total=_LENGTH.size + FRAME_BYTES_MAX, frames_max=1)
        frames = reader.feed(head + self.exactly(length))
        reader.end()
        return frames[0]

    def exactly(self, length: int) -> bytes:
        """So many bytes, which a frame announced; raises as `receive`."""
        if not 0 <= length <= BLOB_BYTES_MAX:
            raise MalformedInput(f"{length} bytes were announced; {BLOB_BYTES_MAX} is the limit", help="")
        data = bytearray()
        while len(data) < length:
            try:
                wanted = min(length - len(data), 1 << 16)
                piece, fds, _, _ = socket.recv_fds(self._channel, wanted, _FDS_MAX, socket.MSG_CMSG_CLOEXEC)
            except TimeoutError as error:
                raise Unavailable("the governor did not answer in time", help="see `keyturn status`") from error
            except OSError as error:
                raise Stopped(_GONE) from error
            self._fds += fds
            if not piece:
                raise Stopped(_GONE)
            data += piece
        return bytes(data)

    def take_fds(self, count: int) -> list[int]:
        """The descriptors that came with the last frame, now the caller's; raises MalformedInput for another number."""
        fds, self._fds = self._fds, []
        if len(fds) != count:
            _close_all(fds)
            raise MalformedInput(f"found {len(fds)} descriptors; {count} were expected", help="update both sides")
        return fds

    def end(self) -> None:
        """Say that nothing more comes, which also wakes a reader in another thread."""
        try:
            self._channel.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        """Let go of it."""
        _close_all(self._fds)
        self._fds = []
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_OPEN: Final[weakref.WeakSet[Line]] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A fork would keep the line open after its owner died, and the governor would take the owner to be alive."""
    for line in list(_OPEN):
        line.close()


os.register_at_fork(after_in_child=_let_go_in_child)


def _require_own(channel: socket.socket) -> None:
    """Whoever listens must be of our own account: a folder that a variable names can be anybody's."""
    _, user, _ = _PEER.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    if user != os.geteuid():
        raise Unavailable(
            f"who listens there for a loop is user {user}, and this is user {os.geteuid()}",
            help="run the loop and its governor as the same user",
        )


def stopped(frame: Frame) -> Stopped:
    """The error for a `stop`."""
    return Stopped(str(frame.get("why", "no reason was given")), halted=frame.get("halted") is True)


def findings_of(frame: Frame, key: str = "findings") -> tuple[Finding, ...]:
    """The findings that a frame carries."""
    rows = frame.get(key)
    if not isinstance(rows, list):
        return ()
    return tuple(
        Finding(*(str(row.get(name, "")) for name in ("rule", "message", "remedy")))
        for row in rows
        if isinstance(row, dict)
    )


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
