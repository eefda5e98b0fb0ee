"""Erase a blob that people cleared: the record first, then the deletion, and again at every later chance."""

from __future__ import annotations

from keyturn.core import events as ev
from keyturn.core.approval import refused_by
from keyturn.core.decision import decide
from keyturn.core.dossier import moment
from keyturn.core.errors import MalformedInput
from keyturn.core.finding import Request
from keyturn.core.terms import Digest
from keyturn.flow.decided import decided
from keyturn.flow.dossier import seal_other
from keyturn.flow.log import Log
from keyturn.flow.ports import Blobs

REQUEST = "EraseBlob"


def ask(log: Log, blob: Digest, *, why: str) -> Digest:
    """The dossier for erasing this blob: the open one, or a new one; `why` refers to what its asker typed."""
    if blob in log.state.erased:
        raise MalformedInput(f"`{blob[:15]}…` was erased before", help="`keyturn log list --kind BlobErased`")
    return _open(log, blob) or seal_other(log, REQUEST, {"erases": blob, "why": why})


def is_asked(log: Log, blob: Digest) -> bool:
    """Whether a dossier for erasing this blob waits for people."""
    return bool(_open(log, blob))


def _open(log: Log, blob: Digest) -> Digest | None:
    now = log.now()
    for dossier in log.state.dossiers.values():
        same = (dossier.document.get("request"), dossier.document.get("erases")) == (REQUEST, blob)
        if same and not dossier.used and now < moment(dossier, "not_after"):
            current = log.state.current
            kept = current is not None and dossier.document.get("policy") == {
                "digest": current.digest,
                "version": current.version,
            }
            if kept and not refused_by(log.state, dossier, now):
                return Digest(dossier.digest)
    return None


def erase_cleared(log: Log, blobs: Blobs, dossier: Digest) -> bool:
    """Erase what this dossier is about if the `amend` gate clears it; says whether it did.

    A crash between the record and the deletion is made good by `make_good`; one before the record erases nothing.
    """
    decision = decide(log.state, Request(REQUEST, dossier), log.now())
    if not decision.cleared:
        return False
    document = log.state.dossiers[dossier].document
    blob, why = Digest(str(document.get("erases"))), str(document.get("why"))
    log.append(
        decided(decision, dossier),
        lambda stamp: ev.BlobErased(**stamp, blob=blob, dossier=dossier, reason=why),
    )
    blobs.erase(blob)
    log.publish()
    return True


def make_good(log: Log, blobs: Blobs) -> tuple[Digest, ...]:
    """Delete every blob that the log says is erased and that lies there all the same; returns which those were."""
    return tuple(blob for blob in sorted(log.state.erased) if blobs.erase(blob))
