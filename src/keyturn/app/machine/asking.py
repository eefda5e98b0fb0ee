"""Ask what stands beside our own sandbox: a container daemon by its socket, the processor by running a tiny guest.

Each question has a short time-out, and no answer is an answer.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from keyturn.sandbox.command import ALONE

ANSWER_SECONDS = 1.0
GUEST_SECONDS = 5.0
ANSWER_BYTES_MAX = 4 << 20
DOCKER = "/run/docker.sock"
KVM = Path("/dev/kvm")
GVISOR = "runsc"
LANDLOCK_CREATE_RULESET, LANDLOCK_VERSION = 444, 1


def docker() -> tuple[str, bool]:
    """What a container daemon says of itself, in one sentence, and whether it can run gVisor."""
    named = os.environ.get("DOCKER_HOST", f"unix://{DOCKER}")
    if not named.startswith("unix://"):
        return f"docker: `{named}` is on the network and was not asked", False
    place = named.removeprefix("unix://")
    try:
        body = _info(place)
    except (OSError, ValueError) as fault:
        strerror = getattr(fault, "strerror", None)
        why = strerror.lower() if strerror else str(fault)
        return f"docker: no daemon answers at `{place}`: {why}", False
    runtimes = body.get("Runtimes")
    names = sorted(runtimes) if isinstance(runtimes, dict) else []
    return f"docker {body.get('ServerVersion', '')}: runtimes {', '.join(names) or 'none'}", GVISOR in names


def _info(place: str) -> dict[str, object]:
    """What the daemon at this socket answers to `GET /info`; raises `OSError` or `ValueError`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(ANSWER_SECONDS)
        line.connect(place)
        line.sendall(b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n")
        answer = b""
        while data := line.recv(65536):
            answer += data
            if len(answer) > ANSWER_BYTES_MAX:
                raise ValueError("it answers without end")
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].decode(errors="replace")
    if " 200" not in status:
        raise ValueError(f"it answers `{status[:80]}`")
    said = json.loads(body)
    if not isinstance(said, dict):
        raise ValueError("its answer is no object")
    return said


def guest() -> str:
    """What happened when a guest of five instructions was run on `/dev/kvm`; empty where it ran to its end."""
    if not KVM.exists():
        return f"there is no {KVM}"
    argv = [sys.executable, "-I", "-S", str(ALONE / "guest.py")]
    try:
        ran = subprocess.run(argv, capture_output=True, timeout=GUEST_SECONDS, check=False, env={})
    except subprocess.TimeoutExpired:
        return f"a guest did not come to its end within {GUEST_SECONDS:.0f} seconds"
    said = (ran.stdout + ran.stderr).decode(errors="replace").strip().splitlines()
    return "" if ran.returncode == 0 else (said[-1][:200] if said else f"it ended with code {ran.returncode}")


def landlock() -> int:
    """The version of Landlock's interface in this kernel; 0 where it has none or it is off."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_VERSION)
    return max(int(version), 0)
