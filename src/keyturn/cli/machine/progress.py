"""Progress beside the output: on a terminal one passing line, elsewhere one line at the start and no more."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from keyturn.cli.screen import WIDTH, Paint, clip, safe, wants_colour

CELLS = 20


class Passing:
    """A line on standard error that gives way to the next one, and is gone at the end."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._terminal = bool(getattr(self._stream, "isatty", lambda: False)())
        self._paint = Paint(colour=wants_colour(self._stream))
        self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        if self._terminal and self._told:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def tell(self, done: int, total: int, what: str) -> None:
        """So many of so many are done, and this one is next."""
        if not self._terminal:
            if not self._told:
                print(f"· checks the sandbox: {total} probes", file=self._stream, flush=True)
            self._told = True
            return
        full = CELLS * done // max(total, 1)
        bar = self._paint("█" * full, "cyan") + self._paint("·" * (CELLS - full), "dim")
        text = clip(f"{done:>3} of {total}  {safe(what, 60)}", WIDTH - CELLS - 4)
        self._stream.write(f"\r\x1b[K{bar}  {text}")
        self._stream.flush()
        self._told = True
