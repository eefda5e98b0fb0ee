"""The governed loader: hand out weights only if a permit for exactly these bytes verifies here, now and offline."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput, UntrustedInput
from keyturn.core.terms import Instant
from keyturn.verify.bundle import Bundle
from keyturn.verify.check import Checked, check
from keyturn.verify.doubt import Doubt
from keyturn.verify.trust import Trust, remember
from keyturn.wire import artifact

_HELP = "load the released files"


class Refused(UntrustedInput):
    """The weights may not load; `doubts` holds every reason."""

    def __init__(self, doubts: tuple[Doubt, ...]) -> None:
        reasons = "; ".join(f"[{doubt.check}] {doubt.message}" for doubt in doubts)
        super().__init__(f"loading is refused: {reasons}", help=doubts[0].help)
        self.doubts = doubts


@dataclass(frozen=True, slots=True)
class Loaded:
    """Files whose every byte is permitted: the very bytes that were hashed, not a path that may change.

    `unwitnessed` and `simulated` must be shown wherever this is shown.
    """

    files: Mapping[str, bytes]
    permit: ev.PermitIssued
    unwitnessed: bool
    simulated: bool
    trust: Trust


def load(path: Path, bundle: Bundle, *, trust: Trust, action: str, scope: str, now: Instant) -> Loaded:
    """Read, hash and compare; raises `Refused` with all reasons, and then hands out nothing.

    Each file is read once: what is returned is what was hashed. A file that is a symbolic link is refused. What the
    bundle proved about the log is remembered either way; raises `Conflict` or `Unavailable` as `remember` does.
    """
    checked = check(bundle, trust, action=action, scope=scope, now=now)
    newer = remember(trust, checked.seen) if checked.seen is not None else trust
    files, doubts = _files(path, checked)
    if doubts or checked.permit is None:
        raise Refused(doubts)
    return Loaded(files, checked.permit, not checked.witnesses, checked.permit.simulated, newer)


def examine(path: Path, bundle: Bundle, *, trust: Trust, action: str, scope: str, now: Instant) -> Checked:
    """All ten checks as a value: every doubt about a bundle and the files in a folder, and nothing handed out."""
    checked = check(bundle, trust, action=action, scope=scope, now=now)
    return replace(checked, doubts=_files(path, checked)[1])


def _files(path: Path, checked: Checked) -> tuple[dict[str, bytes], tuple[Doubt, ...]]:
    doubts = list(checked.doubts)
    files = _read(path, checked, doubts)
    return files, tuple(doubts)


def _read(path: Path, checked: Checked, doubts: list[Doubt]) -> dict[str, bytes]:
    """Check 10: the folder holds exactly the permitted files, and their root is the permitted one."""
    if checked.permit is None:
        return {}
    allowed = {str(row.get("name")): row for row in checked.permit.files}
    try:
        found = _names(path)
        if found != sorted(allowed):
            raise MalformedInput(f"the folder holds {found}; {sorted(allowed)} are permitted", help=_HELP)
        files = {name: _read_once(path / name, _size(row)) for name, row in allowed.items()}
        root = artifact.root(artifact.manifest(files))
    except MalformedInput as fault:
        doubts.append(Doubt(10, fault.message, fault.help))
        return {}
    if root != checked.permit.root:
        doubts.append(Doubt(10, "the bytes are not the ones that were permitted", _HELP))
    return files


def _names(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path))
    except OSError as fault:
        raise MalformedInput(f"the folder `{path}` cannot be read: {fault.strerror}", help=_HELP) from fault


def _size(row: ev.Document) -> int:
    size = row.get("bytes")
    return size if isinstance(size, int) else 0


def _read_once(path: Path, size: int) -> bytes:
    # O_NONBLOCK: opening a pipe that someone put there must not hang.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as fault:
        raise MalformedInput(f"`{path.name}` cannot be opened: {fault.strerror}", help=_HELP) from fault
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != size:
            raise MalformedInput(f"`{path.name}` is no regular file of {size} bytes", help=_HELP)
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(size + 1)
    finally:
        os.close(handle)
