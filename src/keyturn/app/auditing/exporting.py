"""Write one project's log into one file for an auditor."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core.errors import Conflict, Unavailable, invariant
from keyturn.ledger import checkpoint
from keyturn.ledger.export import archive

if TYPE_CHECKING:
    from keyturn.app.project import Project


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    entries: int
    checkpoints: int
    bytes: int
    genesis: str
    root_hex: str


def export_log(project: Project, path: Path) -> Exported:
    """Write the log up to its newest checkpoint, after publishing one over everything that is there now.

    The same log gives the same bytes. A file that exists is not written over: raises `Conflict`.
    """
    with project.opened() as log:
        log.publish()
        founded, store, size = log.state.project, log.store, log.state.published
        notes = [each for each in store.checkpoints() if checkpoint.parse_body(each).size <= size]
        heads = [checkpoint.parse_body(each) for each in notes]
        invariant(founded is not None and bool(heads), "what was published has a founding and a checkpoint")
        if founded is None or heads[-1].size != size:
            raise Unavailable("the newest checkpoint is not signed yet", help="run the command again")
        manifest = archive.Manifest(
            founded.origin,
            founded.genesis,
            founded.log_key,
            size,
            heads[-1].root.hex(),
            tuple(head.size for head in heads),
        )
        _write(path, manifest, notes, store.leaves(0, size))
    return Exported(size, len(notes), path.stat().st_size, founded.genesis, manifest.root)


def _write(path: Path, manifest: archive.Manifest, notes: list[bytes], leaves: Iterable[bytes]) -> None:
    """Write beside the name and then take it, so that nobody finds half a file under it."""
    if path.exists():
        raise Conflict(f"the file `{path}` exists already", help="name a new one; an export is never written over")
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("xb") as file:
            archive.write(file, manifest, notes, leaves)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
