"""What the flow needs from the outside, as narrow ports; adapters are known to `app` alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from keyturn.core import programs
from keyturn.core.betting import Process
from keyturn.core.bounds import Bounds, Used
from keyturn.core.errors import Unavailable
from keyturn.core.events import Document
from keyturn.core.finding import Finding
from keyturn.core.policy import Party, Policy, Suite
from keyturn.core.terms import NEVER, NO_DIGEST, Digest, Instant
from keyturn.core.trial import TrialPlan


class Clock(Protocol):
    """Where moments come from."""

    def now(self) -> Instant:
        """The present moment."""


class Ids(Protocol):
    """Where ids and nonces come from; they are never guessed and never used twice."""

    def new(self) -> str:
        """A fresh id."""


class Signer(Protocol):
    """A key that signs where it lies; `public` is its base64 raw public key."""

    @property
    def public(self) -> str:
        """The public key, base64 of 32 raw bytes."""

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature over `message`."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint with every cosignature that came, and in plain words why others did not."""

    note: bytes
    silent: Mapping[str, str]


class Witnessing(Protocol):
    """Asks the parties whom a policy names to cosign the log's head."""

    def cosign(
        self, note: bytes, parties: Sequence[Party], *, size: int, prove: Callable[[int], tuple[bytes, ...]]
    ) -> Cosigned:
        """Ask all at once and return what came in time; who is silent is named and never raises.

        `size` is what they are thought to have cosigned last; `prove(old)` leads from there to this head.
        """


@dataclass(frozen=True, slots=True)
class Attested:
    """What the kernel was seen to enforce on a parked sandbox; `facts` of one configuration are always equal."""

    tier: str
    facts: Document
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something a sandboxed run did that a safeguard saw.

    `kind` is `decoy_opened`, `processes_left`, `limit_reached` or `undeclared_output`; `program` is which of a loop's
    programs did it, where one did.
    """

    kind: str
    detail: str
    program: Digest = NO_DIGEST


@dataclass(frozen=True, slots=True)
class Improved:
    """How an improve step ended; `files` are the declared files, copied out after everything in it was dead."""

    outcome: str
    detail: str
    cpu_seconds: float
    wall_seconds: float
    processes_left: int
    diagnostics: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)
    claim: bytes = b""
    alarms: tuple[Alarm, ...] = ()


class Alarmed(Unavailable):
    """A sealed run broke off after a safeguard had seen something, which must be told all the same."""

    def __init__(self, fault: Unavailable, alarms: tuple[Alarm, ...]) -> None:
        super().__init__(fault.message, help=fault.help)
        self.alarms = alarms


@dataclass(frozen=True, slots=True)
class Leave:
    """What one improve step may do.

    The rest is for a loop: `bounds` (None in shadow mode: nothing is bounded) are those of the warrant, of which `used`
    is gone and whose window ends at `expires_at` (`NEVER` in shadow mode); `admitted` are the programs that an earlier
    run of this very step may still propose; after `open_batch` programs may have run that no entry tells of. `resumed`
    says that there was an earlier run.
    """

    attempt: int
    generation: int
    seed: int
    bounds: Bounds | None
    used: Used
    admitted: frozenset[Digest]
    open_batch: bool
    expires_at: Instant = NEVER
    resumed: bool = False


Judged = programs.Judged
"""A program with its verdict, the rules that refused it, and the digest of the evidence."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Programs that were judged, and what was used since the batch before, `lost` programs included.

    With `closing` it says that nothing runs any more, and that nothing ran that is not logged.
    """

    programs: tuple[Judged, ...]
    used: Used
    lost: int = 0
    closing: bool = False
    alarms: tuple[Alarm, ...] = ()


OnAttested = Callable[[Attested], None]
OnPrograms = Callable[[Batch], None]


class Improver(Protocol):
    """Runs one improve step sealed.

    `on_attested` is called before the first instruction of the subject and may raise, in which case nothing runs.
    `on_programs` makes a loop's batch durable; it raises `Interrupted` when an alarm of the batch halted the project.
    """

    def improve(
        self,
        policy: Policy,
        parent: Mapping[str, bytes],
        *,
        leave: Leave,
        on_attested: OnAttested,
        on_programs: OnPrograms,
    ) -> Improved:
        """Let `parent` make a successor. Raises `Unavailable` when the sandbox failed, `Interrupted` on a halt."""


@dataclass(frozen=True, slots=True)
class Bank:
    """What a grader says about its hidden items before it asks one."""

    digest: Digest
    items: int
    clusters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BlockRead:
    """A block as it was read: the values in committed order, what went wrong, and the process after it.

    `alarms` are those that were raised since the block before; `output_bytes` is what all members said for it.
    """

    start: int
    values: tuple[float, ...]
    faults: tuple[str, ...]
    process: Process
    alarms: tuple[Alarm, ...] = ()
    output_bytes: int = 0


class OutputSpent(Unavailable):
    """Answers have said all that the policy lets a lineage say; the agenda holds until people amend it."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message, help=finding.help)


class TrialSession(Protocol):
    """One trial under way: the grader is up and has named its bank; nobody has been asked anything."""

    @property
    def bank(self) -> Bank:
        """The hidden items, by digest and number."""

    def run(
        self,
        plan: TrialPlan,
        order: Sequence[int],
        process: Process,
        members: Mapping[str, Mapping[str, bytes]],
        *,
        faults_before: int,
        on_attested: Callable[[str, Attested], None],
        on_block: Callable[[BlockRead], None],
        output_bytes_max: int | None = None,
    ) -> tuple[Alarm, ...]:
        """Ask block by block from `process.n` on; returns the alarms that no block reported.

        All members together say at most `output_bytes_max` for one block; whoever would say more broke the protocol.
        `members` maps `candidate` and, where needed, the reference to files. Raises `Unavailable` when sandbox or
        grader failed, `Interrupted` on a halt.
        """


class Trials(Protocol):
    """Opens trials."""

    def open(self, policy: Policy, suite: Suite, *, seed: str) -> AbstractContextManager[TrialSession]:
        """Start the suite's grader on the bank that `seed` names."""


class Halter(Protocol):
    """Kills everything this project runs on this machine, at once, and says what it saw."""

    def halt_all(self, why: str) -> Document:
        """Kill, look, and return the receipt as plain data with `state` STOPPED or UNPROVEN. Never raises first."""


class Artifacts(Protocol):
    """Where candidates' files lie, by root digest."""

    def put(self, root: Digest, files: Mapping[str, bytes]) -> None:
        """Store the files durably; storing the same root again changes nothing."""

    def path(self, root: Digest) -> Path:
        """The folder of this root."""


class Blobs(Protocol):
    """What an entry names by a salted digest, so that it can be erased while the entry stays."""

    def keep(self, data: bytes) -> str:
        """Make it durable under a fresh salt and return the reference for the entry. Raises `Unavailable`."""

    def erase(self, digest: Digest) -> bool:
        """Delete it durably; says whether there was anything."""


class Latch(Protocol):
    """The mark on disk that outlives every process: while it stands nothing is launched and nothing is permitted."""

    def set(self, why: str) -> None:
        """Set and sync it."""

    def clear(self) -> None:
        """Remove it, after a quorum resumed."""

    def reason(self) -> str | None:
        """Why it is set, or None."""

    def guard(self) -> AbstractContextManager[None]:
        """Hold the lock under which a launch or a permit looks at the latch; raises `Interrupted` when it is set.

        Raises `HeldStill` where nothing may begin because everything is held still.
        """

    def freeze(self, text: str) -> None:
        """Set and sync the mark of a freeze; raises `Conflict` where a halt is latched or another mark stands."""

    def thaw(self) -> None:
        """Remove the mark of a freeze. A halt that is latched removes it as well."""

    def frozen(self) -> str | None:
        """What the mark of a freeze says, or None."""


class Store(Protocol):
    """The durable log, as the flow sees it; see `keyturn.ledger.store`."""

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """The exact bytes of the leaves from `start` up to, not including, `end`."""


class HeldStill(Exception):
    """Everything is held still, so nothing begins; once it goes on, the same may be tried again."""


class Interrupted(Exception):
    """A halt arrived while something was under way; what was under way is dead."""
