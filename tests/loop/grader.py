"""A grader for programs that count: an item is broken where `solve` answers less than it was asked."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from typing import Any


def read() -> dict[str, Any] | None:
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        return None
    return dict(json.loads(sys.stdin.buffer.read(struct.unpack(">I", head)[0])))


def write(frame: dict[str, Any]) -> None:
    body = json.dumps(frame, sort_keys=True, separators=(",", ":")).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(body)) + body)
    sys.stdout.buffer.flush()


def broken(item: int, output: Any) -> int | None:
    try:
        return int(json.loads(output["value"]) < item)
    except (TypeError, KeyError, ValueError):
        return None


def main() -> None:
    items: list[int] = []
    while (frame := read()) is not None:
        if frame["type"] == "plan":
            bank = hashlib.sha256(str(frame["seed"]).encode()).hexdigest()
            write({"type": "planned", "bank": f"sha256:{bank}", "items": frame["items"], "clusters": []})
        elif frame["type"] == "begin":
            items = frame["items"]
            asked = [{"call": "solve", "args": f'[[{item}],{{"dict":[]}}]'} for item in items]
            write({"type": "ask", "block": frame["block"], "to": "candidate", "items": asked})
        else:
            values = [broken(item, output) for item, output in zip(items, frame["outputs"], strict=True)]
            write({"type": "scores", "block": frame["block"], "values": values})


if __name__ == "__main__":
    main()
