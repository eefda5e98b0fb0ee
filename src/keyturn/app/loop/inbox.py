"""What comes in at the loop's door: frames, and the raw bytes that a `program` frame announces.

It bounds what it keeps whatever is sent, and it never trusts a length.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import NO_DIGEST, Digest, Json
from keyturn.wire import canonical
from keyturn.wire.frames import FRAME_BYTES_MAX, FRAME_DEPTH_MAX

BLOB_BYTES_MAX = 64 << 20
"""The longest blob that is read on, if only to say that it is too long; beyond it the connection ends."""

_LENGTH = struct.Struct(">I")
_HELP = "send a big-endian u32 length, that many bytes of one canonical JSON object, and the bytes that it announces"


@dataclass(frozen=True, slots=True)
class Message:
    """A frame and the blob behind it. `blob` is empty where it was longer than is kept; `digest` is over all of it."""

    header: dict[str, Json]
    blob: bytes = b""
    blob_bytes: int = 0
    digest: Digest = NO_DIGEST

    @property
    def type(self) -> str:
        """What kind of frame it is."""
        kind = self.header.get("type")
        return kind if isinstance(kind, str) else ""


class Inbox:
    """Turns bytes, in whatever pieces they come, into messages; blobs over `keep_bytes_max` are hashed and dropped."""

    def __init__(self, keep_bytes_max: int) -> None:
        self._keep_bytes_max = keep_bytes_max
        self._buffer = bytearray()
        self._header: dict[str, Json] | None = None
        self._announced = self._left = 0
        self._blob = bytearray()
        self._hash = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """Take the next bytes; `pull` until it gives nothing before the next ones, and little is ever kept."""
        self._buffer += data

    def pull(self) -> Message | None:
        """The next whole message, or None where more bytes are needed; raises `MalformedInput`."""
        if self._header is None:
            header = self._frame()
            if header is None:
                return None
            self._announced = self._left = _announced(header)
            if not self._announced:
                return Message(header)
            self._header, self._blob, self._hash = header, bytearray(), hashlib.sha256()
        return self._behind(self._header)

    def _frame(self) -> dict[str, Json] | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if not 0 < length <= FRAME_BYTES_MAX:
            message = f"found a frame of {length} bytes; 1 to {FRAME_BYTES_MAX} are allowed"
            raise MalformedInput(message, help=_HELP)
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        value = canonical.decode_canonical(bytes(self._buffer[_LENGTH.size : end]), depth_max=FRAME_DEPTH_MAX)
        if not isinstance(value, dict):
            raise MalformedInput("found a frame that is no JSON object", help=_HELP)
        del self._buffer[:end]
        return value

    def _behind(self, header: dict[str, Json]) -> Message | None:
        """Take in the blob of this header; the message once it is whole."""
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: len(piece)]
        self._left -= len(piece)
        self._hash.update(piece)
        if self._announced <= self._keep_bytes_max:
            self._blob += piece
        if self._left:
            return None
        self._header = None
        digest = Digest(f"sha256:{self._hash.hexdigest()}")
        return Message(header, bytes(self._blob), self._announced, digest)


def _announced(header: dict[str, Json]) -> int:
    """How many raw bytes follow this header."""
    announced = header.get("bytes", 0) if header.get("type") == "program" else 0
    if type(announced) is not int or not 0 <= announced <= BLOB_BYTES_MAX:
        raise MalformedInput(f"found an announced length that is not 0 to {BLOB_BYTES_MAX}", help=_HELP)
    return announced
