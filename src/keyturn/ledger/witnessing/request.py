"""What a log asks a witness and what the witness answers, as bytes (C2SP tlog-witness v1.0.0).

It reads strictly and verifies nothing: that is for `witness` and `client`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput, invariant
from keyturn.ledger import note
from keyturn.ledger.checkpoint import SIZE_MAX
from keyturn.ledger.proof import HASHES_MAX
from keyturn.ledger.tree import HASH_BYTES
from keyturn.wire import base64

PATH = "/add-checkpoint"
"""Where a witness takes requests, below its address."""

REQUEST_BYTES_MAX = 20 + HASHES_MAX * 45 + 1 + note.NOTE_BYTES_MAX
"""No request that is well formed is longer."""

ANSWER_BYTES_MAX = note.NOTE_BYTES_MAX
"""No answer is read further."""

SIZE_TYPE = "text/x.tlog.size"
"""The content type of an answer that says at which size the witness is."""

_OLD = re.compile(rb"old (0|[1-9][0-9]{0,15})")
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,15})\n")
_HELP = "send `old N`, the hashes of the proof, an empty line and the checkpoint, as C2SP tlog-witness says"


@dataclass(frozen=True, slots=True)
class Request:
    """The size that the witness cosigned last, the proof from it to the checkpoint, and the checkpoint's note."""

    old: int
    hashes: tuple[bytes, ...]
    note: bytes


def encode(request: Request) -> bytes:
    """Return the body of a request."""
    invariant(0 <= request.old <= SIZE_MAX and len(request.hashes) <= HASHES_MAX, "a proof has at most 63 hashes")
    lines = [f"old {request.old}", *(base64.encode(each) for each in request.hashes), "", ""]
    return "\n".join(lines).encode() + request.note


def decode(data: bytes) -> Request:
    """Read the body of a request; raises MalformedInput. The note in it is not looked at."""
    if len(data) > REQUEST_BYTES_MAX:
        raise MalformedInput(f"found a request of {len(data)} bytes; {REQUEST_BYTES_MAX} is the most", help=_HELP)
    head, separator, signed = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    match = _OLD.fullmatch(first)
    if not separator or not match or int(match[1]) > SIZE_MAX:
        raise MalformedInput("found no line `old N` with a plain number before an empty line", help=_HELP)
    if len(lines) > HASHES_MAX:
        raise MalformedInput(f"found {len(lines)} hashes; {HASHES_MAX} is the most", help=_HELP)
    hashes = tuple(base64.decode(line.decode("ascii", "replace"), what="hash") for line in lines)
    if any(len(each) != HASH_BYTES for each in hashes):
        raise MalformedInput(f"found a hash that does not have {HASH_BYTES} bytes", help=_HELP)
    return Request(int(match[1]), hashes, signed)


def decode_lines(data: bytes) -> tuple[str, ...]:
    """Read the body of a good answer, as lines; raises MalformedInput for what cannot be lines of signatures."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedInput(f"found no UTF-8 at offset {error.start} of an answer", help=_HELP) from error
    lines = text.split("\n")
    if lines.pop() != "" or not 1 <= len(lines) <= note.SIGNATURES_MAX:
        raise MalformedInput("found an answer that is not one or more whole lines", help=_HELP)
    return tuple(lines)


def decode_size(data: bytes) -> int:
    """Read the body of an answer of type `SIZE_TYPE`: where the witness is; raises MalformedInput."""
    match = _SIZE.fullmatch(data)
    if not match or int(match[1]) > SIZE_MAX:
        raise MalformedInput("found no size in an answer that should be one", help=_HELP)
    return int(match[1])
