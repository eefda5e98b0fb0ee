"""A governor for the tests, in a process of its own: it starts sandboxes, says so, then hangs or waits to be killed.

`python governor.py RUN_ROOT LEASE_SECONDS hang|wait|loop|stuck|freeze` prints `READY` when the subject runs; "loop"
prepares and starts sandboxes for ever, so that it can be killed at any moment of a launch; "stuck" never gets as far as
an init.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path


def stuck_program() -> str:
    """What runs in place of bubblewrap and never starts anything; where every user may run it."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="keyturn-stuck-"))
    folder.chmod(0o755)
    script = folder / "bwrap"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    return str(script)


def main() -> None:
    from keyturn.sandbox.bubblewrap import Bubblewrap
    from keyturn.sandbox.port import Limits, Spec

    run_root, lease, how = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    backend = Bubblewrap(run_root, runtime_cache=run_root.parent / "runtime.json")
    code = "import os, time\nfor n in range(5):\n    if os.fork() == 0: os.setsid(); time.sleep(60)\ntime.sleep(60)"
    limits = Limits(processes_max=32, wall_seconds=60)
    spec = Spec("improve", ("python", "-I", "-S", "-c", code), backend.runtime("python"), limits=limits)
    from dataclasses import replace

    spec = replace(spec, lease_seconds=lease)
    sys.stdout.write("LAUNCHING\n")
    sys.stdout.flush()
    if how == "stuck":
        backend._program = stuck_program()
    running = backend.prepare(spec).go()
    if how == "loop":
        kept = [running]
        while True:
            kept.append(backend.prepare(spec).go())
            for one in kept:
                one.tick()
            if len(kept) > 3:
                kept.pop(0).close()
    while len(running._cell.processes()) < 8:
        running.tick()
        time.sleep(0.005)
    running.tick()
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    if how == "freeze":
        state = backend.freeze(60).state
        sys.stdout.write(f"{state}\n")
        sys.stdout.flush()
        time.sleep(60)
    if how == "hang":
        time.sleep(60)
    running.wait()


if __name__ == "__main__":
    main()
