"""A person's decision on a dossier: say exactly what will be signed, and add the signed statement to the log."""

from __future__ import annotations

from collections.abc import Callable

from keyturn.core.approval import artifact_of, row_of, why_not
from keyturn.core.dossier import as_request
from keyturn.core.errors import MalformedInput, UntrustedInput
from keyturn.core.evolve import evolve
from keyturn.core.policy import Person
from keyturn.core.state import Dossier, State
from keyturn.core.terms import Digest, Gate
from keyturn.flow.log import Log
from keyturn.ledger.history import keyring
from keyturn.wire import leaf
from keyturn.wire.approval import ApprovalTerms

REASON_MAX = 500


def terms(log: Log, digest: Digest, *, person: Person, role: str, decision: str, reason: str) -> ApprovalTerms:
    """Everything that the person's signature will bind: this dossier, gate, lineage, policy, window, and one use."""
    state, dossier = log.state, log.state.dossiers.get(digest)
    if state.current is None or state.project is None or dossier is None:
        raise MalformedInput("there is no such dossier to sign", help="`keyturn status` shows what waits")
    if state.published <= dossier.index:
        raise MalformedInput("the dossier is not under a published checkpoint yet", help="`keyturn run`, then sign")
    if not reason.strip() or len(reason) > REASON_MAX:
        raise MalformedInput(f"a reason of 1 to {REASON_MAX} characters is expected", help="`--reason TEXT`")
    document = dossier.document
    not_after = document.get("not_after")
    return ApprovalTerms(
        dossier=digest,
        decision=decision,
        gate=Gate(dossier.gate),
        level=int(str(document.get("level"))),
        artifact=artifact_of(document),
        lineage=str(document.get("lineage")),
        genesis=state.project.genesis,
        evidence_index=state.published,
        policy=state.current.digest,
        policy_version=state.current.version,
        person=person.id,
        role=role,
        scope=str(document.get("scope")),
        not_before=log.now(),
        not_after=not_after if isinstance(not_after, int) else 0,
        nonce=log.ids.new(),
        origin=state.project.origin,
        reason=reason.strip(),
    )


def role_for(state: State, dossier: Dossier, person: Person) -> str:
    """The role in which this person can help this dossier: the first seat of its quorum that they may fill."""
    row = row_of(state, as_request(dossier))
    roles = [seat.role for seat in row.quorum] if row else []
    fitting = [role for role in roles if role in person.roles]
    if not fitting:
        raise UntrustedInput(
            f"`{person.id}` holds {', '.join(person.roles)}; this gate asks for {', '.join(roles) or 'nobody'}",
            help="somebody in one of these roles must decide",
        )
    return fitting[0]


def give(
    log: Log, said: ApprovalTerms, *, public: str, sign: leaf.Sign, keep: Callable[[], None] = lambda: None
) -> None:
    """Add the signed decision; one that would not count is refused with the reason, and nothing is written.

    `keep` makes durable what the decision's reason refers to; it is called before the entry is written.
    """
    data = leaf.encode_approval(said, public=public, sign=sign)

    def require() -> None:
        _require_counts(log, said, data)
        keep()

    log.append_signed(data, require=require)


def _require_counts(log: Log, said: ApprovalTerms, data: bytes) -> None:
    after = evolve(log.state, leaf.decode(data, keyring(log.state)))
    dossier = after.dossiers[said.dossier]
    doubt = why_not(after, dossier, dossier.approvals[-1], log.now())
    if doubt:
        raise UntrustedInput(
            f"this signature would not count: {doubt}", help="`keyturn policy check` shows who may sign"
        )
