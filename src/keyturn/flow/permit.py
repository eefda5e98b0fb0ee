"""Issue a permit once a gate cleared, show it as a bundle, and load a generation through it like everybody else."""

from __future__ import annotations

from collections.abc import Mapping

from keyturn.core import events as ev
from keyturn.core.agenda import Reject, Release
from keyturn.core.approval import quorum
from keyturn.core.candidate import level_of
from keyturn.core.errors import MalformedInput, Unavailable
from keyturn.core.evidence import SECOND
from keyturn.core.finding import Decision
from keyturn.core.state import Candidate, Dossier
from keyturn.core.terms import Digest, Gate, Instant, Json
from keyturn.flow.decided import decided
from keyturn.flow.governor import Governor
from keyturn.flow.log import Fact, Log
from keyturn.ledger import checkpoint
from keyturn.ledger.history import keyring
from keyturn.verify.bundle import Bundle, Proven
from keyturn.verify.check import permit_name
from keyturn.verify.load import load
from keyturn.wire import base64, canonical, leaf

ACTION = "release"
SCOPE = "this lineage, on governed machines"


def release(governor: Governor, step: Release) -> None:
    """Decide, permit and release in one append, under the lock that a halt takes: never one without the others."""
    candidate = governor.state.candidates[step.candidate]
    dossier = governor.state.dossiers[candidate.dossier]
    governor.stored(candidate.root, candidate.files)
    with governor.latch.guard():
        governor.log.append(
            decided(step.decision, dossier.digest),
            permit_fact(governor.log, dossier, step.decision, candidate),
            _released(governor, candidate),
        )


def _released(governor: Governor, candidate: Candidate) -> Fact:
    lineage = governor.lineage
    return lambda stamp: ev.CandidateReleased(
        **stamp,
        candidate=candidate.name,
        lineage=lineage.id,
        root=candidate.root,
        generation=lineage.parent.number + 1,
        permit=permit_id(candidate.dossier),
    )


def reject(governor: Governor, step: Reject) -> None:
    """Record that this candidate will not be released, and why; its files stay for whoever wants to look."""
    findings = tuple(finding.to_json() for finding in step.findings)
    governor.log.record(lambda stamp: ev.CandidateRejected(**stamp, candidate=step.candidate, findings=findings))


def permit_id(dossier: Digest) -> str:
    """A permit is named after the dossier that it rests on; whoever checks it expects exactly this name."""
    return permit_name(dossier)


def permit_fact(log: Log, dossier: Dossier, decision: Decision, candidate: Candidate) -> Fact:
    """The permit for `candidate` (or the founder in a candidate's shape) under the cleared `decision`."""
    state = log.state
    project, current = state.project, state.current
    if project is None or current is None:
        raise MalformedInput("there is no project to permit anything in", help="`keyturn init`")
    level = level_of(state, candidate.name)
    seconds = current.policy.freshness.evidence_seconds
    return lambda stamp: ev.PermitIssued(
        **stamp,
        permit=permit_id(dossier.digest),
        dossier=dossier.digest,
        gate=decision.gate,
        action=ACTION,
        lineage=project.name,
        candidate=candidate.name,
        root=candidate.root,
        files=candidate.files,
        level=level,
        scope=SCOPE,
        genesis=project.genesis,
        origin=project.origin,
        not_before=stamp["at"],
        not_after=Instant(stamp["at"] + seconds * SECOND),
        simulated=_simulated(log, dossier, decision.gate, level),
    )


def _simulated(log: Log, dossier: Dossier, gate: Gate, level: int) -> bool:
    """Whether anyone who counted was a simulated person; such a permit says so for ever."""
    state = log.state
    row = state.current.policy.row(gate, level) if state.current else None
    if row is None or state.current is None:
        return True
    counted = dict(quorum(state, dossier, row, log.now()).counted)
    return any(person.simulated for person in state.current.policy.people if person.id in counted)


def bundle(log: Log, permit: str, *, old_size: int = 0) -> Bundle:
    """Everything that shows this permit to somebody offline, under the newest published checkpoint."""
    log.refresh()  # somebody else may have published since
    state = log.state
    issued = state.permits.get(permit)
    saved = log.shown()
    if issued is None:
        raise MalformedInput(f"`{permit}` is not a permit of this log", help="`keyturn lineage show` lists them")
    dossier, indexes = state.dossiers[issued.dossier], log.indexes()
    size = checkpoint.parse_body(saved).size if saved else 0
    if saved is None or indexes.permits[permit] >= size:
        message = f"the permit is entry {indexes.permits[permit]}; the newest checkpoint that may be shown has {size}"
        raise Unavailable(message, help="`keyturn run` publishes it and asks the policy's witnesses to cosign")
    return Bundle(
        checkpoint=saved,
        status=_proven(log, size - 1, size),
        permit=_proven(log, indexes.permits[permit], size),
        approvals=tuple(_proven(log, a.index, size) for a in dossier.approvals if a.approve and a.index < size),
        policies=tuple(_proven(log, i, size) for n in indexes.policies[1:] if n < size for i in _adoption(log, n)),
        old_size=old_size if 0 < old_size <= size else 0,
        consistency=tuple(log.store.prove_consistency(old_size, size)) if 0 < old_size < size else (),
    )


def handed(log: Log, permit: str, *, old_size: int = 0) -> Bundle:
    """The bundle for a loading node that has seen `old_size` entries, under a head made fresh for it.

    Raises `Unavailable` where the witnesses that the policy asks for have not cosigned that head: an older one could
    hide a revocation. Raises `MalformedInput` where the log has fewer entries than the node has seen.
    """
    if log.state.current is None:
        raise MalformedInput("no policy is adopted, so no permit stands", help="`keyturn init`")
    policy = log.state.current.policy
    log.renew(policy.freshness.permit_seconds / 2)
    log.publish()
    if policy.witnesses.required and log.state.witnessed < log.state.published:
        missing = "; ".join(log.witness()) or "it is being asked for"
        message = f"the newest head is not witnessed as the policy asks: {missing}"
        raise Unavailable(message, help="bundles made before still hold; try again once the witnesses answer")
    made = bundle(log, permit, old_size=old_size)
    if made.old_size != old_size:
        message = f"the node has seen {old_size} entries; the newest checkpoint of this log has fewer"
        raise MalformedInput(message, help="this log was put back to an earlier day, or the number is another log's")
    return made


def pack(bundle: Bundle) -> bytes:
    """The bundle as one file: canonical JSON, as `verify.bundle` reads it."""
    return canonical.encode(
        {
            "v": 1,
            "checkpoint": bundle.checkpoint.decode("utf-8"),
            "status": _plain(bundle.status),
            "permit": _plain(bundle.permit),
            "approvals": [_plain(each) for each in bundle.approvals],
            "policies": [_plain(each) for each in bundle.policies],
            "old_size": bundle.old_size,
            "consistency": _texts(bundle.consistency),
        }
    )


def _plain(each: Proven) -> dict[str, Json]:
    return {"index": each.index, "leaf": each.leaf.decode("utf-8"), "proof": _texts(each.proof)}


def _texts(hashes: tuple[bytes, ...]) -> list[Json]:
    return [base64.encode(each) for each in hashes]


def _adoption(log: Log, index: int) -> tuple[int, ...]:
    """Where an adoption stands, and before it the dossier and the approvals that cleared it, if it needed any."""
    adopted = leaf.decode(log.store.leaf(index), keyring(log.state, index))
    dossier = log.state.dossiers.get(adopted.dossier) if isinstance(adopted, ev.PolicyAdopted) else None
    if dossier is None:
        return (index,)
    approvals = (each.index for each in dossier.approvals if each.approve and each.index < index)
    return (dossier.index, *approvals, index)


def _proven(log: Log, index: int, size: int) -> Proven:
    return Proven(index, log.store.leaf(index), tuple(log.store.prove_inclusion(index, size)))


def load_generation(governor: Governor, root: Digest) -> Mapping[str, bytes]:
    """The files of a released generation, loaded through its permit by the same check that a stranger runs.

    In shadow mode the loop's own parent was never released; it is read as it is, and nothing is issued for it.
    """
    generation = governor.lineage.member(root)
    if generation is None and root == governor.lineage.shadow:
        shadow = next(c for c in governor.state.candidates.values() if c.root == root)
        return governor.stored(root, shadow.files)
    if generation is None:
        raise MalformedInput(f"{root[:15]}… is not a generation of this lineage", help="`keyturn lineage show`")
    governor.log.renew(governor.policy.freshness.permit_seconds / 2)
    trust = governor.trust()
    made = bundle(governor.log, generation.permit, old_size=trust.seen.size)
    loaded = load(governor.artifacts.path(root), made, trust=trust, action=ACTION, scope=SCOPE, now=governor.log.now())
    return loaded.files
