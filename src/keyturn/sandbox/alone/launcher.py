# ruff: noqa: PTH101, PTH102, PTH112, PTH116, PTH123, PTH208, S606 - pathlib would slow it; becoming bubblewrap is its work
"""The launcher: a small process of ours that makes sandboxes, because a governor with threads must not fork.

Run alone as `python -I -S launcher.py FD`, so it imports nothing of ours. Each request becomes one clone3 straight into
its cgroup; the child shows runtime and mounts where the dropped user may go, drops to that user, and turns into
bubblewrap. It never holds the governor's end of a lease. When the governor ends, so does it, and its last act is to
kill what it launched: the lease does that too, but a launch that hangs before its init has no lease yet.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys

SYS_CLONE3 = 435
CLONE_PIDFD, CLONE_INTO_CGROUP, CLONE_NEWNS = 0x1000, 0x200000000, 0x20000
MS_BIND, MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV = 0x1000, 0x4000, 0x40000, 0x2, 0x4
STAGE = "/tmp"  # noqa: S108 - in a mount namespace of the child's own, hidden under a fresh tmpfs
"""A folder that exists everywhere and that every user may traverse."""

REQUEST_BYTES_MAX = 200_000
FDS_MAX = 8

libc = ctypes.PyDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def check(result: int, what: str) -> int:
    """The result of a C call; raises `OSError` where it failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def mount(source: str, target: str, *, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Show something at `target`; raises `OSError`."""
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    result = libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    check(result, f"mount on {target}")


def clone(cgroup: int, *, mounts: bool) -> tuple[int, int]:
    """Fork into the cgroup (-1: none), with a mount namespace of its own if asked; (0, -1) in the child."""
    pidfd = ctypes.c_int(-1)
    flags = CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup >= 0 else 0) | (CLONE_NEWNS if mounts else 0)
    words = (flags, ctypes.addressof(pidfd), 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, max(cgroup, 0))
    arguments = struct.pack("11Q", *words)
    pid = check(libc.syscall(ctypes.c_long(SYS_CLONE3), arguments, ctypes.c_size_t(len(arguments))), "clone3")
    return pid, pidfd.value


def copy_tree(source: str, target: str) -> None:
    """Copy files and folders so that everyone may read them; links and devices are left out."""
    status = os.lstat(source) if not source.startswith("/proc/self/fd/") else os.stat(source)
    if (status.st_mode & 0o170000) == 0o040000:
        os.mkdir(target, 0o755)
        for name in sorted(os.listdir(source)):
            copy_tree(f"{source}/{name}", f"{target}/{name}")
    elif (status.st_mode & 0o170000) == 0o100000:
        with open(source, "rb") as reader, open(target, "xb") as writer:
            while block := reader.read(1 << 20):
                writer.write(block)
        os.chmod(target, 0o644)


def stage(binds: list[list[str]]) -> None:
    """Show every source at its staged place, in this process's own mount namespace only."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    held = [os.open(source, os.O_PATH | os.O_CLOEXEC) for source, _, _ in binds]
    mount("tmpfs", STAGE, kind="tmpfs", flags=MS_NOSUID | MS_NODEV, data="mode=0755,size=100%")
    for fd, (_, target, how) in zip(held, binds, strict=True):
        place = f"/proc/self/fd/{fd}"
        if how == "copy":
            copy_tree(place, target)
        else:
            if os.path.isdir(place):
                os.mkdir(target, 0o755)
            else:
                os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC, 0o644))
            mount(place, target, flags=MS_BIND | MS_REC)
        os.close(fd)


def become(request: dict[str, object], fds: list[int]) -> None:
    """Turn this child into bubblewrap under a user of its own; does not return."""
    for tasks in request["tasks"]:  # type: ignore[attr-defined]  # plain JSON, made by our own backend
        fd = os.open(tasks, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)
    uid = int(str(request["uid"]))
    if uid:
        stage(request["binds"])  # type: ignore[arg-type]  # plain JSON, made by our own backend
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lease, stdin, stdout, stderr, setup, seccomp = fds[:6]
    null = os.open("/dev/null", os.O_RDWR)
    wanted = {0: null, 1: null, 2: setup, 3: lease, 4: seccomp, 5: stdin, 6: stdout, 7: stderr}
    high = {target: fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for target, fd in wanted.items()}
    for target, fd in high.items():
        os.dup2(fd, target)
    os.closerange(8, 1 << 16)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for number, value in request["rlimits"]:  # type: ignore[attr-defined]  # plain JSON, made by our own backend
        resource.setrlimit(number, (value, value))
    argv = list(map(str, request["argv"]))  # type: ignore[call-overload]  # plain JSON, made by our own backend
    os.execve(argv[0], argv, {})


def serve(channel: socket.socket, request: dict[str, object], fds: list[int]) -> int:
    """Make one sandbox and answer with its process id and process descriptor; gives its leaf (-1: none)."""
    cgroup = fds[6] if len(fds) > 6 else -1
    pid, pidfd = clone(cgroup, mounts=bool(request["uid"]))
    if pid == 0:
        try:
            become(request, fds)
        finally:  # a child that went on here would be a second launcher
            os.write(fds[4], f"keyturn launcher: {sys.exc_info()[1]}\n".encode(errors="replace"))
            os._exit(125)
    socket.send_fds(channel, [json.dumps({"pid": pid}).encode()], [pidfd])
    os.close(pidfd)
    return os.dup(cgroup) if cgroup >= 0 else -1


def open_kill(leaf: int) -> int:
    """The kill file of a leaf that still is there; -1 where it was removed."""
    try:
        return os.open("cgroup.kill", os.O_WRONLY | os.O_CLOEXEC, dir_fd=leaf)
    except OSError:
        return -1


def still_there(leaves: list[int]) -> list[int]:
    """The leaves that were not removed; the others are let go."""
    kept = []
    for leaf in leaves:
        fd = open_kill(leaf)
        os.close(fd if fd >= 0 else leaf)
        if fd >= 0:
            kept.append(leaf)
    return kept


def end(leaves: list[int]) -> None:
    """Kill what was launched and exit."""
    for leaf in leaves:
        fd = open_kill(leaf)
        try:
            os.write(fd, b"1")
        except OSError:
            continue
    os._exit(0)


def main() -> None:
    """Answer requests until the governor is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps; the governor holds process descriptors
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    leaves: list[int] = []
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(channel, REQUEST_BYTES_MAX, FDS_MAX)
        except OSError:
            message, fds = b"", []
        if not message:
            end(leaves)
        leaves = still_there(leaves)
        try:
            leaf = serve(channel, json.loads(message), fds)
            leaves += [leaf] if leaf >= 0 else []
        except BrokenPipeError:
            end([*leaves, *fds[6:]])
        except OSError as error:
            channel.send(json.dumps({"error": str(error), "errno": error.errno}).encode())
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    main()
