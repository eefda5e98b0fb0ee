"""Find what an entry withholds, show it on request, and erase it once the quorum of `amend` has signed for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyturn.app.policies import person_of
from keyturn.app.wiring import FileBlobs
from keyturn.core import events as ev
from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Digest
from keyturn.flow.blobs import erase as erasure
from keyturn.wire.blobs.blob import MARK, Blob, diagnostics_of, named_by

if TYPE_CHECKING:
    from keyturn.app.project import Project
    from keyturn.app.reasons.signing import Signing

ERASED, LOST, SHOWN = "erased", "lost", "shown"


@dataclass(frozen=True, slots=True)
class Found:
    """A blob that entries name: where, whether it is what a subject printed, and what is at hand of it.

    `state` is `shown`, `erased`, or `lost`: gone without a record that it was erased.
    """

    digest: Digest
    entries: tuple[int, ...]
    printed: bool
    state: str
    blob: Blob | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """Whether the blob is erased now, or which dossier waits for more people."""

    digest: Digest
    dossier: Digest | None
    erased: bool


def look(project: Project, name: str) -> Found:
    """The one blob that an entry names by index or id, or whose digest begins so; raises TamperDetected for another."""
    state = project.logged()
    named = _named(project, state.size)
    digest = _find(named, name, state.size)
    blob = project.reader(state).blob(digest)
    gone = ERASED if digest in state.erased else LOST
    printed = any(digest in diagnostics_of(event) for _, event in named[digest])
    return Found(digest, tuple(index for index, _ in named[digest]), printed, SHOWN if blob else gone, blob)


def erase(project: Project, who: Signing, name: str, *, reason: str) -> Erasure:
    """Sign for erasing a blob, and erase it when that was enough; what a crash left is deleted first."""
    with project.opened() as log:
        blobs = FileBlobs(project.blobs)
        erasure.make_good(log, blobs)
        digest = _find(_named(project, log.state.size), name, log.state.size)
        if digest in log.state.erased:
            return Erasure(digest, None, True)
        person_of(log.state, who.person)
        said = project.typed(reason)
        if said.blob is None:
            raise MalformedInput("erasing needs a reason; none was given", help="`--reason TEXT`, in a sentence")
        if not erasure.is_asked(log, digest):
            said.keep()  # the dossier names it before the approval does
        dossier = erasure.ask(log, digest, why=said.reference)
        project.approve(log, dossier, who, said)
        return Erasure(digest, dossier, erasure.erase_cleared(log, blobs, dossier))


def _named(project: Project, size: int) -> dict[Digest, list[tuple[int, ev.Event]]]:
    """Every blob that entries name, with those entries."""
    found: dict[Digest, list[tuple[int, ev.Event]]] = {}
    for index, event in project.entries(0, size):
        for digest in named_by(event):
            found.setdefault(digest, []).append((index, event))
    return found


def _find(named: dict[Digest, list[tuple[int, ev.Event]]], name: str, size: int) -> Digest:
    """The one blob that a name means: an index, the beginning of an entry's id, or of a digest.

    Digits alone are an index where the log has such an entry: a digest may begin with eight of them too.
    """
    wanted = name.removeprefix(MARK)
    plain = wanted.removeprefix("sha256:")
    if name.isascii() and name.isdigit() and len(name) < 16 and int(name) < size:
        fitting = [digest for digest, rows in named.items() if any(str(index) == name for index, _ in rows)]
    else:
        begun = {digest for digest, rows in named.items() for _, event in rows if event.id.startswith(name)}
        fitting = [digest for digest in named if digest[7:].startswith(plain) or digest in begun] if plain else []
    if len(fitting) != 1:
        raise MalformedInput(
            f"`{name[:80]}` names {len(fitting)} blobs; one is expected",
            help="an index or id of an entry that withholds something, or `sha256:` and the beginning of a digest",
        )
    return fitting[0]
