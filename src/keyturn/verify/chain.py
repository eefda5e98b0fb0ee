"""From the pinned policy to the one in force: each step only tightens, or the quorum of the policy before it signed.

The governor states that a policy was adopted; it is never believed that people agreed to it.
"""

from __future__ import annotations

from keyturn.core import events as ev
from keyturn.core.policy import Key, Policy
from keyturn.core.policy_change import change, needs_quorum
from keyturn.core.policy_reading import read_policy
from keyturn.core.terms import Digest, Gate
from keyturn.verify.bundle import Proven
from keyturn.verify.doubt import Failed
from keyturn.verify.people import Adopted, Approved, Asked, count
from keyturn.verify.trust import Trust
from keyturn.wire import canonical, leaf
from keyturn.wire.digest import sha256

FIRST_INDEX = 1
"""Where policy 1 stands in every log: right after the founding."""


def follow(leaves: tuple[Proven, ...], trust: Trust) -> tuple[Adopted, ...]:
    """Every policy from the pinned one on; raises `Failed` (check 5) where a step is missing, forged or not cleared.

    `leaves` stand in the order of the log: for each adoption that people cleared its dossier and approvals, then the
    adoption. Nothing else may stand among them.
    """
    first = Adopted(1, sha256(canonical.encode(trust.policy.document)), FIRST_INDEX, trust.policy)
    chain, last = [first], FIRST_INDEX
    sealed: tuple[int, ev.DossierSealed] | None = None
    approvals: list[Approved] = []
    for each in leaves:
        if each.index <= last:
            raise Failed(5, "the bundle's policies do not follow one another")
        last, event = each.index, leaf.decode(each.leaf, keyring(tuple(chain), trust))
        if isinstance(event, ev.DossierSealed):
            sealed = (each.index, event)
        elif type(event) is ev.ApprovalGiven:
            approvals.append(Approved(each.index, event))
        elif isinstance(event, ev.PolicyAdopted):
            chain.append(_adopted(chain[-1], each.index, event))
            _must_be_lawful(chain[-2], chain[-1], event, sealed, approvals, trust)
            sealed, approvals = None, []
        else:
            raise Failed(5, f"`{type(event).__name__}` stands among the bundle's policies, where it does not belong")
    return tuple(chain)


def keyring(chain: tuple[Adopted, ...], trust: Trust) -> leaf.Keyring:
    """Every key that a policy named for a person; which of them count, `people` says."""
    known: dict[str, tuple[Key, ...]] = {}
    for person in (person for each in chain for person in each.policy.people):
        known[person.id] = tuple(dict.fromkeys((*known.get(person.id, ()), *person.keys)))
    return leaf.Keyring(trust.founded.service_key, known)


def _adopted(old: Adopted, index: int, event: ev.PolicyAdopted) -> Adopted:
    if event.version != old.version + 1:
        raise Failed(5, f"policy {event.version} is shown after policy {old.version}: a step between them is missing")
    policy, digest = read_policy(event.document), sha256(canonical.encode(event.document))
    if not isinstance(policy, Policy) or event.digest != digest:
        raise Failed(5, f"policy {event.version} is none, or is not what its digest says", "do not trust this log")
    return Adopted(event.version, digest, index, policy)


def _must_be_lawful(
    old: Adopted,
    new: Adopted,
    event: ev.PolicyAdopted,
    sealed: tuple[int, ev.DossierSealed] | None,
    approvals: list[Approved],
    trust: Trust,
) -> None:
    """Refuse a policy that changes what the founding fixed, or could loosen without the quorum of the one before it."""
    if _fixed(old.policy) != _fixed(new.policy):
        message = f"policy {new.version} names other people, keys or another project than policy {old.version}"
        raise Failed(5, message, "this release cannot show who agreed to that; do not trust this log")
    if not needs_quorum(change(old.policy, new.policy)):
        return
    loosens = f"policy {new.version} loosens policy {old.version} and"
    help = "somebody with the governor's key alone may have adopted it; do not load, and ask the people of the project"
    if sealed is None or not _is_about(sealed[1], new, event):
        raise Failed(5, f"{loosens} no dossier shows that people were asked for it", help)
    missing = count(approvals, _asked(*sealed, new.index, event), old, trust).missing
    if missing:
        raise Failed(5, f"{loosens} {'; '.join(missing)}", help)


def _fixed(policy: Policy) -> object:
    return policy.people, policy.name, policy.origin, policy.demo


def _is_about(sealed: ev.DossierSealed, new: Adopted, event: ev.PolicyAdopted) -> bool:
    text = sealed.document
    named = sealed.dossier == event.dossier == sha256(canonical.encode(text))
    return named and (text.get("request"), text.get("adopts")) == ("AdoptPolicy", new.digest)


def _asked(after: int, sealed: ev.DossierSealed, before: int, event: ev.PolicyAdopted) -> Asked:
    level, scope = sealed.document.get("level"), sealed.document.get("scope")
    return Asked(
        dossier=Digest(sealed.dossier),
        gate=Gate.AMEND,
        level=level if isinstance(level, int) else -1,
        artifact="",
        scope=str(scope),
        after=after,
        before=before,
        at=event.at,
    )
