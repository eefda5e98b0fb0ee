"""The rulebook: what `keyturn.toml` says once it is read, adopted by an event and then fixed until amended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from keyturn.core.terms import Custody, Digest, Gate, Json, Tier

CHECK_SECONDS = 7 * 86400
"""How old the last check of a sandbox may be where the policy does not say."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of a person; `kind` is `ed25519`, `ssh` or, only in a demo, `simulated`.

    `touch` and `pin` demand of a security key's every signature that somebody touched it, and proved who they are.
    """

    kind: str
    public: str
    custody: Custody
    touch: bool = False
    pin: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """A human being who may decide, with the roles in which they may do so."""

    id: str
    roles: tuple[str, ...]
    keys: tuple[Key, ...]

    @property
    def simulated(self) -> bool:
        """Whether any key of this person is simulated, which every screen must show."""
        return any(key.kind == "simulated" for key in self.keys)


@dataclass(frozen=True, slots=True)
class FileRule:
    """A file that a candidate must consist of, and how large it may be."""

    name: str
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Subject:
    """The governed system: its two commands, the runtime they need, and the files of a member of its lineage.

    `improve` is empty where a loop of somebody else's makes the candidates.
    """

    improve: tuple[str, ...]
    answer: tuple[str, ...]
    runtime: str
    founder: Digest
    seed: int
    files: tuple[FileRule, ...]


@dataclass(frozen=True, slots=True)
class Applicability:
    """What the project states about itself so that law which cannot apply starts no clock."""

    role: str
    jurisdictions: tuple[str, ...]
    training_flop: float
    revenue_usd: float


@dataclass(frozen=True, slots=True)
class Clause:
    """One sentence of the charter and the suite whose items probe it."""

    clause: str
    text: str
    bank: str


@dataclass(frozen=True, slots=True)
class Suite:
    """The definition of a trial: who grades it under which name, how many items it may use, in blocks of how many."""

    id: str
    grader: tuple[str, ...]
    exam: str
    metric: str
    items_max: int
    block: int
    estimand: str


@dataclass(frozen=True, slots=True)
class Level:
    """A rung of autonomy: the least sandbox tier and the pace that apply on it."""

    id: int
    sandbox: Tier
    unaudited_max: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """A line in one metric with values in [0, 1], tested on one suite.

    `limit`: not shown to be below `line - margin` refuses. `capability`: not shown to be below
    `line - margin` raises the level to `raises_to`. `claim`: shown to be below the candidate's own
    claim less `margin` refuses. `reference` (`parent`, `audited` or `founder`) makes the value of an
    item the paired difference (candidate - reference + 1) / 2.
    """

    id: str
    kind: str
    suite: str
    metric: str
    reference: str
    line: float
    margin: float
    lifetime_error: float
    raises_to: int


@dataclass(frozen=True, slots=True)
class Seat:
    """So many distinct persons in one role; the seats of a quorum are joined by AND."""

    role: str
    persons: int


@dataclass(frozen=True, slots=True)
class GateRow:
    """What one gate demands on one level, and for how long a clearance holds."""

    action: Gate
    level: int
    require: tuple[str, ...]
    quorum: tuple[Seat, ...]
    expires_after_seconds: int


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one sealed run may use; bytes, processes and seconds. What is None is not bounded.

    `output_bytes_lineage_max` is how much all answers of the lineage, of candidates and references, may say in all its
    trials. `devices` are shown to a sealed run, below tier T4 only with `accept_unproven_devices`. `check_seconds_max`
    is how old the last check of the sandbox itself may be, None where the policy does not say.
    """

    memory_bytes: int
    processes_max: int
    wall_seconds: int
    cpus: float | None = None
    cpu_seconds_max: int | None = None
    output_bytes_lineage_max: int | None = None
    devices: tuple[str, ...] = ()
    accept_unproven_devices: bool = False
    check_seconds_max: int | None = None

    @property
    def check_seconds(self) -> int:
        """How old the last check may be, said or not."""
        return CHECK_SECONDS if self.check_seconds_max is None else self.check_seconds_max


@dataclass(frozen=True, slots=True)
class Tripwire:
    """A rule that acts by itself: `when` it happens, `do` this (`halt` or `incident`)."""

    when: str
    do: str


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop of somebody else's makes the candidates, and one of its programs becomes this declared file.

    `protect` is `evolve-blocks` (what lies outside the marks stands as in the parent) or `nothing`. `batch` bounds the
    programs between two entries of the log, and so what a crash can lose; `program_seconds` what one program may take.
    """

    program: str
    protect: str
    batch: int
    program_seconds: int


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old, in seconds, evidence may be at a gate and a permit's log head may be at a load."""

    evidence_seconds: int
    permit_seconds: int


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who cosigns the log's heads: under which verifier keys (any of them will do), and where to ask.

    Only an `independent` party, one that the operator does not run, ever counts. An `auditor` also decides every event
    again before it cosigns.
    """

    id: str
    keys: tuple[str, ...]
    url: str
    independent: bool
    auditor: bool


@dataclass(frozen=True, slots=True)
class Witnesses:
    """How many independent parties must cosign the log, how many of them auditors, and whether it may go without."""

    required: int
    allow_unwitnessed: bool
    auditors: int = 0
    parties: tuple[Party, ...] = ()

    def counted(self, cosigned: Collection[str]) -> tuple[str, ...]:
        """The ids of those among the cosigners who count: independent parties that this policy names."""
        return tuple(party.id for party in self.parties if party.independent and party.id in cosigned)

    @property
    def splits(self) -> str:
        """How two histories could each be witnessed, in words; empty where any two enough have a party in common."""
        many = sum(party.independent for party in self.parties)
        auditors = sum(party.independent and party.auditor for party in self.parties)
        if not self.required or 2 * self.required > many or 2 * self.auditors > auditors:
            return ""
        return (
            f"{self.required} of {many} independent parties are required: two histories could each find enough; more "
            "than half closes that"
        )

    def lacking(self, cosigned: Collection[str]) -> tuple[str, ...]:
        """What is missing when these parties cosigned, in plain words; empty when it is enough."""
        counted = self.counted(cosigned)
        auditing = [party.id for party in self.parties if party.auditor and party.id in counted]
        rows = ((self.required, counted, "witnesses"), (self.auditors, auditing, "auditors"))
        return tuple(
            f"{len(there)} of {wanted} independent {what} cosigned"
            for wanted, there, what in rows
            if len(there) < wanted
        )


@dataclass(frozen=True, slots=True)
class GovernorKeys:
    """The governor's own keys: the base64 service key that states facts, the verifier keys that sign checkpoints.

    In a policy an empty one means that the founding's stays. The first of `log_keys` is the current one; all of them
    sign every checkpoint, so that whoever pinned an older one can follow.
    """

    service_key: str
    log_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole rulebook; `document` is the plain data that its digest is taken over."""

    name: str
    origin: str
    demo: bool
    separate_warrant: bool
    custody_least: Custody
    applicability: Applicability
    subject: Subject
    people: tuple[Person, ...]
    charter: tuple[Clause, ...]
    suites: tuple[Suite, ...]
    levels: tuple[Level, ...]
    thresholds: tuple[Threshold, ...]
    gates: tuple[GateRow, ...]
    lease_seconds: float
    sandbox: SandboxLimits
    tripwires: tuple[Tripwire, ...]
    freshness: Freshness
    witnesses: Witnesses
    loop: Loop | None
    governor: GovernorKeys
    document: dict[str, Json]

    def row(self, gate: Gate, level: int) -> GateRow | None:
        """The row that governs `gate` on `level`; none means that the gate can never clear there."""
        return next((row for row in self.gates if row.action is gate and row.level == level), None)

    def person(self, id: str) -> Person | None:
        """The person enrolled under this id, if any."""
        return next((person for person in self.people if person.id == id), None)

    def holder(self, public: str) -> Person | None:
        """The person who holds this public key, if any."""
        return next((p for p in self.people if any(key.public == public for key in p.keys)), None)

    def level(self, id: int) -> Level | None:
        """The rung with this number, if the policy has one."""
        return next((level for level in self.levels if level.id == id), None)

    def suite(self, id: str) -> Suite | None:
        """The suite with this id, if the policy has one."""
        return next((suite for suite in self.suites if suite.id == id), None)

    def threshold(self, id: str) -> Threshold | None:
        """The threshold with this id, if the policy has one."""
        return next((threshold for threshold in self.thresholds if threshold.id == id), None)

    @property
    def single_person(self) -> bool:
        """Whether one person alone can release on some level, which every screen must show."""
        releases = [row for row in self.gates if row.action is Gate.RELEASE]
        return any(sum(seat.persons for seat in row.quorum) == 1 for row in releases)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A policy in the chain: its number, its digest, what it says, and at which entry of the log it was adopted."""

    version: int
    digest: Digest
    policy: Policy
    index: int


def seated(wanted: Mapping[str, int], able: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A role for as many persons as can sit at once; `wanted` says how many seats a role has.

    Everybody takes at most one seat, and no seat stays empty that could be filled: a matching, not a queue, so that
    one more signature can never leave a quorum further from its end.
    `able` names the roles in which each person may sit, in order of preference; who comes first there is placed
    first and never loses the seat to a later one, though the role may change to make room.
    """
    chairs: dict[tuple[str, int], str] = {}
    for person in able:
        _place(person, wanted, able, chairs, set())
    return {person: role for (role, _), person in sorted(chairs.items(), key=lambda item: list(able).index(item[1]))}


def _place(
    person: str,
    wanted: Mapping[str, int],
    able: Mapping[str, Sequence[str]],
    chairs: dict[tuple[str, int], str],
    tried: set[tuple[str, int]],
) -> bool:
    """Seat this person, moving others to another of their roles if that makes room."""
    for chair in ((role, number) for role in able[person] for number in range(wanted.get(role, 0))):
        if chair in tried:
            continue
        tried.add(chair)
        if chair not in chairs or _place(chairs[chair], wanted, able, chairs, tried):
            chairs[chair] = person
            return True
    return False
