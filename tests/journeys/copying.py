"""Copies for a journey: processes that hold weights under a permit, in every way in which one may not want to die."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SECONDS_MAX = 20.0

HOLD = """
import signal, sys, time
from pathlib import Path
from keyturn.sdk import copies
for number in signal.valid_signals():
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
try:
    held = copies.hold(Path(sys.argv[1]), permit=sys.argv[2])
except Exception as fault:
    print("refused", fault, flush=True)
    sys.exit(1)
print("held", held.id, flush=True)
{then}
"""
SLEEP = "while True: time.sleep(60)"
DEAF = "sum(range(10**13))  # never gives the interpreter back, so no thread of ours runs"
LEAVE = "sys.stdin.readline(); held.close(); print('left', flush=True); time.sleep(60)"


def copy(project: Path, permit: str, *, then: str = SLEEP) -> subprocess.Popen[str]:
    """A process that asks to be known as a copy; its first line says `held` or `refused`."""
    command = [sys.executable, "-c", HOLD.format(then=then), str(project), permit]
    environment = {**os.environ, "PYTHONPATH": str(REPO / "src")}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def said(process: subprocess.Popen[str]) -> str:
    """The next line of it."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def eventually(true: Callable[[], bool], seconds: float = SECONDS_MAX) -> bool:
    """Whether something comes true in time."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
