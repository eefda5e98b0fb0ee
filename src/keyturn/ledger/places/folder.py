"""A folder on disk: written file by file, each whole or not at all; serving it needs no code of ours."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.ledger.places.port import Place

DRAFT = ".new"
"""What a file is called while it is written: a dot, its name, and this."""

_ELSEWHERE = "publish into an empty folder, and keep this one as it is: somebody may have to explain it"


@dataclass(slots=True)
class Folder(Place):
    """The files below `folder`, which is made where it is missing."""

    folder: Path
    touched: set[Path] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Its path."""
        return str(self.folder)

    @contextmanager
    def held(self) -> Iterator[None]:
        """One writer at a time, in a folder that is made where it is missing."""
        with _told(self.folder):
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)

    def names(self) -> Iterator[str]:
        """Every file by its path, links included."""
        for place, inner, files in os.walk(self.folder):
            links = [name for name in inner if (Path(place) / name).is_symlink()]
            for name in sorted((*files, *links)):
                if not _is_draft(name):
                    yield (Path(place) / name).relative_to(self.folder).as_posix()

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None for a link, which could show something else tomorrow."""
        place = self.folder / name
        with _told(place):
            return None if place.is_symlink() or not place.is_file() else place.read_bytes()

    def write_once(self, name: str, data: bytes) -> bool:
        """Write a file that never changes; one of the same bytes may be there."""
        place = self.folder / name
        with _told(place):
            if not os.path.lexists(place):
                self._write(place, data)
                return True
        if self.read(name) != data:
            message = f"`{place}` is there with other bytes than the log has"
            raise TamperDetected(message, help="`keyturn log fsck DIR` says all that differs")
        return False

    def replace(self, name: str, data: bytes) -> bool:
        """Write a file over what is there, unless it is the same already."""
        if self.read(name) == data:
            return False
        with _told(self.folder / name):
            self._write(self.folder / name, data)
        self.sync()
        return True

    def remove(self, name: str) -> None:
        """Remove a file, and the folder of partial files that was made for it once nothing is left there."""
        place = self.folder / name
        with _told(place):
            place.unlink(missing_ok=True)
            if place.parent.suffix == ".p" and all(_is_draft(each.name) for each in place.parent.iterdir()):
                for each in place.parent.iterdir():
                    each.unlink()
                place.parent.rmdir()

    def sync(self) -> None:
        """Make the names of all written files durable."""
        for each in sorted(self.touched, reverse=True):
            with _told(each):
                handle = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        self.touched.clear()

    def _write(self, place: Path, data: bytes) -> None:
        self._make(place.parent)
        draft = place.with_name(f".{place.name}{DRAFT}")
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(place)
        self.touched.add(place.parent)

    def _make(self, place: Path) -> None:
        """The folder of a file, and those above it, none of them a link out of the folder."""
        if place == self.folder:
            return
        self._make(place.parent)
        if place.is_symlink():
            raise TamperDetected(f"`{place}` is a link; a folder of the log is expected", help=_ELSEWHERE)
        if not place.is_dir():
            place.mkdir(mode=0o755)
            self.touched.add(place.parent)


def _is_draft(name: str) -> bool:
    return name.startswith(".") and name.endswith(DRAFT)


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """What the disk refuses is `Unavailable`, with the file that it was about."""
    try:
        yield
    except OSError as fault:
        message = f"`{fault.filename or place}` cannot be published into: {(fault.strerror or str(fault)).lower()}"
        raise Unavailable(message, help="see who owns the folder and whether the disk is full") from fault
