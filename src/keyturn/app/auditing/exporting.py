"""Write one project's log into one file for an auditor."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keyturn.core.errors import Conflict, Unavailable, invariant
from keyturn.core.terms import Digest
from keyturn.ledger import checkpoint
from keyturn.ledger.export import archive
from keyturn.ledger.history import History
from keyturn.wire.blobs.blob import named_by, reasons_of

if TYPE_CHECKING:
    from keyturn.app.project import Project


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written; `left_out` counts published entries that it lacks, because no witnessed head has them yet."""

    entries: int
    checkpoints: int
    bytes: int
    genesis: str
    root_hex: str
    blobs: int
    withheld: int
    left_out: int


def export_log(project: Project, path: Path, *, with_blobs: bool = True) -> Exported:
    """Write the log up to its newest checkpoint, after publishing one over everything that is there now.

    People's words go with it where they are at hand, unless `with_blobs` is false; what subjects printed never does.
    The same log and blobs give the same bytes. A file that exists is not written over: raises `Conflict`.
    """
    with project.opened() as log:
        log.publish()
        founded, store, newest = log.state.project, log.store, log.shown()
        if founded is None or newest is None:
            raise Unavailable(
                "no checkpoint may be shown yet: it is not signed, or not witnessed", help="`keyturn status`"
            )
        size = checkpoint.parse_body(newest).size
        notes = [each for each in store.checkpoints() if checkpoint.parse_body(each).size <= size]
        heads = [checkpoint.parse_body(each) for each in notes]
        invariant(bool(heads) and heads[-1].size == size, "what may be shown is among the signed checkpoints")
        shown, withheld = _blobs(project, store.leaves(0, size), with_blobs=with_blobs)
        manifest = archive.Manifest(
            founded.origin,
            founded.genesis,
            founded.log_key,
            size,
            heads[-1].root.hex(),
            tuple(head.size for head in heads),
            tuple(sorted(shown)),
            withheld,
        )
        _write(path, manifest, notes, store.leaves(0, size), shown)
        left_out = log.state.published - size
    said = (founded.genesis, manifest.root, len(shown), len(withheld), left_out)
    return Exported(size, len(notes), path.stat().st_size, *said)


def _blobs(project: Project, leaves: Iterable[bytes], *, with_blobs: bool) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The blobs of people's words that are at hand, and the digests of all others that entries name."""
    history, reasons, named = History(), set[Digest](), set[Digest]()
    for data in leaves:
        event = history.read(data)
        reasons.update(reasons_of(event) if with_blobs else ())
        named.update(named_by(event))
    found = {each: project.blobs.get(each) for each in sorted(reasons - history.state.erased)}
    shown: dict[str, bytes] = {each: blob.encoded for each, blob in found.items() if blob is not None}
    return shown, tuple(sorted(named - shown.keys()))


def _write(
    path: Path, manifest: archive.Manifest, notes: list[bytes], leaves: Iterable[bytes], blobs: Mapping[str, bytes]
) -> None:
    """Write beside the name and then take it, so that nobody finds half a file under it."""
    if path.exists():
        raise Conflict(f"the file `{path}` exists already", help="name a new one; an export is never written over")
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("xb") as file:
            archive.write(file, manifest, notes, leaves, blobs)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
