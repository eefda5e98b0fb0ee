"""Hold everything still so that people can look, and let it go on in time; what is forgotten ends as a halt.

The mark on disk stands first and goes last, under the lock of the latch: a crash in between leaves everything closed.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Protocol

from keyturn.core import events as ev
from keyturn.core.errors import Conflict
from keyturn.core.freeze import MINUTE, must_stay
from keyturn.core.state import Freeze, State
from keyturn.core.terms import Instant
from keyturn.flow import halt as halts
from keyturn.flow.governor import Governor
from keyturn.flow.log import Fact, Log
from keyturn.flow.ports import Latch

HELD, NOT_HELD = "HELD", "NOT HELD"
LOOK_SECONDS = 0.1
SPARE = 1000
"""How long before its bound a freeze may still be let go on, so that the record of it lies within."""

UNREAD = "f-unread"
"""Names a freeze whose mark cannot be read."""

BY = "freeze"
"""Who halts what was forgotten."""

FORGOTTEN = "a freeze was not let go on within its bound"
LOST = "the log says that everything is held still, and its mark is gone"


class Freezer(Protocol):
    """Holds all that runs sealed on this machine still, and lets it go on."""

    def freeze(self, seconds: float) -> ev.Document:
        """Hold it still, and say what was seen: `state` HELD, UNPROVEN, or NOT HELD where nothing was."""

    def thaw(self) -> None:
        """Let it go on; raises `Conflict` or `Unavailable` where it does not."""


def freeze(
    freezer: Freezer, latch: Latch, *, by: str, reason: str, minutes: float, now: Instant, keep: Callable[[bytes], str]
) -> tuple[Freeze, ev.Document]:
    """Mark, and hold still; needs no log. Raises `Conflict` where a halt stands or everything is held still already.

    What cannot be held still at all runs on: the mark goes again, and the answer says so.
    """
    until_at = Instant(int(now + minutes * MINUTE))
    asked = Freeze(f"f-{secrets.token_hex(4)}", halts.clean(by)[:100], halts.kept(keep, reason), now, until_at)
    latch.freeze(_written(asked))
    try:
        held = freezer.freeze(minutes * 60)
    except BaseException:
        latch.thaw()
        raise
    if held.get("state") == NOT_HELD:
        latch.thaw()
    return asked, held


def record(log: Log, asked: Freeze, held: ev.Document) -> None:
    """Write the freeze down, whoever else is writing, unless a halt has ended it meanwhile."""
    log.refresh()
    _append(log, lambda state: [] if state.halt is not None else [_frozen(asked, held)])


def thaw(freezer: Freezer, latch: Latch, log: Log, *, by: str) -> Freeze:
    """Let everything go on: the record comes first, so that nothing goes on which the log does not tell of.

    Raises `Conflict` where it may not. Where it was recorded and does not go on after all, the caller must halt.
    """
    log.refresh()
    asked = standing(latch)
    if asked is None:
        raise Conflict("nothing is held still", help="`keyturn status` says what is waited for")
    why = must_stay(log.state, asked, by, Instant(log.now() + SPARE))
    if why:
        raise Conflict(f"it does not go on: {why}", help="`keyturn halt --reason TEXT`, or a person who is enrolled")

    def facts(state: State) -> list[Fact]:
        known = any(each.id == asked.id for each in state.freezes)
        said = [] if known else [_frozen(asked, {"state": "UNPROVEN", "unknown": ["it was recorded at the thaw"]})]
        gone = known and state.freeze is None  # recorded by a governor that died before it could let go
        return [*said, *([] if gone else [_thawed(asked, by)])]

    _append(log, facts)
    latch.thaw()
    freezer.thaw()
    return asked


def standing(latch: Latch) -> Freeze | None:
    """The freeze whose mark stands; a mark that cannot be read stands all the same, and has passed its bound."""
    text = latch.frozen()
    if text is None:
        return None
    try:
        said = json.loads(text)
        id, by, reason = (str(said[name]) for name in ("freeze", "by", "reason"))
        return Freeze(id, by, reason, Instant(int(said["at"])), Instant(int(said["until_at"])))
    except (ValueError, KeyError, TypeError):
        return Freeze(UNREAD, "somebody", "its mark cannot be read", Instant(0), Instant(0))


def wait(governor: Governor) -> bool:
    """Wait until nothing is held still, and say whether something was, so that the log is to be read anew.

    What has passed its bound is halted, and so is a freeze whose mark is gone.
    """
    told = False
    while (asked := standing(governor.latch)) is not None and governor.latch.reason() is None:
        if governor.log.now() > asked.until_at:
            end(governor, FORGOTTEN)
            return True
        if not told:
            governor.tell(f"everything is held still by {asked.by}: nothing new begins")
            told = True
        time.sleep(LOOK_SECONDS)
    stood = governor.state.freeze is not None
    if stood and governor.log.refresh().freeze is not None and governor.latch.reason() is None:
        end(governor, LOST)
    return told or stood


def end(governor: Governor, why: str) -> None:
    """Halt what is held still, with proof, and write it down."""
    receipt = halts.act(governor.halter, governor.latch, by=BY, reason=why)
    halts.record(governor.log, by=BY, reason=why, receipt=receipt)


def _written(asked: Freeze) -> str:
    said = {"freeze": asked.id, "by": asked.by, "reason": asked.reason, "at": asked.at, "until_at": asked.until_at}
    return json.dumps(said)


def _frozen(asked: Freeze, held: ev.Document) -> Fact:
    return lambda stamp: ev.LoopFrozen(
        **stamp, freeze=asked.id, by=asked.by, reason=asked.reason, until_at=asked.until_at, held=held
    )


def _thawed(asked: Freeze, by: str) -> Fact:
    return lambda stamp: ev.LoopThawed(**stamp, freeze=asked.id, by=by[:100])


def _append(log: Log, facts: Callable[[State], list[Fact]]) -> None:
    for _ in range(halts.TRIES_MAX):
        found = facts(log.state)
        if not found:
            return
        try:
            log.append(*found)
        except Conflict:
            log.refresh()
        else:
            return
    raise Conflict("the log kept moving while a freeze was to be recorded", help="`keyturn halt`, or ask again")
