"""A governor for the tests, in a process of its own: it starts sandboxes, says so, then hangs or waits to be killed.

`python governor.py RUN_ROOT LEASE_SECONDS hang|wait|loop|attacked` prints `READY` when the subject runs; "loop"
prepares and starts sandboxes for ever, so that it can be killed at any moment of a launch; under "attacked" the subject
is the probe of the containment suite that tries to disarm the switch, and READY means that it has tried everything.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.bubblewrap import Bubblewrap
    from keyturn.sandbox.port import Limits


def main() -> None:
    from keyturn.sandbox.bubblewrap import Bubblewrap
    from keyturn.sandbox.port import Limits, Spec

    run_root, lease, how = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    backend = Bubblewrap(run_root, runtime_cache=run_root.parent / "runtime.json")
    code = "import os, time\nfor n in range(5):\n    if os.fork() == 0: os.setsid(); time.sleep(60)\ntime.sleep(60)"
    limits = Limits(processes_max=32, wall_seconds=60)
    spec = Spec("improve", ("python", "-I", "-S", "-c", code), backend.runtime("python"), limits=limits)
    spec = replace(spec, lease_seconds=lease)
    sys.stdout.write("LAUNCHING\n")
    sys.stdout.flush()
    if how == "attacked":
        attacked(backend, limits, lease)
        return
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
    if how == "hang":
        time.sleep(60)
    running.wait()


def attacked(backend: Bubblewrap, limits: Limits, lease: float) -> None:
    """Let the subject attack what holds it, and govern on."""
    from keyturn.sandbox.port import Mount, Spec
    from keyturn.sandbox.suite.places import PROBES
    from keyturn.sandbox.suite.scenes import first_report

    argv = ("python", "-I", "-S", "/probe/attempt.py", "dead_man.py", "disarm", '{"burners": 20}')
    spec = Spec("answer", argv, backend.runtime("python"), mounts=(Mount(PROBES, "/probe"),), limits=limits)
    running = backend.prepare(replace(spec, lease_seconds=lease)).go()
    first_report(running, "disarm")
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    running.wait()


if __name__ == "__main__":
    main()
