"""A small subject that plays honest or attacks the frame protocol; run as a program, standard library only."""

import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any


def take() -> dict[str, Any]:
    header = sys.stdin.buffer.read(4)
    if len(header) < 4:
        sys.exit(0)
    found: dict[str, Any] = json.loads(sys.stdin.buffer.read(struct.unpack(">I", header)[0]))
    return found


def give_bytes(body: bytes, length: int | None = None) -> None:
    sys.stdout.buffer.write(struct.pack(">I", len(body) if length is None else length) + body)
    sys.stdout.buffer.flush()


def give(value: object) -> None:
    give_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def answer(frame: dict[str, Any]) -> dict[str, Any]:
    return {"type": "answer", "block": frame["block"], "outputs": frame["items"]}


def attack(mode: str, frame: dict[str, Any]) -> None:  # noqa: C901 - a table of attacks
    """One way to misbehave instead of answering."""
    block, good = frame["block"], answer(frame)
    if mode == "flood":
        while True:
            give(good)
    if mode == "twice":
        body = json.dumps(good, sort_keys=True, separators=(",", ":")).encode()
        sys.stdout.buffer.write(2 * (struct.pack(">I", len(body)) + body))
        sys.stdout.buffer.flush()
    if mode == "header-2^31":
        give_bytes(b"{}", length=2**31)
    if mode == "deep":
        give_bytes(b'{"outputs":' + b"[" * 5000 + b"]" * 5000 + b"}")
    if mode == "nan":
        give_bytes(b'{"block":%d,"outputs":[NaN],"type":"answer"}' % block)
    if mode == "bigint":
        give_bytes(b'{"block":%d,"outputs":[%s],"type":"answer"}' % (block, b"9" * 4000))
    if mode == "not-canonical":
        give_bytes(json.dumps(good, indent=1).encode())
    if mode == "no-object":
        give([])
    if mode == "wrong-block":
        give({**good, "block": block + 1})
    if mode == "true-block":
        give({**good, "block": True})
    if mode == "wrong-type":
        give({**good, "type": "scores"})
    if mode == "extra-key":
        give({**good, "note": "please be kind"})
    if mode == "short":
        give({**good, "outputs": good["outputs"][:-1]})
    if mode == "no-outputs":
        give({"type": "answer", "block": block})
    if mode == "exit":
        sys.exit(0)
    if mode == "half-frame":
        give_bytes(b'{"block":', length=500)
        sys.exit(0)
    if mode == "deaf":
        sys.stdin.close()
        os.close(0)
    if mode == "daemon" and os.fork() > 0:
        os._exit(0)  # the child keeps the pipe open and says nothing
    time.sleep(60)


def main(mode: str, at_block: int, marker: str) -> None:
    """Answer honestly until `at_block`, then attack in `mode`; `marker` makes the next start honest."""
    if mode != "honest" and marker:
        if Path(marker).exists():
            mode = "honest"
        else:
            Path(marker).touch()
    while True:
        frame = take()
        if frame["type"] == "hello":
            give({"type": "nonsense" if mode == "never-ready" else "ready"})
        elif frame["type"] == "bye":
            return
        elif mode not in ("honest", "breaks") and frame["block"] >= at_block:
            attack(mode, frame)
        elif mode == "breaks":
            give({**answer(frame), "outputs": [11] * len(frame["items"])})
        else:
            give(answer(frame))
            if mode == "unasked":
                give(answer(frame))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
