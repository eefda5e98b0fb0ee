"""Canaries: what the suite puts out on the host for a probe to reach, and looks at from outside afterwards.

Each lives as long as its `with`; nothing of them stays, and no process but the one started here is signalled.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Json

ENVIRONMENT = "KEYTURN_CANARY"
PATIENCE_SECONDS = 120
"""How long the process to signal would live if nobody ended it."""

IPC_CREATE, IPC_EXCLUSIVE, IPC_REMOVE = 0o1000, 0o2000, 0
SEGMENT_BYTES = 4096
ADD_KEY = {"x86_64": 248, "aarch64": 217}
KEYCTL = {"x86_64": 250, "aarch64": 219}
USER_KEYRING, KEYCTL_UNLINK = -4, 9
DISCARD = 9
EVERYBODYS = (Path("/dev/shm"), Path("/tmp"))  # noqa: S108 - where a bare run may leave its marks
UNREAD_NS = 1
"""A time of last access so early that any reading moves it."""

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.syscall.restype = ctypes.c_long


class Segment:
    """A piece of System V shared memory; absent where this machine gives none."""

    def __init__(self) -> None:
        self.key = secrets.randbelow(0x7FFFFFFE) + 1
        self._number = libc.shmget(self.key, SEGMENT_BYTES, IPC_CREATE | IPC_EXCLUSIVE | 0o666)
        at = libc.shmat(self._number, None, 0) if self._number >= 0 else None
        self._at = None if at in {None, ctypes.c_void_p(-1).value} else at

    def touched(self) -> bool:
        """Whether somebody has written to it since the last look."""
        if self._at is None:
            return False
        written = ctypes.string_at(self._at, 1) != b"\0"
        ctypes.memset(self._at, 0, 1)
        return written

    def close(self) -> None:
        """Remove it."""
        if self._at is not None:
            libc.shmdt(ctypes.c_void_p(self._at))
        if self._number >= 0:
            libc.shmctl(self._number, IPC_REMOVE, None)


class Key:
    """A key in this user's keyring; absent where this machine gives none."""

    def __init__(self, name: str) -> None:
        self._number = -1
        machine = platform.machine()
        if machine in ADD_KEY:
            words = (ctypes.c_long(ADD_KEY[machine]), b"user", name.encode(), b"canary", ctypes.c_size_t(6))
            self._number = int(libc.syscall(*words, ctypes.c_long(USER_KEYRING)))

    def close(self) -> None:
        """Remove it."""
        if self._number >= 0:
            words = (KEYCTL[platform.machine()], KEYCTL_UNLINK, self._number, USER_KEYRING)
            libc.syscall(*map(ctypes.c_long, words))


class Shared:
    """A folder that every sandbox sees read-only: files to lock, one locked by the host, one to be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("free", "held", "owned", "still"):
            (folder / name).write_bytes(b"shared by all who run here\n")
            (folder / name).chmod(0o644)
        folder.chmod(0o755)
        self._held = os.open(folder / "held", os.O_RDWR | os.O_CLOEXEC)
        self._owned = os.open(folder / "owned", os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        fcntl.lockf(self._owned, fcntl.LOCK_EX)
        unread(folder / "still")

    def close(self) -> None:
        """Let go of the locks."""
        os.close(self._held)
        os.close(self._owned)


def unread(path: Path) -> None:
    """Set a file's time of last access far back."""
    os.utime(path, ns=(UNREAD_NS, path.stat().st_mtime_ns))


def listening(family: int, address: str | tuple[str, int]) -> socket.socket:
    """A socket that listens and never waits."""
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind(address)
    made.listen(8)
    made.setblocking(False)
    return made


def heard_on_loopback() -> tuple[socket.socket | None, int]:
    """A socket on the loopback and its port; none, and the port that nobody answers, where there is no loopback."""
    try:
        made = listening(socket.AF_INET, ("127.0.0.1", 0))
    except OSError:
        return None, DISCARD
    return made, int(made.getsockname()[1])


def listening_in(folder: Path, name: str) -> socket.socket:
    """A local socket in a folder whose path may be longer than an address."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        made = listening(socket.AF_UNIX, f"/proc/self/fd/{fd}/{name}")
        (folder / name).chmod(0o777)
        return made
    finally:
        os.close(fd)


class Canaries:
    """One set of canaries in a folder of its own, and what is known of who touched them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nonce = secrets.token_hex(12)
        self._known: set[str] = set()
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            with contextlib.ExitStack() as undo:
                self._put_out(undo)
                self._undo = undo.pop_all()
        except OSError as error:
            raise Unavailable(
                f"the canaries of the containment suite cannot be put out: {error}", help="give it a folder of its own"
            ) from error
        return self

    def _put_out(self, undo: contextlib.ExitStack) -> None:
        self.folder.mkdir(mode=0o700)
        undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        undo.callback(self._unmark)
        for name in ("scratch", "out"):
            (self.folder / name).mkdir()
        self.public = self.folder / "public"
        self.public.mkdir()
        self.public.chmod(0o755)
        self._secret = self.folder / "secret"
        self._secret.write_text(f"canary {self.nonce}\n")
        self._secret.chmod(0o600)
        unread(self._secret)
        self._leaked = os.memfd_create("canary", 0)
        undo.callback(os.close, self._leaked)
        os.write(self._leaked, self.nonce.encode())
        os.environ[f"{ENVIRONMENT}_{self.nonce}"] = self.nonce
        undo.callback(os.environ.pop, f"{ENVIRONMENT}_{self.nonce}", None)
        self.shared = Shared(self.folder / "shared")
        undo.callback(self.shared.close)
        loopback, self._port = heard_on_loopback()
        self._listeners = {
            "the host's abstract socket": listening(socket.AF_UNIX, f"\0keyturn-{self.nonce}"),
            "the host's socket with a path": listening_in(self.folder, "socket"),
            "the host's socket in a shown folder": listening_in(self.public, "socket"),
        }
        self._listeners |= {"the host's port": loopback} if loopback is not None else {}
        for listener in self._listeners.values():
            undo.callback(listener.close)
        self._segment = Segment()
        undo.callback(self._segment.close)
        key = Key(f"keyturn-{self.nonce}")
        undo.callback(key.close)
        wait = f"import time\ntime.sleep({PATIENCE_SECONDS})"
        words = [sys.executable, "-I", "-S", "-c", wait, f"keyturn-{self.nonce}"]
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip  # streams in one row
        undo.callback(self._end)

    def _unmark(self) -> None:
        """Remove what a bare run left in the places that everybody shares."""
        for path in [path for place in EVERYBODYS for path in place.glob(f"keyturn-{self.nonce}*")]:
            path.unlink(missing_ok=True)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def facts(self) -> dict[str, Json]:
        """What a probe is told: where the canaries are."""
        return {
            "nonce": self.nonce,
            "marker": f"keyturn-{self.nonce}",
            "secret": str(self._secret),
            "folder": str(self.folder),
            "process": self._process.pid,
            "process_name": f"keyturn-{self.nonce}",
            "port": self._port,
            "abstract": f"keyturn-{self.nonce}",
            "segment": self._segment.key,
            "key": f"keyturn-{self.nonce}",
        }

    def touched(self) -> tuple[str, ...]:
        """What was touched since the last look, as seen from outside."""
        found = [name for name, listener in self._listeners.items() if _called(listener)]
        found += ["the host's shared memory"] if self._segment.touched() else []
        found += ["the host's process"] if self._process.poll() is not None else []
        found += ["the host's folder"] if (self.folder / "mark").exists() else []
        for name, path in {
            "the host's secret": self._secret,
            "a time of last access": self.shared.folder / "still",
        }.items():
            if path.stat().st_atime_ns != UNREAD_NS:
                found.append(name)
                unread(path)
        fresh = tuple(name for name in found if name not in self._known)
        self._known |= {"the host's process", "the host's folder"} & set(found)
        return fresh


def _called(listener: socket.socket) -> bool:
    """Whether anybody has connected."""
    called = False
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            called = True
    return called
