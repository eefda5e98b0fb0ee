"""From the pinned policy to the one in force: each step only tightens, or the quorum of the policy before it signed.

Other people or keys need more: the quorum of the new policy, and each new key's own signature. The governor states that
a policy was adopted; it is never believed that people agreed to it. Which keys are the governor's follows from here.
"""

from __future__ import annotations

from keyturn.core import events as ev
from keyturn.core.errors import KeyturnError
from keyturn.core.keys.adoption import borrowed, missing
from keyturn.core.policy import Adopted, Policy
from keyturn.core.policy_change import change, needs_quorum
from keyturn.core.policy_reading import read_policy
from keyturn.core.terms import Digest, Gate
from keyturn.verify.bundle import Proven
from keyturn.verify.doubt import Failed
from keyturn.verify.people import Approved, Asked, count, why_not
from keyturn.verify.trust import Trust
from keyturn.wire import canonical, leaf
from keyturn.wire.digest import sha256

FIRST_INDEX = 1
"""Where policy 1 stands in every log: right after the founding."""


def follow(leaves: tuple[Proven, ...], trust: Trust) -> tuple[tuple[Adopted, ...], KeyturnError | None]:
    """Every policy from the pinned one on, as far as each step holds, and what is wrong with the next one.

    `leaves` stand in the order of the log: for each adoption that people cleared its dossier and approvals, then the
    adoption. Nothing else may stand among them. Their places are claims until the checkpoint was checked.
    """
    chain = [Adopted(1, sha256(canonical.encode(trust.policy.document)), trust.policy, FIRST_INDEX)]
    try:
        _extend(chain, leaves, trust)
    except KeyturnError as fault:
        return tuple(chain), fault
    return tuple(chain), None


def _extend(chain: list[Adopted], leaves: tuple[Proven, ...], trust: Trust) -> None:
    """Add each step that holds; raises `Failed` (check 5) where one is missing, forged or not cleared."""
    last, approvals = FIRST_INDEX, list[Approved]()
    sealed: tuple[int, ev.DossierSealed] | None = None
    for each in leaves:
        if each.index <= last:
            raise Failed(5, "the bundle's policies do not follow one another")
        last, event = each.index, leaf.decode(each.leaf, leaf.keyring(trust.founded, chain))
        if isinstance(event, ev.DossierSealed):
            sealed = (each.index, event)
        elif type(event) is ev.ApprovalGiven:
            approvals.append(Approved(each.index, event))
        elif isinstance(event, ev.PolicyAdopted):
            new = _adopted(chain[-1], each.index, event)
            if each.index >= trust.seen.size and event.at < trust.seen.at:
                raise Failed(
                    5, f"policy {new.version} is dated before a moment of the log that this node saw before it"
                )
            _must_be_lawful(chain, new, event, sealed, approvals, trust)
            chain.append(new)
            sealed, approvals = None, []
        else:
            raise Failed(5, f"`{type(event).__name__}` stands among the bundle's policies, where it does not belong")


def _adopted(old: Adopted, index: int, event: ev.PolicyAdopted) -> Adopted:
    if event.version != old.version + 1:
        raise Failed(5, f"policy {event.version} is shown after policy {old.version}: a step between them is missing")
    policy, digest = read_policy(event.document), sha256(canonical.encode(event.document))
    if not isinstance(policy, Policy) or event.digest != digest:
        raise Failed(5, f"policy {event.version} is none, or is not what its digest says", "do not trust this log")
    return Adopted(event.version, digest, policy, index)


def _must_be_lawful(
    chain: list[Adopted],
    new: Adopted,
    event: ev.PolicyAdopted,
    sealed: tuple[int, ev.DossierSealed] | None,
    approvals: list[Approved],
    trust: Trust,
) -> None:
    """Refuse a policy that changes what the founding fixed, or could loosen without the quorum of the one before it."""
    old, signed = chain[-1], leaf.adopters(trust.genesis, event, new.policy)
    if _fixed(old.policy) != _fixed(new.policy) or borrowed(trust.founded, (*chain, new)):
        message = f"policy {new.version} is of another project than policy {old.version}, or enrols the governor"
        raise Failed(5, message, "do not trust this log")
    if not needs_quorum(change(old.policy, new.policy)):
        return
    loosens = f"policy {new.version} loosens policy {old.version} and"
    help = "somebody with the governor's key alone may have adopted it; do not load, and ask the people of the project"
    if sealed is None or not _is_about(sealed[1], new, event):
        raise Failed(5, f"{loosens} no dossier shows that people were asked for it", help)
    asked = _asked(*sealed, new.index, event)
    counted = [each.event for each in approvals if not why_not(each, asked, old, trust)]
    approved = [(said.person, said.key) for said in counted]
    lacks = count(approvals, asked, old, trust).missing
    lacks += missing(old.policy, new.policy, level=asked.level, signed=signed, approved=approved)
    if lacks:
        raise Failed(5, f"{loosens} {'; '.join(lacks)}", help)


def _fixed(policy: Policy) -> object:
    return policy.name, policy.origin, policy.demo


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
