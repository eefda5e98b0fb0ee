"""What every stage is handed: the log and the ports, and nothing that could decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keyturn.core.betting import Process
from keyturn.core.errors import MalformedInput, TamperDetected
from keyturn.core.events import Document
from keyturn.core.policy import Policy
from keyturn.core.state import Lineage, State
from keyturn.core.terms import Digest
from keyturn.core.trial import TrialPlan
from keyturn.flow.log import Log
from keyturn.flow.ports import Artifacts, Blobs, Halter, Improver, Latch, Trials
from keyturn.verify.trust import Trust
from keyturn.wire.digest import sha256

Grown = Callable[[str, TrialPlan, Process], None]
"""Hears of each block of a trial that is in the log: the trial's name, its plan, and where its bets stand."""


@dataclass(frozen=True, slots=True)
class Governor:
    """The ports of one project; `bank_key` hides the banks, `tell` and `grown` report progress to whoever watches."""

    log: Log
    improver: Improver
    trials: Trials
    halter: Halter
    artifacts: Artifacts
    blobs: Blobs
    latch: Latch
    bank_key: bytes
    trust: Callable[[], Trust]
    tell: Callable[[str], None]
    grown: Grown

    @property
    def state(self) -> State:
        """What holds now, as far as read."""
        return self.log.state

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        current = self.state.current
        if current is None:
            raise MalformedInput("no policy is adopted; nothing starts without one", help="`keyturn init`")
        return current.policy

    @property
    def lineage(self) -> Lineage:
        """The founded lineage."""
        if self.state.lineage is None:
            raise MalformedInput("no lineage is founded yet", help="`keyturn run` founds it, by quorum")
        return self.state.lineage

    def stored(self, root: Digest, rows: Sequence[Document]) -> Mapping[str, bytes]:
        """The files of this root as they lie sealed: exactly those of `rows`, read once, or `TamperDetected`."""
        folder = self.artifacts.path(root)
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}
        wanted = {str(row["name"]): row["digest"] for row in rows}
        for name in sorted({*files, *wanted}):
            if name not in files or name not in wanted or sha256(files[name]) != wanted[name]:
                raise TamperDetected(
                    f"the stored file `{name}` of {root[:15]}… is not the one that was proposed",
                    help="restore it from a copy; what was altered is not tried, not shown to people, not released",
                )
        return files
