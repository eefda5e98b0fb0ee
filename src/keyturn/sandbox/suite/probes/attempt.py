# ruff: noqa: PTH118, PTH120, PTH100, S606 - importing pathlib would slow every probe; becoming the probe is what --hold is for
"""Tries, one probe at a time, to do what no subject may; the same file runs inside a sandbox and, as a control, bare.

Run alone as `python -I -S attempt.py PROGRAM PROBE FACTS`: it loads PROGRAM from its own folder, hands its function
for PROBE a collection of attempts with the facts (JSON), and writes one line: what each attempt met, "" where it got
through.
With `--hold` in front it only starts that and waits, as a naive governor would: somebody to attack in a bare run.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

MARK = "keyturn-probe "
MACHINES = {"x86_64": 0, "aarch64": 1}
CALLS: dict[str, tuple[int, int]] = {
    "add_key": (248, 217), "bpf": (321, 280), "clone": (56, 220), "clone3": (435, 435), "execveat": (322, 281),
    "fanotify_init": (300, 262), "fsopen": (430, 430), "inotify_add_watch": (254, 27), "inotify_init1": (294, 26),
    "io_uring_setup": (425, 425), "ioprio_set": (251, 30), "keyctl": (250, 219), "memfd_create": (319, 279),
    "mount": (165, 40), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "open_tree": (428, 428),
    "perf_event_open": (298, 241), "pidfd_getfd": (438, 438), "preadv2": (327, 286), "prlimit64": (302, 261),
    "process_vm_readv": (310, 270), "ptrace": (101, 117), "setns": (308, 268), "shmat": (30, 196), "shmget": (29, 194),
    "syslog": (103, 116), "unshare": (272, 97), "userfaultfd": (323, 282),
}  # fmt: skip  # a table of numbers reads best as a block
"""The kernel's numbers of the calls that are tried, on x86-64 and on aarch64."""

REACHED = {errno.ETXTBSY, errno.EFAULT}
"""Errors that come only after leave was given: the file is in use, or the address was a wrong one."""

REFUSED = {signal.SIGSYS, signal.SIGSEGV, signal.SIGKILL}
"""Signals by which the kernel refuses; a child that dies of any other is a fault of the probe."""

FAULT = 255
CHILD_SECONDS_MAX = 5.0

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def named(number: int) -> str:
    """The short name of an error."""
    return errno.errorcode.get(number, f"error {number}")


def call(what: str | int, *arguments: object) -> int:
    """One system call by name or number; raises `OSError`."""
    number = what if isinstance(what, int) else CALLS[what][MACHINES[platform.machine()]]
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class ProbeFault(Exception):
    """An attempt ended in a way that shows nothing."""


class Attempts:
    """What was tried so far and what it met; `facts` is what the suite told about the host and its canaries."""

    call = staticmethod(call)
    libc = libc

    def __init__(self, probe: str, facts: dict[str, Any]) -> None:
        self.probe, self.facts = probe, facts
        self.met: dict[str, str] = {}

    def tries(self, name: str, act: Callable[..., object], *arguments: object) -> None:
        """Try one thing: an `OSError` is what it met, by its number or its text; without one it got through.

        Any other error is a fault of the probe, which then ends without a report.
        """
        try:
            act(*arguments)
        except OSError as error:
            self.met[name] = "" if error.errno in REACHED else named(error.errno) if error.errno else str(error)
        except MemoryError:
            self.met[name] = "no memory"
        else:
            self.met[name] = ""

    def saw(self, name: str, met: str) -> None:
        """Note what was found by looking; "" where it is open."""
        self.met[name] = met

    def tries_apart(self, name: str, act: Callable[..., object], *arguments: object) -> None:
        """Try one thing in a child of its own, because it may change or kill whoever does it."""
        pid = os.fork()
        if pid == 0:
            try:
                act(*arguments)
            except OSError as error:
                os._exit(0 if error.errno in REACHED else (error.errno or FAULT))
            finally:  # a child that went on here would be a second probe
                os._exit(FAULT if sys.exc_info()[0] else 0)
        until = time.monotonic() + CHILD_SECONDS_MAX
        while (status := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise ProbeFault(f"`{name}` did not come back")
            time.sleep(0.001)
        code = os.waitstatus_to_exitcode(status[1])
        if code == FAULT or (code < 0 and -code not in REFUSED):
            raise ProbeFault(f"`{name}` ended with {code}")
        self.met[name] = "" if code == 0 else named(code) if code > 0 else signal.Signals(-code).name

    def report(self, fd: int) -> None:
        """Write down what was met; in parts or whole, the last line counts."""
        os.write(fd, f"\n{MARK}{json.dumps({'probe': self.probe, 'met': self.met})}\n".encode())


def hold(words: list[str]) -> int:
    """Start the probe as a child and wait for it."""
    pid = os.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-I", "-S", __file__, *words])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> int:
    """Load the program, let it try, and report to stderr, unless it has reported by itself."""
    sys.dont_write_bytecode = True
    if sys.argv[1] == "--hold":
        return hold(sys.argv[2:])
    program, probe, facts = sys.argv[1:4]
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), program)
    spec = importlib.util.spec_from_file_location("keyturn_probe", place)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # the file is there, or nothing works
    spec.loader.exec_module(module)  # type: ignore[union-attr]  # a file has a loader
    attempts = Attempts(probe, json.loads(facts))
    module.PROBES[probe](attempts)
    attempts.report(2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
