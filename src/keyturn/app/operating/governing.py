"""Be the governor of a project, the only one: here by a lock on the folder, among machines by a term of the log.

Whoever is not the governor writes nothing as one. A standby waits until the place is free and goes on from the log.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from keyturn.app.operating import opening
from keyturn.app.operating.asked import Asks
from keyturn.app.operating.freezing import Freezing
from keyturn.app.operating.listening import listening
from keyturn.app.operating.operation import read
from keyturn.app.policies import policy_of
from keyturn.app.verifying import keys_over_time
from keyturn.app.wiring import FileBlobs, FileLatch, governor_lock, read_bank_key
from keyturn.core import events as ev
from keyturn.core.betting import Process
from keyturn.core.errors import Conflict, KeyturnError, Unavailable
from keyturn.core.state import State
from keyturn.core.trial import TrialPlan
from keyturn.flow import halt as halts
from keyturn.flow.blobs.erase import make_good
from keyturn.flow.control import ControlDoor
from keyturn.flow.governor import Governor, Grown
from keyturn.ledger.artifacts import ArtifactStore
from keyturn.ledger.check import require_continued, require_sound
from keyturn.ledger.stores.port import LogStore
from keyturn.verify import trust as trusts

if TYPE_CHECKING:
    from keyturn.app.project import Project
    from keyturn.core.events import Document

Tell = Callable[[str], None]
T = TypeVar("T")

STANDBY_SECONDS = 0.5
"""How often a standby looks whether the place is free."""

LINGER_SECONDS = 1.0
"""How long the session of a governor that was killed may linger before its server notices."""

BEATS = 4
"""How many signs of life a governor gives in the time after which it would be taken for dead."""


@contextmanager
def governing(project: Project, tell: Tell, *, standby: bool = False, grown: Grown | None = None) -> Iterator[Governor]:
    """The governor of this project: the only one, with its door open for a halt; a standby waits for its turn first.

    `grown` hears of each block of a trial; without it, `tell` does.
    """
    from keyturn.app.sealed import Sealed

    with ExitStack() as stack:
        place = project.home / "governor.lock"
        _in_turn(lambda: stack.enter_context(governor_lock(place)), standby=standby, tell=tell)
        store = stack.enter_context(project.store())
        term = _in_turn(
            lambda: store.take_term(_holder(str(os.getpid()))), standby=standby, tell=tell, patience=LINGER_SECONDS
        )
        if term:
            tell(f"governs in term {term}")
            stack.enter_context(_beating(store, read(project.root).takeover_seconds))
        _require_sound(project, store)
        log = stack.enter_context(project.opened(store))
        latch, blobs = FileLatch(project.home / "halt.latch"), FileBlobs(project.blobs)
        sealed = stack.enter_context(Sealed.start(project.home, latch, tell))

        def halt_now(by: str, reason: str) -> Document:
            receipt = halts.act(sealed, latch, by=by, reason=reason, keep=blobs.keep)
            return recorded(project, receipt, by=by)  # after the kill: a log that cannot be read must not delay it

        governor = Governor(
            log=log,
            improver=sealed,
            trials=sealed,
            halter=sealed,
            artifacts=ArtifactStore(project.home / "artifacts"),
            blobs=blobs,
            latch=latch,
            bank_key=read_bank_key(project.home / "bank.key"),
            trust=lambda: trusts.read(project.home / "trust.json"),
            tell=tell,
            grown=grown or _told_by(tell),
        )
        _tell_what_was_left(governor, sealed.left)
        asks, freezing = Asks(project, sealed, latch, policy_of(log.state)), Freezing(project, sealed, latch, halt_now)
        stack.callback(freezing.close)
        stack.enter_context(sealed.copies.attending(asks.lease_seconds, asks.revoked))
        doors = {**asks.by_name(), **freezing.by_name()}
        stack.enter_context(ControlDoor(project.home / "control.sock", halt_now, doors))
        if term:
            stack.enter_context(listening(project, governor))
        for blob in make_good(log, blobs):
            tell(f"the erased blob {blob[:15]}… lay there all the same; it was deleted")
        yield governor


def _told_by(tell: Tell) -> Grown:
    """Tell of each block in one line."""

    def grown(name: str, plan: TrialPlan, process: Process) -> None:
        tell(f"{name}: {process.n} of at most {plan.items} items read")

    return grown


def recorded(project: Project, receipt: Document, *, by: str, witnesses: bool = False) -> Document:
    """Write a halt down and publish it; what cannot be is told, and made good by the next start: the halt stands.

    Without `witnesses` nobody is asked to cosign: the loop itself asks them next, and somebody waits for the receipt.
    """
    try:
        with project.opened() as log:
            other = elsewhere(project, log.store)
            if other:
                receipt = halts.beyond(receipt, other, "what it runs cannot be seen from here")
            halts.record(log, by=by, reason=str(receipt["why"]), receipt=receipt)
            late = halts.publish(log, witnesses=witnesses)
    except (KeyturnError, OSError) as fault:
        why = fault.message if isinstance(fault, KeyturnError) else str(fault)
        return halts.unseen(receipt, f"log: the halt is not recorded yet: {why}", proven=not _is_shared(project))
    return halts.unseen(receipt, late, proven=True) if late else receipt


def _is_shared(project: Project) -> bool:
    """Whether others may govern on the same log; where that cannot be read, they may."""
    try:
        return opening.is_shared(project.root)
    except (KeyturnError, OSError):
        return True


def _tell_what_was_left(governor: Governor, left: Document) -> None:
    """Put into the log what this start killed; what could not be seen to be dead halts before anything is launched."""
    if left["processes_before"] or left["state"] != halts.STOPPED:
        governor.log.record(lambda stamp: ev.SandboxSwept(**stamp, receipt=left))
    if left["survivors"]:
        why = "what an earlier governor left alive could not be seen to be dead"
        receipt = halts.act(governor.halter, governor.latch, by="governor", reason=why)
        halts.record(governor.log, by="governor", reason=why, receipt=receipt)


def elsewhere(project: Project, store: LogStore) -> str:
    """The governor that may run something now out of this folder's reach; empty where there is none."""
    other = store.other_governor()
    place = project.home / "governor.lock"
    here = place.read_text(encoding="ascii", errors="replace").strip() if place.is_file() else ""
    return "" if other == _holder(here) else other


def _holder(process: str) -> str:
    """Who governs, in words for whoever finds the place taken."""
    return f"process {process} on {platform.node() or 'a machine without a name'}"


def _in_turn(attempt: Callable[[], T], *, standby: bool, tell: Tell, patience: float = 0) -> T:
    """What the attempt gives; a standby makes it again and again while somebody else is there or the server is away."""
    told, until = False, time.monotonic() + patience
    while True:
        try:
            return attempt()
        except (Conflict, Unavailable) as fault:
            if not standby and time.monotonic() >= until:
                raise
            if standby and not told:
                tell(f"stands by: {fault.message}")
                told = True
        time.sleep(STANDBY_SECONDS)


@contextmanager
def _beating(store: LogStore, seconds: int) -> Iterator[None]:
    """Give signs of life while the governor lives, from a thread: a long step has nothing to write."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(seconds / BEATS):
            try:
                if not store.beat():
                    return
            except Unavailable:
                continue  # the server may come back; until then every append says that it is away
            except Conflict:
                return  # somebody took over: the next append says so, where it can be acted on

    thread = threading.Thread(target=beat, name="keyturn-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _require_sound(project: Project, store: LogStore) -> None:
    """Recompute the log before governing on it; raises `TamperDetected` when it was cut, edited or forked."""
    trust, state = trusts.read(project.home / "trust.json"), State()
    with suppress(KeyturnError), project.opened(store) as log:  # what cannot be read now is refused at the next opening
        state = log.state
    require_sound(store, keys_over_time(state, trust))
    require_continued(store, size=trust.seen.size, root=trust.seen.root)
