"""What is true after a number of events: the nouns of a state. It never changes here; `evolve` makes the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keyturn.core import events as ev
from keyturn.core.bounds import Bounds, Output, Used
from keyturn.core.policy import Adopted
from keyturn.core.terms import NEVER, NO_DIGEST, Digest, Gate, Instant, Verdict


@dataclass(frozen=True, slots=True)
class Generation:
    """A released member of the lineage; the founder is number 0."""

    number: int
    candidate: str
    root: Digest
    files: tuple[ev.Document, ...]
    permit: str = ""
    audited_by: str = ""
    released_at: Instant = NEVER


@dataclass(frozen=True, slots=True)
class Lineage:
    """The chain of released members, the level it has reached, and how often each threshold was charged."""

    id: str
    generations: tuple[Generation, ...]
    level: int = 0
    charges: Mapping[str, tuple[Digest, ...]] = field(default_factory=dict)
    shadow: Digest = NO_DIGEST

    @property
    def founder(self) -> Generation:
        """The first member."""
        return self.generations[0]

    @property
    def parent(self) -> Generation:
        """The latest released member, which makes the next candidate."""
        return self.generations[-1]

    @property
    def audited(self) -> Generation:
        """The latest member that a person reviewed; the founder was, by the people who founded the lineage."""
        return next((g for g in reversed(self.generations) if g.audited_by), self.founder)

    @property
    def unaudited(self) -> int:
        """How many generations were released since people last looked."""
        return self.parent.number - self.audited.number

    def member(self, root: Digest) -> Generation | None:
        """The generation with this root, if it is one."""
        return next((g for g in self.generations if g.root == root), None)


@dataclass(frozen=True, slots=True)
class Warrant:
    """Leave to run the loop, how many candidates have been made under it, and what loops of others have spent of it."""

    id: str
    dossier: Digest
    candidates_max: int
    level_ceiling: int
    not_before: Instant
    expires_at: Instant
    bounds: Bounds = field(default_factory=Bounds)
    used: int = 0
    spent: Used = field(default_factory=Used)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One improve step: what was asked, how it ended, and what a loop's programs came to in it.

    `batch_open` says that programs may have run that are not logged yet; `barred` are those refused for their conduct;
    `refused` counts by the first rule of each.
    """

    number: int
    parent: Digest
    generation: int
    seed: int
    warrant: str
    started_at: Instant
    outcome: str = ""
    detail: str = ""
    diagnostics: str = ""
    candidate: str = ""
    batches: int = 0
    batch_open: bool = True
    admitted: frozenset[Digest] = frozenset()
    barred: frozenset[Digest] = frozenset()
    judged: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
    spent: Used = field(default_factory=Used)


@dataclass(frozen=True, slots=True)
class Trial:
    """One sealed run for one threshold: its plan, the betting state so far, and how far it has read."""

    id: str
    candidate: str
    threshold: str
    plan: ev.Document
    planned_at: Instant
    read: int = 0
    process: ev.Document | None = None
    verdict: Verdict | None = None
    values: tuple[float, ...] = ()
    faulty_blocks: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a trial showed, where in the log, and when."""

    index: int
    at: Instant
    threshold: str
    verdict: Verdict
    items: int
    estimate: float
    low: float
    high: float
    trial: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed successor and everything that is known about it."""

    name: str
    attempt: int
    parent: Digest
    root: Digest
    files: tuple[ev.Document, ...]
    claim: ev.Document
    proposed_at: Instant
    status: str = "proposed"
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    raises: Mapping[str, int] = field(default_factory=dict)
    dossier: Digest = NO_DIGEST
    findings: tuple[ev.Document, ...] = ()

    @property
    def trial_purpose(self) -> str:
        """The prefix under which the sandboxes of this candidate's trials were attested."""
        return f"trial:{self.name}:"


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's signed decision and the place in the log where it stands."""

    index: int
    approve: bool
    event: ev.ApprovalGiven


@dataclass(frozen=True, slots=True)
class Dossier:
    """What approvers sign, who asked for it, what they have signed so far, and what the gate said last."""

    digest: Digest
    gate: Gate
    index: int
    document: ev.Document
    sealed_at: Instant
    requester: str
    approvals: tuple[Approval, ...] = ()
    decided: bool = False
    used: bool = False


@dataclass(frozen=True, slots=True)
class Halt:
    """A stop, what proved it, and whether a quorum lifted it."""

    id: str
    by: str
    reason: str
    requested_at: Instant
    proven: bool = False
    receipt: ev.Document | None = None
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Freeze:
    """What holds everything still, until when at the latest; `ended` says by whom it was let go on, or by what halt."""

    id: str
    by: str
    reason: str
    at: Instant
    until_at: Instant
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """What went wrong, and the moments that people signed for it."""

    id: str
    kind: str
    summary: str
    detected_at: Instant
    attempt: int
    candidate: str
    facts: ev.Document
    exercise: bool
    moments: Mapping[str, ev.AwarenessSigned] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """Everything that follows from the log so far; `size` is the number of events folded.

    `noteworthy` is the size after the last event that people or loading nodes must learn of, `published` the size
    under the last published status, `witnessed` the size of the newest head of which the log knows that independent
    parties cosigned it, as many as the policy of that moment asked for; `cosigners` are those who did.
    """

    size: int = 0
    last_at: Instant = NEVER
    project: ev.ProjectFounded | None = None
    policies: tuple[Adopted, ...] = ()
    lineage: Lineage | None = None
    warrants: tuple[Warrant, ...] = ()
    attempts: Mapping[int, Attempt] = field(default_factory=dict)
    attested: Mapping[str, ev.SandboxAttested] = field(default_factory=dict)
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)
    dossiers: Mapping[str, Dossier] = field(default_factory=dict)
    permits: Mapping[str, ev.PermitIssued] = field(default_factory=dict)
    revoked: tuple[str, ...] = ()
    halts: tuple[Halt, ...] = ()
    drill: ev.HaltDrilled | None = None
    freezes: tuple[Freeze, ...] = ()
    incidents: Mapping[str, Incident] = field(default_factory=dict)
    nonces: frozenset[str] = frozenset()
    erased: frozenset[Digest] = frozenset()
    noteworthy: int = 0
    published: int = 0
    status_counter: int = 0
    witnessed: int = 0
    cosigners: tuple[str, ...] = ()
    output: Output = field(default_factory=Output)

    @property
    def current(self) -> Adopted | None:
        """The policy in force."""
        return self.policies[-1] if self.policies else None

    @property
    def halt(self) -> Halt | None:
        """The first halt that no quorum has lifted yet."""
        return next((halt for halt in self.halts if not halt.resumed), None)

    @property
    def freeze(self) -> Freeze | None:
        """The freeze that stands, as far as the log tells."""
        return next((freeze for freeze in reversed(self.freezes) if not freeze.ended), None)

    @property
    def is_witnessed(self) -> bool:
        """Whether independent parties cosigned the newest published head; otherwise screens say UNWITNESSED."""
        return bool(self.cosigners) and self.witnessed == self.published

    @property
    def settled(self) -> bool:
        """Whether nothing happened since the last published status but that it was witnessed."""
        after = self.size - self.published
        return self.published > 0 and (after == 0 or (after == 1 and self.witnessed == self.published))

    @property
    def warrant(self) -> Warrant | None:
        """The newest warrant."""
        return self.warrants[-1] if self.warrants else None
