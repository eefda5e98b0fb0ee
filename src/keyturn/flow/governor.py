"""What every stage is handed: the log and the ports, and nothing that could decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyturn.core.errors import MalformedInput
from keyturn.core.policy import Policy
from keyturn.core.state import Lineage, State
from keyturn.flow.log import Log
from keyturn.flow.ports import Artifacts, Halter, Improver, Latch, Trials
from keyturn.verify.trust import Trust


@dataclass(frozen=True, slots=True)
class Governor:
    """The ports of one project; `bank_key` hides the banks, `tell` reports progress to whoever watches."""

    log: Log
    improver: Improver
    trials: Trials
    halter: Halter
    artifacts: Artifacts
    latch: Latch
    bank_key: bytes
    trust: Callable[[], Trust]
    tell: Callable[[str], None]

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
