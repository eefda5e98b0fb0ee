# ruff: noqa: PTH123, S606 - importing pathlib would slow every launch; turning into the subject is what this is for
"""PID 1 of the sandbox: holds the lease, starts the subject, and by ending lets the kernel kill all of it.

Run alone inside as `python -I -S init.py`, so it imports nothing of ours. It never listens to the subject: the only
voice is the lease socket, and every word on it but *go*, *begin* and *renew*, its end, or silence means exit.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import socket
import struct
import sys

LEASE_FD = 3
STDIO_FDS = (5, 6, 7)
"""Where the subject's own standard streams wait until it starts; the monitor outside closes its copies."""

CONFIG_BYTES_MAX = 120_000
CLOCK_BOOTTIME = 7
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
FAILED_BEFORE_EXEC = 126

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Ended(Exception):
    """The lease is over; the word says why."""


def syscall(number: int, *arguments: object) -> int:
    """One raw system call; raises `OSError`."""
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"system call {number}")
    return result


def timer() -> int:
    """A timer on the clock that suspension does not stop, not yet set."""
    fd = int(libc.timerfd_create(CLOCK_BOOTTIME, os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create failed")
    return fd


def set_timer(fd: int, milliseconds: int) -> None:
    """Let the timer fire once, so many milliseconds from now."""
    value = struct.pack("qqqq", 0, 0, milliseconds // 1000, milliseconds % 1000 * 1_000_000)
    if libc.timerfd_settime(fd, 0, value, None):
        raise OSError(ctypes.get_errno(), "timerfd_settime failed")


def landlock_abi() -> int:
    """The Landlock interface of this kernel; 0 where there is none."""
    try:
        return syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    except OSError:
        return 0


def restrict(rules: list[list[object]]) -> None:
    """Confine this process for ever to the (path, rights) of `rules`: no network, no signal and no socket outwards."""
    abi = landlock_abi()
    if not abi:
        return
    known = (1 << (13 if abi < 2 else 14 if abi < 3 else 15 if abi < 5 else 16)) - 1
    words = [known] + ([3] if abi >= 4 else []) + ([3] if abi >= 6 else [])
    attribute = struct.pack(f"{len(words)}Q", *words)
    ruleset = syscall(LANDLOCK_CREATE, attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint(0))
    for path, rights in rules:
        fd = os.open(str(path), os.O_PATH | os.O_CLOEXEC)
        entry = struct.pack("=Qi", int(str(rights)) & known, fd)
        syscall(LANDLOCK_ADD, ctypes.c_int(ruleset), ctypes.c_int(1), entry, ctypes.c_uint(0))
        os.close(fd)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs could not be set")
    syscall(LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)


def become(config: dict[str, object]) -> None:
    """Turn this child into the subject; does not return."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for target, fd in enumerate(STDIO_FDS):
        os.dup2(fd, target)
    os.closerange(3, 1 << 16)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # the kernel shall take the subject before its init
            file.write("500")
    except OSError:
        pass
    os.chdir(str(config["folder"]))
    for number, value in config["rlimits"]:  # type: ignore[attr-defined]  # plain JSON, made by our own launcher
        resource.setrlimit(number, (value, value))
    restrict(config["landlock"])  # type: ignore[arg-type]  # plain JSON, made by our own launcher
    argv = list(map(str, config["argv"]))  # type: ignore[call-overload]  # plain JSON, made by our own launcher
    os.execve(argv[0], argv, dict(config["environment"]))  # type: ignore[call-overload]  # plain JSON again


def start(config: dict[str, object]) -> int:
    """Start the subject and give its process id; this process lets go of the subject's streams."""
    pid = os.fork()
    if not pid:
        try:
            become(config)
        finally:  # whatever went wrong, this must not run on as a second init
            why = f"keyturn: the subject could not be started: {sys.exc_info()[1]}\n"
            os.write(2, why.encode(errors="replace"))
            os._exit(FAILED_BEFORE_EXEC)
    for fd in STDIO_FDS:
        os.close(fd)
    return pid


def reap(main: int, lease: socket.socket) -> None:
    """Take in every child that has ended, and tell the governor when the main one is among them."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == main:
            code = os.waitstatus_to_exitcode(status)
            word = {"code": code, "cpu": usage.ru_utime + usage.ru_stime}
            lease.send(b"E" + json.dumps(word).encode())


def park(config: dict[str, object], lease: socket.socket) -> None:
    """Hand over the folder `/out` where there is one, let go of it, and only then say that everything is applied."""
    if config["out"]:
        out = os.open("/out", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        socket.send_fds(lease, [b"O"], [out])
        os.close(out)
    lease.send(b"P" + json.dumps({"landlock_abi": landlock_abi()}).encode())


def govern(lease: socket.socket, wake: socket.socket) -> None:
    """Hold the lease until it ends, which it says by raising `Ended`."""
    first = lease.recv(CONFIG_BYTES_MAX)
    if first[:1] != b"C":
        raise Ended("closed")
    config = json.loads(first[1:])
    heartbeat, wall = timer(), timer()
    set_timer(heartbeat, config["lease_ms"])
    park(config, lease)
    main = 0
    poll = select.poll()
    for fd in (lease.fileno(), heartbeat, wall, wake.fileno()):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if heartbeat in ready or wall in ready:
            raise Ended("lease" if heartbeat in ready else "wall")
        if lease.fileno() in ready:
            word = lease.recv(16)
            if word == b"G" and not main:
                if not config["waits"]:
                    set_timer(wall, config["wall_ms"])
                main = start(config)
            elif word[:1] == b"B" and main and config["waits"]:
                set_timer(wall, max(1, min(int(word[1:]), config["wall_ms"])))
            elif word != b"R":
                raise Ended("closed")
            set_timer(heartbeat, config["lease_ms"])
        if wake.fileno() in ready:
            wake.recv(4096)
            reap(main, lease)


def main() -> None:
    """Become undumpable before anyone else is here, then hold the lease."""
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        os._exit(3)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    lease = socket.socket(fileno=LEASE_FD)
    try:
        govern(lease, wake)
    except Ended as end:
        lease.setblocking(False)
        try:
            lease.send(b"X" + str(end).encode())
        except OSError:
            pass
    finally:  # any doubt ends the sandbox, and says why to the governor alone
        error = sys.exc_info()[1]
        if error is not None:
            os.write(2, f"keyturn init: {error!r}\n".encode(errors="replace"))
        os._exit(2)


if __name__ == "__main__":
    main()
