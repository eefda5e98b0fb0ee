"""Decoys: disposable files, watched from outside with inotify so that touching one is seen by the kernel.

A watch is armed once the sandbox is parked, so that building it raises no alarm; nothing in here stops a subject.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.sandbox.port import Decoy, DecoyOpened, How

IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_OPEN = 0x1, 0x2, 0x4, 0x8, 0x20
IN_NONBLOCK, IN_CLOEXEC = 0o4000, 0o2000000
WRITTEN = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE
OVERFLOWED = -1
HEADER = struct.Struct("iIII")
READS_MAX = 16
"""How often one look reads; the queue of the kernel holds fewer by default, and tells when it overflows."""


class Decoys:
    """The decoys of one sandbox: files in `folder`, made here and removed with it. Not to be used before `arm`."""

    def __init__(self, folder: Path, decoys: tuple[Decoy, ...], owner: int | None) -> None:
        self.folder = folder
        self.paths: list[tuple[Decoy, Path]] = []
        self.fd = -1
        self.seen: dict[DecoyOpened, None] = {}
        self._names: dict[int, str] = {}
        if decoys:
            folder.mkdir(mode=0o700)
        for number, decoy in enumerate(decoys):
            path = folder / str(number)
            path.write_bytes(decoy.content)
            path.chmod(0o600)
            if owner is not None:
                os.chown(path, owner, owner)
            self.paths.append((decoy, path))

    def arm(self) -> None:
        """Watch from now on; raises `Unavailable` where the kernel gives no watch."""
        if not self.paths:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        for decoy, path in self.paths:
            mask = IN_OPEN | IN_ACCESS | WRITTEN
            watch = libc.inotify_add_watch(self.fd, os.fsencode(path), mask) if self.fd >= 0 else -1
            if watch < 0:
                why = os.strerror(ctypes.get_errno())
                raise Unavailable(f"decoy `{decoy.name}` cannot be watched: {why}", help="raise fs.inotify limits")
            self._names[watch] = decoy.name

    def look(self) -> tuple[DecoyOpened, ...]:
        """Take in what happened; everything touched so far, in order. A flood counts as each decoy written."""
        for _ in range(READS_MAX if self.fd >= 0 else 0):  # who touches them without end must not keep us here
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                break
            self._take(data)
        return tuple(self.seen)

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            watch, mask, _, length = HEADER.unpack_from(data, at)
            at += HEADER.size + length
            how: How = "written" if mask & WRITTEN or watch == OVERFLOWED else "opened"
            names = self._names.values() if watch == OVERFLOWED else [self._names[watch]]
            for name in names if mask & (IN_OPEN | IN_ACCESS | WRITTEN) or watch == OVERFLOWED else ():
                self.seen.setdefault(DecoyOpened(name, how))

    def close(self) -> None:
        """Stop watching and remove the files."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        for _, path in self.paths:
            path.unlink(missing_ok=True)
        if self.paths and self.folder.exists():
            self.folder.rmdir()
