"""Trial frames on blocking byte streams, one at a time; the bytes themselves are `keyturn.wire.frames`.

It never buffers past one frame, so a stream can be handed on between frames.
"""

from __future__ import annotations

from typing import BinaryIO

from keyturn.core.terms import Json
from keyturn.wire.frames import FRAME_BYTES_MAX, FrameReader, encode_frame


def read_frame(stream: BinaryIO) -> dict[str, Json] | None:
    """Wait for one frame and read it; none at a clean end. Raises MalformedInput for anything but a whole frame."""
    head = stream.read(4)
    if not head:
        return None
    length = min(int.from_bytes(head, "big"), FRAME_BYTES_MAX)
    reader = FrameReader(bytes_max_total=4 + FRAME_BYTES_MAX, frames_max=1)
    found = reader.feed(head + stream.read(length))
    reader.end()
    return found[0]


def write_frame(stream: BinaryIO, frame: dict[str, Json]) -> None:
    """Write one frame and flush it."""
    stream.write(encode_frame(frame))
    stream.flush()
