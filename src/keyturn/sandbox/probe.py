"""What this machine enforces, found out by doing: launch a tiny subject, attest it, let it attack, and stop it.

Nothing is concluded from a file's being there; what fails is named with why it matters and what to do.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core.errors import KeyturnError
from keyturn.core.terms import Json, Tier
from keyturn.sandbox.port import Attestation, Capabilities, Exit, Limits, Missing, Spec

if TYPE_CHECKING:
    from keyturn.sandbox.bubblewrap import Bubblewrap

ATTACK = """
import os, socket
def tried(act):
    try:
        act()
    except OSError:
        return
    print('BREACH', act.__name__, flush=True)
def network(): socket.socket(socket.AF_INET, socket.SOCK_STREAM)
def memory_of_init(): open('/proc/1/mem', 'rb').close()
def writing_to_the_root(): open('/breach', 'w').close()
for act in (network, memory_of_init, writing_to_the_root): tried(act)
"""
"""A few attacks that must fail inside; the whole collection is `keyturn.sandbox.suite`."""

REMEDIES = {
    "cgroup": Missing(
        "a cgroup of our own",
        "without it a halt kills through init alone, and no receipt can say STOPPED",
        "start the governor in `systemd-run --user --scope -p Delegate=yes`, or as root",
    ),
    "memory": Missing(
        "a memory limit by cgroup",
        "without it memory is bounded per process only",
        "delegate the controller `memory` to the governor's cgroup",
    ),
    "pids": Missing(
        "a process limit by cgroup",
        "without it the number of processes is bounded by rlimit only",
        "delegate the controller `pids` to the governor's cgroup",
    ),
    "user": Missing(
        "a host user of the subject's own",
        "a subject that breaks out of bubblewrap would be the governor's user",
        "run the governor as root: it gives each sandbox an unused user and never runs a subject as root",
    ),
    "descriptors": Missing(
        "a look at the descriptors that init holds",
        "without it a descriptor leaked into the sandbox would not be noticed",
        "run the governor as root",
    ),
    "landlock": Missing(
        "Landlock",
        "without it files are protected by mounts alone and /proc/1 by its owner alone",
        "use a kernel of 5.13 or later with `landlock` among its security modules",
    ),
}


def _kernel(backend: Bubblewrap) -> dict[str, Json]:
    """Facts of this machine that a reader of the log will want."""
    layout = backend.layout()
    userns = Path("/proc/sys/user/max_user_namespaces")
    return {
        "kernel": os.uname().release,
        "machine": platform.machine(),
        "cgroup": "none" if layout.root is None else "v2 and v1" if layout.v1 else "v2",
        "controllers": [*sorted({*layout.controllers, *layout.v1})],
        "user_namespaces_max": int(userns.read_text()) if userns.exists() else 0,
        "governor_is_root": os.geteuid() == 0,
    }


def _run(backend: Bubblewrap) -> tuple[Attestation, Exit]:
    """Launch the attack, attested; raises `Unavailable` where a sandbox cannot be built."""
    limits = Limits(memory_bytes=256 << 20, processes_max=16, wall_seconds=10, out_bytes=1 << 20, tmp_bytes=1 << 20)
    parked = backend.prepare(
        Spec("improve", ("python", "-I", "-S", "-c", ATTACK), backend.runtime("python"), limits=limits, out=True)
    )
    try:
        attestation = parked.attest()
        running = parked.go()
        end = running.wait()
        running.close()
        return attestation, end
    finally:
        parked.close()


def _breaches(end: Exit) -> list[str]:
    """Which of the attacks got through; a probe that did not end well counts as one."""
    lines = end.diagnostics.decode(errors="replace").splitlines()
    found = [line.removeprefix("BREACH ") for line in lines if line.startswith("BREACH ")]
    return found if end.clean else [*found, f"the probe ended badly: {end.reason}, code {end.code}"]


def capabilities(backend: Bubblewrap) -> Capabilities:
    """Launch, attest, attack, stop, and say what holds; T0 where a sandbox cannot be built at all."""
    kernel = _kernel(backend)
    try:
        attestation, end = _run(backend)
    except KeyturnError as error:
        return Capabilities(Tier.T0, kernel, (), (Missing("a sandbox", error.message, error.help),))
    kernel |= {"backend": attestation.facts.get("backend"), "landlock_abi": attestation.facts.get("landlock_abi")}
    faults = [*attestation.problems, *_breaches(end)]
    if faults:
        missing = tuple(
            Missing("an effective sandbox", fault, "see LIMITATIONS.md; do not run subjects here") for fault in faults
        )
        return Capabilities(Tier.T0, kernel, attestation.weaker, missing)
    names = [text.split(":")[0] for text in attestation.weaker]
    return Capabilities(attestation.tier, kernel, attestation.weaker, tuple(REMEDIES[name] for name in names))
