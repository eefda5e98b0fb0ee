# ruff: noqa: PTH123 - importing pathlib would slow every probe
"""The kernel: mounts, cgroups, its settings and secrets, namespaces, rare interfaces, and the other doors to it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import pty
import struct
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyturn.sandbox.suite.probes.attempt import Attempts

NEW_MOUNTS, NEW_USERS, NEW_NETWORK, NEW_PROCESSES = 0x20000, 0x10000000, 0x40000000, 0x20000000
PRIVATE = 0x4000 | 0x40000
AT_CWD, OPEN_TREE_CLONE = -100, 1
SIGCHLD = 17
READ_ALL = 3
SETTINGS = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper",
    "/proc/sys/fs/binfmt_misc/register", "/proc/sys/vm/panic_on_oom", "/proc/sys/kernel/hostname",
)  # fmt: skip  # a list of places reads best as a block


def own_mounts(tried: Attempts) -> None:
    """Take a mount namespace of one's own where that is given, so that nothing is mounted for others."""
    with contextlib.suppress(OSError):
        tried.call("unshare", NEW_MOUNTS)
        tried.call("mount", b"none", b"/", None, PRIVATE, None)


def mount(tried: Attempts, kind: bytes) -> None:
    """Mount something over a folder of one's own."""
    own_mounts(tried)
    tried.call("mount", b"none", tried.facts["scratch"].encode(), kind, 0, None)


def mounts(tried: Attempts) -> None:
    """Mount, the old way and the new one."""
    tried.tries_apart("mount", mount, tried, b"tmpfs")
    tried.tries_apart("mount proc", mount, tried, b"proc")
    tried.tries("fsopen", tried.call, "fsopen", b"tmpfs", 0)
    tried.tries("open_tree", tried.call, "open_tree", AT_CWD, b"/", OPEN_TREE_CLONE)


def open_for_writing(path: str) -> None:
    """Open for writing and write nothing."""
    os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))


def cgroups(tried: Attempts) -> None:
    """Open the host's cgroups for writing, and mount them."""
    for place in tried.facts["cgroups"]:
        tried.tries(f"{place}/cgroup.procs", open_for_writing, f"{place}/cgroup.procs")
        tried.tries(f"{place}/release_agent", open_for_writing, f"{place}/release_agent")
    tried.tries_apart("mount cgroup2", mount, tried, b"cgroup2")


def kernel_settings(tried: Attempts) -> None:
    """Open for writing the settings by which the kernel runs programs as the host's superuser, and their like."""
    for path in SETTINGS:
        tried.tries(path, open_for_writing, path)


def shown_addresses() -> None:
    """Whether the kernel shows where its functions lie."""
    with open("/proc/kallsyms", encoding="ascii") as file:
        if not int(file.readline().split()[0], 16):
            raise OSError("zeros")


def kernel_secrets(tried: Attempts) -> None:
    """Read the kernel's memory, messages and addresses."""
    tried.tries("addresses", shown_addresses)
    for path in ("/proc/kcore", "/proc/kmsg", "/dev/kmsg"):
        tried.tries(path, lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)), path)
    tried.tries("syslog", tried.call, "syslog", READ_ALL, ctypes.create_string_buffer(64), 64)


def cloned(tried: Attempts, flags: int) -> None:
    """Start a child with `clone`, which ends at once."""
    pid = tried.call("clone", flags | SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def cloned3(tried: Attempts, flags: int) -> None:
    """Start a child with `clone3`, which ends at once."""
    words = struct.pack("8Q", flags, 0, 0, 0, SIGCHLD, 0, 0, 0)
    pid = tried.call("clone3", words, len(words))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def join(tried: Attempts) -> None:
    """Join the namespace that one is in already, which asks for the same leave as any other."""
    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    tried.call("setns", fd, NEW_NETWORK)


def nested_namespaces(tried: Attempts) -> None:
    """Make namespaces in which one would be the superuser."""
    for name, flag in {"user": NEW_USERS, "network": NEW_NETWORK, "process": NEW_PROCESSES}.items():
        tried.tries_apart(f"unshare {name}", tried.call, "unshare", flag)
    tried.tries_apart("clone", cloned, tried, NEW_USERS)
    tried.tries_apart("clone3", cloned3, tried, NEW_USERS)
    tried.tries_apart("setns", join, tried)


def kernel_interfaces(tried: Attempts) -> None:
    """Open those interfaces of the kernel through which it was broken most."""
    tried.tries("io_uring", tried.call, "io_uring_setup", 1, ctypes.create_string_buffer(120))
    array = struct.pack("=IIIII", 2, 4, 4, 1, 0) + bytes(100)
    tried.tries("bpf", tried.call, "bpf", 0, array, len(array))
    clock = struct.pack("=IIQ", 1, 112, 0) + bytes(96)
    tried.tries("perf_event_open", tried.call, "perf_event_open", clock, 0, -1, -1, 0)
    tried.tries("userfaultfd", tried.call, "userfaultfd", 0)
    tried.tries("fanotify", tried.call, "fanotify_init", 0, 0)
    tried.tries("keyctl", tried.call, "keyctl", 0, -4, 0)


def old_gate() -> None:
    """Ask for one's process id through the gate of 32-bit programs, which has numbers of its own."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    code = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    if code() <= 0:
        raise OSError(38, "the old gate does not answer")


def push_into_terminal() -> None:
    """Push a character into the terminal that one was started from; without one, into a fresh one."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        os.setsid()
        try:
            fd = pty.openpty()[1]
            fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
        except OSError:
            fd = 0
    fcntl.ioctl(fd, termios.TIOCSTI, b"\n")


def other_doors(tried: Attempts) -> None:
    """Come in by the calls of other kinds of programs, and by the terminal."""
    if os.uname().machine == "x86_64":
        tried.tries_apart("int 0x80", old_gate)
        tried.tries_apart("x32", tried.call, 0x40000000 | 39)
    tried.tries_apart("terminal", push_into_terminal)


PROBES: dict[str, Callable[[Attempts], None]] = {
    "mounts": mounts,
    "cgroups": cgroups,
    "kernel-settings": kernel_settings,
    "kernel-secrets": kernel_secrets,
    "nested-namespaces": nested_namespaces,
    "kernel-interfaces": kernel_interfaces,
    "other-doors": other_doors,
}
