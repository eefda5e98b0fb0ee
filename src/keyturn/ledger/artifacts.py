"""Where candidates' files lie: one folder per root digest, private to the governor's account, complete or absent.

It stores and finds; whether anything may be loaded from here is for `verify` to say.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Digest
from keyturn.ledger.shelf import sync
from keyturn.wire import artifact


@dataclass(frozen=True, slots=True)
class ArtifactStore:
    """The folder `artifacts/` of a project; files 0600, folders 0700."""

    folder: Path

    def path(self, root: Digest) -> Path:
        """The folder of this root, whether or not it exists."""
        return self.folder / root.removeprefix("sha256:")

    def put(self, root: Digest, files: Mapping[str, bytes]) -> None:
        """Store the files so that a crash leaves all of them or none; what is there already stays.

        Raises `Unavailable` when the disk does not take them.
        """
        artifact.require_names(files)
        place = self.path(root)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if place.is_dir():
                return
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
            for name, data in files.items():
                _write(draft / name, data)
            sync(draft)
            draft.rename(place)
            sync(self.folder)
        except OSError as fault:
            shutil.rmtree(draft, ignore_errors=True)
            raise Unavailable(
                f"the candidate's files could not be stored: {fault.strerror}", help="make room; the step is done again"
            ) from fault


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
