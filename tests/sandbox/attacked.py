"""A governor for the tests, in a process of its own, whose subject attacks what holds it.

`python attacked.py RUN_ROOT LEASE_SECONDS` prints `READY` when the probe of the containment suite that tries to disarm
the switch has tried everything; then it governs on until somebody ends it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from keyturn.sandbox.bubblewrap import Bubblewrap
from keyturn.sandbox.port import Limits, Mount, Spec
from keyturn.sandbox.suite.places import PROBES
from keyturn.sandbox.suite.scenes import first_report


def main() -> None:
    run_root, lease = Path(sys.argv[1]), float(sys.argv[2])
    backend = Bubblewrap(run_root, runtime_cache=run_root.parent / "runtime.json")
    argv = ("python", "-I", "-S", "/probe/attempt.py", "dead_man.py", "disarm", '{"burners": 20}')
    limits = Limits(processes_max=32, wall_seconds=60)
    spec = Spec("answer", argv, backend.runtime("python"), mounts=(Mount(PROBES, "/probe"),), limits=limits)
    running = backend.prepare(replace(spec, lease_seconds=lease)).go()
    first_report(running, "disarm")
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    running.wait()


if __name__ == "__main__":
    main()
