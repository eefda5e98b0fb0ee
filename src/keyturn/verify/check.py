"""May this permit be acted on, here, now, offline? Ten numbered checks; each failure is a finding, all are reported.

1 the checkpoint is signed by the log that is trusted    2 it continues what this node saw last
3 every leaf shown stands under it, and the status is the last    4 the service key and the people signed them
5 the policy in force is the one that adopted policies lead to    6 nothing is halted, the permit is not revoked
7 the permit is about this trust root, action, scope and window   8 enough distinct persons approved exactly this
9 the status is fresh enough    10 the bytes are the ones permitted (in `load`)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError, UntrustedInput
from keyturn.core.policy import Policy
from keyturn.core.policy_reading import read_policy
from keyturn.core.terms import Gate, Instant
from keyturn.ledger import checkpoint, note, tree
from keyturn.verify.bundle import Bundle, Proven
from keyturn.verify.trust import Seen, Trust
from keyturn.wire import canonical, leaf
from keyturn.wire.digest import sha256

SECOND = 1000
SKEW_SECONDS = 300
PERMIT_GATES = {"release": (Gate.RELEASE, Gate.AMEND)}
"""Which gates may permit an action; `amend` permits a founder, whom people chose when they founded the lineage."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason not to act; `check` is the number of the check above."""

    check: int
    message: str
    help: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a bundle showed: the doubts, and, as far as it could be read, the permit, the status and the approvals."""

    doubts: tuple[Doubt, ...]
    permit: ev.PermitIssued | None = None
    status: ev.StatusPublished | None = None
    approvals: tuple[ev.ApprovalGiven, ...] = ()
    seen: Seen | None = None


def check(bundle: Bundle, trust: Trust, *, action: str, scope: str, now: Instant) -> Checked:
    """Apply checks 1 to 9; nothing in the bundle is believed before the checks above it held."""
    try:
        head = _head(bundle, trust)
        opened = _open(bundle, trust, head)
    except KeyturnError as fault:
        return Checked((Doubt(_number(fault), fault.message, fault.help),))
    doubts = (
        *_standing(opened, trust),
        *_about(opened, trust, action, scope, now),
        *_quorum(opened),
        *_freshness(opened, now),
    )
    seen = Seen(head.size, head.root.hex(), opened.status.at, opened.status.counter, opened.status.policy_version)
    return Checked(doubts, opened.permit, opened.status, tuple(each.event for each in opened.approvals), seen)


class _Failed(UntrustedInput):
    """A check without which the later ones mean nothing."""

    def __init__(self, check: int, message: str, help: str) -> None:
        super().__init__(message, help=help)
        self.check = check


def _number(fault: KeyturnError) -> int:
    return fault.check if isinstance(fault, _Failed) else 4


@dataclass(frozen=True, slots=True)
class _Approved:
    index: int
    event: ev.ApprovalGiven


@dataclass(frozen=True, slots=True)
class _Opened:
    """The bundle's leaves as events, each proven and signed, and the policy in force."""

    permit: ev.PermitIssued
    permit_index: int
    status: ev.StatusPublished
    approvals: tuple[_Approved, ...]
    policy: Policy
    policy_version: int
    granting: Policy


def _head(bundle: Bundle, trust: Trust) -> checkpoint.Checkpoint:
    """Checks 1 and 2."""
    try:
        head = checkpoint.open_checkpoint(bundle.checkpoint, note.parse_vkey(trust.founded.log_key)).checkpoint
    except KeyturnError as fault:
        raise _Failed(
            1, f"the checkpoint is not signed by the trusted log: {fault.message}", "get a fresh bundle"
        ) from fault
    if head.origin != trust.founded.origin:
        raise _Failed(1, f"the checkpoint is of `{head.origin}`; `{trust.founded.origin}` is trusted", "wrong project")
    seen = trust.seen
    if head.size < seen.size:
        message = f"the log has {head.size} entries; this node has seen {seen.size}: a rollback"
        raise _Failed(2, message, "get a fresh bundle; if it stays so, the log was rewritten")
    if seen.size and not _continues(bundle, seen, head):
        message = f"the log does not continue the {seen.size} entries that this node has seen: a fork, or no proof"
        raise _Failed(2, message, f"ask for a bundle with a consistency proof from {seen.size}; else report a fork")
    return head


def _continues(bundle: Bundle, seen: Seen, head: checkpoint.Checkpoint) -> bool:
    if seen.size == head.size:
        return seen.root == head.root.hex()
    if bundle.old_size != seen.size:
        return False
    old_root = bytes.fromhex(seen.root)
    return tree.check_consistency(
        old=seen.size, old_root=old_root, new=head.size, new_root=head.root, proof=bundle.consistency
    )


def _open(bundle: Bundle, trust: Trust, head: checkpoint.Checkpoint) -> _Opened:
    """Checks 3, 4 and 5."""
    _all_under(bundle, head)
    policies = _policies(bundle, trust)
    keys = _keys(policies, trust)
    permit = leaf.decode(bundle.permit.leaf, keys)
    status = leaf.decode(bundle.status.leaf, keys)
    if not isinstance(permit, ev.PermitIssued) or not isinstance(status, ev.StatusPublished):
        raise _Failed(4, "the bundle's permit or status is something else", "get a fresh bundle")
    approvals = []
    for each in bundle.approvals:
        event = leaf.decode(each.leaf, keys)
        if isinstance(event, ev.ApprovalGiven) and not isinstance(event, ev.ApprovalRefused):
            approvals.append(_Approved(each.index, event))
    granting = next((p for p in policies if sha256(canonical.encode(p.document)) == permit.policy), None)
    if granting is None:
        raise _Failed(5, "the permit was given under a policy that the bundle does not lead to", "get a fresh bundle")
    return _Opened(permit, bundle.permit.index, status, tuple(approvals), policies[-1], len(policies), granting)


def _all_under(bundle: Bundle, head: checkpoint.Checkpoint) -> None:
    for each in (bundle.status, bundle.permit, *bundle.approvals, *bundle.policies):
        if not _under(each, head):
            message = f"entry {each.index} does not stand under the checkpoint"
            raise _Failed(3, message, "somebody altered the bundle; get it again from the log")
    if bundle.status.index != head.size - 1:
        message = (
            f"the status is entry {bundle.status.index}, not the last, {head.size - 1}: a halt could hide behind it"
        )
        raise _Failed(3, message, "get a fresh bundle")


def _under(each: Proven, head: checkpoint.Checkpoint) -> bool:
    return each.index < head.size and tree.check_inclusion(
        index=each.index, size=head.size, leaf=tree.leaf_hash(each.leaf), proof=each.proof, root=head.root
    )


def _policies(bundle: Bundle, trust: Trust) -> list[Policy]:
    """The pinned policy, then each adopted one in turn, as the service key stated it; the last one is in force."""
    policies = [trust.policy]
    for each in bundle.policies:
        event = leaf.decode(each.leaf, _keys(policies, trust))
        if not isinstance(event, ev.PolicyAdopted) or event.version != len(policies) + 1:
            raise _Failed(5, "the bundle's policies do not follow one another", "get a fresh bundle")
        adopted = read_policy(event.document)
        if not isinstance(adopted, Policy):
            raise _Failed(5, "the bundle holds a policy that is none", "get a fresh bundle")
        policies.append(adopted)
    return policies


def _keys(policies: list[Policy], trust: Trust) -> leaf.Keyring:
    """Every key that a policy named for a person; which of them count is for check 8."""
    people: dict[str, tuple[str, ...]] = {}
    for person in (person for policy in policies for person in policy.people):
        people[person.id] = (*people.get(person.id, ()), *(key.public for key in person.keys))
    return leaf.Keyring(trust.founded.service_key, people)


def _standing(opened: _Opened, trust: Trust) -> Iterator[Doubt]:
    """Checks 5 and 6."""
    status = opened.status
    if status.policy_version != opened.policy_version:
        yield Doubt(
            5, f"policy {status.policy_version} is in force; the bundle leads to {opened.policy_version}", "as above"
        )
    if status.policy_version < trust.seen.policy_version or status.counter < trust.seen.counter:
        yield Doubt(5, "the status is older than one that this node has seen", "get a fresh bundle")
    if status.halted:
        yield Doubt(6, "the loop is halted; nothing may load", "`keyturn resume`, by quorum, then a fresh bundle")
    if opened.permit.permit in status.revoked:
        yield Doubt(6, f"permit `{opened.permit.permit}` is revoked", "use another generation")


def _about(opened: _Opened, trust: Trust, action: str, scope: str, now: Instant) -> Iterator[Doubt]:
    """Check 7."""
    permit = opened.permit
    if permit.genesis != trust.genesis or permit.origin != trust.founded.origin:
        yield Doubt(7, f"the permit is under the genesis {permit.genesis[:15]}…, not the trusted one", "wrong project")
    if permit.action != action or permit.gate not in PERMIT_GATES.get(permit.action, ()):
        yield Doubt(7, f"the permit allows `{permit.action}`; `{action}` is asked for", "ask for that permit")
    if permit.scope != scope:
        yield Doubt(7, f"the permit's scope is `{permit.scope}`; `{scope}` is asked for", "ask for that permit")
    if now < permit.not_before - SKEW_SECONDS * SECOND:
        yield Doubt(7, "the permit is not valid yet", "check this machine's clock")
    if now >= permit.not_after:
        yield Doubt(7, f"the permit expired {(now - permit.not_after) // SECOND} seconds ago", "ask for a new permit")


def _quorum(opened: _Opened) -> Iterator[Doubt]:
    """Check 8: persons, not keys; each in a role of the row; each for exactly this root, gate, level and dossier."""
    permit = opened.permit
    row = opened.granting.row(Gate(permit.gate), permit.level)
    if row is None:
        yield Doubt(
            8, f"the policy has no row for `{permit.gate}` on level {permit.level}", "this permit is worth nothing"
        )
        return
    counted: dict[str, str] = {}
    for each in opened.approvals:
        if not why_not(each.index, each.event, opened):
            counted.setdefault(each.event.person, each.event.role)
    for seat in row.quorum:
        filled = list(counted.values()).count(seat.role)
        if filled < seat.persons:
            message = f"{filled} of {seat.persons} person(s) in the role `{seat.role}` approved exactly this"
            yield Doubt(8, message, "the permit rests on too few people; do not load")


def why_not(index: int, approval: ev.ApprovalGiven, opened: _Opened) -> str:
    """Why an approval does not count for this permit; empty when it does."""
    permit, person = opened.permit, opened.granting.person(approval.person)
    key = next((each for each in person.keys if each.public == approval.key), None) if person else None
    checks = (
        (approval.dossier == permit.dossier, "another dossier"),
        (approval.artifact == permit.root, "another artifact"),
        (approval.gate == permit.gate and approval.level == permit.level, "another gate or level"),
        (approval.genesis == permit.genesis and approval.origin == permit.origin, "another project"),
        (approval.lineage == permit.lineage and approval.scope == permit.scope, "another lineage or scope"),
        (approval.policy == permit.policy, "another policy"),
        (approval.evidence_index <= index < opened.permit_index, "out of order"),
        (approval.not_before <= permit.not_before < approval.not_after, "outside its window"),
        (person is not None and approval.role in person.roles, "a role that the person does not hold"),
        (key is not None, "a key that is not the person's"),
        (key is not None and (key.kind != "simulated" or opened.granting.demo), "a simulated key"),
    )
    return next((reason for holds, reason in checks if not holds), "")


def _freshness(opened: _Opened, now: Instant) -> Iterator[Doubt]:
    """Check 9: without witnesses the log's own moment must do, and only where the policy allows that."""
    if not opened.policy.witnesses.allow_unwitnessed:
        yield Doubt(9, "the policy demands witnesses and none cosigned", "get a witnessed bundle")
    age = (now - opened.status.at) // SECOND
    limit = opened.policy.freshness.permit_seconds
    if age > limit:
        yield Doubt(9, f"the status is {age} seconds old; the limit is {limit} seconds", "get a fresh bundle")
    if age < -SKEW_SECONDS:
        yield Doubt(9, f"the status lies {-age} seconds ahead of this machine's clock", "check this machine's clock")
