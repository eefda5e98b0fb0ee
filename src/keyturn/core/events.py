"""Every fact that the log can hold, in the past tense, as one closed union.

A leaf of the log is exactly one event. `from_json` refuses what it does not know: an unread fact could hide anything.
"""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, dataclass, fields

from keyturn.core.errors import MalformedInput
from keyturn.core.terms import Digest, Instant, Json

Document = dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all facts share: an id, the moment, who acted, and the policy in force (empty before there is one)."""

    id: str
    at: Instant
    actor: str
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFounded(Event):
    """The project began: its log, the governor's service key, and the digest that all trust starts from."""

    name: str
    origin: str
    demo: bool
    log_key: str
    service_key: str
    genesis: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAdopted(Event):
    """A policy took effect; policy 1 is signed by every person it names, a later one cleared `amend` or tightens."""

    version: int
    digest: Digest
    document: Document
    signatures: tuple[Document, ...]
    dossier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageFounded(Event):
    """The chain has a first member, which people cleared under `amend`."""

    lineage: str
    root: Digest
    files: tuple[Document, ...]
    dossier: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class WarrantIssued(Event):
    """The `train` gate cleared: leave to run the loop within these bounds; it never grants release.

    `bounds` is what a loop of somebody else's may use; empty, it gives such a loop no leave at all.
    """

    warrant: str
    lineage: str
    dossier: Digest
    candidates_max: int
    level_ceiling: int
    not_before: Instant
    expires_at: Instant
    bounds: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class ImprovementStarted(Event):
    """The governor intends to let a generation make candidate number `attempt` in the sandbox."""

    attempt: int
    lineage: str
    warrant: str
    parent: Digest
    generation: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxAttested(Event):
    """What the kernel enforced on a parked sandbox before one instruction of the subject ran in it."""

    purpose: str
    tier: str
    facts: Document
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramsJudged(Event):
    """A batch of a loop's programs was admitted or refused, each by digest; `used` is what the batch used.

    Of those that it charges, `lost` programs may have run unlogged before a crash. After a `closing` entry nothing has
    run that is not logged.
    """

    attempt: int
    batch: int
    programs: tuple[Document, ...]
    used: Document
    lost: int
    closing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImprovementEnded(Event):
    """An improve step is over: `produced`, or why not; `diagnostics` refers to what the subject printed."""

    attempt: int
    outcome: str
    detail: str
    cpu_seconds: float
    wall_seconds: float
    processes_left: int
    diagnostics: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateProposed(Event):
    """An improve step yielded exactly the declared files; nothing is known about them yet but their digests."""

    candidate: str
    attempt: int
    lineage: str
    parent: Digest
    root: Digest
    files: tuple[Document, ...]
    claim: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlanned(Event):
    """What a trial will measure, fixed before its first sample."""

    trial: str
    candidate: str
    threshold: str
    plan: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialAdvanced(Event):
    """A block of items was read in the committed order; `process` is the betting state after it.

    `output_bytes` is what all sandboxes of the trial said for it; logs of earlier releases do not tell.
    """

    trial: str
    start: int
    values: tuple[float, ...]
    faults: tuple[str, ...]
    process: Document
    output_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersReserved(Event):
    """A trial's sandboxes are about to start: this much may come out of them between two entries, and counts."""

    trial: str
    output_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded(Event):
    """A trial decided or used up its budget."""

    trial: str
    verdict: str
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRecorded(Event):
    """What a trial showed, attested by the runner that saw it, about exactly this root."""

    candidate: str
    root: Digest
    trial: str
    threshold: str
    verdict: str
    items: int
    estimate: float
    low: float
    high: float
    charge: int
    bank: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRaised(Event):
    """A candidate was not shown to be below a capability threshold: stricter duties apply from here on."""

    lineage: str
    candidate: str
    threshold: str
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierSealed(Event):
    """The one object that approvers sign now exists; its digest names it."""

    dossier: Digest
    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven(Event):
    """A person signed for exactly this dossier; the event is their own statement, not the governor's."""

    dossier: Digest
    gate: str
    level: int
    artifact: str
    lineage: str
    genesis: Digest
    evidence_index: int
    policy_version: int
    person: str
    role: str
    scope: str
    not_before: Instant
    not_after: Instant
    origin: str
    reason: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRefused(ApprovalGiven):
    """A person signed against this dossier; one refusal ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecided(Event):
    """What the gate said, with every finding, under which rules, about a head of the log that was read."""

    gate: str
    dossier: Digest
    cleared: bool
    findings: tuple[Document, ...]
    rules: Digest
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitIssued(Event):
    """Signed leave for one action on one artifact in one scope, until it expires or is revoked."""

    permit: str
    dossier: Digest
    gate: str
    action: str
    lineage: str
    candidate: str
    root: Digest
    files: tuple[Document, ...]
    level: int
    scope: str
    genesis: Digest
    origin: str
    not_before: Instant
    not_after: Instant
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitRevoked(Event):
    """A permit ended before its time."""

    permit: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateReleased(Event):
    """A candidate became a generation: the parent of what comes next."""

    candidate: str
    lineage: str
    root: Digest
    generation: int
    permit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRejected(Event):
    """A candidate will not be released; every finding is kept."""

    candidate: str
    findings: tuple[Document, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateShadowed(Event):
    """Shadow mode: the loop went on by itself; this is what would have been held. Nothing was issued."""

    candidate: str
    root: Digest
    adopted: bool
    findings: tuple[Document, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationAudited(Event):
    """A person reviewed a released generation and signed so; drift is measured from here, and pace starts anew."""

    lineage: str
    root: Digest
    genesis: Digest
    evidence_index: int
    person: str
    role: str
    reason: str
    origin: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltRequested(Event):
    """Somebody or a tripwire stopped the loop; the kill came before this record."""

    halt: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltProven(Event):
    """Everything within the receipt's scope was seen to be dead: STOPPED."""

    halt: str
    receipt: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltUnproven(Event):
    """Something within the receipt's scope could not be seen to be dead: launches stay blocked."""

    halt: str
    receipt: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltDrilled(Event):
    """A halt was measured on a sandbox of ours beside what runs; `checks` says of the rest "ok", or what failed."""

    by: str
    receipt: Document
    daemons: int
    checks: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSwept(Event):
    """A governor killed at its start what an earlier one had left alive, and this is the receipt."""

    receipt: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResumed(Event):
    """A quorum cleared `resume`: the halt is lifted."""

    halt: str
    dossier: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopFrozen(Event):
    """Somebody holds everything still, to look, until `until_at` at the latest; what was seen of it is `held`."""

    freeze: str
    by: str
    reason: str
    until_at: Instant
    held: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopThawed(Event):
    """A person let everything go on before the bound of the freeze."""

    freeze: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentOpened(Event):
    """Something went wrong, opened by what happened; `detected_at` starts only provisional deadlines."""

    incident: str
    kind: str
    summary: str
    attempt: int
    candidate: str
    facts: Document
    exercise: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AwarenessSigned(Event):
    """A person signed that a moment the law names has come for an incident."""

    incident: str
    moment: str
    moment_at: Instant
    genesis: Digest
    person: str
    reason: str
    origin: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobErased(Event):
    """A quorum cleared `amend`: what other entries named by `blob` is deleted; its digest stands for ever."""

    blob: Digest
    dossier: Digest
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPublished(Event):
    """The last leaf under every published checkpoint: is the loop halted, what is revoked, which policy holds."""

    counter: int
    halted: bool
    revoked: tuple[str, ...]
    policy_version: int
    policy_digest: Digest
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointWitnessed(Event):
    """Independent parties cosigned the newest published head; `note` is that checkpoint with their signatures."""

    size: int
    root: str
    parties: tuple[str, ...]
    note: str


EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        ProjectFounded,
        PolicyAdopted,
        LineageFounded,
        WarrantIssued,
        ImprovementStarted,
        SandboxAttested,
        ProgramsJudged,
        ImprovementEnded,
        CandidateProposed,
        TrialPlanned,
        TrialAdvanced,
        AnswersReserved,
        TrialEnded,
        EvidenceRecorded,
        LevelRaised,
        DossierSealed,
        ApprovalGiven,
        ApprovalRefused,
        GateDecided,
        PermitIssued,
        PermitRevoked,
        CandidateReleased,
        CandidateRejected,
        CandidateShadowed,
        GenerationAudited,
        HaltRequested,
        HaltProven,
        HaltUnproven,
        HaltDrilled,
        SandboxSwept,
        LoopResumed,
        LoopFrozen,
        LoopThawed,
        IncidentOpened,
        AwarenessSigned,
        BlobErased,
        StatusPublished,
        CheckpointWitnessed,
    )
}
"""Every event by its name in the log."""


def _plain(hint: object) -> object:
    """The plain type behind a NewType, so that values can be checked against it."""
    while hasattr(hint, "__supertype__"):
        hint = hint.__supertype__
    return hint


def _shape(kind: type[Event]) -> dict[str, object]:
    hints = typing.get_type_hints(kind)
    return {field.name: _plain(hints[field.name]) for field in fields(kind)}


_SHAPES = {name: _shape(kind) for name, kind in EVENTS.items()}
_LATER = {name: {f.name: f.default for f in fields(kind) if f.default is not MISSING} for name, kind in EVENTS.items()}
"""Fields that earlier releases did not write, and what their absence means; so we do not write that either."""


def to_json(event: Event) -> Document:
    """The event as plain data, its name under `type`."""
    body: Document = {"type": type(event).__name__}
    later = _LATER[type(event).__name__]
    for name in _SHAPES[type(event).__name__]:
        value = getattr(event, name)
        if name in later and value == later[name]:
            continue
        body[name] = list(value) if isinstance(value, tuple) else value
    return body


def from_json(body: Document) -> Event:
    """The event that `to_json` wrote; refuses an unknown name, a missing or surplus key, a wrong type.

    Raises `MalformedInput`.
    """
    name = body.get("type")
    kind = EVENTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise MalformedInput(f"`{name}` is not an event", help="this log was written by another release of Keyturn")
    shape = _SHAPES[kind.__name__]
    surplus = sorted(set(body) - set(shape) - {"type"})
    missing = sorted(set(shape) - set(body) - set(_LATER[kind.__name__]))
    if surplus or missing:
        raise MalformedInput(f"event `{name}` lacks {missing} and has surplus {surplus}", help="do not trust this log")
    return kind(**{key: _checked(f"{name}.{key}", hint, body[key]) for key, hint in shape.items() if key in body})  # type: ignore[arg-type]  # each value was checked against its field


def _checked(place: str, hint: object, value: Json) -> object:
    if typing.get_origin(hint) is tuple:
        item = _plain(typing.get_args(hint)[0])
        if isinstance(value, list):
            return tuple(_checked(place, item, each) for each in value)
    elif isinstance(hint, types.GenericAlias):  # Document
        if isinstance(value, dict):
            return value
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    message = f"`{place}` is `{str(value)[:60]}`, which is not what the event holds"
    raise MalformedInput(message, help="do not trust this log")
