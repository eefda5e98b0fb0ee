"""The runner as a plain process over pipes, without a sandbox: what it answers, and in which bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keyturn.wire import values
from keyturn.wire.frames import FrameReader, encode_frame

SRC = Path(__file__).resolve().parent.parent.parent / "src" / "keyturn"
WAIT_SECONDS = 20.0


def lay_out(folder: Path) -> Path:
    """The runner and `values` side by side, as they are mounted inside; gives the runner's path."""
    folder.mkdir(exist_ok=True, parents=True)
    shutil.copy(SRC / "wire" / "values.py", folder)
    return Path(shutil.copy(SRC / "sandbox" / "alone" / "program.py", folder))


class Piped:
    """One runner; every frame that it sends is read by the reader that the governor's side uses."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._reader = FrameReader(bytes_max_total=1 << 28, frames_max=1 << 16)
        self._block = 0

    def tell(self, frame: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(encode_frame(frame))

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 65536):
            if found := self._reader.feed(data):
                assert len(found) == 1
                return found[0]
        raise EOFError

    def items(self, *items: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask for items in one block and give the outputs."""
        self._block += 1
        self.tell({"type": "ask", "block": self._block, "items": list(items)})
        answer = self.hear()
        assert (answer["type"], answer["block"]) == ("answer", self._block)
        assert len(answer["outputs"]) == len(items)
        return list(answer["outputs"])

    def item(self, **item: Any) -> dict[str, Any]:
        """Ask for one item."""
        (output,) = self.items(item)
        return output

    def call(self, name: str, *args: object, **kwargs: object) -> object:
        """Call a function, long texts in pieces; gives the value, or the output where it is none."""
        text = values.encode([list(args), kwargs])
        if len(text) > 20_000:
            for start in range(0, len(text), 20_000):
                assert self.item(push=text[start : start + 20_000]) == {"ok": True}
            output = self.item(call=name, pushed=True)
        else:
            output = self.item(call=name, args=text)
        if "piece" in output:
            pieces = [output["piece"]]
            while output["more"]:
                output = self.item(more=len(pieces))
                pieces.append(output["piece"])
            return values.decode("".join(pieces))
        return values.decode(output["value"]) if "value" in output else output

    def signals(self) -> list[str]:
        """What the runner saw the program reach for."""
        return list(values.decode(self.item(signals=True)["value"]))  # type: ignore[call-overload]  # a list came


@contextmanager
def running(
    folder: Path, source: str | None = None, *, file: Path | None = None, environment: dict[str, str] | None = None
) -> Iterator[Piped]:
    """Start a runner, greet it, and hand it a program by frames or by its file."""
    command = [sys.executable, "-I", str(lay_out(folder / "runner")), *([str(file)] if file else [])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=environment or {}, bufsize=0
    ) as process:
        try:
            piped = Piped(process)
            piped.tell({"type": "hello"})
            assert piped.hear() == {"type": "ready"}
            if source is not None:
                piped.tell({"type": "seed", "seed": 7})
                parts = [source[start : start + 7_000] for start in range(0, len(source), 7_000)] or [""]
                for number, part in enumerate(parts):
                    piped.tell({"type": "load", "part": number, "of": len(parts), "text": part})
            yield piped
        finally:
            process.kill()
            process.wait(WAIT_SECONDS)
