# ruff: noqa: PTH118, PTH123 - importing pathlib would slow every probe
"""Abuse of the way out: floods, silence, and what should not lie in the folder that is collected."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.suite.probes.attempt import Attempts

SECONDS_MAX = 8.0
BLOCK = b"x" * (1 << 16)


def flood(tried: Attempts) -> None:
    """Write to standard output without end, or until nobody can be listening any more."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    left = tried.facts["flood"]
    while left > 0:
        left -= os.write(1, BLOCK)


def noise(tried: Attempts) -> None:
    """Write much to standard error, and lay things into the folder that is collected that are no plain files."""
    folder = tried.facts["out"]

    def at(name: str) -> str:
        return os.path.join(folder, name)

    def write(name: str, size: int) -> None:
        with open(at(name), "wb") as file:
            file.write(bytes(size))

    tried.tries("declared", write, "declared", 10)
    tried.tries("link", os.symlink, tried.facts["secret"], at("link"))
    tried.tries("pipe", os.mkfifo, at("pipe"))
    tried.tries("device", os.mknod, at("device"), 0o20600, os.makedev(1, 5))
    tried.tries("twice", os.link, at("declared"), at("twice"))
    tried.tries("huge", write, "huge", tried.facts["huge"])
    tried.tries("stray", write, "stray", 10)
    left = tried.facts["flood"]
    while left > 0:
        left -= os.write(2, BLOCK)


def silence(tried: Attempts) -> None:
    """Say nothing more, and let a daemon hold the pipe."""
    tried.report(1)
    if os.fork() == 0:
        os.setsid()
    time.sleep(SECONDS_MAX)


PROBES: dict[str, Callable[[Attempts], None]] = {"flood": flood, "noise": noise, "silence": silence}
