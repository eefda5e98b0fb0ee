"""Stop everything, or measure a stop, from any process: through the governor's door, or by our own hand.

Neither a log, nor a policy, nor a governor is needed to stop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyturn.app.operating import opening
from keyturn.app.operating.governing import elsewhere, governing
from keyturn.app.sealed import Sealed
from keyturn.app.wiring import FileBlobs, FileLatch
from keyturn.core.errors import Conflict, KeyturnError, Unavailable
from keyturn.core.events import Document
from keyturn.flow import halt as halts
from keyturn.flow.control import DRILL, knock

if TYPE_CHECKING:
    from keyturn.app.project import Project


def halt(project: Project, *, by: str, reason: str) -> Document:
    """Stop everything: through the governor's door, or, when none answers, by our own hand."""
    receipt = knock(project.home / "control.sock", by=by, reason=reason)
    if receipt is not None:
        return receipt
    latch, halter = FileLatch(project.home / "halt.latch"), Sealed.halter(project.home)
    receipt = halts.act(halter, latch, by=by, reason=reason, keep=FileBlobs(project.blobs).keep)
    try:
        return _recorded(project, receipt, by=by)
    except (KeyturnError, OSError) as fault:  # the halt stands: the latch is set, and the next start records it
        why = fault.message if isinstance(fault, KeyturnError) else str(fault)
        return halts.unseen(receipt, f"log: the halt is not recorded yet: {why}", proven=not _is_shared(project))


def _recorded(project: Project, receipt: Document, *, by: str) -> Document:
    """Write the halt down and publish it; a governor on another machine is out of this one's sight."""
    with project.opened() as log:
        other = elsewhere(project, log.store)
        if other:
            receipt = halts.beyond(receipt, other, "what it runs cannot be seen from here")
        halts.record(log, by=by, reason=str(receipt["why"]), receipt=receipt)
        late = halts.publish(log)
    return halts.unseen(receipt, late, proven=True) if late else receipt


def _is_shared(project: Project) -> bool:
    """Whether others may govern on the same log; where that cannot be read, they may."""
    try:
        return opening.is_shared(project.root)
    except (KeyturnError, OSError):
        return True


def drill(project: Project, *, by: str) -> Document:
    """Measure a halt without harm: through the door of the governor that runs, or else of one for this alone.

    Raises `Conflict` while a halt stands.
    """
    place = project.home / "control.sock"
    answer = knock(place, by=by, reason="", do=DRILL)
    if answer is None:
        with governing(project, lambda _: None):
            answer = knock(place, by=by, reason="", do=DRILL)
    if answer is None:
        raise Unavailable("the governor's door does not answer", help="`keyturn halt` acts all the same")
    if answer.get("state") == "refused":
        raise Conflict(str(answer.get("why")), help=str(answer.get("help")))
    return answer
