"""Frames between the governor and a sealed subject: a length, then one canonical JSON object.

A frame is a big-endian u32 length and that many bytes. The reader takes bytes as they come and never trusts
their sender: it bounds bytes, frames and depth, and stays broken once it has been broken.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from keyturn.core.errors import MalformedInput
from keyturn.wire import canonical

if TYPE_CHECKING:
    from keyturn.core.terms import Json

FRAME_BYTES_MAX = 65_536
"""The most bytes that the JSON of one frame may have."""

FRAME_DEPTH_MAX = 8
"""How deep the JSON of one frame may be nested."""

_LENGTH = struct.Struct(">I")
_HELP = "send a big-endian u32 length and that many bytes of one canonical JSON object"


def encode_frame(obj: dict[str, Json]) -> bytes:
    """Return `obj` as one frame; raises MalformedInput when it is too large or too deep to be read back."""
    body = canonical.encode(obj)
    if len(body) > FRAME_BYTES_MAX:
        message = f"found {len(body)} bytes for one frame; {FRAME_BYTES_MAX} is the limit"
        raise MalformedInput(message, help="split it over several frames")
    canonical.decode(body, depth_max=FRAME_DEPTH_MAX)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Turns bytes, in whatever pieces they come, into objects, up to its limits.

    What a sender gets accepted never depends on how its bytes were cut into pieces: objects before a fault
    are returned, and the fault is raised at the next call at the latest, and at every call from then on.
    """

    __slots__ = ("_buffer", "_bytes_left", "_fault", "_frames_left")

    def __init__(self, *, bytes_max_total: int, frames_max: int) -> None:
        self._buffer = bytearray()
        self._bytes_left = bytes_max_total
        self._frames_left = frames_max
        self._fault: str = ""

    def feed(self, data: bytes) -> list[dict[str, Json]]:
        """Take the next bytes and return the objects that they complete.

        Raises MalformedInput: more bytes or frames than allowed, an empty or oversized frame, JSON that is
        not canonical or not an object.
        """
        self._raise_fault()
        accepted = data[: max(self._bytes_left, 0)]
        self._bytes_left -= len(data)
        self._buffer += accepted
        found = self._frames()
        if not self._fault and self._bytes_left < 0:
            self._fault = "found more bytes than are allowed in total"
        if not found:
            self._raise_fault()
        return found

    def end(self) -> None:
        """Say that no more bytes will come; raises MalformedInput when a frame was cut short."""
        self._raise_fault()
        if self._buffer:
            self._fault = f"found {len(self._buffer)} bytes of an unfinished frame at the end"
            self._raise_fault()

    def _frames(self) -> list[dict[str, Json]]:
        found: list[dict[str, Json]] = []
        start = 0
        try:
            while (body := self._body(start)) is not None:
                found.append(_object(body))
                start += _LENGTH.size + len(body)
                self._frames_left -= 1
        except MalformedInput as error:
            self._fault = error.message
        del self._buffer[:start]
        return found

    def _body(self, start: int) -> bytes | None:
        """The next whole body, or None; faults are found as early as their first bytes allow."""
        if len(self._buffer) == start:
            return None
        if self._frames_left <= 0:
            raise MalformedInput("found bytes after the last frame that is allowed", help=_HELP)
        if len(self._buffer) < start + _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        if not 0 < length <= FRAME_BYTES_MAX:
            message = f"found a frame of {length} bytes; 1 to {FRAME_BYTES_MAX} are allowed"
            raise MalformedInput(message, help=_HELP)
        body = bytes(self._buffer[start + _LENGTH.size : start + _LENGTH.size + length])
        return body if len(body) == length else None

    def _raise_fault(self) -> None:
        if self._fault:
            raise MalformedInput(self._fault, help=_HELP)


def _object(body: bytes) -> dict[str, Json]:
    value = canonical.decode_canonical(body, depth_max=FRAME_DEPTH_MAX)
    if not isinstance(value, dict):
        raise MalformedInput("found a frame that is no JSON object", help=_HELP)
    return value
