"""Stop everything, or measure a stop, from any process: through the governor's door, or by our own hand.

Neither a log, nor a policy, nor a governor is needed to stop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyturn.app.operating.governing import governing, recorded
from keyturn.app.sealed import Sealed
from keyturn.app.wiring import FileBlobs, FileLatch
from keyturn.core.errors import Conflict, Unavailable
from keyturn.core.events import Document
from keyturn.core.lawful.halting import OK
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
    return recorded(project, receipt, by=by, witnesses=True)


def drill(project: Project, *, by: str) -> Document:
    """Measure a halt without harm: through the door of the governor that runs, or else of one for this alone.

    Raises `Conflict` while a halt stands.
    """
    place = project.home / "control.sock"
    answer = knock(place, by=by, reason="", do=DRILL)
    governed = answer is not None
    if answer is None:
        with governing(project, lambda _: None):
            answer = knock(place, by=by, reason="", do=DRILL)
    if answer is None:
        raise Unavailable("the governor's door does not answer", help="`keyturn halt` acts all the same")
    if answer.get("state") == "refused":
        kind = Unavailable if answer.get("code") == Unavailable.exit_code else Conflict
        raise kind(str(answer.get("why")), help=str(answer.get("help")))
    checks = answer.get("checks")
    return {**answer, "governed": governed, "checks": {**(checks if isinstance(checks, dict) else {}), "door": OK}}
