"""Reads programs as Python in a process of its own: a text can be made to keep a parser busy for ever, or to break it.

`python -m keyturn.app.loop.reading` takes blocks (a length, then bytes): the loop's rules, the parent's text, then one
program after another, and answers each with its findings. It runs nothing of what it reads.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import time
from typing import BinaryIO

from keyturn.core.admission import look
from keyturn.core.policy import Loop

SECONDS_MAX = 3
"""How much processor time one text may take; the kernel ends this process at once when it is used up."""

MEMORY_BYTES_MAX = 1 << 30
LENGTH = struct.Struct(">I")


def block(source: BinaryIO) -> bytes | None:
    """The next block; none at the end."""
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = source.read(length)
    return data if len(data) == length else None


def main() -> None:
    """Answer until the other end is closed."""
    source, sink = os.fdopen(0, "rb"), os.fdopen(1, "wb")
    rules, parent = block(source), block(source)
    if rules is None or parent is None:
        return
    said = json.loads(rules)
    bytes_max = said.pop("bytes_max")
    loop, stands = Loop(**said), parent.decode("utf-8")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX + 2 * bytes_max, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (data := block(source)) is not None:
        until = int(time.process_time()) + 1 + SECONDS_MAX
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
        found = json.dumps([finding.to_json() for finding in look(data, stands, loop, bytes_max)]).encode()
        sink.write(LENGTH.pack(len(found)) + found)
        sink.flush()


if __name__ == "__main__":
    main()
