"""Walk a log from its first entry and decide it again: the one place that does, for every reader of a log.

It collects everything that is wrong. Where the entries come from, and whether the tree over them is what was signed,
is for its callers to know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError, Unavailable
from keyturn.core.replay import recheck
from keyturn.core.terms import Digest
from keyturn.ledger.checkpoint import Keys
from keyturn.ledger.history import History, keyring, log_keys
from keyturn.wire import leaf

PROGRESS_ENTRIES = 500
UNREADABLE = "leaf_must_be_signed_and_lawful"
UNDECIDED = "every_entry_must_be_decided"


class Wrong(NamedTuple):
    """One thing that is wrong with a log: at which entry, against which rule, in one sentence."""

    entry: int
    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Pin:
    """What people pinned: the founding that a log must rest on, and the newest head that was seen (size 0: none)."""

    genesis: Digest
    seen_size: int = 0
    seen_root: str = ""


def _quiet(said: str) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Walk:
    """What was read so far and everything that is wrong with it; `decided` says that every entry could follow.

    After one that could not, no state is known, and nothing more is decided.
    """

    tell: Callable[[str], None] = _quiet
    history: History = field(default_factory=History)
    size: int = 0
    decisions: int = 0
    decided: bool = True
    problems: list[Wrong] = field(default_factory=list)

    @property
    def founded(self) -> ev.ProjectFounded | None:
        """The founding that was read, if there was one."""
        return self.history.state.project

    @property
    def log_keys(self) -> Keys | None:
        """The keys that sign the log's heads, by the founding and the policies that were read; None without these."""
        state = self.history.state
        return log_keys(state.project, state.policies) if state.project else None

    def take(self, data: bytes) -> ev.Event | None:
        """Check the next entry's signature, decide it again, fold it; after one that cannot follow, signatures only.

        Returns the event that was decided, lawful or not; None where nothing could be decided. Raises `Unavailable`
        where this machine cannot check the entry: that says nothing about the log, and ends the walk.
        """
        index, self.size = self.size, self.size + 1
        if index and index % PROGRESS_ENTRIES == 0:
            self.tell(f"{index} entries decided again")
        before = self.history.state
        try:
            event = self.history.read(data) if self.decided else leaf.decode(data, keyring(before))
        except Unavailable as fault:
            raise Unavailable(f"entry {index} cannot be decided: {fault.message}", help=fault.help) from fault
        except KeyturnError as fault:
            self.wrong(index, UNREADABLE, fault.message)
            if self.decided:
                self.wrong(index, UNDECIDED, "the entries after it were not decided again")
            self.decided = False
            return None
        if not self.decided:
            return None
        self.decisions += isinstance(event, ev.GateDecided)
        for finding in recheck(before, event):
            self.wrong(index, finding.rule, finding.message)
        return event

    def wrong(self, entry: int, rule: str, message: str) -> None:
        """Keep one more thing that is wrong."""
        self.problems.append(Wrong(entry, rule, message))

    def fork(self) -> Walk:
        """A walk that goes on from here by itself, so that what it finds may be kept or forgotten."""
        return Walk(self.tell, self.history.branch(), self.size, self.decisions, self.decided, list(self.problems))

    def against(self, pin: Pin | None, root_at: Callable[[int], bytes]) -> None:
        """Compare with what is pinned: another founding, entries that are gone, entries that were rewritten."""
        if self.founded is None:
            self.wrong(0, "log_must_begin_with_its_founding", "the log holds no founding")
        elif pin is None:
            return
        elif pin.genesis != self.founded.genesis:
            message = f"the log rests on {self.founded.genesis}, not on {pin.genesis}"
            self.wrong(0, "genesis_must_be_the_pinned_one", message)
        elif pin.seen_size > self.size:
            self.wrong(self.size, "log_must_not_shrink", f"{pin.seen_size} entries were seen; {self.size} are here")
        elif pin.seen_size and root_at(pin.seen_size).hex() != pin.seen_root:
            message = f"the first {pin.seen_size} entries are not those that were seen"
            self.wrong(pin.seen_size, "log_must_not_be_rewritten", message)
