"""A small grader that is honest or broken in one way; run as a program, standard library only."""

import json
import os
import struct
import sys
import time
from typing import Any

BANK = "sha256:" + "b" * 64


def take() -> dict[str, Any]:
    header = sys.stdin.buffer.read(4)
    if len(header) < 4:
        sys.exit(0)
    found: dict[str, Any] = json.loads(sys.stdin.buffer.read(struct.unpack(">I", header)[0]))
    return found


def give(value: object) -> None:
    body = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(body)) + body)
    sys.stdout.buffer.flush()


def broken(value: object) -> int | None:
    """The hidden rule: outputs divisible by eleven break the promise; text is illegal."""
    return int(value % 11 == 0) if isinstance(value, int) else None


def outputs_of(block: int, to: str, items: list[Any]) -> list[Any]:
    """Ask a subject; a new `begin` instead of outputs drops the open block."""
    give({"type": "ask", "block": block, "to": to, "items": items})
    frame = take()
    if frame["type"] != "outputs":
        raise Dropped(frame)
    outputs: list[Any] = frame["outputs"]
    return outputs


def give_up(complaint: str) -> None:
    sys.stderr.write(complaint)
    sys.stderr.flush()
    os._exit(3)


class Dropped(Exception):
    def __init__(self, frame: dict[str, Any]) -> None:
        self.frame = frame


def examine(mode: str, block: int, items: list[Any]) -> dict[str, Any]:
    if mode == "two-rounds":
        outputs_of(block, "candidate", items)
    if mode == "endless":
        while True:
            outputs_of(block, "candidate", items)
    if mode == "stranger":
        outputs_of(block, "stranger", items)
    values = [broken(value) for value in outputs_of(block, "candidate", items)]
    scores = {"type": "scores", "block": block, "values": values}
    if mode == "with-parent":
        outputs_of(block, "parent", items)
    if mode == "wide":
        scores["values"] = [1.5] * len(items)
    if mode == "true":
        scores["values"] = [True] * len(items)
    if mode == "short":
        scores["values"] = values[:-1]
    if mode == "other-block":
        scores["block"] = block + 1
    if mode == "shout":
        scores = {"type": "scores!", "block": block}
    return scores


def main(mode: str, at_block: int) -> None:
    frame = take()
    while True:
        if frame["type"] == "bye":
            return
        if frame["type"] == "plan":
            if mode == "no-plan":
                give({"type": "planned"})
            else:
                give({"type": "planned", "bank": BANK, "items": 400, "clusters": [i % 7 for i in range(400)]})
        elif frame["type"] == "begin":
            if mode == "crash" and frame["block"] >= at_block:
                give_up("Traceback: the answers file is gone")
            if mode == "silent" and frame["block"] >= at_block:
                time.sleep(60)
            if mode == "environment":
                give_up(str(sorted(os.environ)))
            try:
                give(examine(mode, frame["block"], frame["items"]))
            except Dropped as dropped:
                frame = dropped.frame
                continue
        frame = take()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
