"""Where programs and what is known of them lie: one file for each digest, private to the governor's account.

It stores and makes durable; what a document says, and whether it may be believed, is not its business.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Digest
from keyturn.wire.digest import sha256


@dataclass(slots=True)
class Shelf:
    """The folder `programs/` of a project; files 0600, the folder 0700."""

    folder: Path
    unsynced: list[Path] = field(default_factory=list)

    def put(self, data: bytes) -> Digest:
        """Write it under its digest, not yet durably; what is there already stays. Raises `Unavailable`."""
        digest = sha256(data)
        place = self._place(digest)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not place.exists():
                write(place, data)
                self.unsynced.append(place)
        except OSError as fault:
            raise _no_room(fault) from fault
        return digest

    def get(self, digest: Digest) -> bytes | None:
        """What lies under this digest; None where nothing does, or where it is not what was put there."""
        try:
            data = self._place(digest).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise _no_room(fault) from fault
        return data if sha256(data) == digest else None

    def sync(self) -> None:
        """Make everything durable that was put: before the log names it. Raises `Unavailable`."""
        try:
            for place in self.unsynced:
                sync(place)
            if self.unsynced:
                sync(self.folder)
        except OSError as fault:
            raise _no_room(fault) from fault
        self.unsynced = []

    def _place(self, digest: Digest) -> Path:
        return self.folder / digest.removeprefix("sha256:")


def write(place: Path, data: bytes, *, durable: bool = False) -> None:
    """Write aside and rename, so that a crash leaves all of it or nothing under its name; mode 0600.

    `durable` also syncs the bytes before they get their name, and the folder after it.
    """
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    aside.rename(place)
    if durable:
        sync(place.parent)


def sync(place: Path) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _no_room(fault: OSError) -> Unavailable:
    return Unavailable(
        f"a program could not be kept: {fault.strerror}",
        help="make room, then serve the loop again; the step goes on",
    )
