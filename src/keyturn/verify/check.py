"""May this permit be acted on, here, now, offline? Ten numbered checks; each failure is a finding, all are reported.

1 the checkpoint is signed by the log that is trusted    2 it continues what this node saw last
3 every leaf shown stands under it, and the status is the last    4 the service key and the people signed them
5 the policy in force is the one that lawful adoptions lead to    6 nothing is halted, the permit is not revoked
7 the permit is about this trust root, action, scope and window   8 enough distinct persons approved exactly this
9 the status is fresh enough    10 the bytes are the ones permitted (in `load`)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError
from keyturn.core.keys.governor import in_force, keys_of
from keyturn.core.policy import Adopted
from keyturn.core.terms import Digest, Gate, Instant
from keyturn.ledger import checkpoint, tree
from keyturn.verify.bundle import Bundle, Proven
from keyturn.verify.chain import follow
from keyturn.verify.doubt import FRESH, Doubt, Failed, doubt_of
from keyturn.verify.people import Approved, Asked, count
from keyturn.verify.trust import Seen, Trust
from keyturn.wire import artifact, digest, leaf

SECOND = 1000
SKEW_SECONDS = 300
PERMIT_GATES = {"release": (Gate.RELEASE, Gate.AMEND)}
"""Which gates may permit an action; `amend` permits the founder alone, whom people chose when they founded it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a bundle showed: the doubts, and, as far as it could be read, the permit, the status and the approvals.

    `witnesses` are the independent parties that cosigned the head; none of them makes it UNWITNESSED.
    `seen` is what this node now knows of the log and must remember even when it refuses: a halt that was shown once
    must not be forgotten for an older bundle.
    """

    doubts: tuple[Doubt, ...]
    permit: ev.PermitIssued | None = None
    status: ev.StatusPublished | None = None
    approvals: tuple[ev.ApprovalGiven, ...] = ()
    seen: Seen | None = None
    witnesses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Opened:
    """The bundle's leaves as events, each proven and signed; the policy in force, and the one the permit is under."""

    permit: ev.PermitIssued
    permit_index: int
    status: ev.StatusPublished
    approvals: tuple[Approved, ...]
    in_force: Adopted
    granting: Adopted
    cosigned: Mapping[str, Instant]


def permit_name(dossier: Digest) -> str:
    """A permit is named after the dossier that it rests on, so that a revocation holds whoever states it again."""
    return f"p-{dossier[7:15]}"


def check(bundle: Bundle, trust: Trust, *, action: str, scope: str, now: Instant) -> Checked:
    """Apply checks 1 to 9; nothing in the bundle is believed before the checks above it held.

    What has run out is judged by the latest moment that this node ever saw, so that a clock that is set back keeps
    nothing alive; what has not begun is judged by `now`.
    """
    try:
        chain, broken = follow(bundle.policies, trust)
        head = _head(bundle, trust, chain)
        status = _status(bundle, trust, head, chain)
        cosigned = checkpoint.cosigners(bundle.checkpoint, _keys(trust, chain), chain[-1].policy.witnesses.parties)
    except KeyturnError as fault:
        return Checked((doubt_of(fault),))
    latest_at, seen = Instant(max(now, trust.seen.latest_at)), None
    if not chain[-1].policy.witnesses.lacking(cosigned):  # else anybody with the log's key could make a node forget
        said = (status.at, status.counter, chain[-1].version, chain[-1].index, chain[-1].digest, status.revoked)
        seen = Seen(head.size, head.root.hex(), *said, latest_at=Instant(max(latest_at, status.at)))
    halted = tuple(_halted(status))
    try:
        opened = _open(bundle, trust, status, chain, broken, cosigned)
    except KeyturnError as fault:
        return Checked((doubt_of(fault), *halted), status=status, seen=seen)
    doubts = (
        *_in_force(opened),
        *halted,
        *_revoked(opened),
        *_about(opened, trust, action, scope),
        *_window(opened, trust.seen, now, latest_at),
        *_manifest(opened),
        *_quorum(opened, trust),
        *_freshness(opened, now, latest_at),
    )
    counted = chain[-1].policy.witnesses.counted(cosigned)
    return Checked(doubts, opened.permit, status, tuple(each.event for each in opened.approvals), seen, counted)


def _head(bundle: Bundle, trust: Trust, chain: tuple[Adopted, ...]) -> checkpoint.Checkpoint:
    """Checks 1 and 2; the keys in force are those to which people's own signatures lead from the pinned ones."""
    try:
        head = checkpoint.open_checkpoint(bundle.checkpoint, _keys(trust, chain)).checkpoint
    except KeyturnError as fault:
        raise Failed(1, f"the checkpoint is not signed by the trusted log: {fault.message}") from fault
    if head.origin != trust.founded.origin:
        raise Failed(1, f"the checkpoint is of `{head.origin}`; `{trust.founded.origin}` is trusted", "wrong project")
    seen = trust.seen
    if head.size < seen.size:
        message = f"the log has {head.size} entries; this node has seen {seen.size}: a rollback"
        raise Failed(2, message, "get a fresh bundle; if it stays so, the log was rewritten")
    if seen.size and not _continues(bundle, seen, head):
        message = f"the log does not continue the {seen.size} entries that this node has seen: a fork, or no proof"
        raise Failed(2, message, f"{FRESH[:-1]} --since {seen.size}`; if it stays so, report a fork")
    return head


def _keys(trust: Trust, chain: tuple[Adopted, ...]) -> checkpoint.Keys:
    return checkpoint.Keys.of([(0, keys_of(trust.founded, chain).log_keys)])


def _continues(bundle: Bundle, seen: Seen, head: checkpoint.Checkpoint) -> bool:
    if seen.size == head.size:
        return seen.root == head.root.hex()
    if bundle.old_size != seen.size:
        return False
    old_root = bytes.fromhex(seen.root)
    return tree.check_consistency(
        old=seen.size, old_root=old_root, new=head.size, new_root=head.root, proof=bundle.consistency
    )


def _status(
    bundle: Bundle, trust: Trust, head: checkpoint.Checkpoint, chain: tuple[Adopted, ...]
) -> ev.StatusPublished:
    """Check 3, and that the status takes back nothing that this node has seen."""
    for each in (bundle.status, bundle.permit, *bundle.approvals, *bundle.policies):
        if not _under(each, head):
            message = f"entry {each.index} does not stand under the checkpoint"
            raise Failed(3, message, "somebody altered the bundle; get it again from the log")
    found, last = bundle.status.index, head.size - 1
    if found != last:
        raise Failed(3, f"the status is entry {found}, not the last, {last}: a halt could hide behind it")
    status = leaf.decode(bundle.status.leaf, leaf.keyring(trust.founded, chain))
    if not isinstance(status, ev.StatusPublished):
        raise Failed(4, f"a `{type(status).__name__}` stands where the status is expected")
    seen = trust.seen
    known = next((each for each in chain if each.version == seen.policy_version), chain[-1])
    same, place = known.version == seen.policy_version, (seen.policy_digest, seen.policy_index)
    if known.version < seen.policy_version or (same and place[0] and (known.digest, known.index) != place):
        message = f"the bundle leads to policy {known.version}; this node has seen {'another ' * same}policy"
        raise Failed(5, f"{message} {seen.policy_version}", "whose keys were replaced since may have made it")
    if status.counter < seen.counter or status.policy_version < seen.policy_version or status.at < seen.at:
        raise Failed(5, "the status is older than one that this node has seen")
    forgotten = sorted(set(seen.revoked) - set(status.revoked))
    if forgotten:
        message = f"the status no longer names the revoked permit `{forgotten[0]}`, which this node has seen revoked"
        raise Failed(6, message, "a revocation is for ever; do not trust this log")
    return status


def _under(each: Proven, head: checkpoint.Checkpoint) -> bool:
    return each.index < head.size and tree.check_inclusion(
        index=each.index, size=head.size, leaf=tree.leaf_hash(each.leaf), proof=each.proof, root=head.root
    )


def _open(
    bundle: Bundle,
    trust: Trust,
    status: ev.StatusPublished,
    chain: tuple[Adopted, ...],
    broken: KeyturnError | None,
    cosigned: Mapping[str, Instant],
) -> _Opened:
    """Checks 4 and 5; who may sign a leaf, the policy says that held at its place."""
    if broken is not None:
        raise broken
    index = bundle.permit.index
    permit = leaf.decode(bundle.permit.leaf, leaf.keyring(trust.founded, chain, index))
    if not isinstance(permit, ev.PermitIssued):
        raise Failed(4, f"a `{type(permit).__name__}` stands where the permit is expected")
    approvals = []
    for each in bundle.approvals:
        event = leaf.decode(each.leaf, leaf.keyring(trust.founded, chain, each.index))
        if type(event) is not ev.ApprovalGiven:
            raise Failed(4, f"a `{type(event).__name__}` stands among the approvals", "do not load")
        approvals.append(Approved(each.index, event))
    granting = in_force(chain, index) or chain[0]
    return _Opened(permit, index, status, tuple(approvals), chain[-1], granting, cosigned)


def _in_force(opened: _Opened) -> Iterator[Doubt]:
    """Check 5: the status and the permit name the policies that the chain shows at their places."""
    status, in_force = opened.status, opened.in_force
    if (status.policy_version, status.policy_digest) != (in_force.version, in_force.digest):
        said = f"policy {status.policy_version} ({status.policy_digest[:15]}…) is in force"
        yield Doubt(5, f"{said}; the bundle leads to policy {in_force.version} ({in_force.digest[:15]}…)", FRESH)
    if opened.permit.policy != opened.granting.digest:
        message = f"the permit was given under another policy than {opened.granting.version}, which held at its place"
        yield Doubt(5, message, "a permit holds under the policy of its day only; ask for a new one")


def _halted(status: ev.StatusPublished) -> Iterator[Doubt]:
    if status.halted:
        yield Doubt(6, "the loop is halted; nothing may load", "`keyturn resume`, by quorum, then a fresh bundle")


def _revoked(opened: _Opened) -> Iterator[Doubt]:
    """Check 6; a permit under a name of its own would outlive its revocation."""
    permit, name = opened.permit.permit, permit_name(opened.permit.dossier)
    if permit != name:
        yield Doubt(6, f"the permit is called `{permit}`; its dossier gives it the name `{name}`", "do not load")
    if {permit, name} & set(opened.status.revoked):
        yield Doubt(6, f"permit `{name}` is revoked", "use another generation")


def _about(opened: _Opened, trust: Trust, action: str, scope: str) -> Iterator[Doubt]:
    """Check 7: where the permit holds and what for."""
    permit, founded = opened.permit, trust.founded
    if (permit.genesis, permit.origin, permit.lineage) != (trust.genesis, founded.origin, founded.name):
        message = f"the permit is for `{permit.lineage}` of `{permit.origin}` under the genesis {permit.genesis[:15]}…"
        yield Doubt(7, f"{message}, not the trusted one", "wrong project")
    if permit.action != action or permit.gate not in PERMIT_GATES.get(permit.action, ()):
        message = f"the permit allows `{permit.action}` by the gate `{permit.gate}`; `{action}` is asked for"
        yield Doubt(7, message, "ask for that permit")
    if permit.gate == Gate.AMEND and permit.root != opened.granting.policy.subject.founder:
        yield Doubt(7, "the gate `amend` permits the founder only; these are other weights", "do not load")
    if permit.scope != scope:
        yield Doubt(7, f"the permit's scope is `{permit.scope}`; `{scope}` is asked for", "ask for that permit")


def _window(opened: _Opened, seen: Seen, now: Instant, latest_at: Instant) -> Iterator[Doubt]:
    """Check 7: when it holds; how long it may hold is the policy's word, not the permit's."""
    permit, longest = opened.permit, opened.granting.policy.freshness.evidence_seconds
    if permit.not_after - permit.not_before > longest * SECOND:
        yield Doubt(7, f"the permit is for longer than the {longest} seconds that the policy allows", "do not load")
    if opened.permit_index >= seen.size and permit.not_before < seen.at:
        yield Doubt(7, "the permit is dated before a moment of the log that this node saw before it", "do not load")
    if now < permit.not_before - SKEW_SECONDS * SECOND:
        yield Doubt(7, "the permit is not valid yet", "check this machine's clock")
    if latest_at >= permit.not_after:
        yield Doubt(
            7, f"the permit expired {(latest_at - permit.not_after) // SECOND} seconds ago", "ask for a new permit"
        )


def _manifest(opened: _Opened) -> Iterator[Doubt]:
    """Check 7: people signed the root, which binds the order of the names but not the names; the policy has those."""
    rows = [(str(row.get("name")), str(row.get("digest"))) for row in opened.permit.files]
    declared = sorted(rule.name for rule in opened.granting.policy.subject.files)
    if sorted(name for name, _ in rows) != declared:
        named = sorted(name for name, _ in rows)
        yield Doubt(7, f"the permit names the files {named}; the policy declares {declared}", "do not load")
        return
    try:
        root = artifact.root_of([(name, digest.parse(value)) for name, value in rows])
    except KeyturnError:
        root = Digest("")
    if root != opened.permit.root:
        yield Doubt(7, "the permit's files do not have the root that the permit names", "do not load")


def _quorum(opened: _Opened, trust: Trust) -> Iterator[Doubt]:
    """Check 8: persons, not keys; each in a role of the row; each for exactly this root, gate, level and dossier."""
    permit = opened.permit
    if permit.gate not in tuple(Gate):
        yield Doubt(8, f"`{permit.gate}` is no gate that people could have opened", "this permit is worth nothing")
        return
    asked = Asked(
        dossier=permit.dossier,
        gate=Gate(permit.gate),
        level=permit.level,
        artifact=permit.root,
        scope=permit.scope,
        after=0,
        before=opened.permit_index,
        at=permit.not_before,
    )
    reached = count(opened.approvals, asked, opened.granting, trust)
    for message in reached.missing:
        yield Doubt(8, message, "the permit rests on too few people; do not load")
    simulated = [person for person, key in reached.counted.items() if key.kind == "simulated"]
    if simulated and not permit.simulated:
        yield Doubt(8, f"the permit hides that `{simulated[0]}` is a simulated person", "do not load")


def _witnessed(opened: _Opened, now: Instant, latest_at: Instant) -> Iterator[Doubt]:
    """Enough independent parties swear to have seen this very head, and no longer ago than the policy allows."""
    policy, cosigned = opened.in_force.policy, opened.cosigned
    limit, ahead = policy.freshness.permit_seconds * SECOND, now + SKEW_SECONDS * SECOND
    fresh = [name for name, at in cosigned.items() if latest_at - limit <= at <= ahead]
    ages = "".join(f"; `{name}` did {(latest_at - at) // SECOND} seconds ago" for name, at in cosigned.items())
    for lack in policy.witnesses.lacking(fresh):
        yield Doubt(9, f"{lack} this head within the last {limit // SECOND} seconds{ages}", FRESH)


def _freshness(opened: _Opened, now: Instant, latest_at: Instant) -> Iterator[Doubt]:
    """Check 9: by the log's own moment, and where the policy asks for witnesses by those to which they swear too.

    A witness signs an old head again for whoever asks: only the status says that the log is not silent.
    """
    policy, age = opened.in_force.policy, (latest_at - opened.status.at) // SECOND
    if policy.witnesses.required:
        yield from _witnessed(opened, now, latest_at)
    elif not policy.witnesses.allow_unwitnessed:
        yield Doubt(9, "the policy asks for no witnesses and does not say that the log may go without", "do not load")
    if age > (limit := policy.freshness.permit_seconds):
        yield Doubt(9, f"the status is {age} seconds old; the limit is {limit} seconds", FRESH)
    ahead = (opened.status.at - now) // SECOND
    if ahead > SKEW_SECONDS:
        yield Doubt(9, f"the status lies {ahead} seconds ahead of this machine's clock", "check this machine's clock")
    if latest_at - now > SKEW_SECONDS * SECOND:
        message = (
            f"this machine's clock is {(latest_at - now) // SECOND} seconds behind a moment that this node has seen"
        )
        yield Doubt(9, message, "set the clock; if it was wrong before, get the trust file again from people")
