"""What a drill starts so that a halt has something to kill: processes that do all they can to stay alive.

Run alone inside as `python -I -S daemons.py COUNT`, so it imports nothing of ours. Each detaches by a double fork and a
session of its own, closes its streams and ignores every signal that can be ignored. It touches nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
import time

HOUR_SECONDS = 3600


def ignore_everything() -> None:
    """Ignore whatever signal the kernel lets a process ignore."""
    for number in signal.valid_signals():
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue


def detach() -> None:
    """Start one daemon: a grandchild in a session of its own, without streams."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 3)
    while True:
        time.sleep(HOUR_SECONDS)


def main() -> None:
    """Start as many daemons as were asked for, and stay."""
    ignore_everything()
    for _ in range(int(sys.argv[1])):
        detach()
    while True:
        time.sleep(HOUR_SECONDS)


if __name__ == "__main__":
    main()
