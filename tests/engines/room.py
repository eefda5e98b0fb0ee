"""What stands behind both fake servers: "containers" that are real processes in namespaces of their own.

Their init is the real `contained.py`, as process 1, under our filter, with sized folders in memory. The servers lie
when a test tells them to; nothing here says anything of a real engine.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.sandbox.port import Runtime
from keyturn.sandbox.runtime import resolve

IMAGE = "images.example/python@sha256:" + "ab" * 32
DIGEST = "sha256:" + "ab" * 32


SETUP = r"""
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
folders, argv = int(sys.argv[1]), sys.argv[2:]
def sure(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
for at in range(folders):
    target, size = argv[2 * at : 2 * at + 2]
    sure(libc.mount(b"tmpfs", target.encode(), b"tmpfs", 2 | 4 | 8, b"mode=0700,size=" + size.encode()))
for number in range(64):
    libc.prctl(24, number, 0, 0, 0)
sure(libc.prctl(47, 4, 0, 0, 0))
sure(libc.syscall(ctypes.c_long(126), struct.pack("II", 0x20080522, 0), bytes(24)))
code = ctypes.create_string_buffer(struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000), 8)
sure(libc.prctl(22, 2, ctypes.c_char_p(struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))), 0, 0))
os.execv(sys.executable, [sys.executable, *argv[2 * folders + 1 :]])
"""
"""What an engine's runtime does before it starts the command: folders in memory, no capabilities, a filter."""


@functools.cache
def python() -> Runtime:
    """The governor's own Python, looked for once."""
    place = tempfile.mkdtemp(prefix="keyturn-runtime-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return resolve("python", Path(place) / "runtime.json")


@functools.cache
def image() -> Path:
    """A root file system with the governor's own Python, as an image would bring it; one for all tests."""
    root = Path(tempfile.mkdtemp(prefix="keyturn-image-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    runtime = python()
    names = [mask.rpartition("/")[2] for mask in runtime.masks]
    for bind in runtime.binds:
        target = root / bind.target.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if bind.source.is_dir():
            shutil.copytree(bind.source, target, ignore=shutil.ignore_patterns("__pycache__", *names), symlinks=True)
        else:
            shutil.copy2(bind.source, target)
    for folder in FOLDERS:
        (root / folder).mkdir()
    return root


FOLDERS = (
    "proc",
    "dev",
    "tmp",
    "out",
    "parent",
    "candidate",
    "runner",
    "bait",
    "vault",
    "ledger",
    "exam",
    "grader",
    "keys",
)


@dataclass
class Room:
    """One container: made, started, perhaps ended. `lies` is how the server speaks of it beside the truth."""

    command: list[str]
    user: int
    folders: Mapping[str, int]
    details: dict[str, object] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    pid: int = 0
    paused: bool = False

    def start(self) -> None:
        """Start it: pipes for the attach stream, and bubblewrap around its command."""
        (stdin, self.stdin), (self.stdout, stdout), (self.stderr, stderr) = os.pipe(), os.pipe(), os.pipe()
        info, info_far = os.pipe()
        argv = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
                "--as-pid-1", "--new-session", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--cap-add",
                "CAP_SETPCAP", "--clearenv", "--uid", str(self.user), "--gid", str(self.user),
                "--ro-bind", str(image()), "/", "--proc", "/proc", "--tmpfs", "/dev", "--dir", "/dev/shm",
                "--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom",
                "--info-fd", str(info_far), "--"]  # fmt: skip  # one command
        argv += [python().python, "-I", "-S", "-c", SETUP, str(len(self.folders))]
        argv += [word for target, size in self.folders.items() for word in (target, str(size))]
        argv += self.command
        self.process = subprocess.Popen(
            argv, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=(info_far,), start_new_session=True
        )
        for fd in (stdin, stdout, stderr, info_far):
            os.close(fd)
        said = b""
        while data := os.read(info, 4096):
            said += data
        os.close(info)
        self.pid = json.loads(said)["child-pid"]

    @property
    def running(self) -> bool:
        """Whether it still lives."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Kill its first process, and with it all of it."""
        if self.running:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process is not None:
            self.process.wait(10)

    def close(self) -> None:
        """Kill it and give its pipes back."""
        self.kill()
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.stdout = self.stderr = -1

    def shut_stdin(self) -> None:
        """What an engine does when the one who was attached has gone."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1


def eventually(true: object, seconds: float = 10.0) -> bool:
    """Whether something comes true within a few seconds."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
