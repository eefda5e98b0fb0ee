"""The folder of blobs: one file for each digest, which `sha256sum` alone checks; private to the governor's account.

It stores, finds and deletes durably. Whether a blob may be shown or must be gone is for the log to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.errors import TamperDetected, Unavailable
from keyturn.core.terms import Digest
from keyturn.ledger.shelf import sync, write
from keyturn.wire.blobs.blob import BLOB_BYTES_MAX, Blob, decode

_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BlobStore:
    """The folder `blobs/` of a project; files 0600 under `sha256/`, folders 0700."""

    root: Path

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.root / "sha256"

    def put(self, blob: Blob) -> None:
        """Keep it durably, before an entry names it; a crash leaves all of it or none. Raises `Unavailable`."""
        try:
            self._make_folder()
            write(self._place(blob.digest), blob.encoded, durable=True)
        except OSError as fault:
            raise Unavailable(
                f"what an entry is to name could not be kept: {fault.strerror}",
                help="make room, then try again; nothing was logged",
            ) from fault

    def get(self, digest: Digest) -> Blob | None:
        """The blob of this digest, None where nothing lies; raises TamperDetected for other bytes than were named."""
        try:
            with self._place(digest).open("rb") as file:
                encoded = file.read(BLOB_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as fault:
            message = f"the blob {digest[:15]}… cannot be read: {fault.strerror}"
            raise Unavailable(message, help="see who owns the folder `blobs`") from fault
        return decode(encoded, digest)

    def holds(self, digest: Digest) -> bool:
        """Whether anything lies under this digest, whatever it is, half-written drafts of it included."""
        return any(True for _ in self._all_of(digest))

    def erase(self, digest: Digest) -> bool:
        """Delete salt and data, and every draft of them, durably; says whether there was anything."""
        found = list(self._all_of(digest))
        self._unlink(found)
        return bool(found)

    def sound(self, digest: Digest) -> bool:
        """Whether what lies under this digest is what it commits to."""
        try:
            return self.get(digest) is not None
        except TamperDetected:
            return False

    def names(self) -> tuple[str, ...]:
        """The name of every file here, drafts and strangers included."""
        return tuple(sorted(path.name for path in self._files()))

    def age_seconds(self, name: str, now: float) -> float:
        """How long ago a file was written, as its folder says; 0 where there is none."""
        path = self.folder / name
        return now - path.lstat().st_mtime if path.is_file() else 0.0

    def remove(self, name: str) -> None:
        """Delete one file by its name, durably."""
        self._unlink([path for path in self._files() if path.name == name])

    def _files(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from self.folder.iterdir()

    def _all_of(self, digest: Digest) -> Iterator[Path]:
        name = self._place(digest).name
        return (path for path in self._files() if path.name == name or path.name.startswith(f".{name}."))

    def _unlink(self, paths: list[Path]) -> None:
        try:
            for path in paths:
                path.unlink(missing_ok=True)
            if paths:
                sync(self.folder)
        except OSError as fault:
            raise Unavailable(
                f"a blob could not be deleted: {fault.strerror}", help="see who owns the folder `blobs`, and run again"
            ) from fault

    def _make_folder(self) -> None:
        for folder in (self.root, self.folder):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
                sync(folder.parent)

    def _place(self, digest: Digest) -> Path:
        return self.folder / digest.removeprefix("sha256:")


def digest_of(name: str) -> Digest | None:
    """The digest that a file is named after; None for a draft or a stranger."""
    return Digest(f"sha256:{name}") if _NAME.fullmatch(name) else None
