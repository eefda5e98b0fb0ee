# ruff: noqa: PTH118, PTH120, PTH123, PTH208, PTH108 - importing pathlib would slow every probe
"""Files of the host: reading, writing, leaving a mark, going round the paths, devices, and what leaked in."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.suite.probes.attempt import Attempts

DEVICES = ("mem", "kmsg", "port", "kvm", "fuse", "net/tun", "vda", "sda", "nvme0n1", "vsock", "loop-control")
HANDLE_BYTES = 128
AT_CWD = -100


def read(path: str) -> None:
    """Read the first byte of a file."""
    with open(path, "rb") as file:
        file.read(1)


def open_for_writing(path: str) -> None:
    """Open for writing and write nothing."""
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))


def look_at(path: str) -> None:
    """Open for reading and read nothing."""
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def mark(path: str) -> None:
    """Leave an empty file."""
    open_new = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    os.close(os.open(path, open_new, 0o600))


def make_nameless(folder: str) -> None:
    """Make a file without a name, of which nothing stays."""
    os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def read_host_secret(tried: Attempts) -> None:
    """Read a file of the governor's user, mode 0600, by every path that could lead there."""
    path = tried.facts["secret"]
    ways = {"its path": "", "the root of process 1": "/proc/1/root", "its own root": "/proc/self/root"}
    for name, before in ways.items():
        tried.tries(name, read, before + path)
    tried.tries("upwards from here", read, "../" * 40 + path.lstrip("/"))


def write_host(tried: Attempts) -> None:
    """Write to folders of the host and to what is shown read-only."""
    tried.tries("a folder of the host", mark, os.path.join(tried.facts["folder"], "mark"))
    tried.tries("the root", make_nameless, "/")
    tried.tries("the interpreter's library", open_for_writing, os.__file__)
    tried.tries("the probe's own file", open_for_writing, __file__)
    tried.tries("a shared file", open_for_writing, os.path.join(tried.facts["shared"], "free"))


def marker_survives(tried: Attempts) -> None:
    """Leave a mark in every place that can be written to, and in the next run look for it."""
    for place in tried.facts["places"]:
        path = os.path.join(place, tried.facts["marker"])
        if tried.facts["step"] == "leave":
            tried.tries(place, mark, path)
        else:
            tried.tries(f"a mark in {place}", os.stat, path)


def own_executables(tried: Attempts) -> None:
    """Open for writing the programs that run this sandbox."""
    for path in ("/proc/1/exe", "/proc/self/exe", f"/proc/{os.getppid()}/exe"):
        tried.tries(path, open_for_writing, path)


def open_by_handle(tried: Attempts) -> None:
    """Open a file by its handle, which asks no path for leave."""
    tried.tries("open_by_handle_at", opened_by_handle, tried)


def opened_by_handle(tried: Attempts) -> None:
    """Ask for the handle of the probe's own file, and open what it means."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", HANDLE_BYTES, 0) + bytes(HANDLE_BYTES))
    path, number = __file__.encode(), ctypes.c_int()
    tried.call("name_to_handle_at", AT_CWD, path, handle, ctypes.byref(number), 0)
    folder = os.open(os.path.dirname(__file__), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(tried.call("open_by_handle_at", folder, handle, os.O_RDONLY))
    finally:
        os.close(folder)


def devices(tried: Attempts) -> None:
    """Open devices of the host, and make one."""
    for name in DEVICES:
        path = f"/dev/{name}"
        if os.path.lexists(path):
            tried.tries(path, look_at, path)
    place = os.path.join(tried.facts["scratch"], tried.facts["marker"] + "-device")

    def make() -> None:
        os.mknod(place, 0o20600, os.makedev(1, 5))
        os.unlink(place)

    tried.tries("mknod", make)


def leaks(tried: Attempts) -> None:
    """Find what the governor held when it started this: descriptors, environment, privileges."""
    tried.tries("an inherited descriptor", leaked_descriptor, tried.facts["nonce"].encode())
    tried.saw("the governor's environment", "" if tried.facts["nonce"] in os.environ.values() else "not there")
    with open("/proc/self/status", encoding="ascii") as file:
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    powers = any(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    tried.saw("capabilities", "" if powers else "none held")
    tried.saw("gaining privileges", "" if status["NoNewPrivs"] == "0" else "no_new_privs")
    tried.saw("no call filter", "" if status["Seccomp"] == "0" else f"seccomp mode {status['Seccomp']}")
    places = [place for place in ("/", tried.facts["scratch"]) if not os.statvfs(place).f_flag & os.ST_NOSUID]
    tried.saw("set-user-id files", "" if places else "nosuid")


def leaked_descriptor(content: bytes) -> None:
    """Look through every descriptor for the canary."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if content in os.pread(int(name), 4096, 0):
                return
        except OSError:
            continue
    raise OSError("not there")


PROBES: dict[str, Callable[[Attempts], None]] = {
    "read-host-secret": read_host_secret,
    "write-host": write_host,
    "marker-survives": marker_survives,
    "own-executables": own_executables,
    "open-by-handle": open_by_handle,
    "devices": devices,
    "leaks": leaks,
}
